"""What a worker does besides running executions: it keeps schedules, and forgets what is old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from perdure import schedules
from perdure.clock import Clock
from perdure.errors import StoreUnavailableError
from perdure.records import ENDED, Query
from perdure.store import Store

logger = logging.getLogger("perdure")

LOOK = 5_000_000
"""Microseconds between two looks at the schedules, unless one is due before."""

TOLD_LOOK = 60_000_000
"""The same where the worker tells of schedules that are due or new: it sees them with all else that it looks for."""

TIDY = 600_000_000
"""Microseconds between two looks for what is to be forgotten."""

BATCH = 500


class Housekeeping:
    """The chores of one worker. `retention`: microseconds that ended executions are kept, None: for ever."""

    def __init__(self, store: Store, clock: Clock, start: schedules.Start, retention: int | None) -> None:
        self._store = store
        self._clock = clock
        self._start = start
        self._retention = retention
        self._tidied_at: int | None = None
        self._told = False
        self._tick_at: int | None = None
        self._looked_at = 0
        self._hint = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def end(self) -> None:
        if self._task is not None:
            while not self._task.done():  # a driver may turn a cancelling into an error of its own, once
                self._task.cancel()
                await asyncio.wait([self._task], timeout=1.0)

    def look(self) -> None:
        """A schedule has changed."""
        self._hint.set()

    def expect(self, tick_at: int | None) -> None:
        """The worker has seen when the next tick is due (microseconds; None: there is no schedule)."""
        self._told = True
        known, self._tick_at = self._tick_at, tick_at
        now = self._clock.now()
        if tick_at is not None and (tick_at != known or (tick_at <= now and now - self._looked_at >= LOOK)):
            self._hint.set()

    async def _keep(self) -> None:
        while True:
            self._hint.clear()
            self._looked_at = now = self._clock.now()
            pause = TOLD_LOOK if self._told else LOOK
            try:
                following = await schedules.look_after(self._store, self._start, now)
                if following is not None:
                    pause = min(pause, max(1000, following - self._clock.now()))
                await self._tidy(now)
            except StoreUnavailableError:
                pass  # the poller complains about it
            except Exception:  # chores that stop for good would stop without a word
                logger.exception("schedules and retention could not be looked after; trying again")
            await self._wait(pause)

    async def _wait(self, pause: int) -> None:
        alarm = self._clock.call_at(self._clock.now() + pause, self._hint.set, lazily=pause >= LOOK)
        try:
            await self._hint.wait()
        finally:
            alarm.cancel()

    async def _tidy(self, now: int) -> None:
        if self._retention is None or (self._tidied_at is not None and now - self._tidied_at < TIDY):
            return
        self._tidied_at = now
        removed = await prune(self._store, Query(status=tuple(ENDED), ended_before=now - self._retention))
        if removed:
            logger.info("%d executions that ended long ago were forgotten", len(removed))


async def prune(store: Store, query: Query, told: Callable[[list[str]], Any] = lambda ids: None) -> list[str]:
    """Remove what a query finds, so far as nothing open needs it; `told` hears of each part. Gives the ids removed.

    What has ended may still need a person: an undo that failed waits for one.
    """
    removed: list[str] = []
    cursor = None
    while True:
        page = await store.list(query, BATCH, cursor)
        ids = [row.id for row in page.items]
        asked = {request.execution_id for request in await store.requests(execution_ids=ids)} if ids else set()
        part = await store.prune([id for id in ids if id not in asked])
        removed += part
        told(part)
        cursor = page.cursor
        if cursor is None:
            return removed
