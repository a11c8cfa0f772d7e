"""Who watches whom, and when what is seen of a lock counts as a death. Pure: no I/O, no clock.

Each worker waits for the lock of the next one, so that a death wakes one worker at once, and one only. What a lock says
is believed on the second look: a session may have been cut, and its worker, who lives, opens it again at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

GAP = 0.3
"""Seconds between two looks that both must find a lock free."""

MISTRUST = 3.0
"""Seconds for which who was cut off itself believes no lock: the others may have been cut off with it."""


def neighbour(me: int, ring: Iterable[int]) -> int | None:
    """The next of these workers by id; behind the last one comes the first. None: there is no other.

    >>> neighbour(4, [1, 4, 9]), neighbour(9, [1, 4, 9]), neighbour(1, [1])
    (9, 1, None)
    """
    others = [other for other in ring if other != me]
    return min((other for other in others if other > me), default=min(others, default=None))


class Sightings:
    """Since when which locks are seen free. Any thread may look."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._believes_from = 0.0
        self._guard = threading.Lock()

    def see(self, free: Iterable[int], now: float) -> list[int]:
        """All locks were looked at, and these are free. Gives those of them that were so a `GAP` ago already."""
        with self._guard:
            if now < self._believes_from:
                self._since.clear()
                return []
            self._since = {worker: self._since.get(worker, now) for worker in free}
            return sorted(worker for worker, since in self._since.items() if now - since >= GAP)

    def is_unsure(self) -> bool:
        """Is there a lock that was seen free, and is to be looked at once more?"""
        return bool(self._since)

    def doubt(self, now: float) -> None:
        """The own session was lost: what was seen through it counts for nothing, nor what is seen soon."""
        with self._guard:
            self._since.clear()
            self._believes_from = now + MISTRUST
