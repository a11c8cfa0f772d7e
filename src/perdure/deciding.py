"""People's parts in requests: deciding, commenting, claiming, handing on, seeing; and what time decides.

Each is one delivery under the lock of the execution's row, refused where somebody was quicker, and then looked at
again; so opposite decisions at the same moment, or a decision and the end of its time, come to one outcome.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure import auditing
from perdure.answering import how_decided, is_overdue
from perdure.approvals import (
    APPROVAL,
    APPROVE,
    EXPIRY,
    REJECT,
    ROLE,
    RULE,
    Asked,
    Policy,
    StageRow,
    asked_actions,
    due,
    policy_of,
    seal,
)
from perdure.clock import Clock, to_datetime
from perdure.codec import checksum
from perdure.deliveries import Decide
from perdure.errors import AlreadyDecidedError, InvalidAnswerError, NotApproverError, NotFoundError, PerdureError
from perdure.outcome import OpenRequest, User
from perdure.records import AuditEvent, Dossier, Request, Verdict
from perdure.store import Insight, Store
from perdure.views import request_view
from perdure.votes import (
    State,
    Vote,
    count,
    decision_text,
    is_named,
    parse,
    said_of,
    stage_of,
    state_of,
    votes_of,
)

Directory = Callable[[str], Awaitable[User | None]]
"""Who somebody is, by name; None: nobody."""


class _Settled(Exception):
    """Nothing is left to do: the request stands as it should."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


class _Overdue(Exception):
    """The term of an approval was over before this decision on it."""


async def who_is(by: str | User | None, directory: Directory | None) -> User | None:
    """Who does something. A name's roles, and those of a `User` without any, are the directory's to say."""
    if by is None:
        return None
    if not isinstance(by, str | User):
        raise TypeError(f"by= is a name or a User, not {by!r:.100}")
    user = by if isinstance(by, User) else User(by)
    _check_person(user)
    if user.roles:
        return user
    known = None if directory is None else await directory(user.id)
    return user if known is None else User(user.id, known.roles, user.via or known.via)


def _check_person(user: User) -> None:
    """No person is called like a role, a rule or the end of time: their words would be taken for another's."""
    if user.id == EXPIRY or user.id.startswith((ROLE, RULE)) or not user.id:
        raise NotApproverError(f"{user.id!r} is no name of a person; nothing was changed")


async def take_part(store: Store, clock: Clock, request_id: str, part: auditing.Part) -> Request:
    """Do something with a request; gives it as it stands then. Raises `NotFoundError`, and what `part` raises."""
    while True:
        try:
            receipt = await auditing.take_part(store, clock, request_id, part)
        except _Settled as settled:
            return settled.request
        request = receipt.request
        if receipt.verdict == Verdict.OK and request is not None:
            return request
        if receipt.verdict == Verdict.GONE or request is None:
            raise NotFoundError(f"there is no request {request_id} in {store.url}")
        if receipt.verdict == Verdict.ENDED or request.status == "open":
            raise AlreadyDecidedError(how_decided(request), execution_id=request.execution_id, key=request.key)
        # Somebody was quicker: the part itself tells what that means.


# Deciding -------------------------------------------------------------------------------------------------


async def decide(
    store: Store, clock: Clock, request_id: str, decision: Any, who: User | None, comment: str | None
) -> Request:
    """Somebody's decision on an approval. Gives the request as it then stands: decided, or still open.

    Raises `InvalidAnswerError`, `NotApproverError`, `AlreadyDecidedError`, `NotFoundError`; then nothing is changed.
    """

    def part(request: Request, dossier: Dossier) -> Decide:
        if request.kind != APPROVAL:
            raise InvalidAnswerError(f"{request.id} is of kind {request.kind!r}: it is {_settled_by(request.kind)}")
        if is_overdue(request, clock.now()):
            raise _Overdue
        return _vote(request, dossier, decision, who, comment, clock.now())

    while True:
        try:
            return await take_part(store, clock, request_id, part)
        except _Overdue:  # no worker was there to say so
            await lapse(store, clock, request_id)


def _settled_by(kind: str) -> str:
    return "answered, not decided" if kind in ("input", "budget") else "settled by `resolve`"


def _vote(request: Request, dossier: Dossier, decision: Any, who: User | None, comment: str | None, at: int) -> Decide:
    policy, actions = policy_of(request), asked_actions(request)
    rows = [row for row in dossier.decisions if row.request_id == request.id]
    votes = votes_of(rows, actions)
    state = state_of(policy, actions, votes)
    words, reasons = parse(decision, actions, state.standing)
    name, via = (who.id, who.via) if who is not None else (None, None)
    whole = decision in (APPROVE, REJECT) if isinstance(decision, str) else False
    vote = Vote(name, via, at, comment, words, reasons, whole)
    _check_first(request, state, votes, vote)
    _check_approver(request, policy, stage_of(policy, state), who)
    count(state, policy, vote)
    text = None if state.verdict is None else decision_text(request, actions, state, at)
    said = {"digest": request.digest, "stage": state.stage, "decided": text is not None}
    if text is not None:
        said["answer"] = seal(text)
    event = auditing.event(
        dossier.events,
        request.execution_id,
        vote.said,
        at,
        request_id=request.id,
        actor=name,
        via=via,
        comment=comment,
        details=said,
    )
    made = vote.rows(request, len(rows) + 1)
    if text is None:
        return Decide(request.id, len(dossier.events), "open", made, [event])
    return Decide(request.id, len(dossier.events), "decided", made, [event], text, name, via, checksum(text))


def _check_first(request: Request, state: State, votes: Sequence[Vote], vote: Vote) -> None:
    """The first decision stands, and what was said in a stage that is over; in this one people may say otherwise.

    Raises `AlreadyDecidedError`, or that all is said.
    """
    earlier = [each for each in votes if each.by == vote.by]
    if request.status == "open":
        if not earlier or (vote.by is None and not state.voices):
            return
        if earlier[-1].words == vote.words:
            raise _Settled(request)
        if vote.by in state.voices:
            return
        raise AlreadyDecidedError(
            f"{vote.by or 'somebody'} has already {earlier[-1].said} {request.id} at"
            f" {to_datetime(earlier[-1].at):%Y-%m-%d %H:%M:%S} UTC, in an earlier stage; that stands",
            execution_id=request.execution_id,
            key=request.key,
        )
    if request.status == "decided" and earlier and earlier[-1].words == vote.words:
        raise _Settled(request)
    raise AlreadyDecidedError(how_settled(request, votes), execution_id=request.execution_id, key=request.key)


def how_settled(request: Request, votes: Sequence[Vote]) -> str:
    """Why an approval takes no decision any more: the first one, in words."""
    if request.status == "decided" and votes and votes[-1].by == request.answered_by:
        last = votes[-1]
        comment = f" ({last.comment})" if last.comment else ""
        when = f"{to_datetime(request.decided_at or last.at):%Y-%m-%d %H:%M:%S}"
        return f"{request.id} was {last.said} by {last.by or 'somebody'} at {when} UTC{comment}; that stands"
    if request.status == "expired":
        return f"{request.id} has expired: it takes no decision any more"
    return how_decided(request)


def _check_approver(request: Request, policy: Policy, stage: StageRow, who: User | None) -> None:
    name, roles = (who.id, who.roles) if who is not None else (None, ())
    if policy.excluded is not None and name in (None, policy.excluded):
        words = f"{policy.excluded} has asked for it" if name else "it is not for whoever asked: say who decides, by="
        raise NotApproverError(f"{request.id}: {words}; nothing was changed", execution_id=request.execution_id)
    if is_named(stage, name, roles):
        return
    who_may = ", ".join(stage.approvers) or "anybody who gives a name"
    raise NotApproverError(
        f"{name or 'nobody named'} is not among those who decide {request.id} now: {who_may}; nothing was changed",
        execution_id=request.execution_id,
        key=request.key,
    )


# Besides --------------------------------------------------------------------------------------------------


async def comment_on(store: Store, clock: Clock, request_id: str, text: str, who: User | None) -> Request:
    """Say something about an open request."""

    def part(request: Request, dossier: Dossier) -> Decide:
        _check_open(request)
        return _noted(request, dossier, clock, "commented", who, comment=text)

    return await take_part(store, clock, request_id, part)


async def see(store: Store, clock: Clock, request_id: str, who: User) -> Request:
    """Record that somebody has seen an open request; once for each person."""

    def part(request: Request, dossier: Dossier) -> Decide:
        seen = any(e.what == "seen" and e.request_id == request.id and e.actor == who.id for e in dossier.events)
        if seen or request.status != "open":
            raise _Settled(request)
        return _noted(request, dossier, clock, "seen", who)

    return await take_part(store, clock, request_id, part)


async def claim(store: Store, clock: Clock, request_id: str, who: User) -> Request:
    """Say that one looks after a request. Whoever may decide it still may."""

    def part(request: Request, dossier: Dossier) -> Decide:
        _check_open(request)
        if request.assignee == who.id:
            raise _Settled(request)
        _check_stage(request, dossier, who)
        if any(event.what == "claimed" and event.request_id == request.id for event in dossier.events):
            raise PerdureError(
                f"{request.id} is {request.assignee}'s: it can be handed on (reassign)",
                execution_id=request.execution_id,
            )
        return _noted(request, dossier, clock, "claimed", who, assignee=who.id)

    return await take_part(store, clock, request_id, part)


async def reassign(store: Store, clock: Clock, request_id: str, to: str, who: User | None) -> Request:
    """Hand a request on: `to` looks after it, and decides in the place of whoever hands it on."""
    if to == ROLE or not to.startswith(ROLE):
        _check_person(User(to))

    def part(request: Request, dossier: Dossier) -> Decide:
        _check_open(request)
        state = _check_stage(request, dossier, who)
        policy = None
        if state is not None:
            made = policy_of(request)
            stage = stage_of(made, state)
            if stage.approvers:
                kept = [name for name in stage.approvers if who is None or name != who.id]
                stage.approvers = kept if to in kept else [*kept, to]
                stage.without = [name for name in stage.without if name != to]
                if who is not None and who.id != to:
                    stage.without.append(who.id)
                policy = made.text()
            _check_successor(request, made.excluded, stage, state, dossier, to)
        return _noted(request, dossier, clock, "reassigned", who, assignee=to, policy=policy, details={"to": to})

    return await take_part(store, clock, request_id, part)


def _check_successor(
    request: Request, excluded: str | None, stage: StageRow, state: State, dossier: Dossier, to: str
) -> None:
    """Raises `NotApproverError` where the stage could never be decided by whom it is handed to."""
    decided = any(row.request_id == request.id and row.decided_by == to for row in dossier.decisions)
    able = {*stage.approvers, *state.voices}
    plain = stage.approvers and not any(name.startswith(ROLE) for name in stage.approvers)
    if to == excluded:
        words = f"{to} has asked for it"
    elif decided and to not in state.voices:
        words = f"{to} has decided an earlier stage"
    elif plain and len(able) < stage.quorum:
        words = f"{to} decides it already, and a quorum of {stage.quorum} needs others too"
    else:
        return
    raise NotApproverError(f"{request.id}: {words}; nothing was changed", execution_id=request.execution_id)


def _check_open(request: Request) -> None:
    if request.status != "open":
        raise AlreadyDecidedError(how_decided(request), execution_id=request.execution_id, key=request.key)


def _check_stage(request: Request, dossier: Dossier, who: User | None) -> State | None:
    """How an approval stands; raises `NotApproverError` for whom it does not concern now."""
    if request.kind != APPROVAL:
        return None
    policy, actions = policy_of(request), asked_actions(request)
    rows = [row for row in dossier.decisions if row.request_id == request.id]
    state = state_of(policy, actions, votes_of(rows, actions))
    _check_approver(request, policy, stage_of(policy, state), who)
    return state


def _noted(
    request: Request,
    dossier: Dossier,
    clock: Clock,
    what: str,
    who: User | None,
    *,
    comment: str | None = None,
    details: Any = None,
    assignee: str | None = None,
    policy: str | None = None,
    expires_at: int | None = None,
) -> Decide:
    """What leaves a request open, and is noted."""
    event = auditing.event(
        dossier.events,
        request.execution_id,
        what,
        clock.now(),
        request_id=request.id,
        actor=who.id if who is not None else None,
        via=who.via if who is not None else None,
        comment=comment,
        details=details,
    )
    return Decide(
        request.id,
        len(dossier.events),
        "open",
        events=[event],
        assignee=assignee,
        policy=policy,
        expires_at=expires_at,
    )


# Time -----------------------------------------------------------------------------------------------------

_TIME = User(EXPIRY)


async def lapse(store: Store, clock: Clock, request_id: str) -> tuple[str | None, Request]:
    """Do what is due about an open approval. Gives what that was (reminded, escalated, expired), if anything."""
    what: str | None = None

    def part(request: Request, dossier: Dossier) -> Decide:
        nonlocal what
        what = None
        at = due(request)
        if request.status != "open" or at is None or at > clock.now():
            raise _Settled(request)
        policy = policy_of(request)
        if request.expires_at is None or request.expires_at > clock.now():
            what = "reminded"
            assert policy.reminders is not None
            policy.reminded = (clock.now() - request.created_at) // policy.reminders
            return _noted(request, dossier, clock, what, None, policy=policy.text(), details={"n": policy.reminded})
        if policy.on_expiry == "escalate" and not policy.escalated:
            what = "escalated"
            return _escalate(request, dossier, clock, policy)
        what = "expired"
        return _expire(request, dossier, policy, clock.now())

    request = await take_part(store, clock, request_id, part)
    return what, request


def _escalate(request: Request, dossier: Dossier, clock: Clock, policy: Policy) -> Decide:
    """Others decide from now on, in a new term. What was approved before counts."""
    actions = asked_actions(request)
    rows = [row for row in dossier.decisions if row.request_id == request.id]
    stage = stage_of(policy, state_of(policy, actions, votes_of(rows, actions)))
    stage.approvers, stage.without, policy.escalated = list(policy.escalate_to), [], True
    until = clock.now() + (policy.term or 0)
    to = {"to": policy.escalate_to}
    return _noted(request, dossier, clock, "escalated", None, policy=policy.text(), expires_at=until, details=to)


def _expire(request: Request, dossier: Dossier, policy: Policy, at: int) -> Decide:
    """The rule decides. With "raise" there is no decision."""
    known, said = len(dossier.events), {"rule": policy.on_expiry}
    expired = functools.partial(
        auditing.event, dossier.events, request.execution_id, "expired", at, request_id=request.id, details=said
    )
    if policy.on_expiry == "raise":
        return Decide(request.id, known, "expired", events=[expired()])
    actions = asked_actions(request)
    rows = [row for row in dossier.decisions if row.request_id == request.id]
    vote, text = decided_by(request, actions, policy.on_expiry == "approve", EXPIRY, at)
    said["answer"] = seal(text)
    made, event = vote.rows(request, len(rows) + 1), expired()
    return Decide(request.id, known, "expired", made, [event], text, EXPIRY, None, checksum(text))


def decided_by(request: Request, actions: Sequence[Asked], approves: bool, name: str, at: int) -> tuple[Vote, str]:
    """A decision that no person made, on the whole: as a vote, and as the request's answer."""
    words, reasons = parse(APPROVE if approves else REJECT, actions, {})
    vote = Vote(name, None, at, None, words, reasons)
    state = state_of(Policy([StageRow()]), actions, [vote])
    return vote, decision_text(request, actions, state, at)


async def witness(store: Store, clock: Clock, request: Request) -> None:
    """Have the chain say what a rule decided, once, before it is used. Raises `DecodeError`."""
    answer = request.answer or ""
    said = said_of(answer)

    def events(dossier: Dossier) -> list[AuditEvent]:
        if any(each.request_id == request.id and each.actor == request.answered_by for each in dossier.events):
            return []
        details = {"digest": request.digest, "decided": True, "answer": seal(answer)}
        return [
            auditing.event(
                dossier.events,
                request.execution_id,
                said,
                clock.now(),
                request_id=request.id,
                actor=request.answered_by,
                details=details,
            )
        ]

    await auditing.add(store, clock, request.execution_id, events)


# The inbox ------------------------------------------------------------------------------------------------


async def seen_requests(insight: Insight, rows: Sequence[Request]) -> list[OpenRequest]:
    """Requests as people see them, with the decisions so far."""
    ids = {row.execution_id for row in rows if row.kind == APPROVAL}
    dossiers = await insight.dossiers(sorted(ids)) if ids else {}
    return [request_view(row, dossiers.get(row.execution_id)) for row in rows]
