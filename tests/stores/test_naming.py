"""Our tables in a schema of their own and with a prefix: every statement finds them there, and only there."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import asyncpg
import pytest

from perdure import Completed, Engine, PerdureError, step, workflow
from perdure.stores.conditions import composed, numbered
from perdure.stores.migrations import load_migrations
from perdure.stores.mysql import MysqlStore
from perdure.stores.mysql_address import read_address as read_mysql_address
from perdure.stores.mysql_columns import PARTS as MYSQL_PARTS
from perdure.stores.naming import Names, load_statements, named_migrations
from perdure.stores.postgres import PostgresStore
from perdure.stores.postgres_address import PARTS, read_address
from perdure.stores.queries import load_queries
from perdure.testing.check_store import CHECKS, run_check
from tests.servers import MariaDbServer, PgBouncer


@step
async def add(a: int, b: int) -> int:
    return a + b


@workflow(name="named")
async def named(a: int) -> int:
    return await add(a, 1) + await add(a, 2)


async def _fetch(url: str, statement: str, *values: object) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(statement, *values)
        return rows
    finally:
        await connection.close()


@pytest.mark.postgres
async def test_every_statement_of_postgresql_finds_its_tables_without_a_search_path(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, schema="own-one", table_prefix="app_")
    await store.open()
    await store.mark_moved(None)  # the one table that is made on demand
    await store.close()
    connection = await asyncpg.connect(postgres_url, server_settings={"search_path": "nowhere"})
    first = "select attname from pg_attribute where attnum = 1 and attrelid = $1::text::regclass"
    try:
        known = load_statements(PARTS, Names("postgres", "own-one", "app_"))
        conditions = [name for name in known if name.startswith("where_")]
        of_tallies = [name for name in known if name.startswith("tallied_")]
        for name, statement in known.items():
            if name in conditions or name in of_tallies:
                continue
            if name in load_queries("postgres_lists"):
                pieces = of_tallies if name == "count_tallied" else conditions
                statement, _ = numbered(composed(known, name, pieces), defaultdict(str))
            if "{columns}" in statement:
                column = await connection.fetchval(first, f'"own-one"."app_{name.removeprefix("unpack_")}"')
                statement = statement.replace("{columns}", column)
            await connection.prepare(statement, name=f"try_{name}")
    finally:
        await connection.close()


@pytest.mark.postgres
async def test_two_that_have_a_schema_or_a_prefix_share_a_database(postgres_url: str) -> None:
    own = [
        Engine(PostgresStore(postgres_url, **how), workflows=[named])
        for how in ({}, {"schema": "own"}, {"schema": "own", "table_prefix": "b_"}, {"table_prefix": "c_"})
    ]
    for number, engine in enumerate(own):
        async with engine:
            handle = await engine.start(named.options(execution_id="same"), number)
            assert await handle.outcome(timeout=60) == Completed(2 * number + 3)
    rows = await _fetch(
        postgres_url,
        "select relnamespace::regnamespace::text || '.' || relname as name from pg_class"
        " where relkind = 'r' and relname like '%workflow_executions' order by 1",
    )
    names = ["own.b_workflow_executions", "own.workflow_executions"]
    assert [row["name"] for row in rows] == [*names, "public.c_workflow_executions", "public.workflow_executions"]


@pytest.mark.postgres
@pytest.mark.parametrize("group", sorted({check.group for check in CHECKS}))
async def test_a_store_with_names_of_its_own_keeps_its_promises_behind_a_pooler(
    transaction_pooler: PgBouncer, postgres_url: str, group: str
) -> None:
    url = f"{transaction_pooler.url(postgres_url)}?schema=own&table_prefix=app_"
    for check in CHECKS:
        if check.group == group:
            await run_check(check, lambda: PostgresStore(url))


@pytest.mark.mysql
async def test_every_statement_of_mariadb_finds_its_tables_in_another_database(mariadb_server: MariaDbServer) -> None:
    with mariadb_server.database() as url, mariadb_server.database() as other:
        schema = other.rsplit("/", 1)[1]
        for check in CHECKS:
            if check.group in ("commits", "claims", "deliveries", "reads", "keeping"):
                await run_check(check, lambda: MysqlStore(url, schema=schema, table_prefix="app_"))
        store = MysqlStore(url)  # nothing of it is in the database of the URL
        await store.open()
        assert await store.workers() == []
        await store.close()


def test_names_that_would_need_care_are_refused() -> None:
    for schema in ("", "own; drop", 'a"b', "1st", "x" * 64, "pg_mine", "a.b", "ä"):
        with pytest.raises(PerdureError, match="schema="):
            Names("postgres", schema)
    for prefix in ("a-", "1", "x" * 25, "a.b", "a b"):
        with pytest.raises(PerdureError, match="table_prefix="):
            Names("mysql", None, prefix)


@pytest.mark.parametrize("dialect", ["postgres", "mysql"])
def test_a_column_keeps_its_name_where_a_table_is_called_alike(dialect: Any) -> None:
    parts = PARTS if dialect == "postgres" else MYSQL_PARTS
    said = load_statements(parts, Names(dialect, None, "p_"))["register_worker"].replace('"', "`")
    assert "insert into `p_workers` (epoch" in said
    assert "workflows, queues" in said
    for table in {table for known in load_migrations(dialect) for table in known.tables}:
        text = "".join(known.text for known in named_migrations(Names(dialect, None, "p_"))).replace('"', "`")
        assert len(re.findall(rf"create table `p_{table}`", text)) == 1


def test_names_stand_in_the_url_too_and_a_database_at_supabase_gets_a_schema_by_itself() -> None:
    assert read_address("postgresql:///x?schema=own&table_prefix=a_").names == Names("postgres", "own", "a_")
    assert "schema" not in read_address("postgresql:///x?schema=own&table_prefix=a_").dsn
    assert read_address("postgresql:///x").names == Names("postgres")
    at_supabase = "postgresql://postgres@db.abc.supabase.co:5432/postgres"
    assert read_address(at_supabase).names.schema == "perdure"
    assert read_address(at_supabase, schema="public").names.schema == "public"
    assert read_mysql_address("mysql://a@b/x?schema=own&table_prefix=a_").names == Names("mysql", "own", "a_")
