"""Reaching a server that may be away: at most five tries a second, however many ask, and from whichever thread.

The first who comes tries, those who came meanwhile get its error.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from perdure.errors import PerdureError

Result = TypeVar("Result")

BETWEEN_TRIES = 0.2


class Pace:
    """The turns of all who try to reach one server, once a try has failed. For any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._last: float | None = None  # the turn that was given last, or the failure

    @property
    def is_slow(self) -> bool:
        """The last try failed."""
        return self._last is not None

    def turn(self) -> float:
        """Seconds to wait before the next try, which is then the caller's."""
        with self._guard:
            if self._last is None:
                return 0.0
            now = time.monotonic()
            self._last = max(now, self._last + BETWEEN_TRIES)
            return self._last - now

    def failed(self) -> None:
        with self._guard:
            self._last = self._last or time.monotonic()

    def reached(self) -> None:
        with self._guard:
            self._last = None


class Gate:
    """Lets one at a time of an event loop try. `errors`: what the driver raises; `in_words`: the same as Perdure's.

    It serves several loops: the thread of a heartbeat may not have ended when that of the next one begins.
    """

    def __init__(
        self, pace: Pace, errors: tuple[type[BaseException], ...], in_words: Callable[[BaseException], PerdureError]
    ) -> None:
        self._pace = pace
        self._errors = errors
        self._in_words = in_words
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._guard = threading.Lock()
        self._failed_at: float | None = None
        self._error: PerdureError | None = None

    async def attempt(self, reach: Callable[[], Awaitable[Result]]) -> Result:
        """Call `reach`, which connects. Raises what it raises, in Perdure's words."""
        if not self._pace.is_slow:
            return await self._try(reach)
        came = time.monotonic()
        async with self._lock():
            error = self._error
            if self._failed_at is not None and self._failed_at > came and error is not None:
                raise type(error)(str(error)) from error.__cause__
            await asyncio.sleep(self._pace.turn())
            return await self._try(reach)

    def _lock(self) -> asyncio.Lock:
        with self._guard:
            return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def _try(self, reach: Callable[[], Awaitable[Result]]) -> Result:
        try:
            result = await reach()
        except self._errors as error:
            self._error = self._in_words(error)
            self._failed_at = time.monotonic()
            self._pace.failed()
            raise self._error from error
        self._pace.reached()
        self._failed_at = self._error = None
        return result
