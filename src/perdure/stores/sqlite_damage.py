"""Rows of SQLite in which something stands that no verb put there: its columns take any value, whatever their type.

Such a row is read all the same, with harmless values in place of what cannot be read: so it is in nobody's way, in a
list or a claim. Its checksum is one that fits nothing, so that an execution of this kind is blocked, and never runs.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import Field, fields
from functools import cache, lru_cache
from typing import Any

from perdure.records import Status
from perdure.stores.timestamps import from_text, to_text

log = logging.getLogger("perdure.stores.sqlite")

DAMAGED = -1
"""The checksum of what cannot be read."""

_FIRST = from_text("0001-01-01T00:00:00.000000Z")
_TIMES = range(_FIRST, from_text("9999-12-31T23:59:59.999999Z") + 1)


def time_of(cell: Any) -> int:
    """The time that a cell holds, or, where it holds none, the latest one whose text is not behind it.

    So whatever is ordered or due by SQL is so here.
    """
    if not isinstance(cell, str):
        return _FIRST
    try:
        return from_text(cell)
    except ValueError:
        return max(_FIRST, _TIMES[bisect_left(_TIMES, cell, key=to_text) - 1])


def time_or_null(cell: Any) -> int | None:
    return None if cell is None else time_of(cell)


def is_time(cell: Any) -> bool:
    """Does it hold a time as the library writes it?"""
    return isinstance(cell, str) and to_text(time_of(cell)) == cell


def mend(kind: type[Any], values: list[Any], times: Sequence[int]) -> bool:
    """Replace what cannot be read among a row's cells, in the order of the record's fields, and say so in the log.

    False, and nothing is changed, if all can be read.
    """
    culprits = []
    for at, (name, sort, otherwise) in enumerate(_columns(fields(kind))):
        cell = values[at]
        if at in times:
            values[at] = time_or_null(cell)
            sound = cell is None or is_time(cell)
        else:
            sound = isinstance(cell, sort)
            if not sound:
                values[at] = otherwise
        if not sound:
            culprits.append(name)
    if culprits:
        _tell(kind.__name__, str(values[0]), ", ".join(culprits))
    return bool(culprits)


@cache
def _columns(of: tuple[Field[Any], ...]) -> list[tuple[str, Any, Any]]:
    """Of each field: its name, the class of its cell, and what stands in for others."""
    return [(field.name, *_sort(field)) for field in of]


def _sort(field: Field[Any]) -> tuple[Any, Any]:
    match str(field.type):
        case "int" | "bool":
            return int, 1 if field.name == "paused" else 0
        case "str":
            return str, ""
        case "Status":
            return str, Status.BLOCKED.value
        case "int | None":
            return int | None, None
        case _:
            return str | None, None


@lru_cache(maxsize=1024)
def _tell(kind: str, which: str, columns: str) -> None:
    log.warning("the %s %.200r is damaged: %s cannot be read; it is not used", kind, which, columns)
