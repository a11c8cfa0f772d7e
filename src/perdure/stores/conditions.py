"""A query as the conditions that it asks for, and no others: only then does a database know which index helps.

Each is a named piece of SQL in `queries/*_lists.sql`. Some say what follows from another, in the words of an index.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from perdure.records import Query, Status

COMMON = frozenset({Status.RUNNING, Status.COMPLETED})
"""Statuses of most executions: those of the others have an index of their own."""

USUAL_QUEUE = "default"


def conditions(query: Query, *, implied: bool = True, wide: Collection[str] = ()) -> list[str]:
    """The names of the conditions, apart from the place in the list.

    `implied`: also those that follow from others. A database that proves them itself would count them twice.
    `wide`: those that so many executions meet that their index is of no use, if it can be told.
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
        "prefix": bool(query.id_prefix) and "prefix" not in wide,
        "wide_prefix": bool(query.id_prefix) and "prefix" in wide,
        "prefix_end": bool(query.id_prefix) and successor(query.id_prefix or "") is not None,
        "since": query.since is not None,
        "until": query.until is not None,
        "queue": query.queue is not None and query.queue != USUAL_QUEUE,
        "usual_queue": query.queue == USUAL_QUEUE,
        "other_queue": implied and query.queue is not None and query.queue != USUAL_QUEUE,
        "attributes": bool(query.attributes) and "attributes" not in wide,
        "wide_attributes": bool(query.attributes) and "attributes" in wide,
        "text": query.text is not None,
        "ended_before": query.ended_before is not None,
    }
    return [f"where_{name}" for name, asked in wanted.items() if asked]


def page_name(query: Query, *, by_end: bool) -> str:
    """The statement that gives a page. `by_end`: by the time of their end, whatever their age."""
    order = "oldest" if query.order == "oldest" else "newest"
    return f"list_ended_{order}" if by_end else f"list_{order}"


def of_prefix(query: Query) -> list[str]:
    """The names of the conditions for the beginning of the id alone."""
    return conditions(Query(id_prefix=query.id_prefix))


def is_tallied(query: Query) -> bool:
    """Whether it asks for nothing but workflow, version, queue and status: of what has ended, that is kept counted."""
    return query == Query(
        status=query.status, workflow=query.workflow, version=query.version, queue=query.queue, order=query.order
    )


def tallied(query: Query) -> list[str]:
    """The names of the conditions for what is kept counted, and for what has not ended."""
    wanted = {
        "status": bool(query.status),
        "workflow": query.workflow is not None,
        "version": query.version is not None,
        "queue": query.queue is not None,
    }
    return [f"tallied_{name}" for name, asked in wanted.items() if asked]


def composed(sql: Mapping[str, str], name: str, names: Sequence[str], compared: Sequence[str] = ()) -> str:
    """A named statement with its conditions, and with those that it only compares with what it looks at."""
    text = sql[name].replace("{conditions}", "\n    ".join(f"and {sql[condition]}" for condition in names))
    return text.replace("{compared}", "\n            ".join(f"and {sql[condition]}" for condition in compared))


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
