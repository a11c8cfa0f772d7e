"""The seam between the engine and a database: two protocols, spoken in domain verbs.

The model. An execution is a row, its journal are rows, and only *the owner* writes the journal. Two
fences keep it so. A worker's row carries an epoch, which every commit checks under that row's lock:
once `declare_dead` has returned, nothing of that worker is ever recorded again. An execution's row
carries a fence, raised by each claim, which every change of the row checks under the row's lock. An
execution leaves its owner in two ways: the owner releases it (a `Change` that is not `RUNNING`), or
the owner was declared dead. Safety never rests on a clock.

Whatever a parked execution waits for arrives by `deliver`, which locks the execution's row, writes
its own row, adds 1 to `nudges`, and turns `waiting` into `pending`. A park carries the `nudges` it
knew, so that no wake-up is lost between looking and parking.

Errors: `StoreUnavailableError` when the database cannot be reached (try again later; nothing was
done), `CommitUnknownError` when a commit may or may not have happened (ask `settle`),
`BadBatchError` when the batch itself is refused (a value too large, a duplicate entry: nothing of it
was recorded), `DecodeError` for a damaged row. Everything else is a defect.

`perdure.testing.check_store` is the conformance suite; the memory store reads as the specification.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from perdure.deliveries import Delivery, Receipt
from perdure.records import (
    Batch,
    Counts,
    Dossier,
    Entry,
    Execution,
    Folded,
    Glance,
    Inbox,
    Limit,
    Message,
    Outgoing,
    Page,
    Parcel,
    Query,
    Request,
    Schedule,
    Tally,
    Verdicts,
    WorkerRecord,
)


class Insight(Protocol):
    """Reads, for the command line and pages. They take no locks and see what is committed."""

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        """The rows of these executions; absent ids are left out."""
        ...

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        """How many executions match, by status; those of which there are none are left out.

        `at_most`: it need not look at more than so many executions. Then what it gives may be less than there are, and
        is not `complete`. What is known without a look at them all is told in full.
        """
        ...

    async def history(self, execution_id: str) -> list[Entry]:
        """The whole journal by seq: folded, voided and superseded entries too."""
        ...

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        """Entries of these kinds with a seq above `after`, by seq, at most `limit`."""
        ...

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        """The entry of this key with the highest seq."""
        ...

    async def tallies(self) -> list[Tally]:
        """All executions, counted by workflow, queue and status, in this order."""
        ...

    async def schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        ...

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        """Requests, oldest first: these ids, or of these executions, or (neither given) all. `status` None: any."""
        ...

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        """What else is kept of those of these executions that are there.

        Decisions by request and ordinal, audit events by ordinal, rollback actions by generation and falling seq, and,
        if they are asked for, snapshots by seq and branch.
        """
        ...

    async def tree(self, execution_id: str) -> list[Execution]:
        """All descendants that have not ended."""
        ...

    async def workers(self) -> list[WorkerRecord]:
        """Workers that are live, and those declared dead that still own executions."""
        ...

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        """What was written in somebody's own transaction and is not delivered: refused ones, and the next, by id."""
        ...

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        """Executions by `created_at` and id (newest first, or `order="oldest"`), at most `limit`.

        The cursor is a key, not an offset: what is created meanwhile neither repeats nor hides rows. A page may be
        shorter than the limit, even empty, though a cursor follows: where nothing else helps than to look at one
        execution after the other, a page looks at some thousands. `since` is included, `until` is not. (Last here, as
        its name hides the type in this class.)
        """
        ...


class Transaction(Protocol):
    """A transaction of the store's database, open for the body of a step, which writes rows of its own in it."""

    connection: Any
    """The driver's."""

    is_async: bool
    """Its methods are awaited."""

    async def commit(self, batch: Batch) -> Verdicts:
        """Record a batch in it as `Store.commit` does, and commit all of it together.

        If the worker does not stand, nothing is recorded, and what the body wrote is gone. Raises `CommitUnknownError`
        (ask `settle`); after any other error all is rolled back: `StoreUnavailableError`, `BadBatchError`,
        `PerdureError` if the body has ended the transaction, the driver's error for what the body wrote.
        """
        ...

    async def roll_back(self) -> None:
        """Undo what is not committed, and give the connection back. Called once, at last, whatever came before."""
        ...

    def expire(self) -> None:
        """The time is over: a body that cannot be stopped shall do nothing more here."""
        ...


Same = Callable[[Execution, Execution], bool]
"""Whether the first of two executions of one id asks for what the second one is."""


def room(store: object) -> int:
    """Bytes that a namespace takes of each id in a store."""
    return int(getattr(store, "room", 0))


class Store(Insight, Protocol):
    """What an engine needs of a database."""

    url: str
    """For people: where this is, without a password."""

    inline: bool
    """`commit` answers at once, without awaiting, in well under a millisecond."""

    threaded: bool
    """Heartbeats come from a thread of their own, so that a busy event loop is not taken for dead."""

    own_transactions: bool
    """It is a database in which others have transactions: `outgoing` and `fold` have a meaning."""

    poll: float
    """Seconds between two regular looks for work, where nobody says otherwise."""

    idle_poll: float
    """The same of a worker that has had nothing to do for a while."""

    lease: float | None
    """Seconds a worker lives without a heartbeat, where the store wants it otherwise than the engine."""

    async def open(self) -> None:
        """Connect, and bring the schema up to date where that is allowed without being asked.

        Raises `StoreUnavailableError`, or `SchemaVersionError` for a database that a newer library wrote.
        """
        ...

    async def close(self) -> None:
        """Give everything back. Called once, also after a failed `open`."""
        ...

    async def migrate(self) -> list[tuple[str, bool]]:
        """Create or upgrade the schema. Gives (table, was created now) for each table. Idempotent, resumable."""
        ...

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        """A worker appears. Gives its record with a new id, epoch 1, a lease from the store's now on.

        Where the death of a process can be seen (a lock that dies with it), the lock is taken here, or by `attend`.
        """
        ...

    async def release(self, worker: int, epoch: int) -> None:
        """The worker leaves for good: its state is `gone`; what it still owned becomes pending."""
        ...

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        """Renew the lease. Gives (still alive, the store's now). A worker declared dead stays dead.

        Called from a thread of its own, with an event loop of its own: it must not use what the
        other verbs use.
        """
        ...

    async def attend(
        self,
        worker: int,
        epoch: int,
        *,
        settled: Callable[[], None],
        seen: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        """Be there: hold what shows that this worker lives, and look out for others whose death shows.

        Called where `threaded`, beside the heartbeats, in their thread and event loop. Runs until it is cancelled, or
        returns at once where there is nothing of this kind. `settled` is called once the worker's death would show, or
        never will but by its lease; `seen` whenever there may be new `suspects`; `gone` if the worker is not alive.
        """
        ...

    async def suspects(self, worker: int) -> list[int]:
        """Other live workers whose death shows: their lock is free, or their lease is over."""
        ...

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        """All that a worker looks for regularly, as one look: for a server, one statement that locks nothing."""
        ...

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        """Raise the worker's epoch, after waiting for a commit of it that is under way.

        Checks again, under the row's lock, that the lease is over or the lock free (not with
        `anyway`). True if it is dead now. After it no commit of that epoch records anything.
        """
        ...

    def commit(self, batch: Batch) -> Verdicts | Awaitable[Verdicts]:
        """Record a batch as a whole. `Verdicts` at once if `inline`, else an awaitable.

        In one transaction, under the lock of the worker's row: if its epoch does not stand, nothing
        is recorded and `alive` is False. Then
        - each create inserts the row unless its id is taken (EXISTS, nothing is changed);
        - each change is applied if the row exists (GONE), its fence stands (FENCED) and, to
          `waiting` or `rollback_failed`, its nudges stand (NUDGED: the change alone is refused);
        - entries are inserted. A seq that is there already is a `BadBatchError`;
        - requests are inserted unless their id is there; `closes` turns open ones to `withdrawn`; `untakes` frees
          the message whose `taken_seq` is that seq, then `takes` marks messages;
        - a change that ends a child (`parent_id` set) nudges its parent's row. The committer sees to it that a batch
          never holds both the end of a child and a change of its parent;
        - a change's `input`, `generation`, `base_seq`, `attributes` and `refused` replace the row's where given.
        Of an execution whose change was FENCED or GONE nothing else is recorded either: no entry, request,
        close, take, untake, action or snapshot. A change's `checksum` covers the whole row as it is then (input,
        output, error) and goes into it with every change. What nudges a waiting row also clears its `wake_at`.
        A row's `token` becomes the batch's in creates and changes. The locks are taken in the order: worker,
        executions by id.
        """
        ...

    async def settle(self, batch: Batch) -> Verdicts | None:
        """After `CommitUnknownError`: was the batch recorded? Its verdicts, or None if it was not.

        Takes the worker's row lock first, so that a commit still running is waited for.
        """
        ...

    async def claim(
        self,
        worker: int,
        epoch: int,
        limit: int,
        workflows: Sequence[tuple[str, int]],
        queues: Sequence[str],
        now: int,
        *,
        limits: Sequence[Limit] = (),
        build: str = "",
        crashed: bool = False,
    ) -> list[Execution]:
        """Take executions over: `running`, owner, fence + 1, `wake_at` null. Gives the rows after the claim.

        `started_at` is set where it is null. `build`: executions whose `refused` names it are passed over.
        `crashed`: only suspects are taken; else none of them. A suspect is `running` of a dead worker with `crashes`
        of 1 or more, or has 2 or more.
        `limits`: of these queues only as many are taken as `perdure.limits.admit` allows of those that are next (by
        priority, then age), judged under a lock of the queue, so that no other claim of it comes between. Running ones
        count whoever owns them. A queue has at most one limit.

        Which: `pending` whose `wake_at` is null or past; `waiting` whose `wake_at` is past; `running` of a worker
        that is dead. By priority (high first), then age. Only these workflows (name, version) and queues.
        Taken from a dead worker, `crashes` is raised (or set to 1 if the journal grew since `crash_seq`).
        A worker whose epoch does not stand gets nothing. `now` is used by stores without a clock of their own.
        """
        ...

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        """The journals that replay needs, by seq: without what is folded into a completed body.

        Every id asked for has its list, be it empty. Entries up to the row's `base_seq` are left out. An entry is
        folded if its `parent_key` is the key of an outcome (kind neither "intent" nor "attempt", status "completed" or
        "failed") and `generation` is 0.

        Raises `DecodeError` (naming the execution) only if no row can be read; a damaged payload is found
        by its checksum when it is decoded.
        """
        ...

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        """What has come for these executions: nudges and wish, all requests, messages not yet taken, children."""
        ...

    async def nudged(self, worker: int) -> dict[str, int]:
        """The nudges of the executions that this worker owns."""
        ...

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        """Bring something to an execution, in a transaction of its own, under the lock of its row."""
        ...

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        """The row of `outbox` that asks for a start or for a message, for somebody's own transaction.

        Nothing is written here. `any_input`: an execution of that id may have another input. Raises `PerdureError`
        where the store is no database that others write to.
        """
        ...

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        """Deliver what the committed rows of `outbox` ask for, by id, at most `limit` of them.

        In one transaction each is carried out and removed: a start makes the execution unless its id is taken (OK,
        or REPEAT if `same` says so of it and of what is there), a message is delivered (OK, REPEAT). What cannot be
        (EXISTS, ENDED, FULL, GONE) stays, with the reason in `refused`, and is not looked at again. A row that another
        worker holds is passed over, and so is what comes after it for the same execution.
        """
        ...

    async def begin(self, seconds: float) -> Transaction:
        """Open a transaction, whose time is over after so many seconds: then the server may end it, too.

        On a store that is `inline` it takes the one lock, and commits of others fail until it is over. Raises
        `StoreUnavailableError`; `PerdureError` where there are no transactions (not `own_transactions`).
        """
        ...

    async def dismiss(self, ids: Sequence[int]) -> int:
        """Remove refused rows of `outbox`. Gives how many there were."""
        ...

    async def prune(self, ids: Sequence[str]) -> list[str]:
        """Remove those of these executions that have ended, whose parent (if it is there) and children have too.

        In one transaction, with their journals, requests, decisions, messages, snapshots and rollback actions. Gives
        the ids removed.
        """
        ...

    async def put_schedule(self, schedule: Schedule) -> None:
        """Insert it, or replace the one of its name."""
        ...

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        """Replace the one of its name if its `next_at` is still `expected`."""
        ...

    async def remove_schedule(self, name: str) -> bool:
        """False if there is none of this name."""
        ...

    async def next_wake(self) -> int | None:
        """The earliest `wake_at` of a pending or waiting execution, if that is known cheaply."""
        ...

    async def changed(self, timeout: float) -> bool:
        """Return when something may have changed, at the latest after `timeout` seconds. A hint: never needed.

        True: somebody told that there may be something to take over, so that a claim need not wait for a look.
        """
        ...


class Movable(Store, Protocol):
    """What `perdure move` needs of a store besides, to take executions from one database to another.

    A database whose executions were moved away bears a mark. `open` and `register` then raise `MovedError`; libraries
    that do not know of it refuse it as too new. `register` looks for the mark after it has written the worker's row:
    so whoever marks a database and then finds no worker in it knows that none comes.
    """

    even_if_moved: bool
    """Set before `open`: the mark does not hinder this handle."""

    async def mark_moved(self, to: str | None) -> None:
        """Mark this database: its executions go there (a URL without a password). None takes the mark away."""
        ...

    async def moved_to(self) -> str | None:
        """Where its executions went, if it is marked."""
        ...

    async def ids(self, after: str, limit: int) -> Sequence[str]:
        """Executions by id (byte by byte), behind this one."""
        ...

    async def pack(self, ids: Sequence[str]) -> Sequence[Parcel]:
        """These executions as parcels; absent ones are left out. "" stands for what belongs to no execution.

        Payloads and checksums are as they are stored, encrypted ones too.
        """
        ...

    async def unpack(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        """Keep these executions as they are, in one transaction. Gives the ids that were not there before.

        One that is there is left as it is. What belongs to none is kept unless there is one of its name. Raises
        `BadBatchError` for rows of a table that this store does not have: nothing of the parcels was kept.
        """
        ...
