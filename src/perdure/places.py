"""Where workflow code stands: files and lines of its tasks, for messages to people."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.loop import WorkflowTask
    from perdure.sequencer import Sequencer

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep
_STANDARD = os.path.dirname(_ASYNCIO.rstrip(os.sep)) + os.sep
_CONTEXTLIB = os.path.join(os.path.dirname(_ASYNCIO.rstrip(os.sep)), "contextlib.py")


_HOLDERS = frozenset({"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"})
"""What stands between a frame and the one that it awaits, and does not say which that is."""


def frames_of(awaitable: Any) -> Iterator[Any]:
    """The frames of an awaitable, outermost first, as far as the interpreter shows them. Runs no code of the user's."""
    while awaitable is not None:
        kind: Any = type(awaitable)
        frame: Any = None
        if kind is CoroutineType:
            frame, awaitable = awaitable.cr_frame, awaitable.cr_await
        elif kind is AsyncGeneratorType:
            frame, awaitable = awaitable.ag_frame, awaitable.ag_await
        elif kind is GeneratorType:
            frame, awaitable = awaitable.gi_frame, awaitable.gi_yieldfrom
        elif kind.__name__ in _HOLDERS:  # the collector is told what these hold
            awaitable = next((each for each in gc.get_referents(awaitable) if _leads_on(type(each))), None)
        else:
            return
        if frame is not None:
            yield frame


def _leads_on(kind: Any) -> bool:
    return kind in (AsyncGeneratorType, CoroutineType) or kind.__name__ in _HOLDERS


def is_users(path: str) -> bool:
    """Is this a file of the user's, neither Perdure's nor asyncio's?"""
    return not path.startswith((_OWN, _ASYNCIO)) and path != _CONTEXTLIB


def is_standard(path: str) -> bool:
    """Is this a file of Python's own library, or installed beside it?"""
    return path.startswith(_STANDARD)


def _locate(task: WorkflowTask) -> tuple[str, str | None]:
    """(file:line of the innermost frame of the user's, key of the durable call it awaits)."""
    place, key = "an unknown place", None
    for frame in frames_of(task.get_coro()):
        code = frame.f_code
        if is_users(code.co_filename):
            place = f"{code.co_filename}:{frame.f_lineno}"
        elif code.co_name == "drive":  # a plain function, in a thread of its own
            place = _in_thread(frame.f_locals.get("thread")) or place
        elif code.co_name == "durable_call":
            call = frame.f_locals.get("call")
            key = call.key if call is not None else None
    return place, key


def _in_thread(baton: Any) -> str | None:
    """`file:line` of the innermost frame of the user's in a workflow's thread."""
    frames = frames_in_thread(baton)
    return f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else None


def frames_in_thread(baton: Any) -> list[Any]:
    """The user's frames in a workflow's thread, outermost first."""
    frame: Any = sys._current_frames().get(baton.thread.ident) if baton is not None else None
    found = []
    while frame is not None:
        if is_users(frame.f_code.co_filename) and not is_standard(frame.f_code.co_filename):
            found.append(frame)
        frame = frame.f_back
    return found[::-1]


def place_of(task: WorkflowTask) -> str:
    """`file:line` where a task stands."""
    return _locate(task)[0]


def places(sequencer: Sequencer) -> list[str]:
    """`file:line` of every task that has not ended."""
    return [place_of(task) for task in [sequencer.main, *sequencer.loop.tasks.values()] if not task.done()]


def open_calls(sequencer: Sequencer) -> dict[str, str]:
    """Key of each open call, and `file:line` of the code that awaits it."""
    found: dict[str, str] = {}
    others: dict[str, None] = {}  # where tasks await something else: a timer has no frame of its own
    for task in [sequencer.main, *sequencer.loop.tasks.values()]:
        if not task.done():
            place, key = _locate(task)
            if key is not None:
                found[key] = place
            else:
                others[place] = None
    for key in [*sequencer.open, *sequencer.timers]:
        found.setdefault(key, " or ".join(others) or "an unknown place")
    return found


def describe(sequencer: Sequencer) -> str:
    """The open calls in words: `refund#1 (orders.py:41), timer#2 (orders.py:50)`."""
    return ", ".join(f"{key} ({place})" for key, place in open_calls(sequencer).items())
