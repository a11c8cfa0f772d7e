"""Verbs on many executions at once, and how many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from perdure import housekeeping
from perdure.clock import Duration, micros
from perdure.errors import PerdureError
from perdure.handle import Handle
from perdure.records import ENDED, Status, Tally, WorkerRecord
from perdure.records import Query as RowQuery
from perdure.search import Query, row_query
from perdure.store import Store

if TYPE_CHECKING:
    from perdure.engine import Engine

GOING = (Status.PENDING, Status.RUNNING, Status.WAITING)
STANDING = (Status.PAUSED, Status.BLOCKED)
OPEN = (*GOING, *STANDING)
FAILED = (Status.FAILED,)

AT_ONCE = 50
PAGE = 500


@dataclass(slots=True, frozen=True)
class Done:
    """What became of a verb on many executions. With `dry_run`, `ids` are those that it would have concerned."""

    ids: Sequence[str]
    errors: dict[str, PerdureError] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(slots=True, frozen=True)
class Stats:
    """How a database stands. `executions`: counted by workflow, queue and status."""

    executions: Sequence[Tally]
    workers: Sequence[WorkerRecord]
    open_requests: int


Act = Callable[[Handle[Any]], Awaitable[Any]]


async def each(engine: Engine, query: Query, statuses: Sequence[Status], act: Act, dry_run: bool) -> Done:
    """Do something with all executions that a query finds in one of these statuses (or those of them that it names)."""
    ids = await _found(engine, query, statuses)
    if dry_run:
        return Done(ids, dry_run=True)
    done: list[str] = []
    errors: dict[str, PerdureError] = {}
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(id: str) -> None:
        async with turn:
            try:
                await act(engine.get(id))
                done.append(id)
            except PerdureError as error:
                errors[id] = error

    await asyncio.gather(*[one(id) for id in ids])
    return Done(sorted(done, key=ids.index), errors)


async def _found(engine: Engine, query: Query, statuses: Sequence[Status]) -> list[str]:
    wanted = row_query(query)
    wanted = replace(wanted, status=tuple(s for s in statuses if not wanted.status or s in wanted.status))
    return await _ids(engine.insight, wanted) if wanted.status else []


async def _ids(store: Store, wanted: RowQuery) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = await store.list(wanted, PAGE, cursor)
        ids += [row.id for row in page.items]
        cursor = page.cursor
        if cursor is None:
            return ids


async def prune(engine: Engine, query: Query, older_than: Duration | None, dry_run: bool) -> Done:
    """See `Engine.prune`."""
    wanted = row_query(query)
    ended = tuple(s for s in Status if s in ENDED and (not wanted.status or s in wanted.status))
    if not ended:
        return Done([], dry_run=dry_run)
    before = wanted.ended_before
    if older_than is not None and micros(older_than) < 0:
        raise ValueError("older_than= is not negative")
    if older_than is not None:
        limit = engine.clock.now() - micros(older_than)
        before = limit if before is None else min(before, limit)
    wanted = replace(wanted, status=ended, ended_before=before)
    if dry_run:
        return Done(await _ids(engine.insight, wanted), dry_run=True)
    return Done(await housekeeping.prune(engine.insight, wanted))


async def stats(store: Store) -> Stats:
    """See `Engine.stats`."""
    return Stats(await store.tallies(), await store.workers(), len(await store.requests(limit=100_000)))
