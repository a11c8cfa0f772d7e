"""What came in somebody's own transactions, delivered on MariaDB and MySQL, by any number of workers at once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from perdure.clock import from_datetime
from perdure.deliveries import MOST_WAITING
from perdure.errors import PerdureError
from perdure.records import Execution, Folded, Outgoing, Verdict
from perdure.store import Same
from perdure.stores import outgoing
from perdure.stores.columns import read_records
from perdure.stores.mysql_columns import Statements, pack_rows
from perdure.stores.mysql_deliver import look_at_post
from perdure.stores.mysql_sessions import Pool, Result, Session, past_deadlocks

DONE = (Verdict.OK, Verdict.REPEAT)


class MysqlOutbox:
    """See `perdure.stores.outgoing.Outbox`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def waits(self) -> list[int]:
        return [id for (id,) in (await self._pool.ask("outbox_waits", limit=outgoing.BATCH)).tuples]

    async def rows(self, limit: int) -> list[Outgoing]:
        return _rows(await self._pool.ask("outbox_all", limit=limit))

    async def dismiss(self, ids: Sequence[int]) -> int:
        return (await self._pool.ask("outbox_dismissed", ids=list(ids))).met if ids else 0

    async def fold(self, limit: int, same: Same, only: int | None) -> list[Folded]:
        async with self._pool.session() as session:
            return await past_deadlocks(lambda: _fold(session, limit, same, only))

    async def refuse(self, id: int, error: PerdureError) -> list[Folded]:
        async with self._pool.session() as session, session.transaction():
            *_, found = await session.run(session.sql["begin"], session.sql.fill("outbox_one", id=id))
            folded = [outgoing.refuse(row, Verdict.GONE, error) for row in _rows(found)]
            await session.run(*(_say_refused(session.sql, each) for each in folded), session.sql["commit"])
        return folded


def _rows(found: Result) -> list[Outgoing]:
    return [
        Outgoing(kind, execution_id, content, id, refused, from_datetime(created_at))
        for id, kind, execution_id, content, refused, created_at in found.tuples
    ]


async def _fold(session: Session, limit: int, same: Same, only: int | None) -> list[Folded]:
    async with session.transaction():
        look = session.sql.fill("outbox_next", limit=limit) if only is None else session.sql.fill("outbox_one", id=only)
        *_, found = await session.run(session.sql["begin"], look)
        rows = await _in_turn(session, _rows(found))
        if not rows:
            await session.roll_back()
            return []
        verdicts = await _start(session, rows, same)
        for row in sorted(rows, key=lambda row: (row.execution_id, row.id)):
            if row.kind == outgoing.MESSAGE:
                verdicts[row.id], writing = await look_at_post(session, outgoing.read_message(row), MOST_WAITING)
                if writing:
                    await session.run(*writing)
        folded = [_judged(row, verdicts[row.id]) for row in rows]
        done = [row.id for row, verdict in folded if verdict in DONE]
        removal = [session.sql.fill("outbox_delivered", ids=done)] if done else []
        refusals = [_say_refused(session.sql, each) for each in folded if each.verdict not in DONE]
        await session.run(*removal, *refusals, session.sql["commit"])
    return folded


async def _in_turn(session: Session, rows: list[Outgoing]) -> list[Outgoing]:
    """Without what would come too early: another worker holds an earlier row of the same execution."""
    if not rows:
        return rows
    executions, ids = [row.execution_id for row in rows], [row.id for row in rows]
    found = await session.run(session.sql.fill("outbox_behind", executions=executions, last=ids[-1], ids=ids))
    behind = {id for (id,) in found[0].tuples}
    return [row for row in rows if row.execution_id not in behind]


async def _start(session: Session, rows: Sequence[Outgoing], same: Same) -> dict[int, Verdict]:
    starts = {row.id: outgoing.read_start(row) for row in rows if row.kind == outgoing.START}
    if not starts:
        return {}
    token = f"outbox.{uuid.uuid4().hex}"
    first = {execution.id: execution for execution, _ in reversed(starts.values())}
    ids = sorted(first)
    *_, created, there = await session.run(
        session.sql.fill("insert_executions", rows=pack_rows([replace(first[id], token=token) for id in ids])),
        session.sql.fill("created_executions", ids=ids, token=token),
        session.sql.fill("get_executions", ids=ids),
    )
    new = {id for (id,) in created.tuples}
    known = {row.id: row for row in read_records(Execution, there.rows)}
    verdicts = {}
    for id, (wanted, any_input) in starts.items():
        if wanted.id in new:
            verdicts[id] = Verdict.OK
            new.discard(wanted.id)  # the second of one id finds the first
        else:
            verdicts[id] = outgoing.judge(wanted, known[wanted.id], outgoing.is_same_workflow if any_input else same)
    return verdicts


def _judged(row: Outgoing, verdict: Verdict) -> Folded:
    return Folded(row, verdict) if verdict in DONE else outgoing.refuse(row, verdict)


def _say_refused(sql: Statements, folded: Folded) -> str:
    return sql.fill("outbox_refused", id=folded.row.id, refused=folded.row.refused)
