"""The complete state of an execution, as `handle.inspect()` gives it, put together from its rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from perdure.clock import to_datetime
from perdure.codec import CODEC
from perdure.journal import ATTEMPT, ATTRIBUTES, CUT, INHERITED, LOCAL, TIMER, TOLD, USAGE, is_outcome, live
from perdure.outcome import OpenRequest, Voice
from perdure.records import Dossier, Entry, Execution, Status
from perdure.streams import Usage
from perdure.views import told_error, value_of

MAIN = "main"
"""The branch that the workflow begins with."""

WAITS = frozenset({"interrupt", "approval", "receive", "timer", "child"})


TRIED_NOT = frozenset({*LOCAL, *TOLD, CUT, TIMER})
"""What no attempts are made of."""


@dataclass(slots=True, frozen=True)
class Place:
    """A call that has no outcome yet: `file` and `line` of the code that awaits it. `request`: what it asks."""

    key: str
    kind: str
    branch: str
    file: str | None
    line: int | None
    request: OpenRequest | None = None


@dataclass(slots=True, frozen=True)
class Branch:
    """A task of the workflow's code. `stack`: where its functions stand, outermost first; `waits`: keys."""

    name: str
    function: str
    file: str
    line: int
    stack: Sequence[str]
    variables: Mapping[str, Any]
    waits: Sequence[str]
    requests: Sequence[OpenRequest]


@dataclass(slots=True, frozen=True)
class Position:
    """Where it stands. `active`: begun or due; `waiting`: for people, messages, time, children; `completed`: keys."""

    active: Sequence[Place] = ()
    completed: Sequence[str] = ()
    waiting: Sequence[Place] = ()
    branches: Sequence[Branch] = ()


@dataclass(slots=True, frozen=True)
class AttemptError:
    """What an attempt of a call failed of. `key` None: the execution itself."""

    key: str | None
    attempt: int
    error: str
    traceback: str | None
    at: datetime | None
    seq: int | None = None


@dataclass(slots=True, frozen=True)
class State:
    """All that is known of an execution, now or (`at`) behind an entry of its journal.

    `decisions`: what was said of requests, by their ids. `variables`: of the workflow's own function, for display:
    JSON, cut, without secrets. `source`: "code" (the journal was replayed on the code at hand), "snapshot" (recorded
    behind entry `of`), "journal" (there are none). `note`: why it is not more than that.
    """

    id: str
    workflow: str
    version: int
    status: Status
    at: int
    variables: Mapping[str, Any]
    position: Position
    attempts: Mapping[str, int]
    errors: Sequence[AttemptError]
    requests: Sequence[OpenRequest]
    decisions: Mapping[str, Sequence[Voice]]
    usage: Usage
    metadata: Mapping[str, Any]
    source: str = "journal"
    of: int = 0
    note: str | None = None


@dataclass(slots=True)
class Found:
    """What was found of the code's frames: a captured tree, and where it comes from."""

    tree: Mapping[str, Any] = field(default_factory=dict)
    source: str = "journal"
    of: int = 0
    note: str | None = None


def reach(entries: Sequence[Entry], seq: int) -> int:
    """The last entry that was written before the next outcome: what the code made by itself belongs to it."""
    last = seq
    for entry in entries:
        if entry.seq <= seq:
            continue
        moves = is_outcome(entry) and entry.parent_key is None and entry.kind not in LOCAL and entry.kind not in TOLD
        if moves or entry.kind == CUT:
            break
        last = entry.seq
    return last


def position(
    found: Mapping[str, Any], entries: Sequence[Entry], requests: Sequence[OpenRequest], goes_on: bool
) -> Position:
    """Where it stands. `goes_on`: not where it has ended, and nothing of it is under way any more."""
    outcomes = [
        e.key
        for e in live(entries)
        if is_outcome(e) and e.parent_key is None and e.kind not in LOCAL and e.kind not in TOLD
    ]
    done = frozenset(outcomes)
    asked = {request.key: request for request in requests if request.status == "open"}
    places = []
    for key, told in found.get("open", {}).items():
        if key in done:
            continue  # a snapshot at its outcome, or before
        branch = told["branch"] or MAIN
        places.append(Place(key, told["kind"], branch, told["file"], told["line"], asked.get(key)))
    if not found and goes_on:
        places = [Place(key, _kind(request), MAIN, None, None, request) for key, request in asked.items()]
    places.sort(key=lambda place: place.key)
    branches = []
    for path, told in sorted(found.get("branches", {}).items()):
        name = path or MAIN
        here = [place for place in places if place.branch == name]
        branches.append(
            Branch(
                name,
                told["function"],
                told["file"],
                told["line"],
                [*told["stack"], f"{told['file']}:{told['line']} {told['function']}"],
                told["variables"],
                [place.key for place in here],
                [place.request for place in here if place.request is not None],
            )
        )
    if not goes_on:
        places = []
    return Position(
        active=[place for place in places if place.kind not in WAITS],
        completed=outcomes,
        waiting=[place for place in places if place.kind in WAITS],
        branches=branches,
    )


def _kind(request: OpenRequest) -> str:
    return "interrupt" if request.kind == "input" else request.kind


def attempts(entries: Iterable[Entry]) -> dict[str, int]:
    """How many tries each call has had."""
    found: dict[str, int] = {}
    for entry in entries:
        if entry.kind == ATTEMPT or (is_outcome(entry) and entry.kind not in TRIED_NOT):
            found[entry.key] = max(found.get(entry.key, 0), entry.attempt)
    return found


def errors(row: Execution, entries: Iterable[Entry], with_own: bool) -> list[AttemptError]:
    """Every attempt's error, and at last that of the execution itself."""
    found = []
    for entry in entries:
        if entry.error is not None:
            words, traceback = told_error(entry.error)
            at = to_datetime(entry.completed_at)
            found.append(AttemptError(entry.key, entry.attempt, words or "", traceback, at, entry.seq))
    if with_own and row.error is not None:
        words, traceback = told_error(row.error)
        found.append(AttemptError(None, 1, words or "", traceback, _time(row.ended_at)))
    return found


def usage(entries: Iterable[Entry]) -> Usage:
    """What its steps had used."""
    total = Usage()
    for entry in entries:
        if entry.kind == USAGE:
            total = total.plus(entry.output or "{}")
    return total


def inheritance(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Where a fork comes from: {"from", "at", "by", "reason", ...}; None if it is none."""
    for entry in reversed(live(entries)):
        if entry.key == INHERITED:
            told: dict[str, Any] = msgspec.json.decode(entry.output or "{}")
            return told
    return None


def metadata(
    row: Execution, entries: Sequence[Entry], requests: Sequence[OpenRequest], dossier: Dossier
) -> dict[str, Any]:
    """Users, attributes, times, builds, lineage, generation, rollbacks."""
    cuts = [(e, msgspec.json.decode(e.output or "{}")) for e in entries if e.kind == CUT]
    fork = inheritance(entries)
    users = [row.started_by, row.wish_by, *[cut.get("by") for _, cut in cuts]]
    users += [request.answered_by for request in requests]
    users += [each.decided_by for each in dossier.decisions] + [each.actor for each in dossier.events]
    return {
        "users": list(dict.fromkeys(user for user in users if user)),
        "started_by": row.started_by,
        "attributes": value_of(row.attributes) or {},
        "queue": row.queue,
        "priority": row.priority,
        "created_at": to_datetime(row.created_at),
        "started_at": _time(row.started_at),
        "updated_at": to_datetime(row.updated_at),
        "ended_at": _time(row.ended_at),
        "wake_at": _time(row.wake_at),
        "build": row.build,
        "builds": list(dict.fromkeys(entry.build for entry in entries)),
        "generation": row.generation,
        "reason": row.reason,
        "lineage": {
            "parent": row.parent_id,
            "parent_key": row.parent_key,
            "forked_from": None if fork is None else fork["from"],
            "forked_at": None if fork is None else fork["at"],
            "forked_by": None if fork is None else fork["by"],
            "fork_reason": None if fork is None else fork.get("reason"),
            "changed": [] if fork is None else fork.get("changed", []),
        },
        "rollbacks": [
            {
                "seq": entry.seq,
                "from_seq": cut["from_seq"],
                "to": cut.get("to"),
                "by": cut.get("by"),
                "reason": cut.get("words"),
                "at": to_datetime(entry.completed_at),
            }
            for entry, cut in cuts
            if cut.get("reason") == "rollback"
        ],
        "undos": [
            {
                "generation": action.generation,
                "key": action.key,
                "undo": action.undo,
                "status": action.status,
                "attempt": action.attempt,
                "error": told_error(action.error)[0],
                "resolved_by": action.resolved_by,
            }
            for action in dossier.actions
        ],
    }


def attributes_behind(row: Execution, entries: Sequence[Entry], seq: int) -> str | None:
    """The attributes (as text) that stood behind an entry of a journal."""
    set_ = [entry for entry in live(entries) if entry.kind == ATTRIBUTES]
    before = [entry for entry in set_ if entry.seq <= seq]
    if not set_:
        return row.attributes
    told = CODEC.decode((before[-1] if before else set_[0]).output or "{}")
    return CODEC.encode(told["after" if before else "before"])


def _time(when: int | None) -> datetime | None:
    return None if when is None else to_datetime(when)
