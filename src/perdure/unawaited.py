"""A durable call that was made and never awaited: Python's own warning, with the call's key and the line.

Python finds such a coroutine when it is thrown away, and then warns of a `durable_call` that no user has ever written.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from perdure.loop import WorkflowLoop
from perdure.places import is_users
from perdure.sequencer import durable_call

_warn: Callable[[Any], None] | None = getattr(warnings, "_warn_unawaited_coroutine", None)


def name_unawaited_calls() -> None:
    """Have calls that were never awaited be named. Without an effect where Python has no such hook."""
    if _warn is not None:
        warnings._warn_unawaited_coroutine = _named  # type: ignore[attr-defined]


def _named(coroutine: Any) -> None:
    call = None
    if getattr(coroutine, "cr_code", None) is durable_call.__code__ and coroutine.cr_frame is not None:
        call = coroutine.cr_frame.f_locals.get("call")
    if call is None:
        assert _warn is not None
        return _warn(coroutine)
    if call.sequencer.closing and not call.sequencer.ending:  # its frame was closed: it may have been awaited later
        return None
    words = f"{call.key} was called and never awaited, so it did not run: write `await {call.spec.name}(...)`"
    place = _place() or _workflow(call)
    if place is None:
        return warnings.warn(words, RuntimeWarning, stacklevel=2)
    return warnings.warn_explicit(words, RuntimeWarning, *place)


def _place() -> tuple[str, int] | None:
    """Where the call was thrown away, if workflow code runs just now: mostly the line of the call itself."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code is not WorkflowLoop.run.__code__:
        if is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def _workflow(call: Any) -> tuple[str, int] | None:
    """Where the workflow's function begins, for a call that was kept until its end."""
    main = getattr(call.sequencer, "main", None)
    code = None if main is None else getattr(main.get_coro(), "cr_code", None)
    return None if code is None else (code.co_filename, code.co_firstlineno)
