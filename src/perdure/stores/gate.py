"""Reaching a server that may be away: at most five tries a second, however many ask.

The first who comes tries, those who came meanwhile get its error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from perdure.errors import PerdureError

Result = TypeVar("Result")

BETWEEN_TRIES = 0.2


class Gate:
    """Paces attempts, once one has failed. `errors`: what the driver raises; `in_words`: the same as Perdure's."""

    def __init__(
        self, errors: tuple[type[BaseException], ...], in_words: Callable[[BaseException], PerdureError]
    ) -> None:
        self._errors = errors
        self._in_words = in_words
        self._lock = asyncio.Lock()
        self._failed_at: float | None = None
        self._error: PerdureError | None = None

    async def attempt(self, reach: Callable[[], Awaitable[Result]]) -> Result:
        """Call `reach`, which connects. Raises what it raises, in Perdure's words."""
        if self._failed_at is None:
            return await self._try(reach)
        came = time.monotonic()
        async with self._lock:
            if self._failed_at is not None:
                if self._failed_at > came and self._error is not None:
                    raise type(self._error)(str(self._error)) from self._error.__cause__
                await asyncio.sleep(max(0.0, self._failed_at + BETWEEN_TRIES - time.monotonic()))
            return await self._try(reach)

    async def _try(self, reach: Callable[[], Awaitable[Result]]) -> Result:
        try:
            result = await reach()
        except self._errors as error:
            self._error = self._in_words(error)
            self._failed_at = time.monotonic()
            raise self._error from error
        self._failed_at = self._error = None
        return result
