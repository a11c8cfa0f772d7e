"""Records to rows of SQLite and back. Columns bear the names of the fields; times are text there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from perdure.records import Entry, Execution, Message, Request, Status, WorkerRecord
from perdure.stores.timestamps import from_text, from_text_or_null, to_text, to_text_or_null

Record = TypeVar("Record", Execution, Request, Message, WorkerRecord)
Row = tuple[Any, ...]

_TIMES = {
    "wake_at",
    "created_at",
    "updated_at",
    "ended_at",
    "expires_at",
    "decided_at",
    "started_at",
    "lease_until",
}
_FIELDS = {kind: [field.name for field in fields(kind)] for kind in (Execution, Request, Message, WorkerRecord)}
_VALUES = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}
_TIMES_AT = {kind: [at for at, name in enumerate(names) if name in _TIMES] for kind, names in _FIELDS.items()}


def entry_row(entry: Entry) -> Row:
    """The parameters of `insert_entry`."""
    return entry[:15] + (to_text(entry[15]), to_text(entry[16]))  # noqa: RUF005, faster


def read_entry(row: Row) -> Entry:
    """A row in the order of the fields."""
    return Entry._make((*row[:15], from_text(row[15]), from_text(row[16])))


def record_row(record: Execution | Request, **instead: str) -> Row:
    """The parameters of `insert_execution` and `insert_request`: all fields in their order, some replaced."""
    kind = type(record)
    values = list(_VALUES[kind](record))
    for at in _TIMES_AT[kind]:
        values[at] = to_text_or_null(values[at])
    for name, value in instead.items():
        values[_FIELDS[kind].index(name)] = value
    return tuple(values)


def read_records(kind: type[Record], cursor: sqlite3.Cursor) -> list[Record]:
    """The rows of a `select *`, by the names of their columns: a newer schema may have more of them."""
    columns = [column[0] for column in cursor.description]
    pick = itemgetter(*(columns.index(name) for name in _FIELDS[kind]))
    return [_record(kind, pick(row)) for row in cursor]


def _record(kind: type[Record], row: Row) -> Record:
    values = list(row)
    for at in _TIMES_AT[kind]:
        values[at] = from_text_or_null(values[at])
    record = kind(*values)
    if isinstance(record, Execution):
        record.status = Status(record.status)
    return record


def entry_rows(entries: Iterable[Entry]) -> Iterable[Row]:
    """Many of them, for `executemany`."""
    return map(entry_row, entries)
