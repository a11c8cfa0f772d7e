"""When the parked executions that this worker knows of are due."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from perdure.clock import Cancellable, Clock


class Wakeups:
    """Calls back once at each of many times. Only makes looks sooner: polling finds what is due as well."""

    def __init__(self, clock: Clock, due: Callable[[], None]) -> None:
        self._clock = clock
        self._due = due
        self._times: list[int] = []
        self._alarm: Cancellable | None = None
        self._alarm_at: int | None = None

    def add(self, when: int | None) -> None:
        """Call back at that time (microseconds), too."""
        if when is not None:
            heapq.heappush(self._times, when)
            self._arm()

    def close(self) -> None:
        """Call back no more."""
        self._times.clear()
        if self._alarm is not None:
            self._alarm.cancel()

    def _arm(self) -> None:
        if not self._times or (self._alarm_at is not None and self._alarm_at <= self._times[0]):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = self._times[0]
        self._alarm = self._clock.call_at(self._alarm_at, self._ring)

    def _ring(self) -> None:
        self._alarm = self._alarm_at = None
        now = self._clock.now()
        while self._times and self._times[0] <= now:
            heapq.heappop(self._times)
        self._due()
        self._arm()
