"""How MariaDB and MySQL take part in a move: see `perdure.store.Movable`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from perdure.clock import from_datetime
from perdure.errors import MovedError
from perdure.records import Parcel, Plain
from perdure.stores.mysql_columns import Rows, literal, some, time
from perdure.stores.mysql_schema import COLLATION, COLLATION_OF_MYSQL
from perdure.stores.mysql_sessions import Pool, Result, Session, past_deadlocks
from perdure.stores.parcels import group, is_time, moved_words, refuse_unknown, shared, spread, tables_of
from perdure.stores.signal import Signal

GENERATED = {"urgency"}
"""Columns that the server itself computes."""


class MysqlMoves:
    """The verbs of a move."""

    even_if_moved = False
    url: str
    _pool: Pool
    _signal: Signal

    async def _refuse_moved(self, session: Session) -> None:
        if not self.even_if_moved and (target := await _moved_to(session)) is not None:
            raise MovedError(moved_words(self.url, target))

    async def mark_moved(self, to: str | None) -> None:
        # The table commits by itself. Nobody reads it as long as the mark is not there.
        async with self._pool.session() as session:
            sql = session.sql
            marks = [sql["unmark_moved"]] if to is None else [sql.fill("put_target", target=to), sql["mark_moved"]]
            await session.run(
                sql["make_moved_away"].replace(COLLATION, COLLATION if session.mariadb else COLLATION_OF_MYSQL)
            )
            await session.run(sql["begin"], sql["forget_targets"], *marks, sql["commit"])

    async def moved_to(self) -> str | None:
        async with self._pool.session() as session:
            return await _moved_to(session)

    async def ids(self, after: str, limit: int) -> Sequence[str]:
        return [id for (id,) in (await self._pool.ask("ids", after=after, limit=limit)).tuples]

    async def pack(self, ids: Sequence[str]) -> Sequence[Parcel]:
        wanted = some(id for id in ids if id)
        found = {}
        async with self._pool.session() as session:
            for none in {id == "" for id in ids}:
                for table in tables_of("" if none else None):
                    found[table] = [_plain(row) for row in (await _packed(session, table, wanted)).rows]
        return group(ids, found)

    async def unpack(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        refuse_unknown(parcels)
        async with self._pool.session() as session:
            new = await past_deadlocks(lambda: _unpack(session, parcels))
        self._signal.fire()
        return new


async def _moved_to(session: Session) -> str | None:
    if not (await session.run(session.sql["is_moved"]))[0].value:
        return None
    target: str | None = (await session.run(session.sql["moved_to"]))[0].value
    return target


async def _packed(session: Session, table: str, ids: Sequence[object]) -> Result:
    return (await session.run(session.sql.fill(f"pack_{table}", ids=ids)))[0]


async def _unpack(session: Session, parcels: Sequence[Parcel]) -> Sequence[str]:
    async with session.transaction():
        ids = some(parcel.id for parcel in parcels)
        _, found = await session.run(session.sql["begin"], session.sql.fill("taken_ids", ids=ids))
        taken = {id for (id,) in found.tuples}
        new = [parcel for parcel in parcels if parcel.id not in taken]
        for table, rows in spread(new):
            columns = shared([c for c in (await _packed(session, table, [""])).names[1:] if c not in GENERATED], rows)
            names = Rows(f"`{column}`" for column in columns)
            values = Rows(f"({','.join(literal(_kept(c, row[c])) for c in columns)})" for row in rows)
            await session.run(session.sql.fill(f"unpack_{table}", columns=names, rows=values))
        ids = some(parcel.id for parcel in new)
        await session.run(session.sql.fill("tally", ids=ids), session.sql["commit"])
    return [parcel.id for parcel in new if parcel.id]


def _plain(row: dict[str, object]) -> dict[str, Plain]:
    plain: dict[str, Plain] = {}
    for name, value in row.items():
        if name not in GENERATED:
            kept = from_datetime(value) if isinstance(value, datetime) else value
            assert kept is None or isinstance(kept, str | int)
            plain[name] = int(kept) if isinstance(kept, bool) else kept
    return plain


def _kept(column: str, value: Plain) -> Plain:
    return time(value) if is_time(column) and isinstance(value, int) else value
