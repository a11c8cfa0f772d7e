"""The heartbeat: a thread of its own, so that a busy event loop is not taken for dead."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable

from perdure.errors import PerdureError
from perdure.store import Store

logger = logging.getLogger("perdure")

BEATS = 3
"""In each lease."""

SILENT_LEASES = 10
"""A loop that says nothing for so many leases is given up, until it says something again."""


class Heartbeat:
    """Renews one worker's lease until it is stopped or the worker is dead; not while the loop is silent too long."""

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
        self._unanswered = 0  # asks of the loop, not seconds: who is stopped or suspended does not ask either
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
        """Called on the event loop, which runs."""
        self._unanswered = 0

    def _run(self) -> None:
        asyncio.run(self._beat())

    async def _beat(self) -> None:
        while not self._stop.wait(self._lease / BEATS):
            self._tell(self.loop_is_alive)
            self._unanswered += 1
            if self._unanswered > BEATS * SILENT_LEASES:
                if self._unanswered == BEATS * SILENT_LEASES + 1:
                    self._report_silence()
                continue
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
