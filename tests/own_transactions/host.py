"""Processes that are killed at each boundary around a transactional step and around the delivery of an outbox row.

    python -m tests.own_transactions.host URL

For each point a forked process does the work and is killed there, all is looked at, and another process finishes it.
What was seen is printed, a JSON line for each point.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import asyncmy
import asyncpg

from perdure import Engine, current, step, transaction, workflow
from tests.own_transactions import drivers
from tests.own_transactions.steps import insert

POINT = ""
KINDS: dict[str, Any] = {"sqlite": sqlite3.Connection, "postgresql": asyncpg.Connection, "mysql": asyncmy.Connection}
OPENS: dict[str, Any] = {"sqlite": drivers.by_sqlite3, "postgresql": drivers.by_asyncpg, "mysql": drivers.by_asyncmy}

STEP_POINTS = ["begin before", "begin after", "entered", "written", *(f"commit {n}" for n in range(1, 7)), "recorded"]
OUTBOX_POINTS = ["asked", "committed", *(f"fold {n}" for n in range(1, 9)), "folded"]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def here(point: str) -> None:
    if point == POINT:
        die()


@step(transactional=True)
async def book(connection: Any = transaction(object)) -> str:
    here("entered")
    await insert(connection, current().execution_id)
    here("written")
    return "booked"


@step
async def after(what: str) -> str:
    return f"{what}, and what comes after"


@workflow(name="own_killed")
async def killed() -> str:
    return await after(await book())


# Dying in the middle ----------------------------------------------------------------------------------


class DyingAt:
    """Awaits something, and dies when it has waited for the n-th time: what was sent is on its way."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], n: int) -> None:
        self.coroutine = coroutine
        self.n = n

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.coroutine.__await__()
        try:
            got = next(inner)
            while True:
                self.n -= 1
                if self.n == 0:
                    die()
                try:
                    value = yield got
                except BaseException as error:
                    got = inner.throw(error)
                else:
                    got = inner.send(value)
        except StopIteration as end:
            return end.value


def at(name: str) -> int:
    """At which occasion of this kind to die; 0: at none."""
    kind, _, n = POINT.rpartition(" ")
    return int(n) if kind == name and n.isdigit() else 0


def trace(connection: sqlite3.Connection, n: int) -> None:
    """Die before the n-th statement from now on."""
    left = [n]

    def count(statement: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    connection.set_trace_callback(count)


def break_steps(store: Any, is_sqlite: bool) -> None:
    begin = store.begin

    async def dying(seconds: float) -> Any:
        here("begin before")
        opened = await begin(seconds)
        here("begin after")
        commit = opened.commit

        async def committing(batch: Any) -> Any:
            n = at("commit")
            if n and is_sqlite:
                trace(opened.connection, n)
            verdicts = await (DyingAt(commit(batch), n) if n and not is_sqlite else commit(batch))
            here("recorded")
            return verdicts

        opened.commit = committing
        return opened

    store.begin = dying


def break_folds(store: Any, is_sqlite: bool) -> list[None]:
    """Nothing is delivered until what this gives holds something."""
    fold = store.fold
    allowed: list[None] = []

    async def dying(limit: int, same: Any = None) -> Any:
        if not allowed:
            return []
        n = at("fold")
        if n and is_sqlite:
            trace(store._db.connection, n)
        folded = await (DyingAt(fold(limit, same), n) if n and not is_sqlite else fold(limit, same))
        if folded:
            here("folded")
        return folded

    store.fold = dying
    return allowed


# What processes do ------------------------------------------------------------------------------------


async def run(url: str, id: str, outbox: bool) -> None:
    is_sqlite = url.startswith("sqlite")
    async with Engine(url, worker=False) as client:
        for worker in await client.store.workers():
            await client.store.declare_dead(worker.id, anyway=True)
    engine = Engine(url, workflows=[killed], poll=0.05)
    async with engine:
        break_steps(engine.store, is_sqlite)
        if not outbox:
            await (await engine.start(killed.options(execution_id=id))).result(60)
        elif POINT:
            async with OPENS[url.partition(":")[0]](url) as own:
                allowed = break_folds(engine.store, is_sqlite)
                await own.do(f"insert into mine_too (execution_id, name) values ('{id}', 'asked {id}')")
                await engine.start(killed.options(execution_id=id, connection=own.connection))
                here("asked")
                await own.end("commit")
                here("committed")
                allowed.append(None)
                await engine.get(id).result(60)
        elif (await seen(url, id))["asked"]:
            await engine._outbox.fold()
            await engine.get(id).result(60)


async def seen(url: str, id: str) -> dict[str, int]:
    """One look, in one statement: what is there, and what is recorded of it."""
    query = (
        f"select (select count(*) from mine_too where name = '{id}'),"
        f" (select count(*) from step_executions where execution_id = '{id}' and status = 'completed'"
        "   and kind = 'step' and attempt >= 1 and output = '\"booked\"'),"
        f" (select count(*) from mine_too where name = 'asked {id}'),"
        f" (select count(*) from outbox where execution_id = '{id}')"
        f" + (select count(*) from workflow_executions where id = '{id}'),"
        f" (select count(*) from workflow_executions where id = '{id}' and status = 'completed')"
    )
    kind = url.partition(":")[0]
    if kind == "postgresql":
        connection = await asyncpg.connect(url)
        found = tuple(await connection.fetchrow(query))
        await connection.close()
    elif kind == "sqlite":
        file = sqlite3.connect(url.removeprefix("sqlite:///"))
        found = file.execute(query).fetchone()
        file.close()
    else:
        async with OPENS[kind](url) as own, own.connection.cursor() as cursor:
            await cursor.execute(query)
            found = await cursor.fetchone()
    return dict(zip(("rows", "records", "asked", "started", "completed"), found, strict=True))


def forked(work: Callable[[], Coroutine[Any, Any, Any]], point: str) -> str:
    """Run it in a process of its own. Gives how that ended."""
    global POINT
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        POINT = point
        try:
            asyncio.run(work())
        except BaseException as error:
            print(f"{point}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def main(url: str) -> None:
    for outbox, points in ((False, STEP_POINTS), (True, OUTBOX_POINTS)):
        for point in points:
            id = f"{'o' if outbox else 's'} {point}"
            ends = [forked(lambda: run(url, id, outbox), point)]  # noqa: B023 - it runs at once
            looks = [asyncio.run(seen(url, id))]
            ends.append(forked(lambda: run(url, id, outbox), ""))  # noqa: B023
            looks.append(asyncio.run(seen(url, id)))
            print(json.dumps({"point": id, "ends": ends, "looks": looks}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
