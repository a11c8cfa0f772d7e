"""The heartbeat: a thread of its own, so that a busy event loop is not taken for dead."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from perdure.errors import PerdureError
from perdure.store import Store

logger = logging.getLogger("perdure")

SILENT_LEASES = 10
"""A loop that says nothing for so many leases is given up."""


class Heartbeat:
    """Renews one worker's lease until it is stopped, the worker is dead, or the loop has been silent for too long."""

    def __init__(
        self,
        store: Store,
        worker: int,
        epoch: int,
        lease: float,
        *,
        beaten: Callable[[int], None],
        dead: Callable[[], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._epoch = epoch
        self._lease = lease
        self._beaten = beaten
        self._dead = dead
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._seen = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"perdure-heartbeat-{worker}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Beat no more. Returns once the thread is out of the store."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=self._lease)

    def loop_is_alive(self) -> None:
        """Called by the event loop now and then."""
        self._seen = time.monotonic()

    def _run(self) -> None:
        asyncio.run(self._beat())

    async def _beat(self) -> None:
        pause = self._lease / 3
        while not self._stop.wait(pause):
            if time.monotonic() - self._seen > SILENT_LEASES * self._lease:
                return self._report_silence()
            try:
                alive, now = await self._store.heartbeat(self._worker, self._epoch, self._lease)
            except PerdureError as error:
                logger.debug("worker %s: no heartbeat: %s", self._worker, error)
                continue
            except Exception:  # whatever it is, the next beat may succeed; without one the lease runs out
                logger.exception("worker %s: no heartbeat", self._worker)
                continue
            if self._stop.is_set():
                return None
            if not alive:
                return self._tell(self._dead)
            self._tell(lambda now=now: self._beaten(now))  # type: ignore[misc]
        return None

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self._stop.set()  # the loop is closed

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
