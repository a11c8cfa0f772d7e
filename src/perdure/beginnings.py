"""How an execution comes into a worker's memory: read, replayed, and brought to where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure import budgets, endings, rolling, waits
from perdure.codec import CODEC
from perdure.context import Info
from perdure.errors import DecodeError, PerdureError
from perdure.journal import NOTE, RECEIVE, Journal, fold
from perdure.records import Entry, Inbox, Status
from perdure.rollback import order_of, replace, wished
from perdure.sealing import SEALED
from perdure.sequencer import Sequencer, within

if TYPE_CHECKING:
    from perdure.executor import Run


def begin(run: Run, entries: list[Entry], inbox: Inbox | None) -> None:
    """Replay the journal and go on from there."""
    execution = run.execution
    if execution.status is Status.ROLLING_BACK:
        return take_up_rollback(run)
    try:
        _check(run)
        attributes: Any = CODEC.decode(execution.attributes) if execution.attributes else {}
        journal = fold(entries) if entries else None
        if journal is not None:
            attributes = journal.attributes_at_first(attributes)
        run.purse = budgets.purse(run, attributes, journal)
        args, kwargs = run.workflow.arguments.unbind(execution.input)
    except PerdureError as error:
        return block_unread(run, error)
    except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError, RecursionError) as error:
        return block_unread(run, DecodeError(f"what is recorded of {run.id} is damaged: {error!r}"))
    run.seq = execution.base_seq if journal is None else journal.last_seq
    run.suspect = execution.crashes >= endings.CRASHES and run.seq <= execution.crash_seq
    if journal is not None:
        run.inner = journal.inner
        run.streaming = dict.fromkeys(journal.streamed, (0, 0))
        run.forgiven = {key: p.forgiven for key, p in journal.pending.items() if p.forgiven}
    make(run, journal, attributes)
    if inbox is not None and _is_to_stop(run, inbox):
        return None
    coroutine = run.workflow.run(args, kwargs)
    if run.workflow.options_.timeout is not None:
        coroutine = within(coroutine, run.workflow.options_.timeout, run.workflow.name)
    return _replay(run, coroutine, inbox)


def _check(run: Run) -> None:
    execution = run.execution
    if execution.input.startswith(SEALED):
        raise DecodeError(f"{execution.id} is encrypted, and this engine has no keys (see codec=)")
    if not run.fits:
        raise DecodeError(
            f"the input of {execution.id} is damaged: its checksum does not fit", execution_id=execution.id
        )


def make(run: Run, journal: Journal | None, attributes: Any) -> None:
    """Give the run its sequencer."""
    execution = run.execution
    run.sequencer = Sequencer(
        run.id,
        started_at=execution.created_at if journal is None else journal.began(execution.created_at),
        journal=journal,
        write_local=run.write_local,
        withdrawn=run.withdrawn,
        info=Info.of(execution, attributes, run.worker.namespace),
    )
    if journal is not None:
        run.sequencer.info.rollback_reason, run.sequencer.info.orders = journal.rollback_reason, journal.orders
    run.sequencer.arguments, run.sequencer.secrets = run.workflow.arguments, run.worker.secrets
    run.sequencer.capacity = run.worker.capacity
    run.sequencer.redaction = run.worker.protection.redaction(run.workflow.options_.redact)


def _is_to_stop(run: Run, inbox: Inbox) -> bool:
    """Somebody wishes it to be cancelled or paused: carried out before any of its code runs."""
    if inbox.wish == "cancel":
        run.sequencer.closing = True
        run.has_children = bool(inbox.children)
        for request in inbox.requests:
            if request.status == "open":
                run.committer.close_request(request.id, run.id)
        endings.cancel(run, inbox.wish_by, inbox.wish_reason)
    elif inbox.wish == "pause":
        run.sequencer.closing = True
        endings.pause(run, inbox.wish_reason)
    elif (order := wished(inbox, run.sequencer.info.orders)) is not None:
        run.sequencer.closing = True
        endings.roll_back(run, order)
    else:
        return False
    return True


def _replay(run: Run, coroutine: Any, inbox: Inbox | None) -> None:
    sequencer = run.sequencer
    sequencer.start(coroutine, run.worker.loop)
    fault = sequencer.replay()
    if fault is not None:
        return run.block(fault)
    for note in sequencer.notes:
        run.write_local(NOTE, note, "null")
    for entry in sequencer.unused:
        if entry.kind == RECEIVE:
            run.committer.free_message(run.id, entry.seq)
            run.nudges = -1  # so that the next park looks again
    if inbox is not None:
        run.look(inbox)
        for call in sequencer.withdrawn_before:
            waits.withdrawn_before(run, call)
    return run.rest()


def take_up_rollback(run: Run) -> None:
    """Go on with a rollback, or begin the one that the row's wish asks for."""
    execution = run.execution
    order = order_of(execution.wish)
    try:
        attributes: Any = CODEC.decode(execution.attributes) if execution.attributes else {}
    except PerdureError:
        attributes = {}  # an undo may do without
    make(run, None, attributes)
    run.sequencer.closing = True
    run.rolls = True
    rolling.begin(run, None if order is None else replace(order, execution.wish_by, execution.wish_reason))


def block_unread(run: Run, error: PerdureError) -> None:
    """It cannot even be begun."""
    make(run, None, {})
    run.sequencer.closing = True
    run.block(error)
