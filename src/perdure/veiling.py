"""Errors as they are recorded where something is hidden: the texts of secrets are `***` wherever they stand.

A body has in its hands what its input hides, and may put it into any message. So the texts are looked for: in what was
hidden of the input, and in the variables of the user's code that the error came through, as a picture shows them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from types import CodeType
from typing import Any

from perdure.codec import encode_error
from perdure.places import is_standard, is_users
from perdure.redaction import Redaction
from perdure.tags import dump
from perdure.variables import Shown

_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


def told(redaction: Redaction | None, error: BaseException, function: Any, text: str | None, *, counts: bool) -> str:
    """An error as it is recorded. `function`, `text`: what was called with which recorded input.

    Of one that `counts` (an outcome, which replay raises again) only the traceback is changed.
    """
    if redaction is None:
        return encode_error(error)
    try:
        found = _hidden(redaction, error, function, text)
    except Exception:  # a traceback like none that Python makes
        found = set() if text is None else redaction.concealed(text)
    return encode_error(error, _spelled(found), counts=counts)


def _hidden(redaction: Redaction, error: BaseException, function: Any, text: str | None) -> set[str]:
    shown = Shown(redaction)
    own = getattr(inspect.unwrap(function), "__code__", None)
    for frame in _frames(error, own):
        shown.look(frame.f_locals.items())
    return shown.hidden if text is None else shown.hidden | redaction.concealed(text)


def _frames(error: BaseException, own: CodeType | None) -> Iterator[Any]:
    """The frames of the user's code in the traceback of an error, and of all that it tells of."""
    left, seen = [error], set()
    while left:
        error = left.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        left += [each for each in (error.__cause__, error.__context__) if each is not None]
        if isinstance(error, BaseExceptionGroup):
            left += error.exceptions
        traceback = error.__traceback__
        while traceback is not None:
            code = traceback.tb_frame.f_code
            if code is own or _is_written_here(code.co_filename):
                yield traceback.tb_frame
            traceback = traceback.tb_next


def _is_written_here(path: str) -> bool:
    """Not a library's: what its variables are called says nothing of whether they are secret."""
    return is_users(path) and not is_standard(path) and not any(part in path for part in _INSTALLED)


def _spelled(found: set[str]) -> set[str]:
    """These texts, and how they are spelled inside the `repr` of a text and inside JSON."""
    return {spelled for text in found for spelled in (text, repr(text)[1:-1], dump(text)[1:-1])}
