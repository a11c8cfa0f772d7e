"""Virtual time: it passes only when a test says so, or when nothing else is left to do."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from perdure.clock import SECOND, Duration, micros

START = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
SETTLE = 40
LOOKS = 200
IDLE_LOOKS = 8


class _Alarm:
    __slots__ = ("callback", "lazily")

    def __init__(self, callback: Callable[[], None], lazily: bool) -> None:
        self.callback: Callable[[], None] | None = callback
        self.lazily = lazily

    def cancel(self) -> None:
        self.callback = None


class Clock:
    """A clock for tests of one's own workflows.

    >>> clock = Clock()
    >>> async with Engine("memory://", clock=clock) as engine:
    ...     handle = await engine.start(remind, "ana")
    ...     await clock.advance(timedelta(days=30))
    """

    def __init__(self, *, seed: int = 0, start: int = START) -> None:
        self._now = start
        self._alarms: list[tuple[int, int, _Alarm]] = []
        self._ordinal = itertools.count()
        self._looked = start
        self._idle_looks = 0
        self._random = random.Random(seed)

    def now(self) -> int:
        """Microseconds since 1970."""
        return self._now

    def call_at(self, when: int, callback: Callable[[], None], *, lazily: bool = False) -> _Alarm:
        alarm = _Alarm(callback, lazily)
        heapq.heappush(self._alarms, (max(when, self._now), next(self._ordinal), alarm))
        return alarm

    async def sleep(self, seconds: float, *, lazily: bool = False) -> None:
        over = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not over.done():
                over.set_result(None)

        alarm = self.call_at(self._now + round(seconds * SECOND), wake, lazily=lazily)
        try:
            await over
        finally:
            alarm.cancel()

    def sync(self, server_now: int) -> None:
        """A virtual clock follows nobody."""

    def random_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def jitter(self) -> float:
        return self._random.random()

    async def settle(self) -> None:
        """Let everything that is ready happen."""
        for _ in range(SETTLE):
            await asyncio.sleep(0)

    def next_alarm(self) -> int | None:
        """When something next happens by itself."""
        while self._alarms and self._alarms[0][2].callback is None:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def step(self) -> bool:
        """Go to the next alarm and let it ring; False if there is none."""
        when = self.next_alarm()
        if when is None:
            return False
        self._now = max(self._now, when)
        _, _, alarm = heapq.heappop(self._alarms)
        callback, alarm.callback = alarm.callback, None
        if callback is not None:
            asyncio.get_running_loop().call_soon(callback)  # never inside the task that lets time pass
        return True

    def leap(self) -> bool:
        """Go to the next alarm, past regular looks (polling) after a few of them; False if there is none."""
        first = self.next_alarm()
        if first is None:
            return False
        if not self._alarms[0][2].lazily:
            self._idle_looks = 0
            return self.step()
        self._idle_looks += 1
        wanted = [when for when, _, alarm in self._alarms if alarm.callback is not None and not alarm.lazily]
        if wanted and self._idle_looks > IDLE_LOOKS:
            until = min(wanted)
            while self._alarms[0][0] < until and self._alarms[0][2].lazily:
                heapq.heapreplace(self._alarms, (until, next(self._ordinal), self._alarms[0][2]))
        return self.step()

    async def advance(self, duration: Duration) -> None:
        """Let time pass, and everything that becomes due in it happen, in order.

        Of regular looks (polling) in a long time only some happen: two hundred, evenly spread.
        """
        until = self._now + micros(duration)
        stride = micros(duration) // LOOKS
        await self.settle()
        while (when := self.next_alarm()) is not None and when <= until:
            first = self._alarms[0][2]
            if first.lazily and when < self._looked + stride:
                later = min(self._looked + stride, until + 1)
                heapq.heapreplace(self._alarms, (later, next(self._ordinal), first))
                continue
            if first.lazily:
                self._looked = when
            self.step()
            await self.settle()
        self._now = max(self._now, until)
        await self.settle()

    async def run_until(self, awaited: asyncio.Future[Any], *, alarms: int = 5000) -> None:
        """Let time pass, whenever nothing else can happen, until a future is done.

        Raises `TimeoutError` if nothing is left that could ever happen, or after so many alarms.
        """
        for _ in range(alarms):
            await self.settle()
            if awaited.done():
                return
            if not self.step():
                break
        raise TimeoutError(f"this is not done, and nothing more happens by {self._now}: {awaited!r}")
