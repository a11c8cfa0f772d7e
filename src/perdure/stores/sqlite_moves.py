"""How SQLite takes part in a move: see `perdure.store.Movable`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from perdure.errors import DecodeError, MovedError
from perdure.records import Parcel, Plain
from perdure.stores.parcels import group, is_time, moved_words, refuse_unknown, shared, spread, tables_of
from perdure.stores.sqlite_reads import SqliteReads
from perdure.stores.sqlite_rows import to_json
from perdure.stores.timestamps import from_text, to_text


class SqliteMoves(SqliteReads):
    """The verbs of a move."""

    even_if_moved = False

    def _refuse_moved(self) -> None:
        if not self.even_if_moved and (target := self._moved_to()) is not None:
            raise MovedError(moved_words(self.url, target))

    def _moved_to(self) -> str | None:
        if not self._db.value("is_moved"):
            return None
        target: str | None = self._db.value("moved_to")
        return target

    async def mark_moved(self, to: str | None) -> None:
        def mark() -> None:
            self._db.run("make_moved_away")
            self._db.run("forget_targets")
            if to is None:
                self._db.run("unmark_moved")
            else:
                self._db.run("put_target", (to,))
                self._db.run("mark_moved", (to_text(self.clock.now()),))

        await self._transaction(mark)

    async def moved_to(self) -> str | None:
        return await self._read(self._moved_to)

    async def ids(self, after: str, limit: int) -> Sequence[str]:
        return await self._read(lambda: [id for (id,) in self._db.run("ids", (after, limit))])

    async def pack(self, ids: Sequence[str]) -> Sequence[Parcel]:
        return await self._read(lambda: self._pack(ids))

    def _pack(self, ids: Sequence[str]) -> Sequence[Parcel]:
        found = {}
        wanted = [id for id in ids if id]
        for none in {id == "" for id in ids}:
            for table in tables_of("" if none else None):
                cursor = self._db.run(f"pack_{table}", () if none else (to_json(wanted),))
                found[table] = [_plain(cursor, row) for row in cursor.fetchall()]
        return group(ids, found)

    async def unpack(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        refuse_unknown(parcels)
        return await self._transaction(lambda: self._unpack(parcels))

    def _unpack(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        taken = {id for (id,) in self._db.run("taken_ids", (to_json(parcel.id for parcel in parcels),))}
        new = [parcel for parcel in parcels if parcel.id not in taken]
        for table, rows in spread(new):
            columns = shared(self._columns(table), rows)
            statement = self._db.sql[f"unpack_{table}"].format(
                columns=", ".join(f'"{column}"' for column in columns), marks=", ".join("?" for _ in columns)
            )
            self._db.connection.executemany(statement, ([_kept(c, row[c]) for c in columns] for row in rows))
        return [parcel.id for parcel in new if parcel.id]

    def _columns(self, table: str) -> Sequence[str]:
        parameters = () if table in tables_of("") else ("[]",)
        cursor = self._db.run(f"pack_{table}", parameters)
        return [name for name, *_ in cursor.description][1:]


def _plain(cursor: sqlite3.Cursor, row: Sequence[Any]) -> dict[str, Plain]:
    names = [name for name, *_ in cursor.description]
    return {name: _value(name, cell, row[0]) for name, cell in zip(names, row, strict=True)}


def _value(name: str, cell: Any, id: str) -> Plain:
    if not is_time(name) or cell is None:
        return cell  # type: ignore[no-any-return]
    try:
        return from_text(cell)
    except (ValueError, TypeError) as error:
        raise DecodeError(f"{id!r:.200} cannot be moved: its {name} holds {cell!r:.100}", execution_id=id) from error


def _kept(column: str, value: Plain) -> Plain:
    return to_text(value) if is_time(column) and isinstance(value, int) else value
