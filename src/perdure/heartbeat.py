"""The heartbeat: a thread of its own, so that a busy event loop is not taken for dead.

What shows at once that a worker lives, its presence, is kept there too.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from perdure.errors import PerdureError
from perdure.store import Store

logger = logging.getLogger("perdure")

SETTLING = 2.0
"""Seconds that a worker waits for its presence before it begins without."""

BEATS = 3
"""In each lease."""

LATE_BEAT = 0.25
"""Seconds between two beats once the lease may be over: nothing goes on until it is known to be renewed."""

SILENT_LEASES = 10
"""A loop that says nothing for so many leases is given up, until it says something again."""


class Heartbeat:
    """Renews one worker's lease, and attends, until it is stopped or the worker is dead.

    The lease is not renewed while the loop is silent too long.

    `beaten`, `dead` and `seen` (there may be new suspects) are called on the event loop that made this. `since`: when
    the worker was about to register (`time.monotonic`).
    """

    def __init__(
        self,
        store: Store,
        worker: int,
        epoch: int,
        lease: float,
        *,
        since: float,
        beaten: Callable[[int], None],
        dead: Callable[[], None],
        seen: Callable[[], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._epoch = epoch
        self._lease = lease
        self._lasts_until = since + lease
        self._beaten = beaten
        self._dead = dead
        self._seen_deaths = seen
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._unanswered = 0  # asks of the loop, not seconds: who is stopped or suspended does not ask either
        self._settled = asyncio.Event()
        self._over = False
        self._own: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None  # the thread's loop, and its end
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"perdure-heartbeat-{worker}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def settle(self) -> None:
        """Return once it is sure how the worker's death would show; at the latest after a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLING):
                await self._settled.wait()

    def hush(self) -> None:
        """Say nothing more: the worker is leaving. Its lock is held until the `stop`."""
        self._over = True

    def quit(self) -> None:
        """Beat and attend no more. Does not wait."""
        with self._guard:
            self._over = True
            if self._own is not None and not self._own[0].is_closed():
                self._own[0].call_soon_threadsafe(self._own[1].set)

    def stop(self) -> None:
        """Beat and attend no more. Returns once the thread is out of the store."""
        self.quit()
        if self._thread.ident is not None:
            self._thread.join(timeout=self._lease)

    def is_late(self) -> bool:
        """Has the lease run out, for all that is known here? Then others may go on with what this worker ran."""
        return monotonic() > self._lasts_until

    def loop_is_alive(self) -> None:
        """Called on the event loop, which runs."""
        self._unanswered = 0

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        over = asyncio.Event()
        with self._guard:
            self._own = asyncio.get_running_loop(), over
            if self._over:
                return
        attending = asyncio.create_task(self._attend())
        try:
            await self._beat(over)
        finally:
            attending.cancel()
            await asyncio.wait([attending])
            with self._guard:
                self._own = None

    async def _attend(self) -> None:
        try:
            await self._store.attend(
                self._worker,
                self._epoch,
                settled=lambda: self._tell(self._settled.set),
                seen=lambda: self._tell(self._seen_deaths),
                gone=lambda: self._tell(self._dead),
            )
        except Exception:  # without presence its lease tells that it lives
            logger.exception("worker %s: its death would show by its lease alone", self._worker)
            self._tell(self._settled.set)

    async def _beat(self, over: asyncio.Event) -> None:
        regular = self._lease / BEATS
        reported = False
        while not await _happens(over, min(regular, LATE_BEAT) if self.is_late() else regular):
            self._tell(self.loop_is_alive)
            self._unanswered += not self.is_late()
            silent = self._unanswered > BEATS * SILENT_LEASES
            if silent and not reported:
                self._report_silence()
            reported = silent
            if silent:
                continue
            asked = monotonic()
            try:
                alive, now = await self._store.heartbeat(self._worker, self._epoch, self._lease)
            except PerdureError as error:
                logger.debug("worker %s: no heartbeat: %s", self._worker, error)
                continue
            except Exception:  # whatever it is, the next beat may succeed; without one the lease runs out
                logger.exception("worker %s: no heartbeat", self._worker)
                continue
            if not alive:
                return self._tell(self._dead)
            self._lasts_until = asked + self._lease
            self._tell(lambda now=now: self._beaten(now))  # type: ignore[misc]
        return None

    def _tell(self, callback: Callable[[], None]) -> None:
        if self._over:
            return
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self._over = True  # the loop is closed
            if self._own is not None:
                self._own[1].set()

    def _report_silence(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"
        logger.critical(
            "worker %s: its event loop has been silent for %s leases of %s s; it will be taken over:\n%s",
            self._worker,
            SILENT_LEASES,
            self._lease,
            stack,
        )


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for it, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
