"""Workflows whose steps write rows of the user's, on each database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from typing import Any

import asyncmy
import asyncpg

from perdure import Retry, current, emit, gather, step, transaction, workflow
from perdure.stores.own_connections import recognize
from tests.own_transactions import drivers

TABLE = "create table mine_too (execution_id varchar(255) not null, name varchar(50) not null unique, n integer)"
INSERT = "insert into mine_too (execution_id, name, n) values (:execution_id, :name, :n)"


async def insert(connection: Any, name: str, n: int = 0) -> None:
    done = recognize(connection).run(INSERT, {"execution_id": current().execution_id, "name": name, "n": n})
    if asyncio.iscoroutine(done) or asyncio.isfuture(done):
        await done


GATES: dict[str, asyncio.Event] = {}
"""What a body waits for, by the execution's id."""

ENTERED: dict[str, asyncio.Event] = {}


async def passes(id: str) -> None:
    if id in GATES:
        ENTERED[id].set()
        await GATES[id].wait()


def gate(id: str) -> tuple[asyncio.Event, asyncio.Event]:
    """(entered, may go on)"""
    ENTERED[id], GATES[id] = asyncio.Event(), asyncio.Event()
    return ENTERED[id], GATES[id]


@step(transactional=True, retry=Retry(attempts=2, initial=0.0))
async def book(name: str, how: str = "well", connection: Any = transaction(object)) -> str:
    await insert(connection, name, current().attempt)
    await emit(name)
    await passes(current().execution_id)
    if how == "raises" or (how == "raises once" and current().attempt == 1):
        raise ValueError(f"no {name}")
    return f"{name} booked"


@step
async def look(n: int) -> int:
    return n + 1


@step(transactional=True)
async def calls_another(connection: Any = transaction(object)) -> int:
    return await look(1)


@step(transactional=True, timeout=0.2)
async def is_slow(name: str, connection: Any = transaction(object)) -> None:
    await insert(connection, name)
    await asyncio.Event().wait()


@step(transactional=True)
def in_thread(name: str, connection: sqlite3.Connection = transaction(sqlite3.Connection)) -> str:
    with connection:  # commits nothing here
        connection.execute("insert into mine_too (execution_id, name) values (?, ?)", (current().execution_id, name))
    return name


@step(transactional=True)
async def ends_it(name: str, statement: str, connection: Any = transaction(object)) -> None:
    await insert(connection, name)
    done = recognize(connection).run(statement, {})
    if asyncio.iscoroutine(done):
        await done


@workflow(name="own_booking")
async def booking(name: str, how: str = "well") -> str:
    await look(1)
    return await book(name, how)


@workflow(name="own_many")
async def many(number: int) -> list[Any]:
    """Transactional steps and others at once."""
    calls: list[Any] = [look(n) for n in range(number)]
    calls += [book(f"{current().execution_id}-{n}") for n in range(number)]
    return await gather(*calls)


@workflow(name="own_odd")
async def odd(kind: str, name: str) -> Any:
    match kind:
        case "nested":
            return await calls_another()
        case "slow":
            return await is_slow(name)
        case "thread":
            return await in_thread.aio(name)
        case statement:
            return await ends_it(name, statement)


@workflow(name="own_driver")
async def by_driver(kind: str, name: str) -> str:
    return await BY_DRIVER[kind](name)


@step(name="by_sqlite3", transactional=True)
async def by_sqlite3(name: str, connection: sqlite3.Connection = transaction(sqlite3.Connection)) -> str:
    connection.execute("insert into mine_too (execution_id, name) values ('x', ?)", (name,))
    return f"{type(connection).__mro__[1].__module__}"


@step(name="by_asyncpg", transactional=True)
async def by_asyncpg(name: str, connection: asyncpg.Connection = transaction(asyncpg.Connection)) -> str:
    async with connection.transaction():
        await connection.execute("insert into mine_too (execution_id, name) values ('x', $1)", name)
    return "asyncpg"


@step(name="by_asyncmy", transactional=True)
async def by_asyncmy(name: str, connection: asyncmy.Connection = transaction(asyncmy.Connection)) -> str:
    async with connection.cursor() as cursor:
        await cursor.execute("insert into mine_too (execution_id, name) values ('x', %s)", (name,))
    return "asyncmy"


BY_DRIVER: dict[str, Any] = {"sqlite": by_sqlite3, "postgresql": by_asyncpg, "mysql": by_asyncmy}
WORKFLOWS = [booking, many, odd, by_driver]


async def rows(url: str) -> list[tuple[str, str]]:
    """The user's rows, as (execution's id, name)."""
    query = "select execution_id, name from mine_too order by name"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return list(connection.execute(query))
    if url.startswith("postgresql"):
        server = await asyncpg.connect(url)
        found = [tuple(row) for row in await server.fetch(query)]
        await server.close()
        return found  # type: ignore[return-value]
    async with drivers.by_asyncmy(url) as own, own.connection.cursor() as cursor:
        await cursor.execute(query)
        return list(await cursor.fetchall())


def die() -> None:
    os.kill(os.getpid(), 9)
