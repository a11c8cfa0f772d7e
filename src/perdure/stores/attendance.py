"""Being there, on a server: a worker holds a lock in a session that does nothing else, and waits for its neighbour's.

A lock dies with its session, and the session with its process, so a death is seen at once, however long the lease.
All of this runs in the thread of the worker's heartbeat: a busy event loop shall not keep a lost lock from being taken
again. Which statements these are, the dialects say (`postgres_presence.py`, `mysql_presence.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from perdure.errors import PerdureError
from perdure.stores.presence_ring import GAP, Sightings, neighbour

WAIT = 10.0
"""Seconds for which a neighbour's lock is waited for at a time."""

AGAIN = 0.05
"""Seconds until a session is opened again that could not be."""

ONCE_MORE = GAP * 1.05
"""Seconds between two looks, so that the second one is sure to be late enough."""


class Watchpost(Protocol):
    """A session with a server, for holding or watching. It raises `PerdureError`, and is then given up."""

    async def is_direct(self) -> bool:
        """Does the session end where the process does? Not so through a pooler, or where such locks do not hold."""
        ...

    async def hold(self, worker: int, epoch: int) -> bool:
        """Take the worker's lock, and have it known. False: the worker is not alive any more."""
        ...

    async def lost(self) -> None:
        """Return once the session has ended."""
        ...

    async def ring(self) -> list[int]:
        """The live workers that hold, or held, their locks on this server."""
        ...

    async def free(self, me: int) -> list[int]:
        """Those of the others whose locks are free now."""
        ...

    async def wait_for(self, worker: int, seconds: float) -> bool:
        """True once a worker's lock is free; False if it is not within so many seconds."""
        ...

    def terminate(self) -> None: ...


class Attendance:
    """What one store knows about who is there."""

    def __init__(self, enter: Callable[[], Awaitable[Watchpost]]) -> None:
        self._enter = enter  # raises PerdureError; pacing is its own business
        self.sightings = Sightings()
        self._watchers: set[_Watcher] = set()

    def suspects(self, late: list[int], free: list[int]) -> list[int]:
        """Who is to be declared dead, of those whose lease is over, and those whose lock is free at this look."""
        return sorted({*late, *self.sightings.see(free, time.monotonic())})

    def meet(self, ring: list[int]) -> None:
        """The live workers were read: whoever watches the wrong one turns to its neighbour. From any thread."""
        for watcher in list(self._watchers):
            watcher.meet(ring)

    async def attend(
        self,
        worker: int,
        epoch: int,
        *,
        settled: Callable[[], None],
        seen: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        """See `perdure.store.Store.attend`."""
        watching: asyncio.Task[None] | None = None
        lost = False
        try:
            while True:
                try:
                    post = await self._enter()
                except PerdureError:
                    await asyncio.sleep(AGAIN)
                    continue
                try:
                    if not await post.is_direct():
                        return settled()
                    if lost:
                        self.sightings.doubt(time.monotonic())
                    if not await post.hold(worker, epoch):
                        return gone()
                    settled()
                    watching = watching or asyncio.create_task(self._watch(worker, seen))
                    await post.lost()
                    lost = True
                    self.sightings.doubt(time.monotonic())
                except PerdureError:
                    lost = True
                    await asyncio.sleep(AGAIN)
                finally:
                    post.terminate()
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])

    async def _watch(self, worker: int, seen: Callable[[], None]) -> None:
        watcher = _Watcher(worker, self.sightings, seen)
        self._watchers.add(watcher)
        try:
            while True:
                try:
                    post = await self._enter()
                except PerdureError:
                    await asyncio.sleep(AGAIN)
                    continue
                try:
                    await watcher.watch(post)
                except PerdureError:
                    await asyncio.sleep(AGAIN)
                finally:
                    post.terminate()
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    """One worker's eye on its neighbour."""

    def __init__(self, worker: int, sightings: Sightings, seen: Callable[[], None]) -> None:
        self._worker = worker
        self._sightings = sightings
        self._seen = seen
        self._loop = asyncio.get_running_loop()
        self._ring: list[int] | None = None
        self._watched: int | None = None
        self._turn = asyncio.Event()  # to another neighbour

    def meet(self, ring: list[int]) -> None:
        self._ring = ring
        if neighbour(self._worker, ring) != self._watched and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._turn.set)

    async def watch(self, post: Watchpost) -> None:
        """Watch through the session, until another neighbour is to be watched: a wait cannot be broken off."""
        ring = await post.ring()
        while True:
            self._turn.clear()
            self._watched = neighbour(self._worker, ring)
            if self._watched is None:
                await self._pause(WAIT)
            else:
                freed = await self._wait_for(post, self._watched)
                if freed is None:
                    return
                if freed:
                    # Others may have died with it: who watches them may be among them.
                    self._sightings.see(await post.free(self._worker), time.monotonic())
                    await asyncio.sleep(ONCE_MORE)
                    self._seen()
                    await self._pause(2 * GAP)  # until it is declared dead, or was found to be alive
            ring, self._ring = self._ring or await post.ring(), None

    async def _wait_for(self, post: Watchpost, other: int) -> bool | None:
        """True: its lock became free. False: it did not. None: another one is to be watched."""
        waiting = asyncio.ensure_future(post.wait_for(other, WAIT))
        turning = asyncio.ensure_future(self._turn.wait())
        try:
            await asyncio.wait([waiting, turning], return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            for task in (waiting, turning):
                task.cancel()
            await asyncio.wait([waiting, turning])

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._turn.wait()
        except TimeoutError:
            pass
