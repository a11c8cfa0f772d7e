"""How an execution leaves a worker's memory: parked, ended, cancelled, blocked, or released.

First its frames are closed and its bodies stopped; when nothing of it is under way any more, one change of its row says
what became of it, and gives it up.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from perdure import bodies, errands, rolling, veiling
from perdure.capturing import picture
from perdure.codec import checksum, encode_error
from perdure.errors import CrashLoopError, ExecutionCancelledError, JournalMismatchError, PerdureError, TooLargeError
from perdure.journal import CUT, LIFE, STARTED_AGAIN
from perdure.records import ENDED, Change, Execution, Status
from perdure.rollback import Order
from perdure.secrets import allowing_secrets

if TYPE_CHECKING:
    from perdure.executor import Run

logger = logging.getLogger("perdure")

CRASHES = 5
"""So often may the owner of an execution die in a row, without any progress, before no body of it enters any more."""


JOURNAL_LIMIT = 1_000_000
"""Entries that one life of an execution may have."""


def is_full(run: Run) -> bool:
    """Has the journal reached its limit? Then the execution fails at the call that would go beyond it."""
    base = max(run.execution.base_seq, 0)
    if run.seq - base < JOURNAL_LIMIT:
        return False
    key = run.sequencer.new[0].key
    words = (
        f"the journal of {run.id} has {run.seq - base:,} entries, which is the limit, and {key} would be one more."
        " What is recorded is kept; a workflow that goes on for ever begins anew with `await restart(...)` now and then"
    )
    fail(run, TooLargeError(words, execution_id=run.id, key=key))
    return True


def end(run: Run) -> None:
    """All of the code has ended: record how."""
    main = run.sequencer.main
    if main.cancelled():
        return fail(run, asyncio.CancelledError())
    error = main.exception()
    if error is not None:
        return fail(run, error)
    try:
        with allowing_secrets(run.worker.secrets):
            output, _ = run.workflow.arguments.returns.record(main.result(), "result")
        run.worker.capacity.check(output, f"the result of {run.workflow.name}", packs=False)
    except PerdureError as fault:
        fault.execution_id = run.id
        return fail(run, fault)
    return change(run, Status.COMPLETED, output=output)


def fail(run: Run, error: BaseException) -> None:
    """The execution failed: its children are cancelled, then its end is recorded."""
    if isinstance(error, bodies.FATAL):
        return run.worker.give_up(run, error)
    picture(run, "failure", error=error)
    redaction = run.sequencer.redaction
    text = veiling.told(redaction, error, run.workflow.function, run.execution.input, counts=True)
    if redaction is not None:
        text = redaction.error(text, counts=True)

    if run.workflow.options_.rollback_on_failure:
        return roll_back(run, Order(id=f"failure@{run.generation}", cause="failure", reason=str(error)[:1000]), text)
    record = functools.partial(change, run, Status.FAILED, error=text)
    return stop(run, functools.partial(errands.end_children, run.worker, run, record))


def roll_back(run: Run, order: Order, error: str | None = None) -> None:
    """Close the frames, wait for the bodies that run, then undo. `error`: what the execution failed of."""
    if run.ended or run.abandoned or run.rolls:
        return
    run.rolls = True
    if run.alarm is not None:
        run.alarm.cancel()
        run.alarm = None
    run.stopping = _once(functools.partial(rolling.begin, run, order, error))
    fault = run.sequencer.close()
    if fault is not None:
        logger.error("%s", fault)
    given_up = ExecutionCancelledError("it is rolled back: there is no further attempt", execution_id=run.id)
    for call in list(run.backoffs.values()):
        bodies.give_error(run, call, given_up)
    run.asked.clear()
    run.receiving.clear()
    run.backoffs.clear()
    run.rest()


def cancel(run: Run, by: str | None, reason: str | None) -> None:
    """Carry out a wish to cancel: close the frames, stop the bodies and the children, record the end."""
    text = encode_error(ExecutionCancelledError(reason or "cancelled", execution_id=run.id))

    record = functools.partial(change, run, Status.CANCELLED, error=text, reason=reason, by=by)
    stop(run, functools.partial(errands.end_children, run.worker, run, record))


def block(run: Run, error: PerdureError) -> None:
    """Only a person can help: nothing is changed but the status."""
    run.locals = []
    run.told = []
    text = encode_error(error)
    record = functools.partial(change, run, Status.BLOCKED, error=text, reason=str(error))
    if isinstance(error, JournalMismatchError):
        stop(run, functools.partial(errands.find_fitting_build, run.worker, run, error, record), for_good=False)
    else:
        logger.error("%s is blocked: %s", run.id, error)
        stop(run, record, for_good=False)


def refuse(run: Run, refused: str) -> None:
    """Leave the execution to another build, whose code may fit its journal."""
    change(run, Status.PENDING, refused=refused)


def release(run: Run) -> None:
    """Give the execution back for another worker, once what is under way is recorded."""

    record = functools.partial(change, run, Status.PENDING)
    if run.stopping is None and not run.ended:
        run.stopping = record
        run.sequencer.close()
        run.rest()


def pause(run: Run, reason: str | None) -> None:
    """Carry out a wish to pause: no new body enters, what runs is recorded, then the row says so."""
    record = functools.partial(change, run, Status.PAUSED, reason=reason)
    if run.stopping is None and not run.ended:
        run.stopping = record
        run.sequencer.close()
        run.rest()


def restart(run: Run, text: str) -> None:
    """Begin a new life of the execution, with another input and a fresh journal."""

    def record() -> None:
        cut = msgspec.json.encode({"from_seq": run.execution.base_seq + 1, "reason": "restart"}).decode()
        run.local(f"{CUT}:{run.seq + 1}", CUT, "completed", cut)
        base = run.seq
        run.generation += 1
        run.local(STARTED_AGAIN, LIFE, "completed", "null")
        change(run, Status.PENDING, again=(text, run.generation, base))

    stop(run, functools.partial(errands.end_children, run.worker, run, record))


def stop(run: Run, then: Callable[[], None], *, for_good: bool = True) -> None:
    """Close the frames and stop the bodies; `then` follows when nothing is under way any more.

    `for_good`: the execution ends, and what it asked of the world is withdrawn.
    """
    if run.ended or run.abandoned:
        return
    if run.alarm is not None:
        run.alarm.cancel()
        run.alarm = None
    run.stopping = _once(then)
    fault = run.sequencer.close()
    if fault is not None:
        logger.error("%s", fault)
    run.stop_bodies()
    for key in run.asked:
        if for_good and run.requests[key].status in ("open", "expiring"):
            run.committer.close_request(run.requests[key].id, run.id)
    if run.purse is not None and run.purse.key is not None and for_good:
        run.committer.close_request(run.requests[run.purse.key].id, run.id)
    run.asked.clear()
    run.receiving.clear()
    run.backoffs.clear()
    run.rest()


def _once(then: Callable[[], None]) -> Callable[[], None]:
    called = False

    def once() -> None:
        nonlocal called
        if not called:
            called = True
            then()

    return once


def change(
    run: Run,
    status: Status,
    *,
    output: str | None = None,
    error: str | None = None,
    reason: str | None = None,
    wake_at: int | None = None,
    again: tuple[str, int, int] | None = None,
    refused: str | None = None,
    by: str | None = None,
) -> None:
    """Have the execution's row changed; `Run.changed` hears the verdict."""
    if run.abandoned:
        return
    run.flying += 1
    run.flush()
    if status is not Status.WAITING:
        run.ended = True
    else:
        run.parking = True
        picture(run, "wait")
    wanted = Change(
        execution_id=run.id,
        fence=run.fence,
        nudges=run.nudges,
        status=status,
        at=run.now(),
        output=output,
        error=error,
        checksum=run.sum(output, error) if again is None else checksum(again[0], output, error),
        reason=reason,
        wake_at=wake_at,
        parent_id=run.execution.parent_id if status in ENDED else None,
        refused=refused,
        by=by,
    )
    if again is not None:
        wanted = replace(wanted, input=again[0], generation=again[1], base_seq=again[2])
    run.committer.change(run, wanted)


def note_attributes(run: Run) -> None:
    """The code has set attributes: the execution's row follows. It does not leave."""
    info = run.sequencer.info
    text, info.changed = info.changed, None
    run.flying += 1
    run.flush()
    plain = run.sum(None, None)
    now = run.now()
    change = Change(run.id, run.fence, run.nudges, Status.RUNNING, now, checksum=plain, attributes=text)
    run.committer.change(run, change)


def crash_loop(row: Execution) -> CrashLoopError:
    """Why an execution is blocked that may be what kills its workers."""
    return CrashLoopError(
        f"the worker of {row.id} died {row.crashes} times in a row while it ran, without any progress of it:"
        " it may be what kills them. Mend the cause, then resume it",
        execution_id=row.id,
    )
