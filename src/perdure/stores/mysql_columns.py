"""Values to the text of statements. What is sent at once stands in one packet, so values are literals in it.

The driver's own way (a cursor's arguments) makes a tuple of every row and a literal of every value twice over; the hot
path makes 17 values for each step. Sessions have `sql_mode` set, so that a backslash always escapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from asyncmy.converters import escape_string

from perdure.records import AuditEvent, DecisionRow, Entry, Execution, Request, RollbackAction, Schedule, Snapshot
from perdure.stores.naming import Names, load_statements
from perdure.stores.timestamps import to_text

PARTS = (
    "mysql",
    "mysql_checks",
    "mysql_claims",
    "mysql_commits",
    "mysql_lists",
    "mysql_moves",
    "mysql_outbox",
    "mysql_presence",
    "mysql_reads",
    "mysql_tallies",
)


Record = Execution | Request | Schedule | DecisionRow | AuditEvent | RollbackAction | Snapshot


class Rows(list[str]):
    """What `pack_rows` and `pack_entries` gave: literals already."""


class Statements:
    """The named statements of a store, with its names of tables."""

    __slots__ = ("named",)

    def __init__(self, names: Names) -> None:
        self.named = load_statements(PARTS, names)

    def __getitem__(self, name: str) -> str:
        return self.named[name]

    def fill(self, name: str, /, **values: object) -> str:
        """A named statement with its values."""
        return filled(self.named[name], **values)


def filled(statement: str, /, **values: object) -> str:
    """A statement with its values."""
    return statement % {key: literal(value) for key, value in values.items()}


def literal(value: object) -> str:
    """As it stands in a statement; a sequence as a list in parentheses, which may not be empty."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"'{escape_string(value)}'"
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, Rows):
        return ",".join(value)
    if isinstance(value, Sequence) and value:
        return f"({','.join(map(literal, value))})"
    raise TypeError(f"no literal of {type(value).__name__}")


def some(values: Iterable[object], none: object = "") -> list[object]:
    """For `in`, which cannot take an empty list: then one value that nothing has."""
    return list(values) or [none]


def time(micros: int) -> str:
    """A timestamp as the tables have it, without the Z that servers refuse."""
    return to_text(micros)[:-1]


def time_or_null(micros: int | None) -> str | None:
    return None if micros is None else time(micros)


def pack_entries(entries: Sequence[Entry], first_fence: str | None = None) -> Rows:
    """Rows of `step_executions`. `first_fence`: a subquery in the place of the first one's fence."""
    rows = Rows(map(_entry, entries))
    if first_fence is not None:
        rows[0] = _entry(entries[0], first_fence)
    return rows


def _entry(entry: Entry, fence: str | None = None) -> str:
    text = escape_string
    parent = "null" if entry.parent_key is None else f"'{text(entry.parent_key)}'"
    input = "null" if entry.input is None else f"'{text(entry.input)}'"
    output = "null" if entry.output is None else f"'{text(entry.output)}'"
    error = "null" if entry.error is None else f"'{text(entry.error)}'"
    return (
        f"('{text(entry.execution_id)}',{entry.seq},{entry.generation},'{text(entry.key)}','{text(entry.kind)}',"
        f"'{text(entry.status)}',{entry.attempt},{entry.fence if fence is None else fence},{parent},{input},{output},"
        f"{error},'{text(entry.encoding)}',{entry.checksum},'{text(entry.build)}','{to_text(entry.started_at)[:-1]}',"
        f"'{to_text(entry.completed_at)[:-1]}')"
    )


_FIELDS = {
    kind: tuple((field.name, field.name.endswith("_at")) for field in fields(kind))
    for kind in (Execution, Request, Schedule, DecisionRow, AuditEvent, RollbackAction, Snapshot)
}


def pack_rows(records: Sequence[Any]) -> Rows:
    """Rows with all fields of these records, in their order."""
    return Rows(f"({','.join(map(literal, values(record).values()))})" for record in records)


def values(record: Record) -> dict[str, Any]:
    """The fields of a record, times as text."""
    return {
        name: time_or_null(getattr(record, name)) if is_time else getattr(record, name)
        for name, is_time in _FIELDS[type(record)]
    }
