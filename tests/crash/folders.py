"""A folder of files by plain JSON, without a line of Perdure's stores."""

from __future__ import annotations

import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any
from zlib import crc32

from perdure.records import Entry, Execution, Message, Request, RollbackAction, WorkerRecord

Row = dict[str, Any]

RECORDS: dict[str, type[Any]] = {
    "execution": Execution,
    "request": Request,
    "message": Message,
    "worker": WorkerRecord,
    "action": RollbackAction,
}
COLUMNS: dict[str, Row] = {
    kind: {f.name: None if f.default is MISSING else f.default for f in fields(record)}
    for kind, record in RECORDS.items()
} | {"entry": dict.fromkeys(Entry._fields)}


def read_folder(path: Path) -> dict[str, list[Row]]:
    """Its rows by kind, as of one moment: nobody writes meanwhile."""
    lock = _locked(path)
    try:
        files = {str(file.relative_to(path)): bytearray(file.read_bytes()) for file in path.rglob("*.jsonl")}
    finally:
        if lock is not None:
            os.close(lock)
    for segment in sorted(name for name in files if name.startswith("log/")):
        for written in _committed(bytes(files.pop(segment))):
            _lay_over(files, written)
    tables: dict[str, dict[Any, Row]] = defaultdict(dict)
    for data in files.values():
        for line in _whole_lines(bytes(data)):
            found = json.loads(line)
            op = next(op for op in ("put", "set", "drop") if op in found)
            kind, row = found[op], found["row"]
            key = _key(kind, row)
            if op == "drop":
                del tables[kind][key]
            else:
                tables[kind][key] = (tables[kind][key] if op == "set" else COLUMNS.get(kind, {})) | row
    return {kind: sorted(tables[kind].values(), key=_order) for kind in COLUMNS}


def _key(kind: str, row: Row) -> Any:
    if kind in ("entry", "action"):
        return row["execution_id"], row["generation"] if kind == "action" else 0, row["seq"]
    return row.get("id", row.get("name"))


def _order(row: Row) -> tuple[Any, ...]:
    if "execution_id" not in row:
        return (row["id"],)
    return row["execution_id"], row.get("seq") or row.get("ordinal") or row["id"]


def lock_folder(path: Path) -> bool:
    """Take the folder's lock, now, and give it back: was nobody in a transaction?"""
    lock = _locked(path, fcntl.LOCK_NB)
    if lock is not None:
        os.close(lock)
    return lock is not None


def _locked(path: Path, how: int = 0) -> int | None:
    try:
        lock = os.open(path / "locks" / "write", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | how)
    except OSError:
        os.close(lock)
        return None
    return lock


def _whole_lines(data: bytes) -> Iterator[bytes]:
    """Its lines, which all fit their checksums, but for a last one that was being written."""
    *lines, _rest = data.split(b"\n")
    for line in lines:
        start, crc = line[:-18], line[-10:-2]
        assert crc == b"%08x" % crc32(start), f"damaged: {line!r}"
        yield line


def _committed(log: bytes) -> Iterator[Row]:
    """What a segment says, without what was not committed."""
    gathered: list[Row] = []
    end = log.rfind(b'{"commit":')
    end = log.find(b"\n", end) + 1 if end >= 0 else 0
    lines = log[:end].split(b"\n")[:-1]
    for line in lines:
        start, crc = line[:-18], line[-10:-2]
        if crc != b"%08x" % crc32(start):
            return  # torn: it was the last
        found = json.loads(line)
        if "commit" in found:
            assert found["lines"] == len(gathered)
            yield from gathered
            gathered = []
        elif "file" in found:
            gathered.append({**found, "text": start[start.index(b',"line":') + 8 :] + b"\n"})


def _lay_over(files: dict[str, bytearray], written: Row) -> None:
    if written["line"] is None:
        files.pop(written["file"], None)
        return
    data, at, text = files.setdefault(written["file"], bytearray()), written["at"], written["text"]
    data[at:] = text  # what stands behind it comes later in the log
