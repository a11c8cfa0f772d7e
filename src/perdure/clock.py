"""Time, ids and randomness: passed in, never taken.

All times inside Perdure are integers, microseconds since 1970 UTC, of *the store's* clock. They
become `datetime` at the public face and timestamps in the tables.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Duration = timedelta | float | int


class Cancellable(Protocol):
    """What `Clock.call_at` gives back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The time of one store. `SystemClock` is the real one, `perdure.testing.Clock` a virtual one."""

    def now(self) -> int:
        """The store's time in microseconds since 1970. Never ahead of it."""
        ...

    def call_at(self, when: int, callback: Callable[[], None], *, lazily: bool = False) -> Cancellable:
        """Call back on the running event loop once `now() >= when`.

        `lazily`: a regular look that only makes things sooner; virtual time may leave some of them out.
        """
        ...

    async def sleep(self, seconds: float, *, lazily: bool = False) -> None:
        """Wait for a number of seconds."""
        ...

    def sync(self, server_now: int) -> None:
        """The store's server has just said what time it is there."""
        ...

    def random_bytes(self, n: int) -> bytes:
        """For ids and tokens."""
        ...

    def jitter(self) -> float:
        """A number in [0, 1)."""
        ...


class SystemClock:
    """The process's own clock; once a server told its time, that time carried on monotonically."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None  # where alarms ring; the running one if it is not set
        self._offset: int | None = None
        self._random = random.Random()

    def now(self) -> int:
        if self._offset is None:
            return time.time_ns() // 1000
        return time.monotonic_ns() // 1000 + self._offset

    def sync(self, server_now: int) -> None:
        # The answer is older than its arrival, so this is at most the server's time, never ahead of it.
        self._offset = server_now - time.monotonic_ns() // 1000

    def call_at(self, when: int, callback: Callable[[], None], *, lazily: bool = False) -> Cancellable:
        delay = max(0.0, (when - self.now()) / SECOND)
        return (self.loop or asyncio.get_running_loop()).call_later(delay, callback)

    async def sleep(self, seconds: float, *, lazily: bool = False) -> None:
        await asyncio.sleep(seconds)

    def random_bytes(self, n: int) -> bytes:
        return os.urandom(n)

    def jitter(self) -> float:
        return self._random.random()


FOR_EVER = 240_000_000_000
"""Seconds: what is longer is as good as never, and every database can still add it to today."""


def bounded(seconds: float) -> float:
    """A number of seconds that every store can keep: infinity becomes some thousand years. NaN is a ValueError."""
    if seconds != seconds:
        raise ValueError("a duration that is not a number (NaN)")
    return max(-FOR_EVER, min(seconds, FOR_EVER))


def micros(duration: Duration) -> int:
    """A timedelta, or seconds, as microseconds; at most some thousand years. Raises ValueError for NaN."""
    if not isinstance(duration, timedelta | float | int):
        raise TypeError(f"a duration is a number of seconds or a timedelta, not {duration!r}")
    return round(bounded(duration.total_seconds() if isinstance(duration, timedelta) else duration) * SECOND)


def to_datetime(when: int) -> datetime:
    """Microseconds since 1970 as an aware datetime in UTC. Exact."""
    return EPOCH + timedelta(microseconds=when)


def from_datetime(when: datetime) -> int:
    """An aware datetime (a naive one is taken as UTC) as microseconds since 1970."""
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - EPOCH) // timedelta(microseconds=1)


def new_id(clock: Clock) -> str:
    """A UUIDv7: ids that grow with time keep the tables' indexes dense."""
    milliseconds = clock.now() // 1000
    tail = int.from_bytes(clock.random_bytes(10), "big")
    value = (
        (milliseconds & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (tail >> 68 & 0xFFF) << 64
        | 0b10 << 62
        | tail & (1 << 62) - 1
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
