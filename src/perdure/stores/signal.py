"""A hint to everybody in this process who waits for something to change. It may be lost: polling is the truth."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from perdure.clock import SECOND, Clock


class Signal:
    """Wakes its waiters, whichever event loops they run on."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def fire(self) -> None:
        """Wake all who wait now. Called on an event loop's thread or on none."""
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, []
        here = asyncio._get_running_loop()
        for loop, event in waiters:
            if loop is here:
                event.set()
            else:
                with suppress(RuntimeError):  # a loop that was closed has nobody left to wake
                    loop.call_soon_threadsafe(event.set)

    async def wait(self, clock: Clock, timeout: float) -> bool:
        """Return at the next `fire` (True), at the latest after `timeout` seconds of the clock (False)."""
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        self._waiters.append(waiter)
        alarm = clock.call_at(clock.now() + round(timeout * SECOND), event.set, lazily=True)
        try:
            await event.wait()
        finally:
            alarm.cancel()
            fired = waiter not in self._waiters
            if not fired:
                self._waiters.remove(waiter)
        return fired
