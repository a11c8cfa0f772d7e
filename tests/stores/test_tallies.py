"""What is kept counted is what counting would find, whoever wrote, and by whatever statement."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from perdure.records import ENDED, Query, Status
from perdure.store import Store
from perdure.stores.migrations import load_migrations
from perdure.stores.postgres import PostgresStore
from perdure.stores.sqlite import SqliteStore
from perdure.testing.checks.scene import Scene
from tests.stores.test_sql_schema import EXECUTION, WHEN, postgres_runner, sqlite_runner

Run = Callable[[Sequence[str]], Awaitable[list[Any]]]
BY_HAND = "select workflow, version, queue, status, count(*) from workflow_executions group by 1, 2, 3, 4"
STATUSES = [status for status in Status if status is not Status.RUNNING]


async def agree(store: Store, run: Run) -> None:
    """Counts of every kind are what the table holds."""
    rows = await run([BY_HAND])
    queries = [Query(), Query(order="oldest")]
    queries += [Query(status=(status,)) for status in Status]
    queries += [Query(workflow="w1"), Query(version=2), Query(queue="q"), Query(workflow="w1", version=1, queue="q")]
    queries += [Query(workflow="w1", status=(Status.FAILED, Status.PENDING)), Query(workflow="never")]
    for query in queries:
        wanted: Counter[str] = Counter()
        for workflow, version, queue, status, number in rows:
            if (
                query.workflow in (None, workflow)
                and query.version in (None, version)
                and query.queue in (None, queue)
                and (not query.status or status in query.status)
            ):
                wanted[status] += number
        assert await store.count(query) == dict(wanted), query
    by_place: Counter[tuple[str, str, str]] = Counter()
    for workflow, _, queue, status, number in rows:
        by_place[workflow, queue, status] += number
    tallies = await store.tallies()
    assert {(t.workflow, t.queue, t.status): t.number for t in tallies} == dict(by_place)
    assert [(t.workflow, t.queue, t.status) for t in tallies] == sorted(by_place)
    assert all((t.oldest is None) == (t.status in ENDED) for t in tallies)


def some(chance: random.Random, n: int) -> str:
    """An execution by a statement of somebody's own."""
    status, workflow, queue = chance.choice(STATUSES), chance.choice(["w1", "w2"]), chance.choice(["default", "q"])
    ended = f"'{WHEN}'" if status in ENDED else "null"
    text = (EXECUTION % n).replace(
        "'flow', 1, 'pending', 'default'", f"'{workflow}', {n % 2 + 1}, '{status}', '{queue}'"
    )
    return text.replace(f"'{WHEN}', null\n", f"'{WHEN}', {ended}\n")


async def whoever_writes(store: Store, run: Run) -> None:
    chance = random.Random(5)
    for n in range(120):
        await run([some(chance, n)])
    await agree(store, run)
    for n in range(0, 120, 3):
        await run([f"update workflow_executions set status = '{chance.choice(STATUSES)}' where id = '{n}'"])
    await run(["update workflow_executions set queue = 'default', version = 3 where id like '1%'"])
    await run(["update workflow_executions set status = 'failed' where status in ('completed', 'waiting')"])
    await run(["update workflow_executions set nudges = nudges + 1"])
    await agree(store, run)
    await run(["delete from workflow_executions where id like '%7'"])
    await agree(store, run)
    scene = await Scene.begin(store)
    await scene.run("a")
    await scene.run("b", workflow="w1")
    await scene.commit(changes=[scene.change("a", Status.FAILED), scene.change("b", Status.WAITING)])
    await agree(store, run)
    assert await store.prune([scene.id("a")]) == [scene.id("a")]
    await agree(store, run)
    await run(["delete from workflow_executions"])
    assert (await store.count(Query()), list(await store.tallies())) == ({}, [])


async def test_sqlite_counts_whoever_writes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "perdure.db")
    await store.open()
    await whoever_writes(store, sqlite_runner(tmp_path / "perdure.db"))
    await store.close()


@pytest.mark.postgres
async def test_postgres_counts_whoever_writes(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    run = postgres_runner(postgres_url)
    await whoever_writes(store, run)
    chance = random.Random(6)
    await run([some(chance, n) for n in range(50)])
    await run(["truncate workflow_executions"])
    assert (await store.count(Query()), list(await store.tallies())) == ({}, [])
    await store.close()


BEFORE = 6
"""The schema that counted nothing."""


def what_was_there() -> list[str]:
    chance = random.Random(7)
    told = [f"insert into schema_versions values ({version + 1}, '{WHEN}', 1)" for version in range(BEFORE)]
    return [*told, *(some(chance, n) for n in range(80))]


async def test_sqlite_counts_what_was_there_before(tmp_path: Path) -> None:
    run = sqlite_runner(tmp_path / "perdure.db")
    await run([s for known in load_migrations("sqlite")[:BEFORE] for s in known.statements])
    await run(what_was_there())
    store = SqliteStore(tmp_path / "perdure.db")
    await store.open()
    await agree(store, run)
    await store.close()


@pytest.mark.postgres
async def test_postgres_counts_what_was_there_before(postgres_url: str) -> None:
    run = postgres_runner(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    for known in load_migrations("postgres")[:BEFORE]:
        await connection.execute(known.text)
    await connection.close()
    await run(what_was_there())
    store = PostgresStore(postgres_url)
    await store._pool.open()
    await store.migrate()
    await store.open()
    await agree(store, run)
    await store.close()


@pytest.mark.postgres
async def test_postgres_folds_what_was_added_while_others_write(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    run = postgres_runner(postgres_url)
    chance = random.Random(8)
    await run([some(chance, n) for n in range(40)])

    async def change(connection: Any, seed: int) -> None:
        own = random.Random(seed)
        for _ in range(300):
            status = own.choice(["completed", "failed", "pending"])
            id = own.randrange(10) * 4 + seed  # rows of its own: the others' are not waited for
            await connection.execute("update workflow_executions set status = $1 where id = $2", status, str(id))

    connections = [await asyncpg.connect(postgres_url) for _ in range(4)]
    await asyncio.gather(*(change(connection, seed) for seed, connection in enumerate(connections)))
    await agree(store, run)
    (row,) = await run(["select count(*), max(id) from execution_tallies"])
    assert row[1] > 500 > row[0], "they were folded"
    await asyncio.gather(*(connection.close() for connection in connections))
    await store.close()


@pytest.mark.postgres
async def test_who_may_only_work_on_postgres_counts_too(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    run = postgres_runner(postgres_url)
    role = f"worker_{postgres_url.rpartition('/')[2]}"
    rights = "select, insert, update, delete on workflow_executions"  # as granted before there was anything to count
    await run([f"create role {role} login", f"grant {rights} to {role}"])
    connection = await asyncpg.connect(postgres_url, user=role)
    chance = random.Random(9)
    for n in range(20):
        await connection.execute(some(chance, n))
    await connection.execute("update workflow_executions set status = 'completed'")
    await connection.close()
    await agree(store, run)
    assert await store.count(Query()) == {"completed": 20}
    await run([f"drop owned by {role}", f"drop role {role}"])
    await store.close()
