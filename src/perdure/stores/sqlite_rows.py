"""Records to rows of SQLite and back. Columns bear the names of the fields; times are text there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, TypeVar, get_type_hints

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
from perdure.stores.attributes import has_attributes
from perdure.stores.sqlite_damage import DAMAGED, mend
from perdure.stores.timestamps import from_text, from_text_or_null, to_text, to_text_or_null

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
    "next_at",
    "last_at",
    "completed_at",
}
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
_FIELDS = {kind: [field.name for field in fields(kind)] for kind in _KINDS}
_VALUES = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}
_TIMES_AT = {kind: [at for at, name in enumerate(names) if name in _TIMES] for kind, names in _FIELDS.items()}

_SHAPES: dict[type, set[tuple[type, ...]]] = {kind: set() for kind in (*_KINDS, Entry)}
"""The classes of the cells of rows that were found sound: those of others are looked at one by one."""
_ENTRY = [str if name in _TIMES else sort for name, sort in get_type_hints(Entry).items()]


def entry_row(entry: Entry) -> Row:
    """The parameters of `insert_entry`."""
    return entry[:15] + (to_text(entry[15]), to_text(entry[16]))  # noqa: RUF005, faster


def read_entry(row: Row) -> Entry:
    """A row in the order of the fields. Raises `ValueError` for one that holds something else."""
    shape = tuple(map(type, row))
    if shape not in _SHAPES[Entry]:
        for at, wanted in enumerate(_ENTRY):
            if not isinstance(row[at], wanted):
                raise ValueError(f"{Entry._fields[at]} of entry {row[1]!r:.50} holds {row[at]!r:.50}")
        _SHAPES[Entry].add(shape)
    return Entry._make((*row[:15], from_text(row[15]), from_text(row[16])))


def record_row(record: Any, **instead: str) -> Row:
    """The parameters of what inserts a record: all its fields in their order, some replaced."""
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
    return [_record(kind, pick(row)) for row in cursor.fetchall()]


def _record(kind: type[Record], row: Row) -> Record:
    values = list(row)
    damaged = False
    try:
        for at in _TIMES_AT[kind]:
            values[at] = from_text_or_null(values[at])
    except (ValueError, TypeError):
        damaged = True
    shape = tuple(map(type, values))
    if damaged or shape not in _SHAPES[kind]:
        values = list(row)
        damaged = mend(kind, values, _TIMES_AT[kind])
        if not damaged:
            _SHAPES[kind].add(shape)
    record = kind(*values)
    if isinstance(record, Execution):
        record.status = Status(record.status)
    elif isinstance(record, Schedule):
        record.backfill, record.paused = bool(record.backfill), bool(record.paused) or damaged
    if damaged and not isinstance(record, WorkerRecord | Schedule | DecisionRow | AuditEvent):
        record.checksum = DAMAGED
    return record


def entry_rows(entries: Iterable[Entry]) -> Iterable[Row]:
    """Many of them, for `executemany`."""
    return map(entry_row, entries)


def to_json(values: Iterable[Any]) -> str:
    """A list as one parameter."""
    return json.dumps(list(values), ensure_ascii=False)


def holds_attributes(attributes: str | None, wanted: str) -> bool:
    """Whether these attributes hold all that are wanted, a JSON list of plain pairs. For SQL."""
    return has_attributes(attributes, _pairs(wanted))


@lru_cache(maxsize=64)
def _pairs(wanted: str) -> list[tuple[str, str]]:
    return [(name, text) for name, text in json.loads(wanted)]
