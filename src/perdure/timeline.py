"""What was asked, decided, used and undone, in the order of time; and whether that record fits together: pure.

Every piece is kept where it cannot be forgotten: questions in their rows, what people did from outside in the chain of
audit events, what became of it in the journal, which only the owner writes. Here they are one list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perdure.approvals import (
    APPROVAL,
    APPROVED,
    EDITED,
    REJECTED,
    Asked,
    asked_actions,
    digest_of,
    is_ruled,
    policy_of,
    seal,
)
from perdure.auditing import CANCEL_ASKED, break_in
from perdure.codec import REFUSED, checksum
from perdure.deliveries import PARENT
from perdure.errors import PerdureError
from perdure.journal import CUT, INHERITED, ROLLBACK, UNDO
from perdure.packing import is_packed
from perdure.records import ENDED, AuditEvent, Dossier, Entry, Execution, Request, Status
from perdure.rollback import order_of
from perdure.sealing import PREFIX
from perdure.votes import IN_PART, Vote, decision_text, state_of, votes_of
from perdure.wholeness import (
    INTERRUPT,
    WAITS,
    json_object,
    of_cancelling,
    of_journal,
    of_questions,
    of_rollbacks,
    of_undos,
)

SETTLED = frozenset({APPROVAL, "undo", "unknown", "pivot"})
"""Kinds of requests whose every decision has an event."""

VOTED = frozenset({APPROVED, REJECTED, EDITED, IN_PART})
"""Events of somebody's decision, which has rows of its own."""


CLI, UNKNOWN = "cli", "unknown"
"""How somebody is known who is not verified: the command line was told a name, or nothing says how it came here."""


@dataclass(slots=True, frozen=True)
class Moment:
    """Something that happened. `at`: microseconds. `where`: the table that says so.

    `via`: how it is known who did it; "cli" and "unknown": unverified.
    """

    at: int
    what: str
    who: str | None = None
    via: str | None = None
    request: str | None = None
    key: str | None = None
    words: str | None = None
    digest: str | None = None
    where: str = "audit_events"

    @property
    def is_unverified(self) -> bool:
        """Does nothing prove that it was them?"""
        return self.via in (CLI, UNKNOWN)


def timeline(row: Execution, requests: Sequence[Request], dossier: Dossier, entries: Sequence[Entry]) -> list[Moment]:
    """All that people had to do with an execution, and what was undone, oldest first."""
    forked = [event.via for event in dossier.events if event.what == "forked" and event.actor == row.started_by]
    via = forked[0] if forked else None
    moments = [Moment(row.created_at, "started", row.started_by, via, where="workflow_executions")]
    for request in requests:
        moments += _of_request(request, dossier.events)
    moments += [_of_event(event) for event in dossier.events]
    moments += [moment for entry in entries for moment in _of_entry(entry, dossier.events)]
    if row.status in ENDED and row.ended_at is not None:
        cancelled = row.status is Status.CANCELLED
        who, words = (row.wish_by, row.wish_reason) if cancelled else (None, None)
        via = _via(who, (event for event in dossier.events if event.what in (CANCEL_ASKED, "cancelled")))
        moments.append(Moment(row.ended_at, str(row.status), who, via, words=words, where="workflow_executions"))
    return sorted(moments, key=lambda moment: moment.at)


def _of_request(request: Request, events: Sequence[AuditEvent]) -> Iterator[Moment]:
    where = "approval_requests"
    yield Moment(
        request.created_at, "asked", None, None, request.id, request.key, request.message, request.digest, where
    )
    if _excludes_nobody_known(request):
        words = "exclude_requester: nobody was named who started it, so any approver with a name may decide"
        yield Moment(request.created_at, "not excluded", None, None, request.id, request.key, words, None, where)
    at, by = request.decided_at, request.answered_by
    if at is None:
        return
    mine = [event for event in events if event.request_id == request.id]
    ruled = is_ruled(request)
    if request.status == "withdrawn" or not any(e.created_at <= at or (ruled and e.actor == by) for e in mine):
        what = "decided" if ruled else {"decided": "answered"}.get(request.status, request.status)
        yield Moment(at, what, request.answered_by, request.answered_via, request.id, request.key, where=where)


def _excludes_nobody_known(request: Request) -> bool:
    try:
        return policy_of(request).excluded == ""
    except PerdureError:
        return False  # encrypted, or damaged, which `faults` tells


def _of_event(event: AuditEvent) -> Moment:
    try:
        details = json.loads(event.details or "null")
    except (ValueError, RecursionError):
        details = None
    digest = details.get("digest") if isinstance(details, dict) else None
    words = event.comment
    if words is None and isinstance(details, dict) and details.get("to") is not None:
        words = f"to {details['to']}"
    return Moment(event.created_at, event.what, event.actor, event.via, event.request_id, None, words, digest)


def _via(who: str | None, events: Iterable[AuditEvent]) -> str | None:
    """How it is known who did what these events asked for."""
    told = [event.via for event in events if event.actor == who]
    if told:
        return CLI if CLI in told else told[-1]
    return None if who in (None, PARENT) else UNKNOWN


def _asked_by(who: str | None, order: str | None, events: Sequence[AuditEvent]) -> str | None:
    """How it is known who asked for a rollback."""
    return _via(who, (event for event in events if order and json_object(event.details).get("order") == order))


def _of_entry(entry: Entry, events: Sequence[AuditEvent]) -> Iterator[Moment]:
    where = "step_executions"
    if entry.kind in WAITS and entry.status in ("completed", "failed"):
        what = "consumed" if entry.status == "completed" else "not answered"
        yield Moment(entry.completed_at, what, key=entry.key, digest=_digest(entry), where=where)
    elif entry.kind == ROLLBACK:
        order = order_of(entry.output)
        by, reason, id = (order.by, order.reason, order.id) if order is not None else (None, None, None)
        via = _asked_by(by, id, events)
        yield Moment(entry.completed_at, "rollback begun", by, via, key=entry.key, words=reason, where=where)
    elif entry.kind == UNDO:
        yield Moment(entry.completed_at, f"undo {entry.status}", key=entry.key, where=where)
    elif entry.kind == CUT:
        said = json_object(entry.output)
        what = {"rollback": "rolled back", "retry": "retried", "restart": "restarted"}.get(
            said.get("reason", ""), "cut"
        )
        words, by = f"void from entry {said.get('from_seq')} on", said.get("by")
        via = said["via"] if by and "via" in said else _asked_by(by, said.get("order"), events)
        yield Moment(entry.completed_at, what, by, via, key=entry.key, words=words, where=where)


def _digest(entry: Entry) -> str | None:
    return json_object(entry.output).get("digest") if entry.kind == APPROVAL else None


# Does it fit together? ------------------------------------------------------------------------------------


def faults(
    row: Execution, requests: Sequence[Request], dossier: Dossier, entries: Sequence[Entry], *, opened: bool = False
) -> list[str]:
    """What does not fit together, in words; nothing if all does.

    `opened`: the store has decrypted it, so that the checksums of answers, which are of what is recorded, cannot be
    compared.
    """
    found = []
    broken = break_in(dossier.events, row.id)
    if broken is not None:
        found.append(f"the chain of audit events is broken: {broken}")
    inherited = max((entry.seq for entry in entries if entry.key == INHERITED), default=0)
    used = [e for e in entries if e.kind == APPROVAL and e.status == "completed" and e.seq > inherited]
    readable = not row.input.startswith((PREFIX, REFUSED))  # else it is encrypted, and there are no keys here
    for request in requests:
        found += _faults_of(request, dossier, used, readable)
        found += () if opened else _faults_of_answer(request)
    for entry in used if readable else ():
        found += _faults_of_use(entry, requests)
    found += of_journal(row, entries, dossier.actions)
    found += of_rollbacks(row, entries, dossier.events, readable)
    found += of_undos(entries, dossier.actions, requests, dossier.events)
    found += of_cancelling(row, dossier.events)
    found += of_questions(row, requests, entries, dossier.events, inherited)
    for entry in entries if readable else ():
        if entry.kind == INTERRUPT and entry.status == "completed" and entry.seq > inherited:
            found += _faults_of_reading(entry, requests)
    return found


def _faults_of_answer(request: Request) -> Iterator[str]:
    """Is an answer still what was answered? An approval's is bound to its events."""
    if request.kind == APPROVAL or request.status != "decided" or request.answer is None:
        return
    if checksum(request.answer) != request.checksum:
        yield f"the answer of {request.id} was changed after it was given: its checksum does not fit"


def _faults_of_reading(entry: Entry, requests: Sequence[Request]) -> Iterator[str]:
    """Is what a question came to what was answered?"""
    asked = [each for each in requests if (each.key, each.generation) == (entry.key, entry.generation)]
    given = {text for request in asked for text in (request.answer, request.default_answer)}
    if asked and not is_packed(entry.output) and entry.output not in given:
        yield f"entry {entry.seq} ({entry.key}) used another answer than was given"


def _faults_of_use(entry: Entry, requests: Sequence[Request]) -> Iterator[str]:
    """Is what was used what was decided?"""
    digest = _digest(entry)
    asked = [each for each in requests if (each.key, each.generation) == (entry.key, entry.generation)]
    if digest is not None and digest not in {request.digest for request in asked}:
        yield f"entry {entry.seq} ({entry.key}) used a decision on something that was never asked"
    elif entry.output not in {request.answer for request in asked if request.digest == digest}:
        yield f"entry {entry.seq} ({entry.key}) used another decision than was given"


def _faults_of(request: Request, dossier: Dossier, used: Sequence[Entry], readable: bool) -> Iterator[str]:
    by_rule = is_ruled(request) and not any(_is_of(entry, request) for entry in used)
    events = [event for event in dossier.events if event.request_id == request.id]
    if request.kind in SETTLED and request.status in ("decided", "expired") and not by_rule:
        last = events[-1] if events else None
        if last is None:
            yield f"{request.id} is {request.status}, and no event says by whom: the end of the chain is missing"
        elif request.status == "decided" and last.actor != request.answered_by:
            yield f"{request.id} says it was decided by {request.answered_by}, the chain says {last.actor}"
    if request.kind != APPROVAL or not readable:
        return
    try:
        asked, actions = digest_of(request), asked_actions(request)
    except PerdureError:
        return  # encrypted, and there are no keys here
    if asked != request.digest:
        yield f"{request.id} was changed after it was asked: its digest does not fit"
    answered = json_object(request.answer).get("digest")
    if request.answer is not None and answered != request.digest:
        yield f"the answer of {request.id} was not given to what it asks"
    votes = votes_of([row for row in dossier.decisions if row.request_id == request.id], actions)
    yield from _faults_of_votes(request, votes, events)
    seals = [told for event in events if (told := json_object(event.details).get("answer")) is not None]
    if request.answer is not None and seals and seals[-1] != seal(request.answer):
        yield f"the answer of {request.id} is not the one that the chain tells of"
    led = is_ruled(request) or _leads(request, actions, votes)
    if answered == request.digest and request.status == "decided" and not led:
        yield f"the decisions on {request.id} do not lead to its answer"


def _faults_of_votes(request: Request, votes: Sequence[Vote], events: Sequence[AuditEvent]) -> Iterator[str]:
    told: dict[tuple[str | None, int, str], set[str | None]] = {}
    for event in events:
        told.setdefault((event.actor, event.created_at, event.what), set()).add(event.comment)
    said = set()
    for vote in votes:
        what = "expired" if request.status == "expired" and vote.by == request.answered_by else vote.said
        which = (None if what == "expired" else vote.by, vote.at, what)
        said.add(which)
        if which not in told or (vote.whole and what != "expired" and vote.comment not in told[which]):
            yield f"the decision of {vote.by or 'somebody'} on {request.id} is not that of the chain"
    for actor, at, what in told:
        if what in VOTED and (actor, at, what) not in said and not (is_ruled(request) and actor == request.answered_by):
            yield f"the decision of {actor or 'somebody'} on {request.id} is missing"


def _is_of(entry: Entry, request: Request) -> bool:
    """Did this entry use the decision on this request?"""
    where = (entry.key, entry.generation, _digest(entry))
    return where == (request.key, request.generation, request.digest)


def _leads(request: Request, actions: Sequence[Asked], votes: Sequence[Vote]) -> bool:
    """Do the decisions come to what the request's answer says?"""
    try:
        state = state_of(policy_of(request), actions, votes)
        if state.verdict is None:
            return False
        told = json_object(decision_text(request, actions, state, 0))
    except PerdureError:
        return False
    return _meant(told) == _meant(json_object(request.answer))


def _meant(decision: dict[str, Any]) -> tuple[Any, ...]:
    """What a decision's text permits, without the words that were said with it."""
    actions = decision.get("actions")
    permitted = json_object(json.dumps(actions))
    permitted = {id: said.get("arguments") if isinstance(said, dict) else said for id, said in permitted.items()}
    return decision.get("approved"), decision.get("by"), permitted
