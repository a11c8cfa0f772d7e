"""A database that holds 1,000,000 finished executions, and some open ones: what is asked of it stays quick."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.flows import ask, many
from bench.places import Places
from bench.report import Report
from perdure import Engine
from perdure.clock import SECOND
from perdure.records import Query, Status, WorkerRecord
from perdure.store import Store
from perdure.stores import open_store
from perdure.stores.migrations import Migration

TIMES = 7
MOST = 50.0
"""Milliseconds."""
MOST_LOOKED_AT = 10_000
"""Executions: what `Engine.count` looks at, at most, unless it is told to look at all."""
ALL_PAGES = "list: a text that one has, all its pages"
EXACT = "count, all looked at: "
"""It takes as long as there are executions to be looked at, on each database: so it is asked for."""

Ask = Callable[[], Awaitable[Any]]


def statements(dialect: str, many: int = 1_000_000) -> list[str]:
    """What fills a database, the last execution being made now."""
    text = Path(__file__).with_name(f"scale_{dialect}.sql").read_text().replace("1000000", str(many))
    return Migration(1, "scale", 1, text).statements


async def questions(store: Store) -> dict[str, Ask]:
    """What is asked, by its name. A list asks for the first 100."""
    now = (await store.list(Query(), 1, None)).items[0].created_at
    middle = now - 500_000 * SECOND
    queries = {
        "all": Query(),
        "the oldest": Query(order="oldest"),
        "a status": Query(status=(Status.FAILED,)),
        "a status that is rare": Query(status=(Status.WAITING,)),
        "a status that nothing has": Query(status=(Status.BLOCKED,)),
        "a workflow": Query(workflow="w3"),
        "a workflow that is rare": Query(workflow="rare"),
        "a workflow that nothing has": Query(workflow="never"),
        "a version": Query(version=2),
        "a queue that is rare": Query(queue="odd"),
        "a workflow, a queue and a status": Query(workflow="w3", queue="default", status=(Status.FAILED,)),
        "children of one": Query(parent="order-00500004"),
        "who started it": Query(by="user:504"),
        "an attribute": Query(attributes=(("customer", "504"),)),
        "a beginning of the id": Query(id_prefix="order-00999"),
        "a beginning that one id has": Query(id_prefix="order-00000007"),
        "a beginning that all ids have": Query(id_prefix="order-"),
        "since a time": Query(since=middle),
        "until a time": Query(until=middle),
        "between two times": Query(since=middle, until=middle + 50 * SECOND),
        "what ended before a time": Query(ended_before=middle),
        "a text that many have": Query(text="customer"),
        "a text that one has": Query(text="00000007"),
        "a text that none has": Query(text="nobody"),
    }
    asked: dict[str, Ask] = {
        f"list: {name}": lambda q=query: store.list(q, 100, None) for name, query in queries.items()
    }
    asked |= {f"count: {name}": lambda q=query: store.count(q, MOST_LOOKED_AT) for name, query in queries.items()}
    for name, query in queries.items():
        if not (await store.count(query, MOST_LOOKED_AT)).complete:
            asked[f"{EXACT}{name}"] = lambda q=query: store.count(q)
    asked[ALL_PAGES] = lambda: _pages(store, queries["a text that one has"])
    worker = await store.register(WorkerRecord(0), 3600.0)
    asked["claim of nothing"] = lambda: store.claim(worker.id, 1, 10, [("many", 1), ("w3", 1)], ["default"], now)
    asked["nudged"] = lambda: store.nudged(worker.id)
    asked["next_wake"] = store.next_wake
    asked["inbox of 100"] = lambda: store.inbox([f"order-{n:08}" for n in range(5000, 5100)])
    asked["load of 100"] = lambda: store.load([f"order-{n:08}" for n in range(5000, 5100)])
    asked["requests"] = store.requests
    asked["requests of one"] = lambda: store.requests(execution_ids=["order-00500010"], status=None)
    asked["stats (tallies)"] = store.tallies
    asked["workers"] = store.workers
    asked["a page in the middle"] = await _middle(store, middle)
    return asked


async def _pages(store: Store, query: Query) -> None:
    page = await store.list(query, 100, None)
    while page.cursor is not None:
        page = await store.list(query, 100, page.cursor)


async def _middle(store: Store, middle: int) -> Ask:
    page = await store.list(Query(until=middle), 100, None)
    return lambda: store.list(Query(), 100, page.cursor)


async def scale(report: Report, name: str, url: str, fill: Callable[[], Awaitable[None]]) -> None:
    async with Engine(url, build="bench", workflows=[many, ask]) as engine:
        await engine.run(many, 3)
        began = time.perf_counter()
        await fill()
        report.line(f"{name}: filling it with 1,000,000 finished executions", time.perf_counter() - began, "s")
        for n in range(50):
            await (await engine.start(ask.options(execution_id=f"open-{n}"), n)).outcome()
        took = []
        for _ in range(TIMES * 3):
            began = time.perf_counter()
            await engine.run(many, 1)
            took.append((time.perf_counter() - began) * 1000)
        report.line(f"{name}, 1,000,000: a start to its result", statistics.median(took), "ms", most=MOST)
    store = open_store(url)
    await store.open()
    try:
        for what, act in (await questions(store)).items():
            await act()
            took = []
            is_long = what == ALL_PAGES or what.startswith(EXACT)
            for _ in range(3 if is_long else TIMES):
                began = time.perf_counter()
                await act()
                took.append((time.perf_counter() - began) * 1000)
            promised = None if is_long else MOST
            report.line(f"{name}, 1,000,000: {what}", statistics.median(took), "ms", most=promised)
    finally:
        await store.close()


def sqlite(report: Report, places: Places) -> None:
    url = places.sqlite()

    async def fill() -> None:
        def run() -> None:
            connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60.0)
            for statement in statements("sqlite"):
                connection.execute(statement)
            connection.commit()
            connection.close()

        await asyncio.to_thread(run)

    asyncio.run(scale(report, "SQLite", url, fill))


def postgres(report: Report, places: Places) -> None:
    import asyncpg

    url = places.postgres()

    async def fill() -> None:
        connection = await asyncpg.connect(url)
        for statement in statements("postgres"):
            await connection.execute(statement)
        await connection.execute("vacuum workflow_executions")
        await connection.close()

    asyncio.run(scale(report, "PostgreSQL", url, fill))


def mariadb(report: Report, places: Places) -> None:
    import asyncmy

    url = places.mariadb()
    address, _, database = url.removeprefix("mysql://root@").partition("/")
    host, _, port = address.partition(":")

    async def fill() -> None:
        connection = await asyncmy.connect(host=host, port=int(port), user="root", db=database, autocommit=True)
        async with connection:
            for statement in ["set names utf8mb4 collate utf8mb4_nopad_bin", *statements("mariadb")]:
                await connection.query(statement)

    asyncio.run(scale(report, "MariaDB", url, fill))
