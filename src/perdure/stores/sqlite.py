"""The store of one machine: an SQLite file, shared by any number of processes there.

`begin immediate` is the row lock of the contract: whoever holds it is alone. One connection does all the
work; it never waits for another process's lock, so that the event loop never stands still: `commit` raises
`Busy` for the committer to come again, the other verbs come again themselves. Heartbeats have a connection
of their own. A commit looks at its worker's row only if another connection has written since the last look
(`data_version`): without that the epoch cannot have changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from perdure.clock import Clock, SystemClock, micros
from perdure.errors import DecodeError, StoreUnavailableError
from perdure.records import (
    ENDED,
    Batch,
    Change,
    Delivery,
    Entry,
    Execution,
    Inbox,
    Message,
    Page,
    Query,
    Receipt,
    Request,
    Status,
    Verdict,
    Verdicts,
    WorkerRecord,
)
from perdure.stores.paging import cursor_after, read_cursor
from perdure.stores.presence import Presence, process_token
from perdure.stores.signal import Signal
from perdure.stores.sqlite_database import Busy, Database, Translating, patiently, translated, warn_of_reset_bug
from perdure.stores.sqlite_deliver import deliver
from perdure.stores.sqlite_rows import entry_row, entry_rows, read_entry, read_records, record_row
from perdure.stores.timestamps import from_text, to_text, to_text_or_null

__all__ = ["Busy", "SqliteStore"]

Result = TypeVar("Result")

EVER = "~"  # sorts behind every timestamp
NEVER = ""


class SqliteStore:
    """An SQLite file, in WAL mode, durable at each commit. `path` is relative to the current folder, or absolute."""

    inline = True
    threaded = True
    poll = 0.25
    lease: float | None = None

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        name = os.fspath(path)
        self.url = f"sqlite:///{name}"
        self.path = os.path.abspath(name)
        self.clock: Clock = clock or SystemClock()
        self._presence = Presence(self.path)
        self._signal = Signal()
        self._database: Database | None = None
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

    @property
    def _db(self) -> Database:
        if self._database is None:
            raise StoreUnavailableError(f"{self.path} is not open")
        return self._database

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
        live = await self._read(lambda: read_records(WorkerRecord, self._db.run("live_workers")))
        self._take_turns(live)
        return [row.id for row in live if row.id != worker and self._seems_dead(row)]

    def _seems_dead(self, row: WorkerRecord) -> bool:
        if row.lease_until < self.clock.now():
            return True
        return row.process != process_token() and self._presence.is_free(row.id)

    def _take_turns(self, live: Sequence[WorkerRecord]) -> None:
        """Of several processes one moves the log into the database: that of the oldest live worker."""
        if any(row.process != process_token() for row in live):
            warn_of_reset_bug(self.path)
        mine = not live or live[0].process == process_token()
        if mine != self._checkpoints:
            self._db.run("checkpoint_soon" if mine else "checkpoint_late")
            self._checkpoints = mine

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
        run, outside = self._db.run, _json(refused)
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

    # Claims and reads of the owner ----------------------------------------------------------------

    async def claim(
        self, worker: int, epoch: int, limit: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], now: int
    ) -> list[Execution]:
        wanted = {"now": to_text(now), "limit": limit, "workflows": _json(workflows), "queues": _json(queues)}
        if not await self._read(lambda: self._db.run("claimable", wanted).fetchall()):
            return []  # an idle look takes no lock
        return await self._transaction(lambda: self._claim(worker, epoch, wanted))

    def _claim(self, worker: int, epoch: int, wanted: dict[str, Any]) -> list[Execution]:
        if not self._db.value("worker_stands", (worker, epoch)):
            return []
        found = self._db.run("claimable", wanted).fetchall()
        for id, status in found:
            if status == "running":
                self._db.run("count_crash", {"id": id, "last": self._db.value("last_seq", (id,))})
            self._db.run("claim", {"id": id, "worker": worker, "now": wanted["now"]})
        rows = self._executions([id for id, _ in found])
        return [rows[id] for id, _ in found]

    def _executions(self, ids: Sequence[str]) -> dict[str, Execution]:
        return {row.id: row for row in read_records(Execution, self._db.run("executions", (_json(ids),)))}

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        entries = await self._entries("load", ids)
        journals: dict[str, list[Entry]] = {id: [] for id in ids}
        for entry in entries:
            journals[entry.execution_id].append(entry)
        return journals

    async def _entries(self, name: str, ids: Sequence[str]) -> list[Entry]:
        try:
            return await self._read(lambda: self._read_entries(name, ids))
        except Busy:
            raise
        except (StoreUnavailableError, sqlite3.Error, ValueError):
            return await self._read(lambda: [entry for id in ids for entry in self._damaged_entries(name, id)])

    def _read_entries(self, name: str, ids: Sequence[str]) -> list[Entry]:
        return [read_entry(row) for row in self._db.run(name, {"ids": _json(ids)})]

    def _damaged_entries(self, name: str, id: str) -> list[Entry]:
        """Damaged text comes with marks in it, for its checksum to find; a journal beyond that is named."""
        connection = self._db.connection
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            return self._read_entries(name, [id])
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(translated(error, self.path), Busy):
                raise
            raise DecodeError(f"the journal of {id!r} cannot be read: {error}", execution_id=id) from error
        finally:
            connection.text_factory = str

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        return await self._read(lambda: self._inbox(_json(ids)))

    def _inbox(self, ids: str) -> dict[str, Inbox]:
        run = self._db.run
        boxes = {
            row.id: Inbox(row.nudges, row.wish, row.wish_by, row.wish_reason)
            for row in read_records(Execution, run("executions", (ids,)))
        }
        for request in read_records(Request, run("requests_of", (ids,))):
            boxes[request.execution_id].requests.append(request)
        for message in read_records(Message, run("messages_of", (ids,))):
            boxes[message.execution_id].messages.append(message)
        for child in read_records(Execution, run("children", (ids,))):
            if child.parent_id in boxes:
                boxes[child.parent_id].children.append(child)
        return boxes

    async def nudged(self, worker: int) -> dict[str, int]:
        return await self._read(lambda: dict(self._db.run("nudged", (worker,)).fetchall()))

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        receipt = await self._transaction(lambda: deliver(self._db, delivery, now))
        if receipt.verdict is Verdict.OK:
            self._signal.fire()
        return receipt

    # Waking ---------------------------------------------------------------------------------------

    async def next_wake(self) -> int | None:
        when = await self._read(lambda: self._db.value("next_wake"))
        return None if when is None else from_text(when)

    async def changed(self, timeout: float) -> None:
        until = self.clock.now() + micros(timeout)
        pause = 0.02
        while True:
            if self._changed_elsewhere():
                self._signal.fire()  # whoever else waits here
                return
            left = (until - self.clock.now()) / 1_000_000
            if left <= 0 or await self._signal.wait(self.clock, min(pause, left)):
                return
            pause = min(pause * 1.1, 0.05)

    def _changed_elsewhere(self) -> bool:
        try:
            version = self._db.value("data_version")
        except sqlite3.OperationalError:
            return False  # whoever asks the database next says it in words
        seen, self._seen = self._seen, version
        return seen not in (None, version)

    # Insight --------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        return await self._read(lambda: self._executions(ids))

    async def count(self, query: Query) -> dict[str, int]:
        return await self._read(lambda: dict(self._db.run("count", _filters(query)).fetchall()))

    async def history(self, execution_id: str) -> list[Entry]:
        return await self._entries("history", [execution_id])

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        values: dict[str, Any] = {"status": status, "limit": limit}
        name = "all_requests"
        if ids or execution_ids:
            name = "some_requests"
            values |= {"ids": _json(ids), "execution_ids": _json(execution_ids)}
        return await self._read(lambda: read_records(Request, self._db.run(name, values)))

    async def tree(self, execution_id: str) -> list[Execution]:
        return await self._read(lambda: read_records(Execution, self._db.run("tree", (execution_id,))))

    async def workers(self) -> list[WorkerRecord]:
        return await self._read(lambda: read_records(WorkerRecord, self._db.run("workers")))

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        newest = query.order != "oldest"
        values = _filters(query) | {"limit": limit + 1}
        values |= {"cursor_at": values["until"] if newest else values["since"], "cursor_id": ""}
        if cursor is not None:
            at, values["cursor_id"] = read_cursor(cursor)
            values["cursor_at"] = to_text(at)
        name = "list_newest" if newest else "list_oldest"
        rows = await self._read(lambda: read_records(Execution, self._db.run(name, values)))
        return Page(rows[:limit], cursor_after(rows[limit - 1]) if len(rows) > limit else None)

    # Patience -------------------------------------------------------------------------------------

    async def _patiently(self, work: Callable[[], Result]) -> Result:
        return await patiently(self.clock, work)

    async def _transaction(self, work: Callable[[], Result]) -> Result:
        return await patiently(self.clock, lambda: self._db.transaction(work))

    async def _read(self, work: Callable[[], Result]) -> Result:
        def reading() -> Result:
            with Translating(self.path):
                return work()

        return await patiently(self.clock, reading)


def _refused(changes: Iterable[Change], verdicts: Iterable[Verdict]) -> set[str]:
    judged = zip(changes, verdicts, strict=True)
    return {change.execution_id for change, verdict in judged if verdict in (Verdict.FENCED, Verdict.GONE)}


def _wakes(batch: Batch) -> bool:
    """Whether it may have made something pending."""
    return any(create.status is Status.PENDING for create in batch.creates) or any(
        change.status is Status.PENDING or (change.parent_id is not None and change.status in ENDED)
        for change in batch.changes
    )


def _json(values: Iterable[Any]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def _filters(query: Query) -> dict[str, Any]:
    return {
        "since": NEVER if query.since is None else to_text(query.since),
        "until": EVER if query.until is None else to_text(query.until),
        "status": _json(query.status) if query.status else None,
        "workflow": query.workflow,
        "version": query.version,
        "parent": query.parent,
        "started_by": query.by,
        "prefix": query.id_prefix,
    }
