"""What databases with SQL keep: an older one that is brought up to date, and all tables that a pruning clears."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from perdure.errors import SchemaVersionError
from perdure.records import Query, Schedule, Status, WorkerRecord
from perdure.stores.migrations import load_migrations
from perdure.stores.postgres import PostgresStore
from perdure.stores.sqlite import SqliteStore
from perdure.testing.checks.scene import Scene

WHEN = "2026-11-21T20:33:00.123456Z"

# As a library writes that knows the first schema alone; both dialects read it alike.
EXECUTION = f"""
insert into workflow_executions (
    id, workflow, version, status, queue, priority, owner, fence, nudges, generation, input, output, error, encoding,
    checksum, wish, wish_by, wish_reason, reason, wake_at, parent_id, parent_key, started_by, attributes, build,
    crashes, crash_seq, token, created_at, updated_at, ended_at
) values (
    '%s', 'flow', 1, 'pending', 'default', 0, null, 4, 0, 0, '"as it was"', null, null, 'json', 5, null, null, null,
    null, null, null, null, null, null, 'b0', 0, 0, 't', '{WHEN}', '{WHEN}', null
)
"""
ENTRY = f"""
insert into step_executions (
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
) values ('%s', 1, 0, 'step#1', 'step', 'completed', 1, 1, null, null, '1', null, 'json', 5, 'b0', '{WHEN}', '{WHEN}')
"""
FIRST = f"insert into schema_versions values (1, '{WHEN}', 1)"

# Rows that no verb writes yet.
BESIDES = [
    "insert into state_snapshots values ("
    f"'%s', 1, '', 0, null, 'wait', 'full', null, 'd', '{{}}', 'json', 0, '{WHEN}')",
    "insert into approval_decisions (request_id, ordinal, decision, decided_at)"
    f" values ('r-%s', 1, 'approved', '{WHEN}')",
    "insert into audit_events (execution_id, ordinal, what, previous, digest, created_at)"
    f" values ('%s', 1, 'approved', '', 'd', '{WHEN}')",
    "insert into rollback_actions values ("
    "'%s', 0, 1, 'step#1', 'undo', 'planned', 1, null, null, 'json', 0, null, null, null)",
    "insert into payload_chunks values ('%s', 'd', 'x', 'json')",
    "insert into outbox (kind, execution_id, content, refused) values ('start', '%s', '{}', 'it exists')",
]
OF_AN_EXECUTION = [
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "approval_decisions",
    "rollback_actions",
    "audit_events",
    "messages",
    "payload_chunks",
    "outbox",
]

Run = Callable[[Iterable[str]], Awaitable[list[Any]]]


def sqlite_runner(path: Path) -> Run:
    async def run(statements: Iterable[str]) -> list[Any]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("begin immediate")
            found: list[Any] = []
            for statement in statements:
                found = connection.execute(statement).fetchall()
            connection.execute("commit")
            return found

    return run


def postgres_runner(url: str) -> Run:
    async def run(statements: Iterable[str]) -> list[Any]:
        connection = await asyncpg.connect(url)
        found: list[Any] = []
        for statement in statements:
            found = list(map(tuple, await connection.fetch(statement)))
        await connection.close()
        return found

    return run


def first_schema(dialect: str) -> list[str]:
    return [*load_migrations(dialect)[0].statements, FIRST, EXECUTION % "old", ENTRY % "old"]


async def all_is_as_it_was_and_works(store: SqliteStore | PostgresStore, run: Run) -> None:
    versions = await run(["select version, oldest_writer from schema_versions order by version"])
    assert versions == [(version, 1) for version in range(1, len(versions) + 1)]
    await run([EXECUTION % "written since", ENTRY % "written since"])
    ids = ["old", "written since"]
    for row in (await store.get(ids)).values():
        assert (row.input, row.fence, row.checksum) == ('"as it was"', 4, 5)
        assert (row.started_at, row.base_seq, row.refused) == (None, 0, None)
    journals = await store.load(ids)
    assert [entry.output for id in ids for entry in journals[id]] == ["1", "1"]
    worker = await store.register(WorkerRecord(0), 60.0)
    claimed = await store.claim(worker.id, 1, 10, [("flow", 1)], ["default"], store_now(store), build="b1")
    assert [(row.id, row.fence, row.started_at is not None) for row in claimed] == [(id, 5, True) for id in ids]
    await store.put_schedule(Schedule("s", "flow", 1, "* * * * *", "UTC", "skip", False, "{}"))
    assert [schedule.name for schedule in await store.schedules()] == ["s"]
    assert await store.count(Query(queue="default")) == {"running": 2}


def store_now(store: SqliteStore | PostgresStore) -> int:
    return store.clock.now() if isinstance(store, SqliteStore) else 0


async def test_an_older_sqlite_file_is_brought_up_to_date_as_it_is_opened(tmp_path: Path) -> None:
    run = sqlite_runner(tmp_path / "old.db")
    await run(first_schema("sqlite"))
    store = SqliteStore(tmp_path / "old.db")
    await store.open()
    await all_is_as_it_was_and_works(store, run)
    await store.close()


@pytest.mark.postgres
async def test_an_older_postgres_database_is_brought_up_to_date_when_it_is_asked_for(postgres_url: str) -> None:
    run = postgres_runner(postgres_url)
    await run(first_schema("postgres"))
    store = PostgresStore(postgres_url)
    with pytest.raises(SchemaVersionError, match="has schema 1; this library needs schema 7"):
        await store.open()
    created = [name for name, new in await store.migrate() if new]
    assert created == ["audit_events", "schedules", "queues", "outbox", "execution_tallies"]
    await store.open()
    await all_is_as_it_was_and_works(store, run)
    await store.close()


async def test_a_table_of_somebody_else_is_in_the_way_of_an_upgrade_of_sqlite(tmp_path: Path) -> None:
    await sqlite_runner(tmp_path / "old.db")([*first_schema("sqlite"), "create table schedules (mine text)"])
    store = SqliteStore(tmp_path / "old.db")
    with pytest.raises(SchemaVersionError, match=r"not Perdure's: \['schedules'\]"):
        await store.open()
    await store.close()


@pytest.mark.postgres
async def test_a_table_of_somebody_else_is_in_the_way_of_an_upgrade_of_postgres(postgres_url: str) -> None:
    run = postgres_runner(postgres_url)
    await run([*first_schema("postgres"), "create table queues (mine text)"])
    store = PostgresStore(postgres_url)
    await store._pool.open()
    with pytest.raises(SchemaVersionError, match=r"not Perdure's: \['queues'\]"):
        await store.migrate()
    await store.close()
    assert await run(["select version from schema_versions"]) == [(1,)]


async def nothing_is_left_after_pruning(store: SqliteStore | PostgresStore, run: Run) -> None:
    scene = await Scene.begin(store)
    for suffix in ("a", "b"):
        await scene.run(suffix)
        await scene.post(f"m-{suffix}", suffix)
        request = scene.request(suffix, suffix)
        request.id = f"r-{scene.id(suffix)}"
        change = scene.change(suffix, Status.FAILED)
        await scene.commit(entries=[scene.entry(suffix)], requests=[request], changes=[change])
        await run([statement % scene.id(suffix) for statement in BESIDES])
    assert await store.prune([scene.id("a")]) == [scene.id("a")]
    for table in OF_AN_EXECUTION:
        assert await run([f"select count(*) from {table}"]) == [(1,)], table
    assert await store.prune([scene.id("b")]) == [scene.id("b")]
    for table in OF_AN_EXECUTION:
        assert await run([f"select count(*) from {table}"]) == [(0,)], table


async def test_pruning_clears_every_table_of_sqlite(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "perdure.db")
    await store.open()
    await nothing_is_left_after_pruning(store, sqlite_runner(tmp_path / "perdure.db"))
    await store.close()


@pytest.mark.postgres
async def test_pruning_clears_every_table_of_postgres(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    await nothing_is_left_after_pruning(store, postgres_runner(postgres_url))
    await store.close()
