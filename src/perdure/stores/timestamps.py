"""Timestamps as text, "2026-11-21T20:33:00.123456Z": exact, and in the order of time as text is ordered.

Outside they are integers, microseconds since 1970. The hot path writes two for each step, mostly within one
second, so the part up to the second is kept.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from perdure.clock import SECOND, from_datetime, to_datetime


@lru_cache(maxsize=4096)
def _prefix(second: int) -> str:
    return to_datetime(second * SECOND).isoformat()[:19] + "."


@lru_cache(maxsize=4096)
def _second(prefix: str) -> int:
    second = from_datetime(datetime.fromisoformat(prefix))
    if _prefix(second // SECOND) != f"{prefix}.":
        raise ValueError(f"{prefix!r} is no beginning of a timestamp of this schema")
    return second


def to_text(when: int) -> str:
    """Microseconds since 1970 as text."""
    second = when // SECOND
    return _prefix(second) + str(when - second * SECOND + SECOND)[1:] + "Z"  # twice as fast as a format with :06d


def from_text(text: str) -> int:
    """The inverse of `to_text`. Raises ValueError for anything else."""
    if len(text) != 27 or text[19] != "." or text[26] != "Z" or not (text.isascii() and text[20:26].isdigit()):
        raise ValueError(f"{text!r:.100} is no timestamp of this schema")
    return _second(text[:19]) + int(text[20:26])


def to_text_or_null(when: int | None) -> str | None:
    return None if when is None else to_text(when)


def from_text_or_null(text: str | None) -> int | None:
    return None if text is None else from_text(text)
