"""What an execution has its worker do for it: things that need the store, and take their time."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure import deciding
from perdure.codec import REFUSED, encode_error
from perdure.deliveries import PARENT, Expiry, Receipt
from perdure.errors import DecodeError, FramesRefusedError, LeaseLostError, NotFoundError, PerdureError
from perdure.records import ENDED, Change, Execution, Inbox, Request, Status, Verdict, WorkerRecord, listed
from perdure.wishes import cancel

if TYPE_CHECKING:
    from perdure.executor import Run
    from perdure.worker import Worker

logger = logging.getLogger("perdure")


def block_parked(worker: Worker, run: Run, fault: FramesRefusedError) -> None:
    """Frames of a parked execution refused to be closed: it needs a person, if nobody has claimed it since."""
    logger.error("%s", fault)
    text = encode_error(fault)
    change = Change(
        run.id,
        run.fence,
        run.nudges,
        Status.BLOCKED,
        worker.clock.now(),
        error=text,
        checksum=run.sum(None, text),
        reason=str(fault),
    )
    worker.committer.change(_Parked(worker, run), change)  # type: ignore[arg-type]


def expire(worker: Worker, run: Run, request: Request) -> None:
    """A request's time is over: the store decides whether an answer was first."""
    if request.status != "open":
        return
    request.status = "expiring"
    if request.policy is not None:
        return _lapse(worker, run, request)

    def expired(receipt: Receipt | None, error: BaseException | None) -> None:
        if receipt is not None and receipt.verdict == Verdict.GONE:
            request.status = "open"  # it is not recorded yet
            return run.arm()
        return worker.refreshing.wants(run)

    worker.spawn(worker.deliver(Expiry(request.id)), expired)


def _lapse(worker: Worker, run: Run, request: Request) -> None:
    """Something is due about an approval: a reminder, others who decide, or its end."""

    def lapsed(found: tuple[str | None, Request] | None, error: BaseException | None) -> None:
        if isinstance(error, NotFoundError):
            request.status = "open"  # it is not recorded yet
            return run.arm()
        if error is not None:
            logger.error("%s: %s could not be looked after", run.id, request.id, exc_info=error)
        elif found is not None and found[0] in ("reminded", "escalated"):
            worker.announce([found[1]], found[0])
        return worker.refreshing.wants(run)

    act = functools.partial(deciding.lapse, worker.store, worker.clock, request.id)
    worker.spawn(worker.insist(act), lapsed)


def is_readable(run: Run, text: str | None) -> bool:
    """What could not be opened is not recorded as an outcome: with the right keys it can be, later."""
    if text is None or not text.startswith(REFUSED):
        return True
    run.block(DecodeError(text.removeprefix(REFUSED), execution_id=run.id))
    return False


def cancel_child(run: Run, execution_id: str) -> None:
    """Cancel a child that the code has given up; until that is done, the execution neither parks nor ends.

    Otherwise a crash after the parent's end would leave a child that nobody ever cancels.
    """
    worker = run.worker
    run.bodies += 1

    def cancelled(row: Execution | None, error: BaseException | None) -> None:
        run.bodies -= 1
        if error is not None:
            logger.error("%s: its child %s could not be cancelled", run.id, execution_id, exc_info=error)
        run.rest()

    act = functools.partial(cancel, worker.store, worker.clock, execution_id, PARENT, f"withdrawn by {run.id}")
    worker.spawn(worker.insist(act), cancelled)


def end_children(worker: Worker, run: Run, then: Callable[[], None]) -> None:
    """Cancel the children of an execution and wait for them; then go on."""
    if not run.has_children:
        return then()

    async def end() -> None:
        inboxes: dict[str, Inbox] = await worker.insist(lambda: worker.store.inbox([run.id]))
        for child in inboxes[run.id].children if run.id in inboxes else ():
            if child.status not in ENDED:
                reason = f"its parent {run.id} ended"
                await worker.insist(functools.partial(cancel, worker.store, worker.clock, child.id, PARENT, reason))

    worker.spawn(end(), lambda result, error: None if run.abandoned else then())
    return None


def find_fitting_build(worker: Worker, run: Run, error: PerdureError, block: Callable[[], None]) -> None:
    """The code here does not fit: does a live worker of another build know the workflow, and has not tried yet?"""
    execution = run.execution
    refused = {worker.build, *(name for name in listed(execution.refused) if isinstance(name, str))}

    def found(workers: list[WorkerRecord] | None, trouble: BaseException | None) -> None:
        if run.abandoned:
            return
        known = [execution.workflow, execution.version]
        others = {w.build for w in workers or () if w.state == "live" and known in listed(w.workflows)}
        if worker.build and others - refused:
            logger.warning(
                "%s does not fit the code of this build, %s; left to another: %s", run.id, worker.build, error
            )
            run.refuse(json.dumps(sorted(refused)))
        else:
            logger.error("%s is blocked, its journal does not fit the code: %s", run.id, error)
            block()

    worker.spawn(worker.insist(worker.store.workers), found)


def check_owner(worker: Worker, run: Run, error: BaseException) -> None:
    """The store refused what an execution wrote: is it still ours?"""

    def checked(rows: dict[str, Execution] | None, trouble: BaseException | None) -> None:
        row = (rows or {}).get(run.id)
        if run.abandoned:
            return
        if row is None or row.fence != run.fence or row.owner != worker.record.id:
            run.lose(LeaseLostError(f"{run.id}: another worker owns it; nothing of it was recorded here since"))
        else:
            run.fail_refused(error)

    worker.spawn(worker.insist(lambda: worker.store.get([run.id])), checked)


class _Parked:
    """Stands in for an execution that is out of memory while its row is blocked."""

    def __init__(self, worker: Worker, run: Run) -> None:
        self.worker = worker
        self.run = run

    def changed(self, change: Change, verdict: Verdict) -> None:
        if verdict == Verdict.OK:
            self.worker.notify_left(self.run.id, change)

    def refused(self, error: BaseException) -> None:
        logger.error("%s could not be blocked: %s", self.run.id, error)
