"""Ctrl-C and SIGTERM: the first asks the command to leave in order, the second ends the process at once.

That is safe: whatever is not recorded runs again elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruption() -> Iterator[asyncio.Future[int]]:
    """In this block a signal does nothing but resolve the future, with its number; a second one ends the process."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()
    came = False

    def note(number: int) -> None:
        if not asked.done():
            asked.set_result(number)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + number)
        came = True
        loop.call_soon_threadsafe(note, number)

    # Not the loop's own way: a loop that user code keeps busy could not be interrupted then.
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def unless(interrupted: asyncio.Future[int], work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work; None if it was interrupted first: then it is cancelled."""
    task = asyncio.ensure_future(work)
    waited: list[asyncio.Future[Any]] = [task, interrupted]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait([task])
    return None
