"""The records that stores keep, and the table of legal moves. Times: microseconds since 1970, UTC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Status(StrEnum):
    """Where an execution stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    BLOCKED = "blocked"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.ROLLED_BACK, Status.ROLLBACK_FAILED})

PARKED = frozenset({Status.WAITING, Status.ROLLBACK_FAILED})
"""Where only something from outside goes on from: an owner who has not heard of it all does not get there."""

MOVES: dict[Status, frozenset[Status]] = {
    # PENDING: nobody's, may be claimed. RUNNING: in a worker's memory. WAITING: parked, a row.
    Status.PENDING: frozenset({Status.RUNNING, Status.PAUSED, Status.CANCELLED, Status.BLOCKED, Status.ROLLING_BACK}),
    Status.RUNNING: frozenset(
        {
            Status.PENDING,
            Status.WAITING,
            Status.PAUSED,
            Status.COMPLETED,
            Status.FAILED,
            Status.CANCELLED,
            Status.BLOCKED,
            Status.ROLLING_BACK,
        }
    ),
    Status.WAITING: frozenset(
        {Status.PENDING, Status.RUNNING, Status.PAUSED, Status.CANCELLED, Status.BLOCKED, Status.ROLLING_BACK}
    ),
    Status.PAUSED: frozenset({Status.PENDING, Status.CANCELLED, Status.ROLLING_BACK}),
    Status.BLOCKED: frozenset({Status.PENDING, Status.CANCELLED, Status.ROLLING_BACK}),
    # ROLLING_BACK: in a worker's memory, or, with a `wake_at`, nobody's.
    Status.ROLLING_BACK: frozenset(
        {Status.ROLLED_BACK, Status.ROLLBACK_FAILED, Status.PENDING, Status.FAILED, Status.BLOCKED}
    ),
    Status.ROLLBACK_FAILED: frozenset({Status.ROLLING_BACK, Status.ROLLED_BACK}),
    # From here only an operator's logged action goes on: retry, rollback.
    Status.COMPLETED: frozenset({Status.ROLLING_BACK}),
    Status.FAILED: frozenset({Status.PENDING, Status.ROLLING_BACK}),
    Status.CANCELLED: frozenset({Status.PENDING, Status.ROLLING_BACK}),
    Status.ROLLED_BACK: frozenset({Status.PENDING}),
}


def is_legal(before: Status, after: Status) -> bool:
    """May an execution go from one status to the other? Staying is always legal."""
    return before == after or after in MOVES[before]


class Entry(NamedTuple):
    """One row of a journal (`step_executions`), in the order of the table's columns.

    A tuple, because the hot path makes one for each step. `seq` is gapless from 1 in an execution.
    `status`: "completed", "failed", "set" (a timer's deadline), "open" (an intent).
    `kind`: what it records; "intent" and "attempt" are passed over by replay.
    `parent_key`: for a call made inside a step's body, the key of the outermost such body.
    """

    execution_id: str
    seq: int
    generation: int
    key: str
    kind: str
    status: str
    attempt: int
    fence: int
    parent_key: str | None
    input: str | None
    output: str | None
    error: str | None
    encoding: str
    checksum: int
    build: str
    started_at: int
    completed_at: int


@dataclass(slots=True)
class Execution:
    """A row of `workflow_executions`. `input`, `output`, `error`, `attributes`: ASCII JSON text."""

    id: str
    workflow: str
    version: int = 1
    status: Status = Status.PENDING
    queue: str = "default"
    priority: int = 0
    owner: int | None = None
    fence: int = 0
    nudges: int = 0
    generation: int = 0
    input: str = "{}"
    output: str | None = None
    error: str | None = None
    encoding: str = "json"
    checksum: int = 0
    wish: str | None = None
    wish_by: str | None = None
    wish_reason: str | None = None
    reason: str | None = None
    wake_at: int | None = None
    parent_id: str | None = None
    parent_key: str | None = None
    started_by: str | None = None
    attributes: str | None = None
    build: str = ""
    crashes: int = 0
    crash_seq: int = 0
    token: str = ""
    created_at: int = 0
    updated_at: int = 0
    ended_at: int | None = None
    started_at: int | None = None  # when it was first claimed
    base_seq: int = 0  # the journal up to here is void by a restart, and is not loaded any more
    refused: str | None = None  # JSON list of the builds whose code did not fit the journal


@dataclass(slots=True, frozen=True)
class Change:
    """A change of an execution's row by its owner; applied only if `fence` still stands.

    To `PARKED` it also needs `nudges` unchanged. `output` and `error` go into the row as they are; without a
    `checksum` (of the row then) all three stay as they stand, as nobody could read what it is of. Only a change to
    `RUNNING`, or to `ROLLING_BACK` without a `wake_at`, keeps ownership. `by`: of a change to `CANCELLED`, who wished
    it: with the wish and its reason it replaces what was wished since. The five before it leave what is there where
    they are None.
    """

    execution_id: str
    fence: int
    nudges: int
    status: Status
    at: int
    output: str | None = None
    error: str | None = None
    checksum: int | None = 0
    reason: str | None = None
    wake_at: int | None = None
    parent_id: str | None = None
    input: str | None = None
    generation: int | None = None
    base_seq: int | None = None
    attributes: str | None = None
    refused: str | None = None
    by: str | None = None

    @property
    def keeps(self) -> bool:
        """Does the owner stay the owner?"""
        return self.status is Status.RUNNING or (self.status is Status.ROLLING_BACK and self.wake_at is None)


@dataclass(slots=True)
class Request:
    """A row of `approval_requests`. `details`, `schema`, `answer`, `policy`: ASCII JSON text.

    `kind`: "input", "approval", "budget", and what only a person can settle: "undo" (one that failed), "unknown" (of a
    once-only step nobody knows whether it happened). `policy`: who decides an approval, and how. `digest`: SHA-256 of
    what is asked, which each decision repeats.
    """

    id: str
    execution_id: str
    key: str
    generation: int
    kind: str
    message: str
    details: str | None = None
    schema: str | None = None
    default_answer: str | None = None
    assignee: str | None = None
    status: str = "open"
    answer: str | None = None
    answered_by: str | None = None
    answered_via: str | None = None
    checksum: int = 0
    expires_at: int | None = None
    created_at: int = 0
    decided_at: int | None = None
    policy: str | None = None
    digest: str | None = None


@dataclass(slots=True)
class DecisionRow:
    """A row of `approval_decisions`: one person's word on one action (or, without `action_id`, on the whole)."""

    request_id: str
    ordinal: int
    execution_id: str
    action_id: str | None
    decision: str
    arguments: str | None
    comment: str | None
    digest: str | None
    decided_by: str | None
    decided_via: str | None
    decided_at: int


@dataclass(slots=True)
class AuditEvent:
    """A row of `audit_events`: who did what from outside, chained by its digests. `ordinal`: gapless from 1."""

    execution_id: str
    ordinal: int
    request_id: str | None
    what: str
    actor: str | None
    via: str | None
    comment: str | None
    details: str | None
    previous: str
    digest: str
    created_at: int


@dataclass(slots=True)
class RollbackAction:
    """A row of `rollback_actions`: what undoes one entry (`seq`), in one rollback (`generation`).

    `undo`: what is run. `status`: planned, running, completed, failed, unknown, skipped. `output`: what settled it.
    """

    execution_id: str
    generation: int
    seq: int
    key: str
    undo: str
    status: str = "planned"
    attempt: int = 0
    output: str | None = None
    error: str | None = None
    encoding: str = "json"
    checksum: int = 0
    resolved_by: str | None = None
    started_at: int | None = None
    completed_at: int | None = None


@dataclass(slots=True)
class Snapshot:
    """A row of `state_snapshots`: the state behind entry `seq`, in full or as a difference to the one before it.

    `branch`: "" for the execution as a whole, else whose chain of values it belongs to. `cause`: checkpoint, wait,
    failure. `kind`: full, difference. Each difference bears the digests of its base and of its result.
    """

    execution_id: str
    seq: int
    branch: str
    generation: int
    name: str | None
    cause: str
    kind: str
    base_digest: str | None
    digest: str
    state: str
    encoding: str
    checksum: int
    created_at: int


@dataclass(slots=True)
class Dossier:
    """What is kept of an execution besides row, journal, requests and messages; each list in its order."""

    decisions: list[DecisionRow] = field(default_factory=list)
    events: list[AuditEvent] = field(default_factory=list)
    actions: list[RollbackAction] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)


@dataclass(slots=True)
class Message:
    """A row of `messages`. `ordinal` orders the messages of an execution; `taken_seq` is set once received."""

    id: str
    execution_id: str
    name: str
    value: str
    checksum: int = 0
    ordinal: int = 0
    taken_seq: int | None = None
    sent_by: str | None = None
    created_at: int = 0


@dataclass(slots=True)
class WorkerRecord:
    """A row of `workers`. `workflows`: JSON list of [name, version] that it has registered."""

    id: int
    epoch: int = 1
    state: str = "live"
    host: str = ""
    pid: int = 0
    process: str = ""
    build: str = ""
    workflows: str = "[]"
    queues: str = "[]"
    started_at: int = 0
    lease_until: int = 0


@dataclass(slots=True)
class Batch:
    """What one commit of a worker holds: recorded as a whole, with one verdict a create and one a change.

    `entries` of an execution come by rising seq. `closes`: ids of requests withdrawn. `takes`: messages
    received, as (message id, seq of the entry). `untakes`: (execution id, seq): the message taken by that entry
    was not used and may be taken again. `actions` replace those of the same generation and seq. `token` is unique to
    the batch.
    """

    worker: int
    epoch: int
    token: str
    now: int
    creates: list[Execution] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    closes: list[str] = field(default_factory=list)
    takes: list[tuple[str, int]] = field(default_factory=list)
    untakes: list[tuple[str, int]] = field(default_factory=list)
    actions: list[RollbackAction] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)


class Verdict(StrEnum):
    """What became of one create, change or delivery."""

    OK = "ok"
    EXISTS = "exists"
    FENCED = "fenced"
    NUDGED = "nudged"
    GONE = "gone"
    REPEAT = "repeat"
    DECIDED = "decided"
    ENDED = "ended"
    OWNED = "owned"
    FULL = "full"


@dataclass(slots=True)
class Verdicts:
    """The answer to a batch. Not `alive`: the worker was declared dead, nothing was recorded."""

    alive: bool
    creates: list[Verdict] = field(default_factory=list)
    changes: list[Verdict] = field(default_factory=list)


@dataclass(slots=True)
class Inbox:
    """What has come for an execution: read with, or after, `nudges`, never before it."""

    nudges: int
    wish: str | None
    wish_by: str | None
    wish_reason: str | None
    requests: list[Request] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    children: list[Execution] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Glance:
    """What a worker sees at one look. It may see too much, never too little.

    `suspects`: other live workers whose death shows. `claimable`: there may be something to claim. `crashed`: there may
    be an execution that killed its workers, see `Store.claim`. `outgoing`: the outbox may hold something. `tick_at`:
    when the next schedule is due, if there is one and `knows_ticks`.
    """

    suspects: list[int]
    claimable: bool = True
    crashed: bool = True
    outgoing: bool = True
    tick_at: int | None = None
    knows_ticks: bool = False


@dataclass(slots=True, frozen=True)
class Query:
    """Which executions. Empty fields do not filter.

    `since` (included) and `until` compare `created_at`, `ended_before` compares `ended_at`, all in microseconds.
    `attributes`: (name, value as canonical JSON text) pairs that all must be there, compared as text. `text`: is part
    of the id, the workflow's name, the reason or who started it, whatever the case of ASCII letters.
    """

    status: tuple[Status, ...] = ()
    workflow: str | None = None
    version: int | None = None
    parent: str | None = None
    by: str | None = None
    id_prefix: str | None = None
    since: int | None = None
    until: int | None = None
    order: str = "newest"
    queue: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    ended_before: int | None = None


@dataclass(slots=True)
class Page:
    """Some executions, and the cursor that continues the list (None at its end)."""

    items: list[Execution]
    cursor: str | None


def listed(text: str | None) -> list[Any]:
    """The items of a column that holds a JSON list; none if it holds something else."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


# Somebody's own transactions ------------------------------------------------------------------------------


@dataclass(slots=True)
class Outgoing:
    """A row of `outbox`: a start or a message that somebody wrote in a transaction of their own, not yet delivered.

    `kind`: "start" or "message". `content`: ASCII JSON text. `refused`: why it cannot be delivered; such a row stays.
    """

    kind: str
    execution_id: str
    content: str
    id: int = 0
    refused: str | None = None
    created_at: int = 0


class Folded(NamedTuple):
    """What became of a row of `outbox`: OK or REPEAT, and it is gone; else it stays, with the reason in `refused`."""

    row: Outgoing
    verdict: Verdict


# Moving ---------------------------------------------------------------------------------------------------

Plain = str | int | None


@dataclass(slots=True)
class Parcel:
    """An execution as a whole: all rows that are its own, by table, each as {column: value}.

    Times are integers, flags are 0 and 1. The parcel whose id is "" holds what belongs to no execution.
    """

    id: str
    rows: dict[str, list[dict[str, Plain]]]


# Queues and schedules -------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Limit:
    """How much of a queue may run, over all workers. `per`: an attribute; the numbers then hold for each value of it.

    `concurrency`: executions in workers' memories at once. `starts` first claims within `window` microseconds.
    """

    queue: str
    concurrency: int | None = None
    starts: int | None = None
    window: int = 0
    per: str | None = None


@dataclass(slots=True)
class Schedule:
    """A row of `schedules`. `next_at` moves on only by a comparison with what the caller knew.

    `input`: the workflow's arguments, ASCII JSON text. `overlap`: "skip", "queue" or "allow". `last_id`: the execution
    that was started last.
    """

    name: str
    workflow: str
    version: int
    cron: str
    timezone: str
    overlap: str
    backfill: bool
    input: str
    queue: str | None = None
    paused: bool = False
    next_at: int | None = None
    last_at: int | None = None
    last_id: str | None = None
    created_at: int = 0


@dataclass(slots=True, frozen=True)
class Tally:
    """How many executions of one workflow and queue stand in one status.

    `oldest`: since when the oldest of them is there, in microseconds; None for what has ended.
    """

    workflow: str
    queue: str
    status: str
    number: int
    oldest: int | None


class Counts(dict[str, int]):
    """How many executions there are, by status.

    `complete`: whether that is all. If not, so many were looked at and there may be more; then it reads
    `{'completed': '10,000+'}`.
    """

    __slots__ = ("complete",)

    def __init__(self, counts: Mapping[str, int] | Iterable[tuple[str, int]] = (), complete: bool = True) -> None:
        super().__init__(counts)
        self.complete = complete

    @property
    def total(self) -> int:
        """How many in all: at least so many, if it is not complete."""
        return sum(self.values())

    @property
    def words(self) -> str:
        """The total as people read it: `12`, or `10,000+`."""
        return f"{self.total:,}{'' if self.complete else '+'}"

    def __repr__(self) -> str:
        return super().__repr__() if self.complete else repr({name: f"{n:,}+" for name, n in self.items()})
