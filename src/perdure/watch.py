"""Who waits for executions, here or elsewhere, and how they hear of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter

from perdure.clock import Clock
from perdure.errors import StoreUnavailableError
from perdure.records import Change, Execution, Status
from perdure.store import Store

logger = logging.getLogger("perdure")

MOVING = frozenset({Status.PENDING, Status.RUNNING, Status.ROLLING_BACK})
"""Statuses in which an execution is on its way."""

PASSING = MOVING | {Status.WAITING, Status.PAUSED}
"""Statuses that who waits for the end waits through."""

BATCH = 1000

FIRST_LOOK = 0.01
"""Seconds until what runs elsewhere is looked at for the first time."""


class Waiter(asyncio.Future[Change | None]):
    """Somebody who waits for an execution: for its end, or until it stands still."""

    def __init__(self, ends: bool) -> None:
        super().__init__()
        self.ends = ends


class Watch:
    """The waiters of one engine. What runs here is heard of at once; the rest is looked up when the store changed."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        poll: float,
        is_local: Callable[[str], bool],
        is_near: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._poll = poll
        self._is_local = is_local
        self._is_near = is_near  # will most likely be claimed here
        self._waiters: dict[str, list[Waiter]] = {}
        self._looker: asyncio.Task[None] | None = None
        self._closed = False

    def wait_for(self, execution_id: str, *, ends: bool) -> Waiter:
        """A future that is resolved when the execution has come to stand still (or, with `ends`, to its end).

        Its result is the change that the execution left this process with, or None: look at the row.
        """
        waiter = Waiter(ends)
        self._waiters.setdefault(execution_id, []).append(waiter)
        if (self._looker is None or self._looker.done()) and not self._is_local(execution_id):
            self._looker = asyncio.get_running_loop().create_task(self._look())
        return waiter

    def forget(self, execution_id: str, waiter: Waiter) -> None:
        """The waiter has gone."""
        waiting = self._waiters.get(execution_id)
        if waiting and waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                del self._waiters[execution_id]

    def left(self, execution_id: str, change: Change | None) -> None:
        """An execution has left this process's memory."""
        if execution_id in self._waiters:
            self._resolve(execution_id, change.status if change is not None else None, change)

    def _resolve(self, execution_id: str, status: Status | None, change: Change | None) -> bool:
        kept = []
        waiting = self._waiters.pop(execution_id, [])
        for waiter in waiting:
            if waiter.ends and status in PASSING:
                kept.append(waiter)
            elif not waiter.done():
                waiter.set_result(change)
        if kept:
            self._waiters[execution_id] = kept
            if self._looker is None or self._looker.done():
                self._looker = asyncio.get_running_loop().create_task(self._look())
        return len(kept) < len(waiting)

    async def close(self) -> None:
        """Wake everybody up."""
        self._closed = True
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.wait([self._looker])
        for execution_id in list(self._waiters):
            self._resolve(execution_id, None, None)

    async def _look(self) -> None:
        """Look at what runs elsewhere: soon at first, more seldom while nothing comes of it."""
        pause = FIRST_LOOK
        while self._waiters:
            await self._clock.sleep(pause, lazily=True)
            slow = pause >= self._poll
            pause = min(self._poll, pause * 1.5)
            remote = [i for i in self._waiters if not self._is_local(i) and (slow or not self._is_near(i))]
            began = perf_counter()
            try:
                for n in range(0, len(remote), BATCH):
                    part = remote[n : n + BATCH]
                    rows = await self._store.get(part)
                    for execution_id in part:
                        row = rows.get(execution_id)
                        status = row.status if row is not None else None
                        if status in MOVING:
                            continue
                        if self._resolve(execution_id, status, None):
                            pause = FIRST_LOOK
            except StoreUnavailableError:
                pass  # looked at again; the workers complain about it
            except Exception:  # who waits would wait for ever
                logger.exception("%s could not be looked at; trying again", self._store.url)
            pause = max(pause, 20 * (perf_counter() - began))
        self._looker = None


class RowReader:
    """Reads the rows that are asked for at the same moment together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wanted: dict[str, list[asyncio.Future[Execution | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, execution_id: str) -> Execution | None:
        """The row of an execution as it is after this call began; None if there is none."""
        loop = asyncio.get_running_loop()
        if not self._wanted:
            task = loop.create_task(self._read())
            self._tasks.add(task)
            task.add_done_callback(self._done)
        future: asyncio.Future[Execution | None] = loop.create_future()
        self._wanted.setdefault(execution_id, []).append(future)
        return await future

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # the loop is being shut down: nobody shall wait for what nobody reads
            wanted, self._wanted = self._wanted, {}
            for future in (f for futures in wanted.values() for f in futures):
                future.cancel()

    async def _read(self) -> None:
        wanted, self._wanted = self._wanted, {}
        ids = list(wanted)
        for n in range(0, len(ids), BATCH):
            part = ids[n : n + BATCH]
            try:
                rows = await self._store.get(part)
            except Exception as error:
                for future in (f for i in part for f in wanted[i] if not f.done()):
                    future.set_exception(error)
                continue
            for execution_id in part:
                for future in wanted[execution_id]:
                    if not future.done():
                        future.set_result(rows.get(execution_id))
