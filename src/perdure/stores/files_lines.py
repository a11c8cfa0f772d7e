"""Rows as lines of JSON, each with its checksum at the end, and back.

    {"put":"entry","row":{"seq":3,"key":"charge#1",...},"crc":"8a3f01c2"}

`put` brings a whole row (fields at their defaults left out), `set` some fields of one that is there, `drop` removes it.
The checksum covers everything before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, NamedTuple, get_type_hints
from zlib import crc32

import msgspec

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
from perdure.stores.files_names import SCHEDULES, WORKERS, file_of
from perdure.stores.timestamps import from_text_or_null, to_text, to_text_or_null

Kept = DecisionRow | AuditEvent | RollbackAction | Snapshot
Row = Execution | Request | Message | WorkerRecord | Schedule | Kept
Op = Literal["put", "set", "drop"]

OPS: tuple[Op, ...] = ("put", "set", "drop")
KINDS: dict[str, type[Row]] = {
    "execution": Execution,
    "request": Request,
    "message": Message,
    "worker": WorkerRecord,
    "schedule": Schedule,
    "decision": DecisionRow,
    "event": AuditEvent,
    "action": RollbackAction,
    "snapshot": Snapshot,
}
KEPT = {DecisionRow: "decision", AuditEvent: "event", RollbackAction: "action", Snapshot: "snapshot"}
"""What is put whole, and again where it has changed; it goes with its execution."""

KEYS = {kind: "name" if kind == "schedule" else "id" for kind in KINDS if kind not in KEPT.values()}

_DEFAULTS = {
    kind: {f.name: f.default for f in fields(type_) if f.default is not MISSING} for kind, type_ in KINDS.items()
}
_NAMES = {kind: [f.name for f in fields(type_)] for kind, type_ in KINDS.items()}
_ENTRY = Entry._fields
_ENTRY_SORTS = list(get_type_hints(Entry).values())
_SORTS = {
    kind: {name: str if sort is Status else sort for name, sort in get_type_hints(type_).items()}
    for kind, type_ in KINDS.items()
}
"""The class of each field's value."""
_TAIL = len(b',"crc":"00000000"}')


class Line(NamedTuple):
    """What a line says."""

    op: Op
    kind: str
    row: dict[str, Any]


def seal(body: bytes) -> bytes:
    """An object of JSON as a line, with its checksum."""
    start = body[:-1]
    return b'%b,"crc":"%08x"}\n' % (start, crc32(start))


def unseal(line: bytes) -> bytes | None:
    """The body of a line without its newline; None if it is damaged."""
    start, tail = line[:-_TAIL], line[-_TAIL:]
    return start + b"}" if start and tail == b',"crc":"%08x"}' % crc32(start) else None


def is_time(name: str) -> bool:
    return name.endswith("_at") or name == "lease_until"


# To lines --------------------------------------------------------------------------------------------------


def entry_line(entry: Entry) -> tuple[str, bytes]:
    """(file, line). Raises ValueError for what JSON cannot hold."""
    row: dict[str, Any] = {name: value for name, value in zip(_ENTRY, entry, strict=True) if value is not None}
    row["started_at"], row["completed_at"] = to_text(entry.started_at), to_text(entry.completed_at)
    return file_of(entry.execution_id), seal(msgspec.json.encode({"put": "entry", "row": row}))


def row_line(op: Op, kind: str, row: Row, names: Collection[str] = ()) -> tuple[str, bytes]:
    """(file, line). `names`: the fields to `set`. Raises ValueError for what JSON cannot hold."""
    if op == "put":
        defaults = _DEFAULTS[kind]
        values = {n: v for n in _NAMES[kind] if (v := getattr(row, n)) != defaults.get(n, MISSING)}
    else:
        key = KEYS[kind]
        values = {key: getattr(row, key)} | {name: getattr(row, name) for name in _NAMES[kind] if name in names}
    for name in values:
        if is_time(name):
            values[name] = to_text_or_null(values[name])
    return _file(row), seal(msgspec.json.encode({op: kind, "row": values}))


def _file(row: Row) -> str:
    match row:
        case Execution():
            return file_of(row.id)
        case WorkerRecord():
            return WORKERS
        case Schedule():
            return SCHEDULES
        case _:
            return file_of(row.execution_id)


# And back --------------------------------------------------------------------------------------------------


def read_line(line: bytes) -> Line | None:
    """What a line (without its newline) says; None if it is damaged."""
    body = unseal(line)
    if body is None:
        return None
    try:
        found = msgspec.json.decode(body)
        op = next((op for op in OPS if op in found), None)
        if op is None:
            return None
        row = found["row"]
        for name in row:
            if is_time(name):
                row[name] = from_text_or_null(row[name])
        return Line(op, found[op], row)
    except (ValueError, TypeError, KeyError, RecursionError):  # by somebody who knows how checksums are made
        return None


def read_entry(row: Mapping[str, Any]) -> Entry:
    """Raises TypeError for a value that is none of its column."""
    values = [row.get(name) for name in _ENTRY]
    for name, value, sort in zip(_ENTRY, values, _ENTRY_SORTS, strict=True):
        if not isinstance(value, sort):
            raise TypeError(f"{name} holds {value!r:.100}")
    return Entry._make(values)


def read_row(kind: str, row: Mapping[str, Any]) -> Row:
    """A whole row. Raises TypeError if what has no default is missing. A newer library may have written more fields."""
    made = KINDS[kind](**known(kind, row))
    return made


def known(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this library knows, as they are in memory. Raises TypeError for what is no value of a field."""
    sorts = _SORTS[kind]
    values = {name: value for name, value in row.items() if name in sorts}
    for name, value in values.items():
        if not isinstance(value, sorts[name]):
            raise TypeError(f"{name} holds {value!r:.100}")
    if kind == "execution" and "status" in values:
        values["status"] = Status(values["status"])
    return values
