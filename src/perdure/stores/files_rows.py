"""The memory store, watched: what each verb has touched is known afterwards, so that it can be written down.

No verb is written a second time here. The tables of `MemoryStore` become dictionaries that note what is put in and
taken out, and their rows note which of their fields were set. What is given out are copies, of the plain classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

from perdure.clock import Clock
from perdure.records import Entry, Execution, Status, WorkerRecord
from perdure.stores.files_lines import (
    KEPT,
    KEYS,
    KINDS,
    Kept,
    Line,
    Row,
    entry_line,
    known,
    read_entry,
    read_row,
    row_line,
)
from perdure.stores.memory import MemoryStore

Key = TypeVar("Key")
Item = TypeVar("Item")

_NOTHING = object()
_WHOLE: set[str] = set()  # by identity: the row as a whole is new


class Touched:
    """What has been touched since it was last cleared, in order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.rows: dict[tuple[str, Any], tuple[Row, set[str]]] = {}
        self.kept: list[Kept] = []
        self.dropped: dict[tuple[str, Any], Row] = {}
        self.muted = False

    def __bool__(self) -> bool:
        return bool(self.entries or self.rows or self.kept or self.dropped)

    def clear(self) -> None:
        if self:
            self.entries, self.rows, self.kept, self.dropped = [], {}, [], {}

    def put(self, kind: str, row: Row) -> None:
        if not self.muted:
            place = kind, getattr(row, KEYS[kind])
            self.dropped.pop(place, None)
            self.rows[place] = row, _WHOLE

    def set(self, kind: str, row: Row, name: str) -> None:
        if not self.muted:
            place = kind, getattr(row, KEYS[kind])
            names = self.rows.setdefault(place, (row, set()))[1]
            if names is not _WHOLE:
                names.add(name)

    def drop(self, kind: str, key: Any, row: Row) -> None:
        if not self.muted:
            self.rows.pop((kind, key), None)
            self.dropped[kind, key] = row

    def lines(self) -> Iterator[tuple[str, bytes | None]]:
        """(file, line) for all of it; no line: the file goes. Raises ValueError for what JSON cannot hold."""
        gone = {key for kind, key in self.dropped if kind == "execution"}
        changed = []
        for (kind, _), (row, names) in self.rows.items():
            if kind == "execution" and names is not _WHOLE:
                changed.append(row_line("set", kind, row, names))  # after what led to it
            elif kind == "execution":
                yield row_line("put", kind, row)
        yield from map(entry_line, self.entries)
        for (kind, _), (row, names) in self.rows.items():
            if kind != "execution":
                yield row_line("put", kind, row) if names is _WHOLE else row_line("set", kind, row, names)
        for kept in self.kept:
            yield row_line("put", KEPT[type(kept)], kept)
        yield from changed
        for (kind, _), row in self.dropped.items():
            if kind == "execution":
                yield row_line("drop", kind, row)[0], None
            elif getattr(row, "execution_id", None) not in gone:
                yield row_line("drop", kind, row)


def _watched(kind: str, touched: Touched) -> type[Row]:
    """A class for rows that are kept: as the plain one, but it notes what is set. Copies are of the plain one."""
    plain: Any = KINDS[kind]
    values = attrgetter(*[f.name for f in fields(plain)])
    write = plain.__setattr__
    note = touched.set

    def set_(self: Any, name: str, value: Any) -> None:
        if getattr(self, name, _NOTHING) != value:
            note(kind, self, name)
            write(self, name, value)

    members = {"__slots__": (), "__setattr__": set_, "__copy__": lambda self: plain(*values(self))}
    made: type[Row] = type(plain.__name__, (plain,), members)
    return made


class _Table(dict[Key, Item]):
    """Rows by their keys."""

    def __init__(self, kind: str, touched: Touched) -> None:
        super().__init__()
        self._kind, self._touched, self._class = kind, touched, _watched(kind, touched)

    def __setitem__(self, key: Key, row: Item) -> None:
        row.__class__ = self._class  # type: ignore[assignment]
        super().__setitem__(key, row)
        self._touched.put(self._kind, row)  # type: ignore[arg-type]

    def __delitem__(self, key: Key) -> None:
        self.pop(key)

    def pop(self, key: Key, *default: Any) -> Any:
        row = super().pop(key, *default)
        if not default or row is not default[0]:
            self._touched.drop(self._kind, key, row)
        return row


class _Journals(dict[str, dict[int, Entry]]):
    """Journals by execution."""

    def __init__(self, touched: Touched) -> None:
        super().__init__()
        self._touched = touched

    def setdefault(self, id: str, default: dict[int, Entry]) -> dict[int, Entry]:
        """A default stands for an empty journal, which here must be one that notes what is put in."""
        found = self.get(id)
        if found is None:
            found = _Journal(self._touched)
            super().__setitem__(id, found)
        return found

    def __setitem__(self, id: str, journal: dict[int, Entry]) -> None:
        self.setdefault(id, {}).update(journal)


class _Journal(dict[int, Entry]):
    """One of them, by seq."""

    __slots__ = ("_touched",)

    def __init__(self, touched: Touched) -> None:
        super().__init__()
        self._touched = touched

    def __setitem__(self, seq: int, entry: Entry) -> None:
        super().__setitem__(seq, entry)
        if not self._touched.muted:
            self._touched.entries.append(entry)

    def update(self, entries: Any) -> None:
        for seq, entry in entries.items():
            self[seq] = entry


class WatchedStore(MemoryStore):
    """A memory store that knows what it was told since, and takes over what others wrote down."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.touched = touched = Touched()
        self._executions = _Table("execution", touched)
        self._requests = _Table("request", touched)
        self._messages = _Table("message", touched)
        self._workers = _Table("worker", touched)
        self._schedules = _Table("schedule", touched)
        self._journals = _Journals(touched)
        self._tables: dict[str, Any] = {
            "execution": self._executions,
            "request": self._requests,
            "message": self._messages,
            "worker": self._workers,
            "schedule": self._schedules,
        }

    def _keep(self, row: Any) -> None:
        super()._keep(row)
        if type(row) in KEPT and not self.touched.muted:
            self.touched.kept.append(row)

    def take_over(self, line: Line) -> None:
        """Do what a line says. Raises KeyError, TypeError or ValueError for one that makes no sense here."""
        with self.unnoted():
            self._take_over(line)

    def _take_over(self, line: Line) -> None:
        if line.kind == "entry":
            entry = read_entry(line.row)
            self._journals.setdefault(entry.execution_id, {})[entry.seq] = entry
            return
        if line.kind not in KEYS:
            self._keep(read_row(line.kind, line.row))
            return
        table, key = self._tables[line.kind], line.row[KEYS[line.kind]]
        if line.op == "drop":
            table.pop(key, None)
        elif line.op == "put" and (line.kind in ("worker", "schedule") or key not in table):
            self._place(line.kind, read_row(line.kind, line.row))
        else:
            row = table[key]
            for name, value in known(line.kind, line.row).items():
                setattr(row, name, value)

    def _place(self, kind: str, row: Any) -> None:
        if kind in ("worker", "schedule"):
            self._tables[kind][getattr(row, KEYS[kind])] = row
        else:
            self._keep(row)

    def place_unreadable(self, id: str, reason: str) -> None:
        """An execution of which nothing is known but that it is there."""
        with self.unnoted():
            self._keep(Execution(id, "(unreadable)", status=Status.BLOCKED, reason=reason))

    def place_unreadable_workers(self) -> None:
        """Ids go up by one: those missing below the highest are of workers whose lines cannot be read."""
        with self.unnoted():
            for id in range(1, max(self._workers, default=0)):
                if id not in self._workers:
                    self._workers[id] = WorkerRecord(id, epoch=2, state="dead")

    def keep_leases(self, before: MemoryStore) -> None:
        """Heartbeats are not written down: take them over from what was in memory before."""
        with self.unnoted():
            for id, row in before._workers.items():
                if id in self._workers:
                    self._workers[id].lease_until = max(row.lease_until, self._workers[id].lease_until)

    @contextmanager
    def unnoted(self) -> Iterator[None]:
        """What is changed inside is not to be written down."""
        self.touched.muted = True
        try:
            yield
        finally:
            self.touched.muted = False
