"""The store of a folder that one can read with one's eyes: a file of JSON lines for each execution.

One process at a time runs executions (a lock that dies with it tells; others stand by), any number of processes
start, deliver and read. Every verb is that of the memory store, done under the folder's lock on what is there now;
what it touched is durable before it returns, as a whole or not at all (`files_folder`, `files_log`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from perdure.clock import Clock, SystemClock, micros
from perdure.deliveries import Delivery, Receipt
from perdure.errors import MovedError, StoreUnavailableError
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
from perdure.store import Same, Transaction
from perdure.stores import files_layout
from perdure.stores.files_crew import Crew
from perdure.stores.files_folder import Folder, enter_folder, leave_folder
from perdure.stores.files_rows import WatchedStore
from perdure.stores.outgoing import no_transactions
from perdure.stores.parcels import moved_words
from perdure.stores.patience import Busy, patiently
from perdure.stores.presence import Presence, process_token

Result = TypeVar("Result")
Verb = Callable[[WatchedStore], Coroutine[Any, Any, Result]]

SUBMITS_ONLY = 1e8
"""Seconds: who asks for such a lease runs nothing, and need not be taken over."""

LOOKS = 0.02, 0.05
"""Seconds between two looks whether another process has written, or died: at first, and in the long run."""

PARTS = ("executions", "workers", "schedules", "log")


class FileStore:
    """A folder, relative to the current one or absolute. It is created where its parent exists."""

    inline = True
    threaded = False
    own_transactions = False
    poll = 0.25
    idle_poll = 0.25
    lease: float | None = None
    even_if_moved = False

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.url = f"file://{self.path}"
        self.clock: Clock = clock or SystemClock()
        self._presence = Presence(os.path.join(self.path, "locks", "alive"))
        self._entered: Folder | None = None
        self._mine: set[int] = set()
        self._seen = 0

    # Opening --------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._entered is None:
            self._entered = await patiently(self.clock, lambda: enter_folder(self.path, self.clock))
            self._seen = self._entered.news
            self._refuse_moved()

    def _refuse_moved(self) -> None:
        if not self.even_if_moved and (target := files_layout.moved_to(self.path)) is not None:
            raise MovedError(moved_words(self.url, target))

    async def close(self) -> None:
        folder, self._entered = self._entered, None
        if folder is None:
            return
        for worker in self._mine:
            self._crew_of(folder).leave(worker)
        self._crew_of(folder).abandoned |= self._mine
        self._mine.clear()
        self._presence.close()
        leave_folder(folder)

    async def migrate(self) -> list[tuple[str, bool]]:
        if self._entered is not None:
            return [(part, False) for part in PARTS]
        await self.open()
        made = self._folder.is_new
        await self.close()
        return [(part, made) for part in PARTS]

    @property
    def standing_by(self) -> bool:
        """Another process runs executions: this one may not, for now."""
        return self._entered is None or not self._crew.runs

    @property
    def _folder(self) -> Folder:
        if self._entered is None:
            raise StoreUnavailableError(f"{self.path} is not open")
        return self._entered

    @property
    def _crew(self) -> Crew:
        return self._crew_of(self._folder)

    @staticmethod
    def _crew_of(folder: Folder) -> Crew:
        assert folder.crew is not None
        return folder.crew

    # Workers --------------------------------------------------------------------------------------

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        def appear(memory: WatchedStore) -> WorkerRecord:
            row = at_once(memory.register(replace(worker, process=process_token()), lease))
            self._refuse_moved()
            self._presence.appear(row.id)  # before anybody can see the row
            return row

        made = await self._transaction(appear)
        self._mine.add(made.id)
        if lease < SUBMITS_ONLY:
            self._crew.join(made.id)
        return made

    async def release(self, worker: int, epoch: int) -> None:
        await self._write(lambda memory: memory.release(worker, epoch))
        self._presence.vanish(worker)
        self._mine.discard(worker)
        self._crew.leave(worker)

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        def beat(memory: WatchedStore) -> tuple[bool, int]:
            with memory.unnoted():  # other processes go by the locks
                return at_once(memory.heartbeat(worker, epoch, lease))

        return await patiently(self.clock, lambda: self._folder.read(beat))

    async def suspects(self, worker: int) -> list[int]:
        self._crew.try_to_run()

        def look(memory: WatchedStore) -> list[int]:
            return [r.id for r in memory._workers.values() if r.id != worker and self._seems_dead(r)]

        return await patiently(self.clock, lambda: self._folder.read(look))

    def _seems_dead(self, row: WorkerRecord) -> bool:
        if row.state != "live":
            return False
        if row.process != process_token():
            return self._presence.is_free(row.id)
        return row.id in self._crew.abandoned or row.lease_until < self.clock.now()

    async def attend(self, worker: int, epoch: int, **told: Callable[[], None]) -> None:
        told["settled"]()  # `register` took the lock, which `suspects` looks at

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        return Glance(await self.suspects(worker))

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        def declare(memory: WatchedStore) -> bool:
            row = memory._workers.get(worker)
            if row is not None and row.state == "live" and not anyway and not self._seems_dead(row):
                return False
            return at_once(memory.declare_dead(worker, anyway=True))

        dead = await self._transaction(declare)
        if dead:
            self._presence.bury(worker)
        return dead

    # Commit, claims and reads of the owner ----------------------------------------------------------

    def commit(self, batch: Batch) -> Verdicts:
        return self._folder.write(lambda memory: memory.commit(batch))

    async def settle(self, batch: Batch) -> Verdicts | None:
        return await self._write(lambda memory: memory.settle(batch))

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
        if not self._crew.try_to_run():
            return []
        return await self._write(
            lambda memory: memory.claim(
                worker, epoch, limit, workflows, queues, now, limits=limits, build=build, crashed=crashed
            )
        )

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        return await self._read(lambda memory: memory.load(ids), of=ids)

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        return await self._read(lambda memory: memory.inbox(ids))

    async def nudged(self, worker: int) -> dict[str, int]:
        return await self._read(lambda memory: memory.nudged(worker))

    # Deliveries, pruning, schedules -----------------------------------------------------------------

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        return await self._write(lambda memory: memory.deliver(delivery, now))

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        raise no_transactions(self.url)

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        return []

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        return []

    async def begin(self, seconds: float) -> Transaction:
        raise no_transactions(self.url)

    async def dismiss(self, ids: Sequence[int]) -> int:
        return 0

    async def prune(self, ids: Sequence[str]) -> list[str]:
        return await self._write(lambda memory: memory.prune(ids))

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._write(lambda memory: memory.put_schedule(schedule))

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        return await self._write(lambda memory: memory.move_schedule(schedule, expected))

    async def remove_schedule(self, name: str) -> bool:
        return await self._write(lambda memory: memory.remove_schedule(name))

    # Moving -----------------------------------------------------------------------------------------

    async def mark_moved(self, to: str | None) -> None:
        # Under the folder's lock: who registers looks at the mark under it.
        await self._transaction(lambda memory: files_layout.mark_moved(self.path, to))

    async def moved_to(self) -> str | None:
        return files_layout.moved_to(self.path)

    async def ids(self, after: str, limit: int) -> Sequence[str]:
        return await self._read(lambda memory: memory.ids(after, limit))

    async def pack(self, ids: Sequence[str]) -> Sequence[Parcel]:
        return await self._read(lambda memory: memory.pack(ids), of=ids)

    async def unpack(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        return await self._write(lambda memory: memory.unpack(parcels))

    # Waking -----------------------------------------------------------------------------------------

    async def next_wake(self) -> int | None:
        return await self._read(lambda memory: memory.next_wake())

    async def changed(self, timeout: float) -> bool:
        until = self.clock.now() + micros(timeout)
        pause, longest = LOOKS
        self._folder.keep_up()
        while not self._changed_elsewhere():
            left = (until - self.clock.now()) / 1_000_000
            if left <= 0 or await self._folder.memory._signal.wait(self.clock, min(pause, left)):
                return False
            pause = min(pause * 1.1, longest)
        self._folder.memory._signal.fire()  # whoever else waits here
        return False

    def _changed_elsewhere(self) -> bool:
        """Another process has written, or this one may take over from one that died."""
        folder, crew = self._folder, self._crew
        with suppress(StoreUnavailableError):  # whoever asks for more hears of it
            stood_by = not crew.runs
            if crew.try_to_run() and (stood_by or folder.read(self._sees_a_death)):
                return True
            folder.read(lambda memory: None)
        seen, self._seen = self._seen, folder.news
        return seen != folder.news

    def _sees_a_death(self, memory: WatchedStore) -> bool:
        token = process_token()
        return any(row.process != token and self._seems_dead(row) for row in memory._workers.values())

    # Insight ----------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        return await self._read(lambda memory: memory.get(ids))

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        return await self._read(lambda memory: memory.count(query, at_most))

    async def history(self, execution_id: str) -> list[Entry]:
        return await self._read(lambda memory: memory.history(execution_id), of=[execution_id])

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        return await self._read(lambda memory: memory.tail(execution_id, after, kinds, limit), of=[execution_id])

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        return await self._read(lambda memory: memory.latest(execution_id, key), of=[execution_id])

    async def tallies(self) -> list[Tally]:
        return await self._read(lambda memory: memory.tallies())

    async def schedules(self) -> list[Schedule]:
        return await self._read(lambda memory: memory.schedules())

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        return await self._read(
            lambda memory: memory.requests(ids=ids, execution_ids=execution_ids, status=status, limit=limit)
        )

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        return await self._read(lambda memory: memory.dossiers(ids, snapshots=snapshots), of=ids)

    async def tree(self, execution_id: str) -> list[Execution]:
        return await self._read(lambda memory: memory.tree(execution_id))

    async def workers(self) -> list[WorkerRecord]:
        return await self._read(lambda memory: memory.workers())

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        return await self._read(lambda memory: memory.list(query, limit, cursor))

    # Verbs of the memory store ------------------------------------------------------------------------

    async def _read(self, verb: Verb[Result], *, of: Sequence[str] = ()) -> Result:
        def look(memory: WatchedStore) -> Result:
            for id in of:
                self._folder.check(id)
            return at_once(verb(memory))

        return await patiently(self.clock, lambda: self._folder.read(look))

    async def _write(self, verb: Verb[Result]) -> Result:
        return await self._transaction(lambda memory: at_once(verb(memory)))

    async def _transaction(self, work: Callable[[WatchedStore], Result]) -> Result:
        return await patiently(self.clock, lambda: self._folder.write(work))


def at_once(verb: Coroutine[Any, Any, Result]) -> Result:
    """Run a verb of the memory store: none of them awaits anything."""
    try:
        verb.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    verb.close()
    raise AssertionError("a verb of the memory store has awaited something")


__all__ = ["Busy", "FileStore"]
