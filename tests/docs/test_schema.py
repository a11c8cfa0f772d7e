"""docs/schema.md against real databases: every table and column is told, none that is not there, and its SQL runs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest

from perdure import Engine, Status, interrupt, step, workflow
from perdure.stores.mysql_address import read_address
from perdure.stores.mysql_sessions import connect
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "schema.md"
TABLE = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
COLUMN = re.compile(r"^\| (\w+) \| (\S.*) \|$", re.MULTILINE)
POSTGRES_ONLY = {"queues"}
SQLITE_ONLY = {"execution_attributes"}

Columns = Mapping[str, list[str]]


def told(*, mysql: bool = False) -> dict[str, list[str]]:
    """The columns of each table in the page, in order. `mysql`: those too that only MariaDB and MySQL have."""
    tables = {}
    for name, text in TABLE.findall(PAGE.read_text()):
        first, _, _ = text.partition("| status | |")
        rows = COLUMN.findall(first)
        of_mysql = [column for column, text in rows if text.startswith("MariaDB and MySQL only")]
        if found := [column for column, _ in rows if column != "column" and (mysql or column not in of_mysql)]:
            tables[name] = found
    return tables


def sqlite_columns(path: Path) -> dict[str, list[str]]:
    with sqlite3.connect(path) as database:
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        tables = {
            name: [row[1] for row in database.execute(f"pragma table_info({name})")]
            for name in names
            if not name.startswith("sqlite_")
        }
    database.close()
    return tables


async def postgres_columns(url: str) -> dict[str, list[str]]:
    connection = await asyncpg.connect(url)
    try:
        tables: dict[str, list[str]] = {}
        for row in await connection.fetch(
            "select table_name, column_name from information_schema.columns"
            " where table_schema = 'public' order by table_name, ordinal_position"
        ):
            tables.setdefault(row["table_name"], []).append(row["column_name"])
        return tables
    finally:
        await connection.close()


def queries(dialect: str) -> list[str]:
    return [b.text for b in blocks(PAGE.read_text()) if b.language == "sql" and b.options in ((), (dialect,))]


@step
async def weigh(item: str) -> int:
    return len(item)


@workflow(name="schema_page")
async def something(item: str) -> bool:
    await weigh(item)
    return bool(await interrupt("Send it?", schema=bool))


async def fill(url: str) -> None:
    """An execution that has a step, an answered request and an attribute; another that waits."""
    async with Engine(url, workflows=[something]) as engine:
        for name in ("one", "two"):
            options = something.options(execution_id=name, attributes={"customer": 7})
            handle = await engine.start(options, "a lamp")
            await handle.outcome()
        await engine.answer("one:interrupt#1", True, by="ana")
        await engine.get("one").result()


ROWS = [2, 1, 0, 1, 2, 1, 0]
"""How many rows the page's queries find in what `fill` leaves, in order."""


@pytest.fixture
async def sqlite_file(tmp_path: Path) -> Path:
    await fill(f"sqlite:///{tmp_path}/docs.db")
    return tmp_path / "docs.db"


async def test_every_column_of_sqlite_is_told(sqlite_file: Path) -> None:
    assert sqlite_columns(sqlite_file) == {name: cs for name, cs in told().items() if name not in POSTGRES_ONLY}


async def test_the_queries_run_on_sqlite(sqlite_file: Path) -> None:
    with sqlite3.connect(sqlite_file) as database:
        assert [len(database.execute(query).fetchall()) for query in queries("sqlite")] == ROWS
    database.close()


@pytest.mark.postgres
async def test_every_column_of_postgres_is_told(postgres_url: str) -> None:
    await fill(postgres_url)
    wanted = {name: columns for name, columns in told().items() if name not in SQLITE_ONLY}
    assert await postgres_columns(postgres_url) == wanted


@pytest.mark.mysql
async def test_every_column_of_mariadb_is_told(mysql_url: str) -> None:
    await fill(mysql_url)
    session = await connect(read_address(mysql_url))
    statement = (
        "select table_name, column_name from information_schema.columns"
        " where table_schema = database() and generation_expression is null order by table_name, ordinal_position"
    )
    found: dict[str, list[str]] = {}
    for table, column in (await session.run(statement))[0].tuples:
        found.setdefault(table, []).append(column)
    await session.close()
    assert found == {name: columns for name, columns in told(mysql=True).items() if name not in SQLITE_ONLY}


@pytest.mark.postgres
async def test_the_queries_run_on_postgres(postgres_url: str) -> None:
    await fill(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    try:
        assert [len(await connection.fetch(query)) for query in queries("postgres")] == ROWS
    finally:
        await connection.close()


def test_every_status_is_told() -> None:
    rows = PAGE.read_text().partition("| status | |")[2].partition("\n\n")[0]
    assert set(re.findall(r"[a-z_]+", " ".join(re.findall(r"^\| ([a-z_, ]+) \|", rows, re.MULTILINE)))) == set(Status)


def test_the_page_has_no_sql_that_nobody_runs() -> None:
    every = [block for block in blocks(PAGE.read_text()) if block.language == "sql"]
    assert {block.options for block in every} == {(), ("sqlite",), ("postgres",)}
    assert {block.language for block in blocks(PAGE.read_text())} == {"sql"}
