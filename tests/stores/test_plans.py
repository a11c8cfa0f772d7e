"""Which index finds what is asked all the time, with tens of thousands of executions: no table is read as a whole."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bench.scale import statements
from perdure.records import Query, Status, WorkerRecord
from perdure.stores.conditions import composed, conditions, numbered, page_name
from perdure.stores.counting import leads
from perdure.stores.mysql import MysqlStore
from perdure.stores.mysql_columns import Statements, filled
from perdure.stores.mysql_reads import _values as mysql_values
from perdure.stores.naming import Names, load_statements
from perdure.stores.postgres import PostgresStore
from perdure.stores.postgres_address import PARTS
from perdure.stores.postgres_columns import pack_query
from perdure.stores.postgres_sessions import CommitSession
from perdure.stores.sqlite import SqliteStore
from perdure.stores.sqlite_reads import _values as sqlite_values

SQL = load_statements(PARTS, Names("postgres"))
MYSQL = Statements(Names("mysql"))
MANY = 30_000
LARGE = ("workflow_executions", "step_executions", "approval_requests", "messages")

LISTS: dict[str, tuple[Query, str]] = {
    "all": (Query(), "by_age"),
    "the oldest": (Query(order="oldest"), "by_age"),
    "a status": (Query(status=(Status.FAILED,)), "seldom"),
    "a status that nothing has": (Query(status=(Status.BLOCKED,)), "seldom"),
    "a workflow": (Query(workflow="w3"), "of_workflow"),
    "a workflow that nothing has": (Query(workflow="never"), "of_workflow"),
    "a queue": (Query(queue="odd"), "of_queue"),
    "who started it": (Query(by="user:504"), "of_starter"),
    "children": (Query(parent="order-00000004"), "children"),
    "one id": (Query(id_prefix="order-00000007"), "pkey"),
}
"""Queries, and the index that finds what they ask for, by the end of its name."""

OTHER_NAMES = {
    "sqlite": {"by_age": "created", "children": "parent", "pkey": "sqlite_autoindex_workflow_executions_1"},
    "mysql": {"seldom": "of_status", "pkey": "PRIMARY"},
}

MADE_IN_ORDER = {"all", "the oldest", "a status", "a workflow", "a queue", "who started it"}
"""Lists that come out of their index as they are, nothing is sorted (PostgreSQL may rather sort a few rows)."""


def index_of(dialect: str, name: str) -> str:
    return OTHER_NAMES.get(dialect, {}).get(name, name)


# PostgreSQL -----------------------------------------------------------------------------------------------

POSTGRES: dict[str, tuple[list[Any], str]] = {
    "claim": ([1, 1, 10, ["w3"], "{1}", ["default"], ""], "workflow_executions_ready"),
    "claimable_suspects": ([["w3"], "{1}", ["default"], "b1", 10], "workflow_executions_crashed"),
    "claim_these": ([1, 1, ["x", "y"]], "workflow_executions_pkey"),
    "next_wake": ([], "workflow_executions_due"),
    "nudged": ([1], "workflow_executions_owned"),
    "inbox_executions": ([["x", "y"]], "workflow_executions_pkey"),
    "inbox_requests": ([["x", "y"]], "approval_requests_of_execution"),
    "inbox_messages": ([["x", "y"]], "messages_of_execution"),
    "inbox_children": ([["x", "y"]], "workflow_executions_children"),
    "load_journals": ([["x", "y"]], "step_executions_pkey"),
    "get_executions": ([["x", "y"]], "workflow_executions_pkey"),
    "history": (["x"], "step_executions_pkey"),
    "get_requests": ([[], [], "open", 100], "approval_requests_open"),
}


@pytest.mark.postgres
async def test_postgres_finds_by_index_what_is_asked_all_the_time(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    await store.close()
    connection = await asyncpg.connect(postgres_url)
    try:
        await look_at_postgres(connection)
    finally:
        await connection.close()


async def look_at_postgres(connection: Any) -> None:
    for statement in statements("postgres", MANY):
        await connection.execute(statement)

    async def plan(statement: str, values: Any) -> str:
        return "\n".join(line for (line,) in await connection.fetch(f"explain {statement}", *values))

    for name, (query, index) in LISTS.items():
        values = pack_query(query) | {"limit": 101}
        found = await plan(
            *numbered(composed(SQL, page_name(query, by_end=False), conditions(query, implied=False)), values)
        )
        # One in twenty is found by age as soon as by its own index: either is right.
        either = (index, "by_age") if name == "a workflow" else (index,)
        assert any(f"workflow_executions_{each}" in found for each in either), f"{name}\n{found}"
        assert "Seq Scan" not in found, f"{name}\n{found}"
        assert query not in (Query(), Query(order="oldest")) or "Sort" not in found, f"{name}\n{found}"
        for lead in leads(query, implied=False):
            found = await plan(*numbered(composed(SQL, lead.name, lead.names, lead.others), values | {"most": 3}))
            assert any(f"workflow_executions_{each}" in found for each in either), f"count: {name}\n{found}"
            assert "Sort Key: w.created_at" not in found, f"count: {name}\n{found}"
    attribute = Query(attributes=(("customer", "504"),))
    asked = composed(SQL, "count_executions", conditions(attribute, implied=False))
    assert "workflow_executions_attributes" in await plan(*numbered(asked, pack_query(attribute)))

    # What is asked in the sessions of the pool, by plans that stay when tables grow.
    await connection.fetch(SQL["prepare_session"])
    for name, (values, index) in POSTGRES.items():
        found = await plan(SQL[name], values)
        assert index in found, f"{name}\n{found}"
        for table in LARGE:
            assert f"Seq Scan on {table}" not in found, f"{name}\n{found}"


COMMITS = {
    "commit_entry": ["workers_pkey"],
    "commit_entries": ["workers_pkey"],
    "commit_plain": ["workers_pkey"],
    "commit_creates": ["workers_pkey"],
    "commit_changes": ["workers_pkey", "workflow_executions_pkey"],
    "commit_batch": ["workers_pkey", "workflow_executions_pkey", "approval_requests_pkey", "messages_pkey"],
    "settle_executions": ["workflow_executions_pkey"],
    "settle_entries": ["step_executions_pkey"],
}


@pytest.mark.postgres
async def test_postgres_commits_by_key_whether_its_plans_were_made_before_there_was_anything_or_after(
    postgres_url: str,
) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    await store.close()
    early, late = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)
    try:
        assert set(CommitSession.NAMES) <= set(COMMITS)
        for connection, is_late in ((early, False), (late, True)):
            await connection.fetch(SQL["prepare_session"])
            await connection.fetch(SQL["prepare_commits"])
            if is_late:
                for statement in statements("postgres", MANY):
                    await late.execute(statement)
            for name, indexes in COMMITS.items():
                found = await kept_plan(connection, name)
                for index in indexes:
                    assert index in found, f"{name}\n{found}"
                for table in LARGE:
                    assert f"Seq Scan on {table}" not in found, f"{name}\n{found}"
    finally:
        await early.close()
        await late.close()


async def kept_plan(connection: Any, name: str) -> str:
    """The one plan that a session makes for all values."""
    values = ["null"] * max(map(int, re.findall(r"\$(\d+)", SQL[name])))
    await connection.execute(f"prepare kept_{name} as {SQL[name]}")
    rows = await connection.fetch(f"explain execute kept_{name} ({', '.join(values)})")
    return "\n".join(line for (line,) in rows)


# MariaDB --------------------------------------------------------------------------------------------------

ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "look_ready": ({"queue": "default", "workflows": [("w3", 1)], "build": '""', "limit": 9}, "ready"),
    "take_ready": ({"queue": "default", "workflows": [("w3", 1)], "build": '""', "limit": 9}, "ready"),
    "look_due": ({"queues": ["default"], "workflows": [("w3", 1)], "build": '""'}, "due"),
    "look_orphaned": ({"queues": ["default"], "workflows": [("w3", 1)], "build": '""'}, "owned"),
    "look_suspects": ({"queues": ["default"], "workflows": [("w3", 1)], "build": '""'}, "crashed"),
    "glance": ({"queues": ["default"], "workflows": [("w3", 1)], "build": '""'}, "owned"),
    "get_workers": ({}, "owned"),
    "forgettable_workers": ({}, "owned"),
    "marks": ({"ids": ["x", "y"]}, "PRIMARY"),
    "nudged": ({"worker": 1}, "owned"),
    "inbox_requests": ({"ids": ["x", "y"]}, "approval_requests_of_execution"),
    "inbox_messages": ({"ids": ["x", "y"]}, "messages_of_execution"),
    "inbox_children": ({"ids": ["x", "y"]}, "children"),
    "history": ({"id": "x"}, "PRIMARY"),
    "get_executions": ({"ids": ["x", "y"]}, "PRIMARY"),
    "get_requests": (
        {"all": True, "ids": [""], "execution_ids": [""], "status": "open", "limit": 9},
        "approval_requests_open",
    ),
}


@pytest.mark.mysql
async def test_mariadb_finds_by_index_what_is_asked_all_the_time(mysql_url: str) -> None:
    store = MysqlStore(mysql_url)
    await store.open()
    try:
        await look_at_mariadb(store)
    finally:
        await store.close()


async def look_at_mariadb(store: MysqlStore) -> None:
    gone = [await store.register(WorkerRecord(0), 60.0) for _ in range(5)]
    async with store._pool.session() as session:
        for statement in statements("mariadb", MANY):
            await session.run(statement)
        await session.run(f"update workers set state = 'gone' where id < {gone[-1].id}")

        async def check(name: str, statement: str, index: str, *, sorted_: bool = True) -> None:
            plan = (await session.run(f"explain {statement}"))[0].rows
            shown = f"{name}\n{plan}"
            large = [row for row in plan if row["table"] in ("w", "r", "m", "e")]  # the workers are few
            keys = [str(row["key"]) for row in plan]
            assert any(key.endswith(index) for key in keys), shown
            assert not [row for row in large if row["type"] == "ALL"], shown
            assert sorted_ or not any("filesort" in str(row["Extra"]) for row in plan), shown

        for name, (query, wanted) in LISTS.items():
            values = mysql_values(query) | {"limit": 101}
            statement = filled(composed(MYSQL.named, page_name(query, by_end=False), conditions(query)), **values)
            in_order = name in MADE_IN_ORDER - {"who started it"}  # an index of a text holds its beginning only
            await check(name, statement, index_of("mysql", wanted), sorted_=not in_order)
            for lead in leads(query, by_attributes=False):
                statement = composed(MYSQL.named, lead.name, lead.names, lead.others)
                await check(f"count: {name}", filled(statement, **values, most=3), index_of("mysql", wanted))
        for name, (values, index) in ASKED.items():
            await check(name, MYSQL.fill(name, **values), index)
        since = mysql_values(Query(since=1)) | {"most": 3}
        for name, pieces in (("count_by_age", ["where_since"]), ("count_tallied", []), ("kept_tallies", [])):
            await check(name, filled(composed(MYSQL.named, name, pieces), **since), "workflow_executions_of_status")


# SQLite ---------------------------------------------------------------------------------------------------


async def test_sqlite_finds_by_index_what_is_listed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "plans.db")
    await store.open()
    explain: Callable[..., Any] = store._db.connection.execute
    with closing(sqlite3.connect(tmp_path / "plans.db")) as other, other:
        for statement in statements("sqlite", MANY):
            other.execute(statement)
    for name, (query, wanted) in LISTS.items():
        values = sqlite_values(query) | {"limit": 101}
        statement = composed(store._db.sql, page_name(query, by_end=False), conditions(query))
        plan = "\n".join(row[3] for row in explain(f"explain query plan {statement}", values))
        assert re.search(rf"(SEARCH|SCAN) w USING INDEX \w*{index_of('sqlite', wanted)}\b", plan), f"{name}\n{plan}"
        assert name not in MADE_IN_ORDER or "TEMP B-TREE" not in plan, f"{name}\n{plan}"
        for lead in leads(query):
            statement = composed(store._db.sql, lead.name, lead.names, lead.others)
            plan = "\n".join(row[3] for row in explain(f"explain query plan {statement}", values | {"most": 3}))
            assert re.search(rf"(SEARCH|SCAN) w USING INDEX \w*{index_of('sqlite', wanted)}\b", plan), f"{name}\n{plan}"
            assert "FOR ORDER BY" not in plan, f"count: {name}\n{plan}"
    await store.close()
