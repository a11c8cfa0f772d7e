"""What came in somebody's own transactions, delivered on PostgreSQL, by any number of workers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perdure.clock import from_datetime
from perdure.deliveries import Post
from perdure.errors import PerdureError
from perdure.records import Execution, Folded, Outgoing, Verdict
from perdure.store import Same
from perdure.stores import outgoing
from perdure.stores.columns import read_records
from perdure.stores.postgres_columns import pack_records
from perdure.stores.postgres_messages import post_within
from perdure.stores.postgres_sessions import Pool

DONE = (Verdict.OK, Verdict.REPEAT)


class PostgresOutbox:
    """See `perdure.stores.outgoing.Outbox`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = pool.sql

    async def waits(self) -> list[int]:
        return [row["id"] for row in await self._pool.rows("outbox_waits", outgoing.BATCH)]

    async def rows(self, limit: int) -> list[Outgoing]:
        return list(map(_row, await self._pool.rows("outbox_all", limit)))

    async def dismiss(self, ids: Sequence[int]) -> int:
        return len(await self._pool.rows("outbox_dismissed", ids))

    async def fold(self, limit: int, same: Same, only: int | None) -> list[Folded]:
        async with self._pool.connection() as connection, connection.transaction():
            rows = list(map(_row, await connection.fetch(self._sql["outbox_next"], limit, only)))
            if rows:
                rows = await _in_turn(connection, self._sql, rows)
            verdicts = await _start(connection, self._sql, rows, same)
            for row in sorted(rows, key=lambda row: (row.execution_id, row.id)):
                if row.kind == outgoing.MESSAGE:
                    sent = Post(outgoing.read_message(row))
                    verdicts[row.id] = await post_within(self._pool, connection, sent)
            done = [id for id, verdict in verdicts.items() if verdict in DONE]
            if done:
                await connection.execute(self._sql["outbox_delivered"], done)
            folded = [_judged(row, verdicts[row.id]) for row in rows]
            for row, verdict in folded:
                if verdict not in DONE:
                    await connection.execute(self._sql["outbox_refused"], row.id, row.refused)
        return folded

    async def refuse(self, id: int, error: PerdureError) -> list[Folded]:
        async with self._pool.connection() as connection, connection.transaction():
            rows = map(_row, await connection.fetch(self._sql["outbox_next"], 1, id))
            folded = [outgoing.refuse(row, Verdict.GONE, error) for row in rows]
            for row, _ in folded:
                await connection.execute(self._sql["outbox_refused"], row.id, row.refused)
        return folded


def _row(row: Any) -> Outgoing:
    values = row["kind"], row["execution_id"], row["content"], row["id"], row["refused"]
    return Outgoing(*values, from_datetime(row["created_at"]))


async def _in_turn(connection: Any, sql: Mapping[str, str], rows: list[Outgoing]) -> list[Outgoing]:
    """Without what would come too early: another worker holds an earlier row of the same execution."""
    values = [row.execution_id for row in rows], rows[-1].id, [row.id for row in rows]
    behind = {found["execution_id"] for found in await connection.fetch(sql["outbox_behind"], *values)}
    return [row for row in rows if row.execution_id not in behind]


async def _start(connection: Any, sql: Mapping[str, str], rows: Sequence[Outgoing], same: Same) -> dict[int, Verdict]:
    starts = {row.id: outgoing.read_start(row) for row in rows if row.kind == outgoing.START}
    if not starts:
        return {}
    first = {execution.id: execution for execution, _ in reversed(starts.values())}
    new = {row["id"] for row in await connection.fetch(sql["outbox_starts"], pack_records(list(first.values())))}
    others = [execution.id for execution, _ in starts.values()]
    # A statement of its own: it sees what the one before has waited for.
    there = {row.id: row for row in read_records(Execution, await connection.fetch(sql["get_executions"], others))}
    verdicts = {}
    for id, (wanted, any_input) in starts.items():
        if wanted.id in new:
            verdicts[id] = Verdict.OK
            new.discard(wanted.id)  # the second of one id finds the first
        else:
            verdicts[id] = outgoing.judge(wanted, there[wanted.id], outgoing.is_same_workflow if any_input else same)
    return verdicts


def _judged(row: Outgoing, verdict: Verdict) -> Folded:
    return Folded(row, verdict) if verdict in DONE else outgoing.refuse(row, verdict)
