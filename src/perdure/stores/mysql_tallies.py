"""How many executions have ended, kept counted on MariaDB and MySQL without triggers.

Our own statements count (`queries/mysql_tallies.sql`): what ends an execution, begins it anew or removes it adds a
row of the difference, in the same transaction. An older library adds none: `workers.counts` says whose does. While
there is a worker whose does not, counts look at the executions; when the last one has left, what is missing is added.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from perdure.errors import PerdureError
from perdure.stores.mysql_columns import Rows, literal
from perdure.stores.mysql_sessions import Pool, Result, Session, past_deadlocks

FOLD_EACH = 500
"""Rows, after which they are folded."""

FOLDED = 50_000
"""Rows at once, at most."""

RECOUNT_SECONDS = 3600.0
CLOSE_SECONDS = 5.0


class Tallies:
    """What is done about them besides, through a pool: not by those who commit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None

    def added(self, added: Result) -> None:
        """Rows were added: now and then they are folded."""
        last = added.made + added.met - 1
        if added.met > 0 and (added.made - 1) // FOLD_EACH != last // FOLD_EACH:
            self._do(self.fold)

    async def fold(self) -> None:
        """One row for each workflow, version, queue and status, of those that nobody is adding."""
        async with self._pool.session() as session:
            await past_deadlocks(lambda: _fold(session))

    async def recount(self) -> bool:
        """Whether they are to be believed: made so, if the last worker of an older library has left."""
        try:
            async with self._pool.session() as session:
                return await past_deadlocks(lambda: _recount(session))
        except PerdureError:  # who only looks may have no right to write
            return False

    def recount_soon(self) -> None:
        """The same, without waiting for it."""
        self._do(self.recount)

    def _do(self, act: Callable[[], Awaitable[object]]) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(_quietly(act))

    async def close(self) -> None:
        """Before the pool is closed. What takes long is given up: the next one does it."""
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            if late:
                self._task.cancel()
                await asyncio.wait(late)


async def _quietly(act: Callable[[], Awaitable[object]]) -> None:
    with suppress(PerdureError):  # the next one does it
        await act()


async def _fold(session: Session) -> None:
    sql = session.sql
    async with session.transaction():
        _, found = await session.run(sql["begin"], sql.fill("foldable", limit=FOLDED))
        kinds: defaultdict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
        for id, *kind, number in found.tuples:
            kinds[tuple(kind)].append((id, number))
        several = {kind: rows for kind, rows in kinds.items() if len(rows) > 1}
        if not several:
            await session.roll_back()
            return
        sums = {kind: sum(number for _, number in rows) for kind, rows in several.items()}
        rows = Rows(f"({','.join(map(literal, kind))},{number})" for kind, number in sums.items() if number)
        remove = sql.fill("remove_folded", ids=[id for rows in several.values() for id, _ in rows])
        await session.run(remove, *([sql.fill("add_folded", rows=rows)] if rows else []), sql["commit"])


async def _recount(session: Session) -> bool:
    sql = session.sql
    (found,) = await session.run(sql["uncounted"])
    if not found.tuples or any(state == "live" for _, state in found.tuples):
        return not found.tuples
    if (await session.run(sql.fill("lock_schema", seconds=0)))[0].value != 1:
        return False  # somebody does it just now
    try:
        async with session.transaction():
            _, left = await session.run(sql["begin"], sql.fill("lock_uncounted", ids=_ids(found)))
            if not left.tuples:
                await session.roll_back()
                return False
            counted = sql.fill("counted", ids=_ids(left))
            await session.run(sql["recount"], counted, sql["commit"], timeout=RECOUNT_SECONDS)
    finally:
        if not session.is_broken:  # else the lock went with the connection
            await session.run(sql["unlock_schema"])
    return True


def _ids(found: Result) -> Sequence[int]:
    return [row[0] for row in found.tuples]
