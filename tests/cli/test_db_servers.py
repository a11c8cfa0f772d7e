"""`perdure db` on servers: set up, checked, granted; and what is said where something is amiss."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncmy
import asyncpg
import pytest

from perdure import Completed, Engine, Waiting, interrupt, step, workflow
from perdure.cli import main
from tests.servers import LOCKED, MariaDbServer, PgBouncer, PostgresServer

SIX = [
    "workflow_definitions",
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "rollback_actions",
]
PASSWORD = "geh%im@1"
QUOTED = "geh%25im%401"


@pytest.fixture
def perdure(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command in this process. Gives its exit code, and all that it said."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        with ThreadPoolExecutor(1) as threads:  # a test may have a loop that runs
            code = threads.submit(main, list(words)).result()
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert PASSWORD not in said.out + said.err
        assert QUOTED not in said.out + said.err
        return code, said.out + said.err

    return run


def _do(work: Coroutine[Any, Any, Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, work).result()


async def _postgres(url: str, *statements: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        rows: list[Any] = [tuple(row) for row in await connection.fetch(statements[-1])]
        return rows
    finally:
        await connection.close()


async def _mysql(server: MariaDbServer, database: str, *statements: str) -> list[Any]:
    connection = await asyncmy.connect(
        host="127.0.0.1", port=server.port, user="root", database=database, autocommit=True
    )
    async with connection, connection.cursor() as cursor:
        for statement in statements:
            await cursor.execute(statement)
        return list(await cursor.fetchall())


@pytest.fixture(
    params=[pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("mysql", marks=pytest.mark.mysql)]
)
def server(request: pytest.FixtureRequest) -> PostgresServer | MariaDbServer:
    kind = "postgres_server" if request.param == "postgres" else "mariadb_server"
    found: PostgresServer | MariaDbServer = request.getfixturevalue(kind)
    return found


def test_init_creates_the_database_too_and_says_of_each_table_whether_it_was_there(
    server: PostgresServer | MariaDbServer, perdure: Callable[..., tuple[int, str]]
) -> None:
    url = server.url("made_by_init")
    try:
        code, said = perdure("db", "init", "--db", url)
        assert (code, "there is no such database" in said, "--create" in said) == (1, True, True)
        code, said = perdure("db", "init", "--create", "--db", url)
        assert code == 0, said
        lines = [line.split() for line in said.splitlines() if line.endswith("created")]
        assert [name for name, _ in lines][:6] == SIX
        for again in (["--create"], []):
            code, said = perdure("db", "init", *again, "--db", url)
            assert code == 0
            assert said.count("already there") == len(lines)
            assert "created" not in said
        code, said = perdure("db", "check", "--db", url)
        assert code == 0, said
        results = {line.split()[0] for line in said.splitlines()}
        assert results == {"ok", "warning"}, said  # no TLS, but on this machine
        assert "does not leave this machine" in said
    finally:
        server.execute("drop database if exists made_by_init")


CAUSES = {
    "a user who may only read": "lacks",
    "a wrong password": "password is wrong|login was refused",
    "an unreachable host": "nothing listens there",
    "a host that nobody knows": "nobody knows its host's name",
    "a missing database": "there is no such database",
    "a placeholder": r"\[YOUR-PASSWORD\]",
    "another placeholder": "<password>",
    "no tables": "perdure db init",
    "an old schema": "perdure db upgrade",
    "a schema that is too new": "upgrade perdure",
}


def _spoilt(server: PostgresServer | MariaDbServer, url: str, what: str, perdure: Callable[..., Any]) -> str:
    """The URL of a database in which something is amiss."""
    postgres = isinstance(server, PostgresServer)
    if what != "no tables":
        assert perdure("db", "init", "--db", url)[0] == 0
    place = url.rpartition("@")[2]
    scheme = url.partition("://")[0]
    name = url.rpartition("/")[2]
    as_root = (
        (lambda *said: _do(_postgres(url, *said, "select 1")))
        if postgres
        else (lambda *said: _do(_mysql(server, name, *said)))
    )
    match what:
        case "a user who may only read" if postgres:
            as_root(
                "create role reader login",
                "grant usage on schema public to reader",
                "grant select on all tables in schema public to reader",
            )
            return f"{scheme}://reader@{place}"
        case "a user who may only read":
            as_root("create user reader@'%'", f"grant select on {name}.* to reader@'%'")
            return f"{scheme}://reader@{place}"
        case "a wrong password" if postgres:
            as_root(f"create role {LOCKED} login password 'another'")
            return f"{scheme}://{LOCKED}:{QUOTED}@{place}"
        case "a wrong password":
            return f"{scheme}://root:{QUOTED}@{place}"
        case "an unreachable host":
            return f"{scheme}://ana:{QUOTED}@127.0.0.1:1/{name}"
        case "a host that nobody knows":
            return f"{scheme}://ana:{QUOTED}@nowhere.invalid/{name}"
        case "a missing database":
            return url.replace(name, "nowhere")
        case "a placeholder":
            return f"{scheme}://ana:[YOUR-PASSWORD]@{place}"
        case "another placeholder":
            return f"{scheme}://ana:<password>@{place}"
        case "an old schema":
            as_root("delete from schema_versions where version > 1")
        case "a schema that is too new":
            as_root("insert into schema_versions (version, applied_at, oldest_writer) values (999, now(), 998)")
    return url


@pytest.mark.parametrize("what", CAUSES)
def test_check_names_the_cause_in_one_line(
    server: PostgresServer | MariaDbServer, what: str, perdure: Callable[..., tuple[int, str]]
) -> None:
    with server.database() as url:
        try:
            spoilt = _spoilt(server, url, what, perdure)
            code, said = perdure("db", "check", "--db", spoilt)
        finally:
            if isinstance(server, PostgresServer):
                for role in ("reader", LOCKED):
                    server.execute(
                        f"do $$ begin if exists (select from pg_roles where rolname = '{role}') then "
                        f"execute 'alter role {role} nologin'; end if; end $$"
                    )
                _do(
                    _postgres(
                        url, "drop owned by reader" if what == "a user who may only read" else "select 1", "select 1"
                    )
                )
                server.execute("drop role if exists reader")
                server.execute(f"drop role if exists {LOCKED}")
            else:
                server.execute("drop user if exists reader@'%'")
    assert code == 1, said
    failed = [line for line in said.splitlines() if line.startswith(("failed", "Error"))]
    assert len(failed) == 1, said
    pattern = CAUSES[what] if what != "a user who may only read" else "lacks|may not write"
    assert re.search(pattern, failed[0]), said


def test_a_newer_schema_that_admits_this_library_is_well_and_an_older_one_is_brought_up_to_date(
    server: PostgresServer | MariaDbServer, perdure: Callable[..., tuple[int, str]]
) -> None:
    with server.database() as url:
        perdure("db", "init", "--db", url)
        name = url.rpartition("/")[2]
        newer = "insert into schema_versions (version, applied_at, oldest_writer) values (999, now(), 1)"
        if isinstance(server, PostgresServer):
            _do(_postgres(url, newer, "select 1"))
        else:
            _do(_mysql(server, name, newer))
        code, said = perdure("db", "check", "--db", url)
        assert code == 0
        assert "999, newer than this library's" in said
        assert perdure("db", "upgrade", "--db", url)[0] == 0


# The script ---------------------------------------------------------------------------------------------


CATALOG = """
select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
    pg_get_expr(d.adbin, d.adrelid), coalesce(l.collname, '')
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum left join pg_collation l on l.oid = a.attcollation
where c.relnamespace = '{0}'::regnamespace
union all
select indexname::text, replace(indexdef, '{0}.', ''), '', true, '', '', '' from pg_indexes where schemaname = '{0}'
union all
select conname::text, pg_get_constraintdef(oid), '', true, '', '', '' from pg_constraint
where connamespace = '{0}'::regnamespace
union all
select proname::text, prosrc, provolatile::text, proisstrict, '', '', '' from pg_proc
where pronamespace = '{0}'::regnamespace
order by 1, 2, 3
"""


@pytest.mark.postgres
@pytest.mark.parametrize(("schema", "options"), [("public", []), ("own", ["--schema", "own"])])
def test_the_script_makes_what_init_makes_on_postgresql(
    postgres_server: PostgresServer, perdure: Callable[..., tuple[int, str]], schema: str, options: list[str]
) -> None:
    code, script = perdure("db", "sql", "postgresql", *options)
    assert code == 0
    with postgres_server.database() as made, postgres_server.database() as scripted:
        suffix = "" if schema == "public" else f"?schema={schema}"
        assert perdure("db", "init", "--db", made + suffix)[0] == 0
        _do(_postgres(scripted, script, "select 1"))
        catalog = CATALOG.format(schema)
        assert _do(_postgres(made, catalog)) == _do(_postgres(scripted, catalog)) != []
        versions = f"select version, oldest_writer from {schema}.schema_versions order by 1"
        assert _do(_postgres(made, versions)) == _do(_postgres(scripted, versions))
        assert perdure("db", "check", "--db", scripted + suffix)[0] == 0


@pytest.mark.mysql
def test_the_script_makes_what_init_makes_on_mariadb(
    mariadb_server: MariaDbServer, perdure: Callable[..., tuple[int, str]]
) -> None:
    _, script = perdure("db", "sql", "mariadb")
    with mariadb_server.database() as made, mariadb_server.database() as scripted:
        assert perdure("db", "init", "--db", made)[0] == 0
        name = scripted.rpartition("/")[2]
        statements = [part for part in script.split(";\n") if part.strip()]
        _do(_mysql(mariadb_server, name, *statements))
        shown = []
        for url in (made, scripted):
            database = url.rpartition("/")[2]
            tables = sorted(table for (table,) in _do(_mysql(mariadb_server, database, "show tables")))
            shown.append([_do(_mysql(mariadb_server, database, f"show create table {table}")) for table in tables])
        assert shown[0] == shown[1] != []
        assert perdure("db", "check", "--db", scripted)[0] == 0
    assert "utf8mb4_nopad_bin" not in perdure("db", "sql", "mysql")[1].replace("`utf8mb4_nopad_bin`", "")


def test_the_script_makes_what_init_makes_on_sqlite(tmp_path: Path, perdure: Callable[..., tuple[int, str]]) -> None:
    _, script = perdure("db", "sql", "sqlite")
    assert perdure("db", "init", "--db", f"sqlite:///{tmp_path}/made.db")[0] == 0
    with closing(sqlite3.connect(tmp_path / "scripted.db")) as scripted:
        scripted.executescript(script)
        with closing(sqlite3.connect(tmp_path / "made.db")) as made:
            catalog = "select type, name, sql from sqlite_master order by 1, 2"
            assert made.execute(catalog).fetchall() == scripted.execute(catalog).fetchall()
    assert perdure("db", "check", "--db", f"sqlite:///{tmp_path}/scripted.db")[0] == 0


# Rights -------------------------------------------------------------------------------------------------


@step
async def double(number: int) -> int:
    return number * 2


@workflow(name="modest")
async def modest(number: int) -> int:
    return await double(number) + await interrupt("How many more?", schema=int)


async def _work(url: str) -> None:
    """All that workers do: run, ask, answer, and forget."""
    async with Engine(url, workflows=[modest]) as engine:
        handle = await engine.start(modest, 4)
        outcome = await handle.outcome(timeout=60)
        assert isinstance(outcome, Waiting)
        await engine.answer(outcome.requests[0].id, 3)
        assert await handle.outcome(timeout=60) == Completed(11)
        cancelled = await engine.start(modest, 4)
        await cancelled.cancel()
        # What ended at this very moment, by the server's clock, is not old yet by ours.
        assert handle.id in (await engine.prune(older_than=0)).ids


@pytest.mark.parametrize("schema", [None, "own"])
@pytest.mark.postgres
def test_a_worker_does_its_work_with_no_more_rights_than_grant_gives_on_postgresql(
    postgres_server: PostgresServer, perdure: Callable[..., tuple[int, str]], schema: str | None
) -> None:
    suffix = "" if schema is None else f"?schema={schema}"
    with postgres_server.database() as url:
        perdure("db", "init", "--db", url + suffix)
        postgres_server.execute('create role "modest-worker" login')
        try:
            code, said = perdure("db", "grant", "modest-worker", "--dry-run", "--db", url + suffix)
            assert code == 0
            as_worker = url.replace("postgres@", "modest-worker@") + suffix
            assert perdure("db", "check", "--db", as_worker)[0] == 1
            code, granted = perdure("db", "grant", "modest-worker", "--db", url + suffix)
            assert (code, granted) == (0, said)
            code, checked = perdure("db", "check", "--db", as_worker)
            assert code == 0, checked
            _do(_work(as_worker))
            tables = "schema_versions" if schema is None else "own.schema_versions"
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                _do(_postgres(as_worker.partition("?")[0], f"delete from {tables} returning 1"))
        finally:
            _do(_postgres(url, 'drop owned by "modest-worker"', "select 1"))
            postgres_server.execute('drop role "modest-worker"')


@pytest.mark.mysql
def test_a_worker_does_its_work_with_no_more_rights_than_grant_gives_on_mariadb(
    mariadb_server: MariaDbServer, perdure: Callable[..., tuple[int, str]]
) -> None:
    with mariadb_server.database() as url:
        perdure("db", "init", "--db", url)
        mariadb_server.execute("create user modest@'127.0.0.1'")
        try:
            code, said = perdure("db", "grant", "modest@127.0.0.1", "--db", url)
            assert code == 0, said
            as_worker = url.replace("root@", "modest@")
            assert perdure("db", "check", "--db", as_worker)[0] == 0
            _do(_work(as_worker))
        finally:
            mariadb_server.execute("drop user modest@'127.0.0.1'")


# What is seen of the way there --------------------------------------------------------------------------


@pytest.mark.postgres
def test_tables_that_anybody_may_read_as_at_supabase_are_told(
    postgres_server: PostgresServer, perdure: Callable[..., tuple[int, str]]
) -> None:
    postgres_server.execute("create role anon")
    try:
        with postgres_server.database() as url:
            perdure("db", "init", "--db", url)
            _do(_postgres(url, "grant select on workflow_executions to anon", "select 1"))
            code, said = perdure("db", "check", "--db", url)
            assert code == 0
            assert "warning  privacy" in said
            assert "workflow_executions in the schema public are open to the role anon" in said
            _do(_postgres(url, "alter table workflow_executions enable row level security", "select 1"))
            assert "privacy" not in perdure("db", "check", "--db", url)[1]
            _do(_postgres(url, "revoke all on workflow_executions from anon", "select 1"))
    finally:
        postgres_server.execute("drop role anon")


@pytest.mark.postgres
def test_tls_and_poolers_are_told(tls_server: PostgresServer, perdure: Callable[..., tuple[int, str]]) -> None:
    assert tls_server.certificates is not None
    with tls_server.database() as url:
        perdure("db", "init", "--db", url)
        verified = f"{url}?sslmode=verify-full&sslrootcert={tls_server.certificates.authority}"
        for address, words in (
            (verified, "TLSv1.3; the server's certificate is checked"),
            (url, "TLSv1.3; who the server is, is not checked"),
            (f"{url}?sslmode=disable", "none; the connection does not leave this machine"),
        ):
            code, said = perdure("db", "check", "--db", address)
            assert code == 0
            assert words in said
        code, said = perdure("db", "check", "--db", f"{url}?sslmode=verify-full&sslrootcert=nowhere.pem")
        assert code == 1
        assert "nowhere.pem" in said
        with PgBouncer(tls_server) as pooler:
            code, said = perdure("db", "check", "--db", pooler.url(url))
            assert code == 0
            assert "behind a pooler: all works" in said
