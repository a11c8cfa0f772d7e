"""How PostgreSQL takes part in a move: see `perdure.store.Movable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from perdure.clock import from_datetime
from perdure.errors import MovedError
from perdure.records import Parcel, Plain
from perdure.stores.parcels import group, is_time, moved_words, refuse_unknown, shared, spread, tables_of
from perdure.stores.postgres_sessions import Pool
from perdure.stores.signal import Signal
from perdure.stores.timestamps import to_text


class PostgresMoves:
    """The verbs of a move."""

    even_if_moved = False
    url: str
    _pool: Pool
    _signal: Signal

    async def _refuse_moved(self, connection: Any) -> None:
        if not self.even_if_moved and (target := await _moved_to(connection, self._pool.sql)) is not None:
            raise MovedError(moved_words(self.url, target))

    async def mark_moved(self, to: str | None) -> None:
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(self._pool.sql["make_moved_away"])
            await connection.execute(self._pool.sql["forget_targets"])
            if to is None:
                await connection.execute(self._pool.sql["unmark_moved"])
            else:
                await connection.execute(self._pool.sql["put_target"], to)
                await connection.execute(self._pool.sql["mark_moved"])

    async def moved_to(self) -> str | None:
        async with self._pool.connection() as connection:
            return await _moved_to(connection, self._pool.sql)

    async def ids(self, after: str, limit: int) -> Sequence[str]:
        return [row["id"] for row in await self._pool.rows("ids", after, limit)]

    async def pack(self, ids: Sequence[str]) -> Sequence[Parcel]:
        wanted = [id for id in ids if id]
        found = {}
        async with self._pool.connection() as connection:
            for none in {id == "" for id in ids}:
                for table in tables_of("" if none else None):
                    values = () if none else (wanted,)
                    found[table] = [
                        _plain(row) for row in await connection.fetch(self._pool.sql[f"pack_{table}"], *values)
                    ]
        return group(ids, found)

    async def unpack(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        refuse_unknown(parcels)
        async with self._pool.connection() as connection, connection.transaction():
            ids = [parcel.id for parcel in parcels]
            taken = {row["id"] for row in await connection.fetch(self._pool.sql["taken_ids"], ids)}
            new = [parcel for parcel in parcels if parcel.id not in taken]
            for table, rows in spread(new):
                columns = shared(await _columns(connection, self._pool.sql, table), rows)
                names = ", ".join(f'"{column}"' for column in columns)
                statement = self._pool.sql[f"unpack_{table}"].replace("{columns}", names)
                await connection.execute(statement, _packed(columns, rows))
        self._signal.fire()
        return [parcel.id for parcel in new if parcel.id]


async def _moved_to(connection: Any, sql: Mapping[str, str]) -> str | None:
    if not await connection.fetchval(sql["is_moved"]):
        return None
    target: str | None = await connection.fetchval(sql["moved_to"])
    return target


async def _columns(connection: Any, sql: Mapping[str, str], table: str) -> Sequence[str]:
    prepared = await connection.prepare(sql[f"pack_{table}"])
    return [attribute.name for attribute in prepared.get_attributes()][1:]


def _plain(row: Any) -> dict[str, Plain]:
    return {
        name: from_datetime(value) if isinstance(value, datetime) else int(value) if value in (True, False) else value
        for name, value in row.items()
    }


def _packed(columns: Sequence[str], rows: Sequence[dict[str, Plain]]) -> str:
    return msgspec.json.encode([{column: _kept(column, row[column]) for column in columns} for row in rows]).decode()


def _kept(column: str, value: Plain) -> Plain | bool:
    if value is None:
        return None
    if is_time(column):
        return to_text(int(value))
    return bool(value) if column in ("backfill", "paused") else value
