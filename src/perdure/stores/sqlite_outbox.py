"""What came in somebody's own transactions, delivered on SQLite. `begin immediate` is the lock."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.deliveries import Post
from perdure.errors import PerdureError
from perdure.records import Execution, Folded, Message, Outgoing, Verdict
from perdure.store import Same
from perdure.stores import outgoing
from perdure.stores.sqlite_damage import time_of
from perdure.stores.sqlite_database import Database
from perdure.stores.sqlite_deliver import deliver
from perdure.stores.sqlite_reads import SqliteReads
from perdure.stores.sqlite_rows import read_records, record_row, to_json


class SqliteOutbox(SqliteReads):
    """The verbs of the outbox."""

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        return await self._read(lambda: _rows(self._db, "outbox_all", (limit,)))

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        return outgoing.write(item, any_input=any_input)

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        return await outgoing.fold_all(_Outbox(self), limit, same)

    async def dismiss(self, ids: Sequence[int]) -> int:
        return await self._transaction(lambda: self._db.run("outbox_dismissed", (to_json(ids),)).rowcount)


class _Outbox:
    def __init__(self, store: SqliteOutbox) -> None:
        self._store = store

    async def waits(self) -> list[int]:
        store = self._store
        return await store._read(lambda: [id for (id,) in store._db.run("outbox_waits", (outgoing.BATCH,))])

    async def fold(self, limit: int, same: Same, only: int | None) -> list[Folded]:
        store = self._store
        return await store._transaction(lambda: _fold(store._db, limit, same, only, store.clock.now()))

    async def refuse(self, id: int, error: PerdureError) -> list[Folded]:
        database = self._store._db

        def refuse() -> list[Folded]:
            rows = _rows(database, "outbox_next", {"only": id, "limit": 1})
            return [_refused(database, row, Verdict.GONE, error) for row in rows]

        return await self._store._transaction(refuse)


def _rows(database: Database, name: str, values: dict[str, int | None] | tuple[int, ...]) -> list[Outgoing]:
    return [
        Outgoing(kind, execution_id, content, id, refused, time_of(created_at))
        for id, kind, execution_id, content, refused, created_at in database.run(name, values).fetchall()
    ]


def _fold(database: Database, limit: int, same: Same, only: int | None, now: int) -> list[Folded]:
    rows = _rows(database, "outbox_next", {"only": only, "limit": limit})
    return [_fold_one(database, row, same, now) for row in rows]


def _fold_one(database: Database, row: Outgoing, same: Same, now: int) -> Folded:
    if row.kind == outgoing.START:
        verdict = _start(database, row, same)
    else:
        verdict = deliver(database, Post(outgoing.read_message(row)), now).verdict
    if verdict not in (Verdict.OK, Verdict.REPEAT):
        return _refused(database, row, verdict)
    database.run("outbox_delivered", (row.id,))
    return Folded(row, verdict)


def _start(database: Database, row: Outgoing, same: Same) -> Verdict:
    wanted, any_input = outgoing.read_start(row)
    if database.run("insert_execution", record_row(wanted)).rowcount:
        return Verdict.OK
    there = read_records(Execution, database.run("executions", (to_json([wanted.id]),)))[0]
    return outgoing.judge(wanted, there, outgoing.is_same_workflow if any_input else same)


def _refused(database: Database, row: Outgoing, verdict: Verdict, error: PerdureError | None = None) -> Folded:
    folded = outgoing.refuse(row, verdict, error)
    database.run("outbox_refused", {"id": row.id, "refused": folded.row.refused})
    return folded
