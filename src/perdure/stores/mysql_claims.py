"""Claims on MariaDB and MySQL.

First a look, which locks nothing: most find nothing to take. Then a transaction in which the worker, and before it the
limited queues, are locked, all is looked at again, and what may be taken is taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perdure.clock import from_datetime
from perdure.limits import Place, admit
from perdure.records import Execution, Limit
from perdure.stores.columns import read_records
from perdure.stores.mysql_columns import Rows, Statements, literal, some
from perdure.stores.mysql_sessions import Result, Session

MOST_WAITING = 1000  # of a limited queue, the first ones are judged
NO_LIMIT = 1 << 62

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a claim asks for. Of `limits` only those of its own queues."""

    worker: int
    epoch: int
    limit: int
    workflows: Sequence[tuple[str, int]]
    queues: Sequence[str]
    limits: Sequence[Limit]
    build: str
    crashed: bool

    @property
    def free_queues(self) -> list[str]:
        """Those without a limit, as no row of them may be locked in vain."""
        return sorted(set(self.queues) - {limit.queue for limit in self.limits})

    def look(self, sql: Statements, name: str, queues: Sequence[str], **values: object) -> str:
        """A statement that looks for what this claim may take."""
        filled = {"workflows": list(self.workflows), "build": json.dumps(self.build), **values}
        return sql.fill(name, queues=list(queues), **filled)


async def claim(session: Session, wanted: Wanted) -> list[Execution]:
    """See `perdure.store.Store.claim`. Raises the driver's errors."""
    if not wanted.workflows or not wanted.queues or wanted.limit < 1:
        return []
    if not any(await _choose(session, wanted)):
        return []
    async with session.transaction():
        return await _take(session, wanted)


async def _take(session: Session, wanted: Wanted) -> list[Execution]:
    sql = session.sql
    limited = sorted(limit.queue for limit in wanted.limits)
    if limited:
        await _make_queues(session, limited)
    locks = [sql.fill("lock_queues", queues=limited)] if limited else []
    *_, worker = await session.run(sql["begin"], *locks, sql.fill("lock_worker", worker=wanted.worker))
    if list(worker.tuples) != [(wanted.epoch, "live")]:
        await session.roll_back()
        return []
    free, ids = await _choose(session, wanted)
    ready = [_ready(session.sql, "take_ready", wanted, queue, wanted.limit) for queue in wanted.free_queues if free]
    dead = some((row[0] for row in (await session.run(sql["dead_workers"]))[0].tuples), 0)
    *found, these = await session.run(*ready, sql.fill("take_these", ids=some(ids), dead=dead))
    rows = these.rows + [row for result in found for row in result.rows]
    chosen = sorted({row["id"]: row for row in rows}.values(), key=_urgency)[: wanted.limit]
    if not chosen:
        await session.roll_back()
        return []
    return await _hand_over(session, wanted.worker, chosen)


async def _hand_over(session: Session, worker: int, chosen: Sequence[Row]) -> list[Execution]:
    sql = session.sql
    ids = [row["id"] for row in chosen]
    crashed = [row["id"] for row in chosen if row.get("owner") is not None]
    count = [sql.fill("count_crashes", ids=crashed)] if crashed else []
    *_, rows, _ = await session.run(
        *count, sql.fill("claim", worker=worker, ids=ids), sql.fill("claimed", ids=ids), sql["commit"]
    )
    return read_records(Execution, rows.rows)


async def _make_queues(session: Session, names: Sequence[str]) -> None:
    sql = session.sql
    # Outside of the transaction: a row that two insert at once is a deadlock of theirs.
    known = {name for (name,) in (await session.run(sql.fill("lock_queues", queues=names)))[0].tuples}
    new = [name for name in names if name not in known]
    if new:
        await session.run(sql.fill("make_queues", rows=Rows(f"({literal(name)})" for name in new)))


def _ready(sql: Statements, name: str, wanted: Wanted, queue: str, limit: int) -> str:
    return sql.fill(
        name,
        queue=queue,
        limit=limit,
        workflows=list(wanted.workflows),
        build=json.dumps(wanted.build),
    )


async def _choose(session: Session, wanted: Wanted) -> tuple[int, list[str]]:
    """How many to take of what is ready in queues without limits, and which ids besides, as is seen now."""
    free: list[Row] = []
    others: list[Row] = []
    if wanted.free_queues:
        free, others = await _claimable(session, wanted, wanted.free_queues, wanted.limit)
    for limit in wanted.limits:
        others += await _admitted(session, wanted, limit)
    chosen = sorted(free + others, key=_urgency)[: wanted.limit]
    passing = {row["id"] for row in free}  # others may take these first: then the next ones are taken
    ids = [row["id"] for row in chosen if row["id"] not in passing]
    return len(chosen) - len(ids), ids


async def _claimable(
    session: Session, wanted: Wanted, queues: Sequence[str], limit: int
) -> tuple[list[Row], list[Row]]:
    """(ready, besides)."""
    if wanted.crashed:
        return [], (await session.run(wanted.look(session.sql, "look_suspects", queues)))[0].rows
    *ready, due, orphaned = await session.run(
        *(_ready(session.sql, "look_ready", wanted, queue, limit) for queue in queues),
        wanted.look(session.sql, "look_due", queues),
        wanted.look(session.sql, "look_orphaned", queues),
    )
    return _merged(ready), due.rows + orphaned.rows


async def _admitted(session: Session, wanted: Wanted, limit: Limit) -> list[Row]:
    sql = session.sql
    ready, besides = await _claimable(session, wanted, [limit.queue], MOST_WAITING)
    waiting = sorted(ready + besides, key=_urgency)[:MOST_WAITING]
    if not waiting:
        return []
    ahead = {row["id"] for row in waiting}  # those of the dead run no more
    most = NO_LIMIT if limit.per is not None or limit.starts is None else limit.starts
    running, recent = await session.run(
        sql.fill("running_places", queue=limit.queue),
        sql.fill("recent_places", queue=limit.queue, window=limit.window, most=0 if limit.starts is None else most),
    )
    inside = [place for place in _places(running.rows) if place.id not in ahead]
    admitted = set(admit(limit, inside, _places(recent.rows), _places(waiting)))
    return [row for row in waiting if row["id"] in admitted]


def _merged(results: Sequence[Result]) -> list[Row]:
    return [row for result in results for row in result.rows]


def _urgency(row: Row) -> tuple[int, Any, str]:
    return -row["priority"], row["created_at"], row["id"]


def _places(rows: Sequence[Row]) -> list[Place]:
    return [
        Place(row["id"], row["attributes"], None if row["started_at"] is None else from_datetime(row["started_at"]))
        for row in rows
    ]
