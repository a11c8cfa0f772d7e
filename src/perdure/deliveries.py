"""What anybody may bring to an execution, each in a transaction of its own: see `perdure.store.Store.deliver`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.records import (
    ENDED,
    AuditEvent,
    DecisionRow,
    Entry,
    Execution,
    Message,
    Request,
    Status,
    Verdict,
    is_legal,
)

PARENT = "parent"
"""By whom a child is cancelled or rolled back along with its parent."""

MOST_WAITING = 10_000
"""Messages of one execution that may wait to be received."""


@dataclass(slots=True, frozen=True)
class Answer:
    """The answer to a request: the first stands; OK, REPEAT (an equal one), DECIDED, GONE.

    ENDED: its execution has, or `goes_back`.
    """

    request_id: str
    value: str
    by: str | None
    via: str | None
    checksum: int


@dataclass(slots=True, frozen=True)
class Expiry:
    """The request's time is over: OK, DECIDED (something was first), GONE, ENDED as of an `Answer`."""

    request_id: str


@dataclass(slots=True, frozen=True)
class Post:
    """A message: OK, REPEAT (this id was delivered), ENDED, FULL (`most` wait there to be received), GONE."""

    message: Message
    most: int = MOST_WAITING


@dataclass(slots=True, frozen=True)
class StartWith:
    """A pending execution together with its first message, by a worker that lives: both, or nothing.

    The row is inserted unless its id is taken (`Receipt.started`); then the message is delivered as by `Post`: OK,
    REPEAT, ENDED, FULL. EXISTS: the id belongs to another workflow or version; FENCED: the worker was declared dead.
    With these two nothing is done. No execution is started into a database that is being moved: that declares the
    worker dead.
    """

    worker: int
    epoch: int
    execution: Execution
    message: Message
    most: int = MOST_WAITING


@dataclass(slots=True, frozen=True)
class StartFrom:
    """A pending execution together with the journal that it begins with, by a worker that lives: both, or nothing.

    OK; EXISTS: the id is taken; FENCED: the worker was declared dead. With these two nothing is done.
    """

    worker: int
    epoch: int
    execution: Execution
    entries: Sequence[Entry]


@dataclass(slots=True, frozen=True)
class Wish:
    """What the owner shall do ("cancel", "pause"): OK, ENDED, GONE. It is carried out by the owner, at rest.

    OWNED: it `is_bound_back`, and nothing was changed. Of several wishes to cancel the first says who, and why.
    """

    execution_id: str
    wish: str
    by: str | None
    reason: str | None


@dataclass(slots=True, frozen=True)
class Settle:
    """Carry a wish to cancel or to pause out for an execution without owner: OK, OWNED, ENDED, GONE. Raises the fence.

    OWNED also if there is no wish, or the move is not legal (a blocked execution is not paused).
    """

    execution_id: str


@dataclass(slots=True, frozen=True)
class Resume:
    """Make a paused or blocked execution pending: OK, OWNED (it is neither), ENDED, GONE.

    It forgets the wish to pause, the reason, the crashes and the builds that refused it.
    """

    execution_id: str
    by: str | None


@dataclass(slots=True, frozen=True)
class Cut:
    """Void the end of an ended execution's journal and make it pending again: OK, GONE, OWNED (it has changed since).

    `entry` is the cut, with the next free seq; `fence` is the row's as the caller knows it, and is raised. Output,
    error, reason and wish are cleared, messages taken by voided entries are deliverable again. `checksum` covers the
    row then (its input alone).
    """

    execution_id: str
    fence: int
    entry: Entry
    from_seq: int
    checksum: int


@dataclass(slots=True, frozen=True)
class Rewind:
    """Have an execution rolled back: OK, REPEAT (it `is_bound_back` already), ENDED (nothing is left to undo), GONE.

    OWNED: its rollback is not over, what failed of it waits for a person.
    A running one keeps its status: this is a wish like others. Any other, ended or not, is `rolling_back` from here on,
    due at once, with the wish in its row for whoever claims it. `wish`: see `perdure.rollback.Order`; of it a store
    reads the generation (see `goes_back`).
    """

    execution_id: str
    wish: str
    by: str | None
    reason: str | None


@dataclass(slots=True, frozen=True)
class Decide:
    """Somebody's part in a request: OK, OWNED (more has happened than `known` events), DECIDED, ENDED, GONE.

    Under the lock of the execution's row, if it has `known` audit events: `decisions` and `events` are inserted;
    `status` (open, decided, expired) goes into the request's row, which must be open, and so do the fields behind it
    that are given. When it is not open any more, the execution is nudged; one whose rollback failed is `rolling_back`
    again by an "undo", a blocked one `pending` by an "unknown".
    """

    request_id: str
    known: int
    status: str
    decisions: Sequence[DecisionRow] = ()
    events: Sequence[AuditEvent] = ()
    answer: str | None = None
    by: str | None = None
    via: str | None = None
    checksum: int | None = None
    policy: str | None = None
    assignee: str | None = None
    expires_at: int | None = None


@dataclass(slots=True, frozen=True)
class Note:
    """Add audit events to an execution: OK, OWNED (it has not `known` of them), GONE."""

    execution_id: str
    known: int
    events: Sequence[AuditEvent]


def goes_back(status: Status, wish: str | None, generation: int) -> bool:
    """Is an execution being rolled back, or is it to be? What it asks is void then, and asked anew.

    The wish stays in the row when it was carried out; but it was asked for in an earlier generation then.
    """
    if status is Status.ROLLING_BACK:
        return True
    if wish is None or not wish.startswith("{"):
        return False
    try:
        return bool(json.loads(wish).get("generation") == generation)
    except (ValueError, RecursionError):
        return False


def is_bound_back(status: Status, wish: str | None, generation: int) -> bool:
    """Is an execution being rolled back, or will whoever runs it do so at rest? It takes no other wish till then.

    One that is paused or blocked has nobody who would; and one that has ended did so before it was heard.
    """
    is_run = status in (Status.PENDING, Status.RUNNING, Status.WAITING, Status.ROLLING_BACK)
    return is_run and goes_back(status, wish, generation)


def rewinds(delivery: Rewind, status: Status, wish: str | None, generation: int) -> Verdict:
    """What becomes of a `Rewind` where an execution stands so, in every store."""
    if status is Status.ROLLING_BACK or (wish != delivery.wish and is_bound_back(status, wish, generation)):
        return Verdict.REPEAT
    if status is Status.ROLLBACK_FAILED:
        return Verdict.OWNED
    if status is not Status.RUNNING and not is_legal(status, Status.ROLLING_BACK):
        return Verdict.ENDED
    return Verdict.OK


def takes_answers(kind: str, status: Status, wish: str | None, generation: int) -> bool:
    """May a request of this kind be decided while its execution stands so?"""
    if kind == "pivot":
        return True
    if kind == "undo":
        return status not in ENDED or status is Status.ROLLBACK_FAILED
    return status not in ENDED and not goes_back(status, wish, generation)


Delivery = Answer | Expiry | Post | StartWith | StartFrom | Wish | Settle | Resume | Cut | Rewind | Decide | Note


@dataclass(slots=True)
class Receipt:
    """What became of a delivery. `request`: as it stands now, if one is concerned. `started`: there was none."""

    verdict: Verdict
    execution_id: str | None = None
    request: Request | None = None
    started: bool = False
