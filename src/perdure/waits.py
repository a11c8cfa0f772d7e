"""What an execution waits for from outside: answers, messages, children; and the messages it sends.

A wait is entered when the code is at rest on it; what has come is found in the execution's inbox, which is
read when the execution is claimed and whenever its row was nudged. The outcome is an entry like any other.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from perdure import approvals, approving, budgets, errands
from perdure.approvals import APPROVAL
from perdure.budget import ATTRIBUTE
from perdure.checking import refused_message
from perdure.codec import CODEC, checksum, encode_error
from perdure.deliveries import Post, Receipt
from perdure.errors import AlreadyExistsError, ExecutionCancelledError
from perdure.journal import INTENT, RECEIVE
from perdure.keys import child_id, request_id
from perdure.records import ENDED, Execution, Inbox, Message, Request, Status, Verdict
from perdure.scope import GONE, STARTED, Call
from perdure.store import room

if TYPE_CHECKING:
    from perdure.executor import Run


def enter(run: Run, call: Call) -> None:
    """The code is at rest on a wait, all before it being recorded."""
    call.state = STARTED
    call.started_at = run.now()
    _ENTER[call.spec.kind](run, call)


# Interrupts -----------------------------------------------------------------------------------------------


def _ask(run: Run, call: Call) -> None:
    asked = call.extra
    request = run.requests.get(call.key)
    if request is None:
        now = run.now()
        request = Request(
            id=request_id(run.id, call.key, run.generation),
            execution_id=run.id,
            key=call.key,
            generation=run.generation,
            kind="input",
            message=asked.message,
            details=asked.details,
            schema=asked.schema,
            default_answer=asked.default,
            assignee=asked.assignee,
            checksum=checksum(asked.details, asked.schema, asked.default),
            expires_at=None if asked.expires_after is None else now + asked.expires_after,
            created_at=now,
        )
        run.requests[call.key] = request
        run.committer.ask(copy(request))  # ours is marked when it expires
    call.started_at = request.created_at
    run.worker.asks(request.id, call.spec.coder)
    if request.status != "open":
        return _answered(run, call, request)
    run.asked[call.key] = call
    if request.expires_at is not None:
        run.arm()


def _answered(run: Run, call: Call, request: Request) -> None:
    run.asked.pop(call.key, None)
    if request.status == "decided":
        if not errands.is_readable(run, request.answer):
            return
        run.put(call, call.spec.kind, "completed", request.answer, None)
    elif request.status == "expired" and request.default_answer is not None:
        run.put(call, call.spec.kind, "completed", request.default_answer, None)
    elif request.status == "expired":
        run.put(
            call, call.spec.kind, "failed", None, encode_error(TimeoutError(f"{call.key}: nobody answered in time"))
        )


# Messages -------------------------------------------------------------------------------------------------


def _receive(run: Run, call: Call) -> None:
    run.receiving.append(call)
    match_messages(run)


def match_messages(run: Run) -> None:
    """Give the messages that are there to the receives that wait, in the order of both."""
    if not run.receiving or not run.messages:
        return
    for call in list(run.receiving):
        for message in run.messages:
            if message.name == call.extra:
                if not errands.is_readable(run, message.value):
                    return
                run.messages.remove(message)
                run.receiving.remove(call)
                run.taken[message.id] = message
                run.put(call, RECEIVE, "completed", message.value, None)
                run.committer.take_message(run.id, message.id, run.seq)
                call.wake = run.seq
                call.value = message
                break


def not_used(run: Run, call: Call) -> None:
    """A message was recorded for a receive that the code had withdrawn: the next one may take it."""
    message: Message = call.value
    run.committer.free_message(run.id, call.wake)
    run.taken.pop(message.id, None)
    run.messages.append(message)
    run.messages.sort(key=lambda m: m.ordinal)
    match_messages(run)


def _send(run: Run, call: Call) -> None:
    to, name, value = call.extra
    message = Message(
        id=request_id(run.id, call.key, run.generation),
        execution_id=to,
        name=name,
        value=value,
        checksum=checksum(value),
        sent_by=run.id,
        created_at=run.now(),
    )
    run.bodies += 1
    run.worker.spawn(run.worker.deliver(Post(message)), functools.partial(_sent, run, call))


def _sent(run: Run, call: Call, receipt: Receipt | None, error: BaseException | None) -> None:
    run.bodies -= 1
    if run.abandoned:
        return
    if error is None and receipt is not None:
        to, name, _ = call.extra
        error = refused_message(receipt.verdict, to, name)
    if error is not None:
        run.put(call, call.spec.kind, "failed", None, encode_error(error))
    else:
        call.value = None
        run.put(call, call.spec.kind, "completed", "null", None)


# Children -------------------------------------------------------------------------------------------------


def _child_of(run: Run, call: Call) -> str:
    return call.spec.workflow.options_.execution_id or child_id(
        run.id, call.key, run.generation, room(run.worker.store)
    )


def _child(run: Run, call: Call) -> None:
    spec = call.spec
    options = spec.workflow.options_
    run.has_children = True
    call.extra = _child_of(run, call)
    pending = run.sequencer.pending.pop(call.key, None)
    if pending is not None and pending.intent:
        call.intent = True
        return _child_known(run, call)
    call.intent = True
    now = run.now()
    parent = run.execution
    execution = Execution(
        id=call.extra,
        workflow=options.name,
        version=options.version,
        queue=options.queue or parent.queue,
        priority=options.priority or parent.priority,
        input=call.input,
        checksum=checksum(call.input, None, None),
        wake_at=options.wake_at if options.delay is None else now + options.delay,
        parent_id=run.id,
        parent_key=call.key,
        started_by=options.by or parent.started_by,
        attributes=_attributes(run, options),
        build=run.build,
        created_at=now,
        updated_at=now,
    )
    run.put(call, INTENT, "open", f'"{spec.kind}"', None)
    run.worker.create(execution, functools.partial(_child_created, run, call))


def _attributes(run: Run, options: Any) -> str | None:
    """What a child is found by: its own attributes, else those of its parent; and its budget."""
    limits = budgets.for_child(run, options.budget)
    if limits is None and options.attributes is None:
        return run.execution.attributes
    given = options.attributes
    attributes = dict(CODEC.decode(run.execution.attributes or "{}") if given is None else given)
    if limits is not None:
        attributes[ATTRIBUTE] = limits
    return CODEC.encode(attributes, path="attributes")


def _child_created(run: Run, call: Call, verdict: Verdict, error: BaseException | None) -> None:
    if error is not None or run.abandoned:
        return  # the batch was refused or the lease lost: the executor hears of it by the intent
    if verdict == Verdict.EXISTS:
        call.stopped = "exists"


def child_intended(run: Run, call: Call) -> None:
    """The child's row and the intent are recorded."""
    if call.stopped == "exists":
        error = AlreadyExistsError(f"execution {call.extra} exists already: it cannot be a child of {run.id}")
        return run.put(call, call.spec.kind, "failed", None, encode_error(error))
    if call.state == GONE:
        run.sequencer.gone.pop(call.key, None)
        errands.cancel_child(run, call.extra)
        return run.rest()
    _child_known(run, call)
    run.rest()


def _child_known(run: Run, call: Call) -> None:
    if call.spec.detached:
        call.value = call.extra
        return run.put(call, call.spec.kind, "completed", CODEC.encode(call.extra), None)
    run.children[call.extra] = call
    row = run.child_rows.get(call.extra)
    if row is not None and row.status in ENDED:
        _child_ended(run, call, row)


def _child_ended(run: Run, call: Call, row: Execution) -> None:
    run.children.pop(row.id, None)
    if not (errands.is_readable(run, row.output) and errands.is_readable(run, row.error)):
        return None
    if run.purse is not None:
        return budgets.charge_child(run, run.purse, call.key, row.id, functools.partial(_child_gave, run, call, row))
    return _child_gave(run, call, row)


def _child_gave(run: Run, call: Call, row: Execution) -> None:
    if row.status == Status.COMPLETED:
        return run.put(call, call.spec.kind, "completed", row.output, None)
    error = row.error
    if row.status == Status.CANCELLED or error is None:
        who = f" by {row.wish_by}" if row.wish_by else ""
        error = encode_error(
            ExecutionCancelledError(
                f"child {row.id} was cancelled{who}: {row.wish_reason or 'no reason given'}", execution_id=row.id
            )
        )
    run.put(call, call.spec.kind, "failed", None, error)


# The inbox ------------------------------------------------------------------------------------------------


def refreshed(run: Run, inbox: Inbox) -> None:
    """What has come since the inbox was last read."""
    for request in inbox.requests:
        if request.generation != run.generation:
            continue
        if request.policy is not None and not approving.is_latest(run, request):
            continue
        run.requests[request.key] = request
        if run.purse is not None and run.purse.key == request.key and request.status == "decided":
            budgets.answered(run, run.purse)
        call = run.asked.get(request.key)
        if call is None or request.status == "withdrawn":
            continue
        if request.status == "open":
            run.arm()  # its time may be another
        elif call.spec.kind == APPROVAL:
            approving.decided(run, call, request)
        else:
            _answered(run, call, request)
    known = {message.id for message in run.messages}
    fresh = [m for m in inbox.messages if m.id not in known and m.id not in run.taken]
    if fresh:
        run.messages.extend(fresh)
        run.messages.sort(key=lambda m: m.ordinal)
        match_messages(run)
    for row in inbox.children:
        run.has_children = True
        run.child_rows[row.id] = row
        call = run.children.get(row.id)
        if call is not None and row.status in ENDED:
            _child_ended(run, call, row)


def recorded(runs: Mapping[str, Run], requests: Sequence[Request]) -> Sequence[Request]:
    """These requests are durable: what rules have decided goes on. Gives them."""
    for request in requests:
        if approvals.is_ruled(request) and request.execution_id in runs:
            approving.recorded(runs[request.execution_id], request)
    return requests


def withdraw(run: Run, call: Call) -> None:
    """The code gave a wait up that had been entered."""
    kind = call.spec.kind
    if kind in ("interrupt", APPROVAL):
        if run.asked.pop(call.key, None) is not None:
            run.sequencer.gone.pop(call.key, None)
            run.committer.close_request(run.requests[call.key].id, run.id)
    elif kind == RECEIVE:
        if call in run.receiving:
            run.receiving.remove(call)
            run.sequencer.gone.pop(call.key, None)
    elif kind == "child" and run.children.pop(call.extra, None) is not None:
        run.sequencer.gone.pop(call.key, None)
        errands.cancel_child(run, call.extra)


def withdrawn_before(run: Run, call: Call) -> None:
    """The code gave a wait up before a crash, which may have come before the world was told."""
    request = run.requests.get(call.key)
    if request is not None and request.status == "open":
        run.committer.close_request(request.id, run.id)
    if call.spec.kind == "child":
        row = run.child_rows.get(_child_of(run, call))
        if row is not None and row.status not in ENDED:
            errands.cancel_child(run, row.id)


_ENTER: dict[str, Any] = {
    "interrupt": _ask,
    APPROVAL: approving.enter,
    RECEIVE: _receive,
    "send": _send,
    "child": _child,
    "start_child": _child,
}
