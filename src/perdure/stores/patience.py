"""Waiting for a lock that another process holds, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from perdure.clock import Clock
from perdure.errors import StoreUnavailableError

Result = TypeVar("Result")

PATIENCE = 20.0
"""Seconds that a verb waits for the lock of another process."""


class Busy(StoreUnavailableError):
    """Another process holds the store's lock; nothing was done. Try again after a short random pause."""


async def patiently(clock: Clock, work: Callable[[], Result], patience: float = PATIENCE) -> Result:
    """Do it, and while another process holds the lock, again, after pauses that grow from 1 to 10 ms."""
    pause, waited = 0.001, 0.0
    while True:
        try:
            return work()
        except Busy:
            if waited >= patience:
                raise
        seconds = pause * (0.5 + clock.jitter())
        await asyncio.sleep(seconds)  # of real time: a virtual clock does not move another process
        pause, waited = min(pause * 1.5, 0.01), waited + seconds
