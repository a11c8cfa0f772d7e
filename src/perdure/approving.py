"""Approvals as an execution in memory waits for them: asked, asked anew, expired, decided."""

from __future__ import annotations

import functools
import inspect
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perdure import deciding, errands
from perdure.approvals import (
    APPROVAL,
    APPROVE,
    REJECT,
    RULE,
    Action,
    Ask,
    Policy,
    Question,
    StageRow,
    answered_digest,
    asked_actions,
    check_approver,
    details_text,
    is_ruled,
    lacking,
    policy_of,
    round_of,
)
from perdure.codec import CODEC, checksum, encode_error
from perdure.errors import DecodeError
from perdure.keys import request_id
from perdure.records import Request
from perdure.scope import GONE, Call
from perdure.votes import Vote, decision_text, parse, state_of

if TYPE_CHECKING:
    from perdure.executor import Run


def enter(run: Run, call: Call) -> None:
    """The code is at rest on an approval, all before it being recorded.

    A request that asks for something else than the code does now is withdrawn, and a decision that was not used in its
    time is none any more: both are asked for anew, under another id.
    """
    try:
        _enter(run, call)
    except DecodeError as error:
        error.execution_id, error.key = run.id, call.key
        run.block(error)


def _enter(run: Run, call: Call) -> None:
    ask: Ask = call.extra
    request = run.requests.get(call.key)
    if request is None or request.kind != APPROVAL:
        return _ask(run, call, 1)
    if request.digest == ask.digest(run.id, call.key, run.generation) and not _is_stale(run, request):
        return _take_up(run, call, request)
    if request.status == "open":
        run.committer.close_request(request.id, run.id)
    return _ask(run, call, round_of(request.id) + 1)


def _is_stale(run: Run, request: Request) -> bool:
    """Was it approved too long ago to be carried out?"""
    within = policy_of(request).execute_within
    if within is None or request.decided_at is None or request.answer is None:
        return False
    return run.now() > request.decided_at + within


def _take_up(run: Run, call: Call, request: Request) -> None:
    call.started_at = request.created_at
    if request.status not in ("open", "expiring"):
        return decided(run, call, request)
    run.asked[call.key] = call
    return run.arm()


def decided(run: Run, call: Call, request: Request) -> None:
    """It is decided, or its time is over: that is the outcome, bound to what was asked."""
    run.asked.pop(call.key, None)
    if not errands.is_readable(run, request.answer):
        return
    if request.answer is not None:
        if answered_digest(request) != request.digest:  # not of this request, whoever wrote it there
            return _ask(run, call, round_of(request.id) + 1)
        if is_ruled(request):
            return _witness(run, call, request)
        return run.put(call, APPROVAL, "completed", request.answer, None)
    if request.status == "expired":
        late = TimeoutError(f"{call.key}: nobody decided in time")
        return run.put(call, APPROVAL, "failed", None, encode_error(late))
    return None


# Asking ---------------------------------------------------------------------------------------------------


def _ask(run: Run, call: Call, round: int) -> None:
    ask: Ask = call.extra
    if not ask.calls:
        stages = [StageRow(list(stage.approvers), stage.quorum) for stage in ask.stages]
        request = _request(run, call, round, Policy(stages, escalate_to=list(ask.escalate_to)))
        try:
            _check_decidable(policy_of(request))
        except ValueError as fault:
            return run.put(call, APPROVAL, "failed", None, encode_error(fault))
        return _put(run, call, request)
    run.bodies += 1  # so long as its functions are asked, it is not idle
    request = _request(run, call, round, Policy([]))
    question = Question(run.id, call.key, run.execution.started_by, ask.message, _details(request), _actions(request))
    run.worker.spawn(_consult(ask, question), functools.partial(_consulted, run, call, request))
    return None


def _details(request: Request) -> Any:
    text = details_text(request)
    return None if text is None else CODEC.decode(text)


def _actions(request: Request) -> list[Action]:
    return [action.view() for action in asked_actions(request)]


async def _consult(ask: Ask, question: Question) -> tuple[list[StageRow], list[str], tuple[str, Any] | None]:
    """Ask the functions: who approves, and whether a rule decides it at once."""
    stages = [StageRow(await _named(stage.approvers, question), stage.quorum) for stage in ask.stages]
    escalate_to = await _named(ask.escalate_to, question)
    for rule in ask.rules:
        verdict = await _called(rule, question)
        if verdict is not None:
            name = getattr(rule, "__name__", type(rule).__name__)
            return stages, escalate_to, (f"{RULE}{name}", verdict)
    return stages, escalate_to, None


async def _named(given: Any, question: Question) -> list[str]:
    names: list[str] = []
    for each in given:
        found = await _called(each, question) if callable(each) else each
        names += [found] if isinstance(found, str) else list(found or ())
    if given and not names:
        raise ValueError("the functions that name approvers have named nobody")
    for name in names:
        check_approver(name)
    return names


async def _called(function: Any, question: Question) -> Any:
    found = function(question)
    return await found if inspect.isawaitable(found) else found


def _consulted(run: Run, call: Call, request: Request, found: Any, error: BaseException | None) -> None:
    run.bodies -= 1
    if run.abandoned:
        return None
    if call.state == GONE or run.stopping is not None:
        run.sequencer.gone.pop(call.key, None)
        return run.rest()
    try:
        if error is not None:
            raise error
        stages, escalate_to, verdict = found
        policy = policy_of(request)
        policy.stages, policy.escalate_to = stages, escalate_to
        request = replace(request, policy=policy.text())
        if verdict is not None:
            request = _ruled(request, *verdict)
        else:
            _check_decidable(policy)
    except Exception as fault:
        return run.put(call, APPROVAL, "failed", None, encode_error(fault))
    _put(run, call, request)
    return run.rest()


def _check_decidable(policy: Policy) -> None:
    """Raises `ValueError` where too few are left to decide, once the functions have named theirs."""
    excluded = policy.excluded
    short = lacking(policy.stages, excluded)
    if short is None or set(policy.escalate_to) - {excluded}:
        return
    if excluded:
        short = f"exclude_requester=True keeps {excluded!r} out, who started it; {short}"
    raise ValueError(f"{short}: nobody could decide it, so it is not asked. Name others too, or a role")


def _ruled(request: Request, name: str, verdict: Any) -> Request:
    """A rule decides: the request is there, and is decided from the beginning."""
    if isinstance(verdict, bool):
        verdict = APPROVE if verdict else REJECT
    actions = asked_actions(request)
    words, reasons = parse(verdict, actions, {})
    vote = Vote(name, None, request.created_at, None, words, reasons)
    state = state_of(Policy([StageRow()]), actions, [vote])
    text = decision_text(request, actions, state, request.created_at)
    return replace(request, status="decided", answer=text, answered_by=name, decided_at=request.created_at)


def _request(run: Run, call: Call, round: int, policy: Policy) -> Request:
    ask: Ask = call.extra
    now = run.now()
    policy.excluded = (run.execution.started_by or "") if ask.exclude_requester else None
    policy.on_expiry, policy.term, policy.reminders = ask.on_expiry, ask.term, ask.reminders
    policy.execute_within, policy.actions = ask.execute_within, list(ask.actions)
    return Request(
        id=request_id(run.id, call.key, run.generation) + (f"~{round}" if round > 1 else ""),
        execution_id=run.id,
        key=call.key,
        generation=run.generation,
        kind=APPROVAL,
        message=ask.message,
        details=ask.details,
        checksum=checksum(ask.details, None, None),
        expires_at=None if ask.term is None else now + ask.term,
        created_at=now,
        policy=policy.text(),
        digest=ask.digest(run.id, call.key, run.generation),
    )


def _put(run: Run, call: Call, request: Request) -> None:
    run.requests[call.key] = request
    run.committer.ask(copy(request))  # ours is marked when it expires
    if not is_ruled(request):
        return _take_up(run, call, request)
    run.bodies += 1  # until it is recorded
    run.asked[call.key] = call
    return None


def recorded(run: Run, request: Request) -> None:
    """What a rule has decided is durable: it may go on."""
    run.bodies -= 1
    call = run.asked.get(request.key)
    if run.abandoned:
        return None
    if call is None or run.stopping is not None:
        return run.rest()
    return decided(run, call, request)


def _witness(run: Run, call: Call, request: Request) -> None:
    """What a rule decided is used once the chain of audit events says so."""
    run.bodies += 1
    act = functools.partial(deciding.witness, run.worker.store, run.worker.clock, request)
    run.worker.spawn(run.worker.insist(act), functools.partial(_witnessed, run, call, request))


def _witnessed(run: Run, call: Call, request: Request, result: None, error: BaseException | None) -> None:
    run.bodies -= 1
    if run.abandoned:
        return None
    if call.state == GONE or run.stopping is not None:
        run.sequencer.gone.pop(call.key, None)
        return run.rest()
    if isinstance(error, DecodeError):
        return run.block(error)
    if isinstance(error, Exception):
        return run.broken(error)
    return run.put(call, APPROVAL, "completed", request.answer, None)


def is_latest(run: Run, request: Request) -> bool:
    """Is this the latest of what a call has asked? Earlier rounds do not count any more."""
    known = run.requests.get(request.key)
    return known is None or known.kind != APPROVAL or round_of(request.id) >= round_of(known.id)
