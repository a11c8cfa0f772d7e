"""Claims on PostgreSQL of queues with limits, and of suspects.

First a look, which locks nothing: most find nothing to take. Then, in one transaction, the queues are locked, all is
looked at again, and what `perdure.limits.admit` allows is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perdure.clock import from_datetime
from perdure.limits import Place, admit
from perdure.records import Execution, Limit
from perdure.stores.columns import read_records
from perdure.stores.postgres_columns import pack_workflows
from perdure.stores.postgres_sessions import Pool

MOST_WAITING = 1000  # of a limited queue, the first ones are judged


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

    def parameters(self) -> list[Any]:
        """Those of `claim`, which is one statement."""
        return [self.worker, self.epoch, self.limit, *self.columns(), sorted(set(self.queues)), json.dumps(self.build)]

    def columns(self) -> tuple[list[str], str]:
        """The workflows' names and versions."""
        return pack_workflows(self.workflows)


async def claim_judged(pool: Pool, wanted: Wanted) -> list[Execution]:
    """What may be taken of these queues, by priority and age over all of them."""
    sql = pool.sql
    async with pool.connection() as connection:
        look = _Look(connection, sql, wanted)
        if not any(await look.choose()):
            return []
        async with connection.transaction():
            await _lock(connection, sql, [limit.queue for limit in wanted.limits])
            free, ids = await look.choose()
            rows: list[Any] = []
            if ids:
                rows += await connection.fetch(sql["claim_these"], wanted.worker, wanted.epoch, ids)
            if free:
                part = replace(wanted, limit=free, queues=look.free_queues)
                rows += await connection.fetch(sql["claim"], *part.parameters())
    taken = read_records(Execution, rows)
    return sorted(taken, key=lambda row: (-row.priority, row.created_at, row.id))


async def _lock(connection: Any, sql: Mapping[str, str], queues: Sequence[str]) -> None:
    if len(await connection.fetch(sql["lock_queues"], queues)) < len(queues):
        await connection.execute(sql["make_queues"], queues)
        await connection.fetch(sql["lock_queues"], queues)


class _Look:
    """What a claim would take, as its connection sees it now."""

    def __init__(self, connection: Any, sql: Mapping[str, str], wanted: Wanted) -> None:
        self._connection = connection
        self._sql = sql
        self._wanted = wanted
        limited = {limit.queue for limit in wanted.limits}
        self.free_queues = sorted(set(wanted.queues) - limited)

    async def choose(self) -> tuple[int, list[str]]:
        """How many to take of the queues without limits, by `claim`, and which ids besides."""
        wanted = self._wanted
        free = await self._claimable(self.free_queues, wanted.limit) if self.free_queues else []
        found = list(free)
        for limit in wanted.limits:
            found += await self._admitted(limit)
        found.sort(key=lambda row: (-row["priority"], row["created_at"], row["id"]))
        chosen = [row["id"] for row in found[: wanted.limit]]
        if wanted.crashed:
            return 0, chosen
        passing = {row["id"] for row in free}  # others may take these first: `claim` then takes the next ones
        ids = [id for id in chosen if id not in passing]
        return len(chosen) - len(ids), ids

    async def _claimable(self, queues: Sequence[str], limit: int) -> list[Any]:
        wanted = self._wanted
        name = "claimable_suspects" if wanted.crashed else "claimable"
        values = (*wanted.columns(), queues, json.dumps(wanted.build), limit)
        rows: list[Any] = await self._connection.fetch(self._sql[name], *values)
        return rows

    async def _admitted(self, limit: Limit) -> list[Any]:
        waiting = await self._claimable([limit.queue], MOST_WAITING)
        if not waiting:
            return []
        ahead = {row["id"] for row in waiting}  # those of the dead run no more
        running = _places(await self._connection.fetch(self._sql["running_places"], limit.queue))
        recent: list[Place] = []
        if limit.starts is not None:
            most = limit.starts if limit.per is None else None
            recent = _places(await self._connection.fetch(self._sql["recent_places"], limit.queue, limit.window, most))
        running = [place for place in running if place.id not in ahead]
        admitted = set(admit(limit, running, recent, _places(waiting)))
        return [row for row in waiting if row["id"] in admitted]


def _places(rows: Sequence[Any]) -> list[Place]:
    return [
        Place(row["id"], row["attributes"], None if row["started_at"] is None else from_datetime(row["started_at"]))
        for row in rows
    ]
