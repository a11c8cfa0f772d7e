"""A query as the conditions that it asks for, and no others: only then does a database know which index helps.

Each is a named piece of SQL in `queries/*_lists.sql`. Some say what follows from another, in the words of an index.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from perdure.records import Query, Status

COMMON = frozenset({Status.RUNNING, Status.COMPLETED})
"""Statuses of most executions: those of the others have an index of their own."""

USUAL_QUEUE = "default"


def conditions(query: Query, *, implied: bool = True) -> list[str]:
    """The names of the conditions, apart from the place in the list.

    `implied`: also those that follow from others. A database that proves them itself would count them twice.
    """
    statuses = set(query.status)
    wanted = {
        "status": len(statuses) > 1,
        "one_status": len(statuses) == 1,
        "seldom": implied and bool(statuses) and not statuses & COMMON,
        "owned": statuses == {Status.RUNNING},
        "workflow": query.workflow is not None,
        "version": query.version is not None,
        "parent": query.parent is not None,
        "by": query.by is not None,
        "prefix": bool(query.id_prefix),
        "prefix_end": bool(query.id_prefix) and successor(query.id_prefix or "") is not None,
        "since": query.since is not None,
        "until": query.until is not None,
        "queue": query.queue is not None,
        "other_queue": implied and query.queue is not None and query.queue != USUAL_QUEUE,
        "attributes": bool(query.attributes),
        "text": query.text is not None,
        "ended_before": query.ended_before is not None,
    }
    return [f"where_{name}" for name, asked in wanted.items() if asked]


def page_name(query: Query, *, by_end: bool) -> str:
    """The statement that gives a page. `by_end`: there is one for what is found by the time of its end."""
    order = "oldest" if query.order == "oldest" else "newest"
    return f"list_ended_{order}" if by_end and query.ended_before is not None else f"list_{order}"


def composed(sql: Mapping[str, str], name: str, names: Sequence[str]) -> str:
    """A named statement with its conditions."""
    return sql[name].replace("{conditions}", "\n    ".join(f"and {sql[condition]}" for condition in names))


def numbered(statement: str, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """A statement with `:name` in it as one with $1, $2 ..., and its values in that order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"(?<!:):(\w+)", number, statement)
    return text, [values[name] for name in names]


def successor(prefix: str) -> str | None:
    """The first text, by code points, behind all that begin with this one; None if there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[at]) + 1
        if point <= 0x10FFFF:
            return prefix[:at] + chr(0xE000 if 0xD800 <= point <= 0xDFFF else point)
    return None
