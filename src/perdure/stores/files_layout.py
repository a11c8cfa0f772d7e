"""What a folder looks like: making it, refusing what is not ours, and reading its files, damaged ones too."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.errors import SchemaVersionError, StoreUnavailableError
from perdure.stores import files_disk as disk
from perdure.stores.files_lines import Line, read_line
from perdure.stores.files_log import Write
from perdure.stores.files_names import FOLDER, SCHEDULES, WORKERS
from perdure.stores.parcels import MOVED

logger = logging.getLogger("perdure.stores.files")

FORMAT = 1
MARKER = "perdure.json"
PARTS = ("executions", "log", "locks")
OURS = {MARKER, WORKERS, SCHEDULES, *PARTS}


# Making it -------------------------------------------------------------------------------------------------


def create_layout(path: str, locked: Callable[[Callable[[], None]], None]) -> bool:
    """Make the folder ours, if it is new. `locked` does something under its lock. True if it was made now.

    Raises `StoreUnavailableError` for what cannot be such a folder, `SchemaVersionError` for a newer format.
    """
    if not os.path.isdir(path):
        _make(path)
    others = sorted(set(os.listdir(path)) - OURS)
    if others and not os.path.exists(os.path.join(path, MARKER)):
        shown = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
        raise StoreUnavailableError(f"{path} holds something else ({shown}) and is left as it is; name a new folder")
    os.makedirs(os.path.join(path, "locks"), exist_ok=True)
    made = False

    def complete() -> None:
        nonlocal made
        for part in PARTS:
            os.makedirs(os.path.join(path, part), exist_ok=True)
        made = _mark(path)

    locked(complete)
    return made


def _make(path: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise StoreUnavailableError(f"{path}: there is no folder {parent}; create it first")
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise StoreUnavailableError(f"{path} is a file, not a folder") from None
    else:
        disk.sync_folder(parent)


def _mark(path: str) -> bool:
    marker = os.path.join(path, MARKER)
    try:
        with open(marker, encoding="utf-8") as file:
            found = json.load(file)
        version = found["format"]
        if not isinstance(version, int):
            raise ValueError(f"format {version!r:.100}")
    except FileNotFoundError:
        _write_marker(path, marker)
        return True
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaVersionError(f"{marker} is not Perdure's, or damaged ({error}); nothing was changed") from error
    if version == MOVED and "moved_to" in found:  # see `perdure.store.Movable`
        version = found.get("format_before", FORMAT)
    if version > FORMAT:
        raise SchemaVersionError(
            f"{path} has format {version}, which a newer Perdure wrote; this one knows up to {FORMAT}. "
            "Nothing was changed: upgrade perdure"
        )
    return False


def moved_to(path: str) -> str | None:
    """Where the executions of this folder went, if they were moved."""
    with open(os.path.join(path, MARKER), encoding="utf-8") as file:
        found: str | None = json.load(file).get("moved_to")
    return found


def mark_moved(path: str, to: str | None) -> None:
    """Say in the folder where its executions went, so that no library opens it; None: they are here."""
    marks: dict[str, str | int] = {} if to is None else {"format": MOVED, "format_before": FORMAT, "moved_to": to}
    _write_marker(path, os.path.join(path, MARKER), **marks)


def _write_marker(path: str, marker: str, **marks: str | int) -> None:
    fresh = os.path.join(path, "locks", MARKER)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        text: dict[str, str | int] = {
            "store": "Perdure, durable workflows: a folder of files",
            "format": FORMAT,
        }
        text.update(marks)
        disk.write(descriptor, json.dumps(text).encode() + b"\n", 0)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(fresh, marker)
    disk.sync_folder(path)


# Reading it ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """What a file holds: its lines, the numbers of those that are damaged, and where it ends.

    `ragged`: bytes stand behind that end. `there`: it is one that counts.
    """

    there: bool = True
    lines: list[Line] = field(default_factory=list)
    damage: list[int] = field(default_factory=list)
    end: int = 0
    ragged: bool = False


def read_execution_files(path: str, logged: Mapping[str, Sequence[Write]]) -> Iterator[tuple[str, Found]]:
    """All files with what the log says of them."""
    names = {f"{FOLDER}/{name}" for name in os.listdir(os.path.join(path, FOLDER)) if name.endswith(".jsonl")}
    for file in sorted({WORKERS, SCHEDULES, *names, *logged}):
        yield file, _read_file(os.path.join(path, file), logged.get(file, ()))


def _read_file(path: str, writes: Sequence[Write]) -> Found:
    try:
        with open(path, "rb") as file:
            held = file.read()
    except FileNotFoundError:
        held = b""
        if not writes:
            return Found(there=False)
    data = _laid_over(held, writes)
    if writes and not data:
        return Found(there=False)
    found = _read_lines(data)
    found.ragged = len(held) > found.end
    if found.end < len(data):
        logger.warning("%s ends in the middle of a line: what was being written there is dropped", path)
    return found


def _laid_over(held: bytes, writes: Sequence[Write]) -> bytes:
    """What the file holds once the log is brought up. The end of the last write is the end of the file."""
    if not writes:
        return held
    data, end = bytearray(held), 0
    for _, at, line in writes:
        if line is None:
            data, end = bytearray(), 0
            continue
        if at > len(data):  # a gap: a line of the log is lost
            data += bytes(at - len(data) - 1) + b"\n"
        end = at + len(line)
        data[at:end] = line
    return bytes(data[:end])


def _read_lines(data: bytes) -> Found:
    """A last line without its end was being written when the process died, and never counted."""
    found = Found()
    number = 0
    while (stop := data.find(b"\n", found.end)) >= 0:
        number += 1
        line = read_line(data[found.end : stop])
        if line is None:
            found.damage.append(number)
        else:
            found.lines.append(line)
        found.end = stop + 1
    return found
