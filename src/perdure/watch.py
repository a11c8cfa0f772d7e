"""Who waits for executions, here or elsewhere, and how they hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.clock import Clock
from perdure.errors import StoreUnavailableError
from perdure.records import Change, Status
from perdure.store import Store

SETTLED = frozenset(Status) - {Status.PENDING, Status.RUNNING}
"""Statuses in which an execution stands still, until something comes."""

BATCH = 1000


class Watch:
    """The waiters of one engine. What runs here is heard of at once; the rest is looked up when the store changed."""

    def __init__(self, store: Store, clock: Clock, poll: float, is_local: Callable[[str], bool]) -> None:
        self._store = store
        self._clock = clock
        self._poll = poll
        self._is_local = is_local
        self._waiters: dict[str, list[asyncio.Future[Change | None]]] = {}
        self._looker: asyncio.Task[None] | None = None
        self._closed = False

    def wait_for(self, execution_id: str) -> asyncio.Future[Change | None]:
        """A future that is resolved when the execution has come to stand still, or may have.

        Its result is the change that the execution left this process with, or None: look at the row.
        """
        future: asyncio.Future[Change | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(execution_id, []).append(future)
        if self._looker is None and not self._is_local(execution_id):
            self._looker = asyncio.get_running_loop().create_task(self._look())
        return future

    def forget(self, execution_id: str, future: asyncio.Future[Change | None]) -> None:
        """The waiter has gone."""
        waiting = self._waiters.get(execution_id)
        if waiting and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiters[execution_id]

    def left(self, execution_id: str, change: Change | None) -> None:
        """An execution has left this process's memory."""
        for future in self._waiters.pop(execution_id, ()):
            if not future.done():
                future.set_result(change)

    async def close(self) -> None:
        """Wake everybody up."""
        self._closed = True
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.wait([self._looker])
        for execution_id in list(self._waiters):
            self.left(execution_id, None)

    async def _look(self) -> None:
        pause = 0.005
        while self._waiters:
            remote = [i for i in self._waiters if not self._is_local(i)]
            try:
                for n in range(0, len(remote), BATCH):
                    part = remote[n : n + BATCH]
                    rows = await self._store.get(part)
                    for execution_id in part:
                        row = rows.get(execution_id)
                        if row is None or row.status in SETTLED:
                            self.left(execution_id, None)
                            pause = 0.005
            except StoreUnavailableError:
                pass  # looked at again below; the workers complain about it
            if not self._waiters:
                break
            await self._store.changed(pause)
            pause = min(self._poll, pause * 1.5)
        self._looker = None
