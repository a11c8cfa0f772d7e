"""Rows of a database with real timestamps, back to records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, TypeVar

from perdure.clock import from_datetime
from perdure.records import (
    AuditEvent,
    DecisionRow,
    Entry,
    Execution,
    Message,
    Request,
    RollbackAction,
    Schedule,
    Snapshot,
    Status,
    WorkerRecord,
)

Record = TypeVar(
    "Record",
    Execution,
    Request,
    Message,
    WorkerRecord,
    Schedule,
    DecisionRow,
    AuditEvent,
    RollbackAction,
    Snapshot,
)

_KINDS = (
    Execution,
    Request,
    Message,
    WorkerRecord,
    Schedule,
    DecisionRow,
    AuditEvent,
    RollbackAction,
    Snapshot,
)
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}
_TIMES = {
    kind: tuple(at for at, name in enumerate(names) if name.endswith("_at") or name == "lease_until")
    for kind, names in _FIELDS.items()
}
_PICK: dict[type, Callable[[Any], Any]] = {kind: itemgetter(*names) for kind, names in _FIELDS.items()}


PART = 1000, 1_000_000
"""Of a journal that is written as one: entries, and characters of their texts, in one statement, about."""


def parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """A journal in pieces that fit into a statement, as far as single entries do."""
    first = size = 0
    for n, entry in enumerate(entries):
        more = sum(len(text) for text in (entry.input, entry.output, entry.error) if text is not None)
        if n > first and (n - first >= PART[0] or size + more > PART[1]):
            yield entries[first:n]
            first, size = n, 0
        size += more
    if first < len(entries):
        yield entries[first:]


def read_entries(rows: Iterable[Any]) -> list[Entry]:
    """Rows in the order of the fields."""
    return [Entry._make((*row[:15], from_datetime(row[15]), from_datetime(row[16]))) for row in map(tuple, rows)]


def read_records(kind: type[Record], rows: Iterable[Any]) -> list[Record]:
    """Rows by the names of their columns: a newer schema may have more of them."""
    pick, times = _PICK[kind], _TIMES[kind]
    return [_record(kind, list(pick(row)), times) for row in rows]


def _record(kind: type[Record], values: list[Any], times: Sequence[int]) -> Record:
    for at in times:
        if values[at] is not None:
            values[at] = from_datetime(values[at])
    record = kind(*values)
    if isinstance(record, Execution):
        record.status = Status(record.status)
    return record
