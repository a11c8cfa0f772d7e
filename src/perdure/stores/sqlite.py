"""The store of one machine: an SQLite file, shared by any number of processes there.

`begin immediate` is the row lock of the contract: whoever holds it is alone. One connection does all the
work; it never waits for another process's lock, so that the event loop never stands still: `commit` raises
`Busy` for the committer to come again, the other verbs come again themselves. Heartbeats have a connection
of their own. A commit looks at its worker's row only if another connection has written since the last look
(`data_version`): without that the epoch cannot have changed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence

from perdure.clock import Clock, micros
from perdure.deliveries import Delivery, Receipt
from perdure.errors import StoreUnavailableError
from perdure.records import (
    ENDED,
    Batch,
    Change,
    Entry,
    Execution,
    Folded,
    Glance,
    Limit,
    Schedule,
    Status,
    Verdict,
    Verdicts,
    WorkerRecord,
)
from perdure.store import Same, Transaction
from perdure.stores.patience import Busy
from perdure.stores.presence import Presence, process_token
from perdure.stores.signal import Signal
from perdure.stores.sqlite_claims import Wanted, find
from perdure.stores.sqlite_damage import time_or_null
from perdure.stores.sqlite_database import Database, Translating, warn_of_reset_bug
from perdure.stores.sqlite_deliver import deliver, prune
from perdure.stores.sqlite_moves import SqliteMoves
from perdure.stores.sqlite_outbox import SqliteOutbox
from perdure.stores.sqlite_rows import entry_row, entry_rows, read_entry, read_records, record_row, to_json
from perdure.stores.sqlite_transactions import SqliteTransaction, TransactionConnection
from perdure.stores.timestamps import to_text, to_text_or_null

__all__ = ["Busy", "SqliteStore"]


class SqliteStore(SqliteOutbox, SqliteMoves):
    """An SQLite file, in WAL mode, durable at each commit. `path` is relative to the current folder, or absolute."""

    inline = True
    threaded = True
    own_transactions = True
    poll = 0.25
    idle_poll = 0.25
    lease: float | None = None

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        super().__init__(path, clock=clock)
        self._presence = Presence(self.path)
        self._signal = Signal()
        self._heart: Database | None = None
        self._heart_lock = threading.Lock()
        self._closed = False
        self._stood: tuple[int, int, int] | None = None  # (worker, epoch, data_version) of the last look that passed
        self._seen: int | None = None
        self._checkpoints: bool | None = None

    # Opening --------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self._patiently(self._connect)
        await self.migrate()
        await self._read(self._refuse_moved)

    def _connect(self) -> None:
        if not os.path.isdir(os.path.dirname(self.path)):
            raise StoreUnavailableError(
                f"{self.path}: there is no folder {os.path.dirname(self.path)}; create it first"
            )
        if self._database is None:
            self._database = Database(self.path)
            self._closed = False
        with Translating(self.path):
            mode = self._database.value("use_wal")
            if mode != "wal":
                raise StoreUnavailableError(
                    f"{self.path}: this file system allows no write-ahead log; use a local disk"
                )
            self._database.run("use_full")
            self._database.run("use_memory")

    async def close(self) -> None:
        with self._heart_lock:
            self._closed = True
            if self._heart is not None:
                self._heart.close()
                self._heart = None
        if self._database is not None:
            self._database.close()
            self._database = None
        self._presence.close()

    async def migrate(self) -> list[tuple[str, bool]]:
        return await self._patiently(lambda: self._db.migrate(self.clock))

    # Workers --------------------------------------------------------------------------------------

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        return await self._transaction(lambda: self._register(worker, lease))

    def _register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        now = self.clock.now()
        values = {
            "host": worker.host,
            "pid": worker.pid,
            "process": process_token(),
            "build": worker.build,
            "workflows": worker.workflows,
            "queues": worker.queues,
            "started_at": to_text(now),
            "lease_until": to_text(now + micros(lease)),
        }
        id = self._db.run("insert_worker", values).lastrowid
        assert id is not None
        self._refuse_moved()
        definitions = {"workflows": worker.workflows, "build": worker.build, "now": to_text(now)}
        self._db.run("record_definitions", definitions)
        try:
            self._presence.appear(id)  # before anybody can see the row
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: the lock file of worker {id} cannot be held: {error}") from error
        return read_records(WorkerRecord, self._db.run("worker", (id,)))[0]

    async def release(self, worker: int, epoch: int) -> None:
        def leave() -> None:
            self._stood = None  # own writes do not change `data_version`
            if self._db.value("worker_stands", (worker, epoch)):
                self._db.run("retire_worker", (worker,))
                self._db.run("disown", {"worker": worker, "now": to_text(self.clock.now())})

        await self._transaction(leave)
        self._presence.vanish(worker)
        self._signal.fire()

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        with self._heart_lock:
            if self._closed:
                raise StoreUnavailableError(f"{self.path} is closed")
            heart = self._heart
            if heart is None:
                heart = Database(self.path, timeout=2.0)
                with Translating(self.path):
                    heart.run("use_normal")
                    heart.run("checkpoint_late")
                self._heart = heart
            now = self.clock.now()
            values = {"id": worker, "epoch": epoch, "lease_until": to_text(now + micros(lease))}
            return heart.transaction(lambda: heart.run("renew_lease", values).rowcount == 1), now

    async def suspects(self, worker: int) -> list[int]:
        self._db.check_file()  # a worker without anything to write would not notice
        live = await self._read(lambda: read_records(WorkerRecord, self._db.run("live_workers")))
        self._take_turns(live)
        return [row.id for row in live if row.id != worker and self._seems_dead(row)]

    def _seems_dead(self, row: WorkerRecord) -> bool:
        if row.lease_until < self.clock.now():
            return True
        return row.process != process_token() and self._presence.is_free(row.id)

    def _take_turns(self, live: Sequence[WorkerRecord]) -> None:
        """Of several processes one moves the log into the database: that of the oldest live worker."""
        here = any(row.process == process_token() for row in live)
        if here and any(row.process != process_token() and not self._seems_dead(row) for row in live):
            warn_of_reset_bug(self.path)
        mine = not live or live[0].process == process_token()
        if mine != self._checkpoints:
            self._db.run("checkpoint_soon" if mine else "checkpoint_late")
            self._checkpoints = mine

    async def attend(self, worker: int, epoch: int, **told: Callable[[], None]) -> None:
        told["settled"]()  # `register` took the lock, which `suspects` looks at

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        return Glance(await self.suspects(worker))

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        def declare() -> bool:
            self._stood = None  # own writes do not change `data_version`
            found = read_records(WorkerRecord, self._db.run("worker", (worker,)))
            if not found:
                return False
            if found[0].state == "live" and not anyway and not self._seems_dead(found[0]):
                return False
            self._db.run("declare_dead", (worker,))
            return True

        dead = await self._transaction(declare)
        if dead:
            self._presence.bury(worker)
            self._signal.fire()
        return dead

    # Commit ---------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> Verdicts:
        verdicts = self._db.transaction(lambda: self._record(batch))
        if (batch.creates or batch.changes) and _wakes(batch):
            self._signal.fire()
        return verdicts

    def _record(self, batch: Batch) -> Verdicts:
        if not self._stands(batch.worker, batch.epoch):
            return Verdicts(False)
        creates = [self._create(create, batch.token) for create in batch.creates] if batch.creates else []
        changes = [self._change(change, batch) for change in batch.changes] if batch.changes else []
        entries, refused = batch.entries, _refused(batch.changes, changes) if changes else None
        if refused:
            entries = [entry for entry in entries if entry.execution_id not in refused]
        if len(entries) == 1:
            self._db.run("insert_entry", entry_row(entries[0]))
        elif entries:
            self._db.run_many("insert_entry", entry_rows(entries))
        if batch.requests or batch.closes or batch.takes or batch.untakes:
            self._record_waits(batch, refused or set())
        for action in batch.actions:
            if not refused or action.execution_id not in refused:
                self._db.run("put_action", record_row(action))
        for snapshot in batch.snapshots:
            if not refused or snapshot.execution_id not in refused:
                self._db.run("insert_snapshot", record_row(snapshot))
        return Verdicts(True, creates, changes)

    def _stands(self, worker: int, epoch: int) -> bool:
        version = self._db.value("data_version")
        if self._stood == (worker, epoch, version):
            return True
        if not self._db.value("worker_stands", (worker, epoch)):
            return False
        self._stood = (worker, epoch, version)
        return True

    def _create(self, create: Execution, token: str) -> Verdict:
        row = record_row(create, token=token)
        return Verdict.OK if self._db.run("insert_execution", row).rowcount else Verdict.EXISTS

    def _change(self, change: Change, batch: Batch) -> Verdict:
        ends = change.status in ENDED
        at = to_text(change.at)
        values = {
            "id": change.execution_id,
            "fence": change.fence,
            "nudges": change.nudges,
            "status": change.status.value,
            "output": change.output,
            "error": change.error,
            "checksum": change.checksum,
            "reason": change.reason,
            "wake_at": to_text_or_null(change.wake_at),
            "token": batch.token,
            "at": at,
            "ended_at": at if ends else None,
            "input": change.input,
            "generation": change.generation,
            "base_seq": change.base_seq,
            "attributes": change.attributes,
            "refused": change.refused,
            "by": change.by,
        }
        if not self._db.run("change_execution", values).rowcount:
            return self._why_not(change)
        if ends and change.parent_id is not None:
            self._db.run("nudge", {"id": change.parent_id, "now": to_text(batch.now)})
        return Verdict.OK

    def _why_not(self, change: Change) -> Verdict:
        marks = self._db.run("marks", (change.execution_id,)).fetchone()
        if marks is None:
            return Verdict.GONE
        return Verdict.FENCED if marks[0] != change.fence else Verdict.NUDGED

    def _record_waits(self, batch: Batch, refused: set[str]) -> None:
        run, outside = self._db.run, to_json(refused)
        for request in batch.requests:
            if request.execution_id not in refused:
                run("insert_request", record_row(request))
        for id in batch.closes:
            run("close_request", {"id": id, "now": to_text(batch.now), "refused": outside})
        for id, seq in batch.untakes:
            if id not in refused:
                run("free_message", (id, seq))
        for id, seq in batch.takes:
            run("take_message", {"id": id, "seq": seq, "refused": outside})

    async def settle(self, batch: Batch) -> Verdicts | None:
        return await self._transaction(lambda: self._settle(batch))

    def _settle(self, batch: Batch) -> Verdicts | None:
        created = [self._bears(create.id, batch.token) for create in batch.creates]
        changed = [self._bears(change.execution_id, batch.token) for change in batch.changes]
        if not (any(created) or any(changed) or any(map(self._is_written, batch.entries))):
            return None  # what leaves none of these traces may be committed again without harm
        return Verdicts(
            True,
            [Verdict.OK if ours else Verdict.EXISTS for ours in created],
            [Verdict.OK if ours else self._why_not(it) for ours, it in zip(changed, batch.changes, strict=True)],
        )

    def _bears(self, id: str, token: str) -> bool:
        marks = self._db.run("marks", (id,)).fetchone()
        return marks is not None and marks[2] == token

    def _is_written(self, entry: Entry) -> bool:
        row = self._db.run("entry", (entry.execution_id, entry.seq)).fetchone()
        return row is not None and read_entry(row) == entry

    async def begin(self, seconds: float) -> Transaction:
        recorder = SqliteStore(self.path, clock=self.clock)  # the same statements, by a connection of its own
        recorder._database = Database(self.path, factory=TransactionConnection)
        transaction = SqliteTransaction(recorder._database, recorder._record)
        try:
            await self._patiently(transaction.begin)
        except BaseException:
            recorder._database.close()
            raise
        return transaction

    # Claims and reads of the owner ----------------------------------------------------------------

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
        wanted = Wanted(limit, workflows, queues, now, limits, build, crashed)
        if not await self._read(lambda: find(self._db, wanted)):
            return []  # an idle look takes no lock
        return await self._transaction(lambda: self._claim(worker, epoch, wanted))

    def _claim(self, worker: int, epoch: int, wanted: Wanted) -> list[Execution]:
        if not self._db.value("worker_stands", (worker, epoch)):
            return []
        found = find(self._db, wanted)
        for row in found:
            if row.orphaned:
                self._db.run("count_crash", {"id": row.id, "last": self._db.value("last_seq", (row.id,))})
            self._db.run("claim", {"id": row.id, "worker": worker, "now": to_text(wanted.now)})
        rows = self._executions([row.id for row in found])
        return [rows[row.id] for row in found if row.id in rows]

    # Deliveries, pruning, schedules ---------------------------------------------------------------

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        receipt = await self._transaction(lambda: deliver(self._db, delivery, now))
        if receipt.verdict is Verdict.OK or receipt.started:
            self._signal.fire()
        return receipt

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        folded = await super().fold(limit, same)
        if folded:
            self._signal.fire()
        return folded

    async def prune(self, ids: Sequence[str]) -> list[str]:
        return await self._transaction(lambda: prune(self._db, ids))

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._transaction(lambda: self._db.run("put_schedule", record_row(schedule)))
        self._signal.fire()

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        def move() -> bool:
            stands = bool(self._db.value("schedule_stands", (schedule.name, to_text_or_null(expected))))
            if stands:
                self._db.run("put_schedule", record_row(schedule))
            return stands

        return await self._transaction(move)

    async def remove_schedule(self, name: str) -> bool:
        return await self._transaction(lambda: self._db.run("remove_schedule", (name,)).rowcount > 0)

    # Waking ---------------------------------------------------------------------------------------

    async def next_wake(self) -> int | None:
        when = await self._read(lambda: self._db.value("next_wake"))
        return time_or_null(when)

    async def changed(self, timeout: float) -> bool:
        until = self.clock.now() + micros(timeout)
        pause = 0.02
        while True:
            if self._changed_elsewhere():
                self._signal.fire()  # whoever else waits here
                return False  # by anything at all: to look costs less than to claim
            left = (until - self.clock.now()) / 1_000_000
            if left <= 0 or await self._signal.wait(self.clock, min(pause, left)):
                return False
            pause = min(pause * 1.1, 0.05)

    def _changed_elsewhere(self) -> bool:
        try:
            version = self._db.value("data_version")
        except sqlite3.OperationalError:
            return False  # whoever asks the database next says it in words
        seen, self._seen = self._seen, version
        return seen not in (None, version)


def _refused(changes: Iterable[Change], verdicts: Iterable[Verdict]) -> set[str]:
    judged = zip(changes, verdicts, strict=True)
    return {change.execution_id for change, verdict in judged if verdict in (Verdict.FENCED, Verdict.GONE)}


def _wakes(batch: Batch) -> bool:
    """Whether it may have made something pending."""
    return any(create.status is Status.PENDING for create in batch.creates) or any(
        change.status is Status.PENDING or (change.parent_id is not None and change.status in ENDED)
        for change in batch.changes
    )
