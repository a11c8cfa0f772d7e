"""What a server may have against us for a while: each is `StoreUnavailableError`, and the next try succeeds."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncmy.errors
import asyncpg
import pytest

from perdure import Engine, step, workflow
from perdure.errors import (
    BadBatchError,
    CommitUnknownError,
    DecodeError,
    SchemaVersionError,
    StoreUnavailableError,
)
from perdure.records import Query, Status
from perdure.stores.mysql import MysqlStore
from perdure.stores.mysql_address import read_address
from perdure.stores.mysql_errors import sort_commit_error as sort_mysql_commit
from perdure.stores.mysql_errors import sort_error as sort_mysql
from perdure.stores.mysql_sessions import connect
from perdure.stores.postgres import PostgresStore
from perdure.stores.postgres_errors import sort_commit_error as sort_postgres_commit
from perdure.stores.postgres_errors import sort_error as sort_postgres
from perdure.testing.checks.scene import Scene
from tests.proxy import Proxy
from tests.servers import MariaDbServer, PostgresServer

TRANSIENT, UNKNOWN, BAD = StoreUnavailableError, CommitUnknownError, BadBatchError

# What a server says, and what it is taken for: by any statement, and at a commit.
POSTGRES = {
    "08006 the connection broke": (asyncpg.ConnectionFailureError, TRANSIENT, UNKNOWN),
    "25006 it became a standby": (asyncpg.ReadOnlySQLTransactionError, TRANSIENT, TRANSIENT),
    "40001 another transaction": (asyncpg.SerializationError, TRANSIENT, TRANSIENT),
    "40003 it does not know": (asyncpg.StatementCompletionUnknownError, TRANSIENT, UNKNOWN),
    "40P01 a deadlock": (asyncpg.DeadlockDetectedError, TRANSIENT, TRANSIENT),
    "53100 the disk is full": (asyncpg.DiskFullError, TRANSIENT, TRANSIENT),
    "53200 it is out of memory": (asyncpg.OutOfMemoryError, TRANSIENT, TRANSIENT),
    "53300 too many connections": (asyncpg.TooManyConnectionsError, TRANSIENT, TRANSIENT),
    "55P03 a lock": (asyncpg.LockNotAvailableError, TRANSIENT, TRANSIENT),
    "57014 too long": (asyncpg.QueryCanceledError, TRANSIENT, TRANSIENT),
    "57P01 it stops": (asyncpg.AdminShutdownError, TRANSIENT, UNKNOWN),
    "57P02 it crashed": (asyncpg.CrashShutdownError, TRANSIENT, UNKNOWN),
    "57P03 it starts": (asyncpg.CannotConnectNowError, TRANSIENT, UNKNOWN),
    "58030 its disk fails": (asyncpg.PostgresIOError, TRANSIENT, TRANSIENT),
    "no answer": (TimeoutError, TRANSIENT, UNKNOWN),
    "the network": (ConnectionResetError, TRANSIENT, UNKNOWN),
    "22P05 a value": (asyncpg.UntranslatableCharacterError, BAD, BAD),
    "54000 a value too large": (asyncpg.ProgramLimitExceededError, BAD, BAD),
    "42P01 no table": (asyncpg.UndefinedTableError, SchemaVersionError, SchemaVersionError),
    "XX001 damaged": (asyncpg.DataCorruptedError, DecodeError, BAD),
}
MYSQL = {
    1020: (TRANSIENT, TRANSIENT, "changed by another transaction"),
    1021: (TRANSIENT, TRANSIENT, "the disk is full"),
    1040: (TRANSIENT, TRANSIENT, "too many connections"),
    1041: (TRANSIENT, TRANSIENT, "out of memory"),
    1047: (TRANSIENT, TRANSIENT, "a node outside of its cluster"),
    1053: (TRANSIENT, UNKNOWN, "it stops"),
    1114: (TRANSIENT, TRANSIENT, "a table is full"),
    1180: (TRANSIENT, UNKNOWN, "an error at the commit"),
    1203: (TRANSIENT, TRANSIENT, "too many connections of this user"),
    1205: (TRANSIENT, TRANSIENT, "a lock"),
    1213: (TRANSIENT, TRANSIENT, "a deadlock"),
    1226: (TRANSIENT, TRANSIENT, "too much of this user"),
    1290: (TRANSIENT, TRANSIENT, "read-only"),
    1317: (TRANSIENT, UNKNOWN, "killed by an operator"),
    1836: (TRANSIENT, TRANSIENT, "read-only"),
    1927: (TRANSIENT, UNKNOWN, "the connection was killed"),
    1969: (TRANSIENT, TRANSIENT, "too long"),
    2003: (TRANSIENT, TRANSIENT, "not reached"),
    2006: (TRANSIENT, TRANSIENT, "closed before"),
    2013: (TRANSIENT, UNKNOWN, "lost meanwhile"),
    1153: (BAD, BAD, "a packet too large"),
    1406: (BAD, BAD, "a value too long"),
    1146: (SchemaVersionError, SchemaVersionError, "no table"),
    1712: (DecodeError, DecodeError, "an index is damaged"),
}


@pytest.mark.parametrize("what", POSTGRES)
def test_what_postgres_says_is_sorted(what: str) -> None:
    kind, anywhere, at_commit = POSTGRES[what]
    assert type(sort_postgres(kind("words"), "place")) is anywhere
    assert type(sort_postgres_commit(kind("words"), "place")) is at_commit


@pytest.mark.parametrize("code", MYSQL)
def test_what_mariadb_says_is_sorted(code: int) -> None:
    anywhere, at_commit, words = MYSQL[code]
    error = asyncmy.errors.OperationalError(code, words)
    assert type(sort_mysql(error, "place")) is anywhere
    assert type(sort_mysql_commit(error, "place")) is at_commit


# PostgreSQL -------------------------------------------------------------------------------------------


async def refused_then_recorded(scene: Scene, words: str, relieve: Callable[[], Awaitable[object]]) -> None:
    """A commit that the server refuses for a reason that passes is whole afterwards."""
    batch = scene.batch(entries=[scene.entry("e0", 1)], changes=[scene.change("e0", Status.RUNNING)])
    with pytest.raises(StoreUnavailableError, match=words):
        await scene.store.commit(batch)
    assert await scene.seqs("e0") == []
    await relieve()
    assert (await scene.store.commit(batch)).alive
    assert await scene.seqs("e0") == [1]


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other_postgres(postgres_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def running(store: Any) -> Scene:
    scene = await Scene.begin(store)
    await scene.run("e0")
    return scene


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("setting", "words"), [("lock_timeout", "a lock was not to be had in time"), ("statement_timeout", "cancelled")]
)
async def test_a_commit_that_had_to_wait_too_long_on_postgres_is_tried_again(
    postgres: PostgresStore, other_postgres: Any, setting: str, words: str
) -> None:
    scene = await running(postgres)
    await (await postgres._commits.ready()).execute(f"set {setting} = '50ms'")
    held = other_postgres.transaction()
    await held.start()
    await other_postgres.execute("select from workers for update")
    await refused_then_recorded(scene, words, held.rollback)


@pytest.mark.postgres
async def test_a_commit_that_an_operator_cancelled_on_postgres_is_tried_again(
    postgres: PostgresStore, other_postgres: Any
) -> None:
    scene = await running(postgres)
    ours = (await postgres._commits.ready()).get_server_pid()
    held = other_postgres.transaction()
    await held.start()
    await other_postgres.execute("select from workers for update")

    async def cancel() -> None:
        while not await other_postgres.fetchval("select cardinality(pg_blocking_pids($1)) > 0", ours):
            pass
        await other_postgres.execute("select pg_cancel_backend($1)", ours)

    task = asyncio.create_task(cancel())
    await refused_then_recorded(scene, "cancelled", held.rollback)
    await task


@pytest.mark.postgres
async def test_a_session_of_postgres_that_became_read_only_is_given_up(postgres: PostgresStore) -> None:
    scene = await running(postgres)
    before = await postgres._commits.ready()
    await before.execute("set default_transaction_read_only = on")

    async def nothing() -> None:
        assert before.is_closed()

    await refused_then_recorded(scene, "read-only", nothing)


@pytest.mark.postgres
async def test_while_postgres_has_no_connection_left_nothing_is_lost(
    postgres_server: PostgresServer, postgres_url: str, other_postgres: Any
) -> None:
    name = f"few_{postgres_url.rsplit('_', 1)[1]}"
    await other_postgres.execute(f"create role {name} superuser login")
    store = PostgresStore(postgres_server.url(postgres_url.rsplit("/", 1)[1], user=name))
    await store.open()
    scene = await running(store)
    await other_postgres.execute(f"alter role {name} nosuperuser connection limit 0")
    await other_postgres.execute(f"grant all on all tables in schema public to {name}")
    await other_postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", name)
    while not store._commits.connection.is_closed() or store._pool._pool.get_idle_size():  # none still thought good
        await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailableError, match="no connection left"):
        await store.count(Query())
    await other_postgres.execute(f"alter role {name} connection limit -1")
    assert (await scene.commit(entries=[scene.entry("e0", 1)])).alive
    assert await scene.seqs("e0") == [1]
    await store.close()


# MariaDB ----------------------------------------------------------------------------------------------


@pytest.fixture
async def mysql(mysql_url: str) -> AsyncIterator[MysqlStore]:
    store = MysqlStore(mysql_url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other_mysql(mysql_url: str) -> AsyncIterator[Any]:
    session = await connect(read_address(mysql_url))
    yield session
    await session.close()


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("setting", "words"),
    [("innodb_lock_wait_timeout = 1", "a lock was not to be had in time"), ("max_statement_time = 0.2", "too long")],
)
async def test_a_commit_that_had_to_wait_too_long_on_mariadb_is_tried_again(
    mysql: MysqlStore, other_mysql: Any, setting: str, words: str
) -> None:
    scene = await running(mysql)
    await (await mysql._commits.ready()).run(f"set session {setting}")
    await other_mysql.run("start transaction", "select id from workers for update")
    await refused_then_recorded(scene, words, lambda: other_mysql.run("rollback"))


@pytest.mark.mysql
async def test_a_commit_that_an_operator_killed_on_mariadb_is_settled(mysql: MysqlStore, other_mysql: Any) -> None:
    scene = await running(mysql)
    ours = (await (await mysql._commits.ready()).run("select connection_id()"))[0].value
    await other_mysql.run("start transaction", "select id from workers for update")
    batch = scene.batch(entries=[scene.entry("e0", 1)], changes=[scene.change("e0", Status.RUNNING)])
    commit = asyncio.ensure_future(mysql.commit(batch))
    waiting = "select count(*) from information_schema.innodb_trx where trx_state = 'LOCK WAIT'"
    while not (await other_mysql.run(waiting))[0].value:
        await asyncio.sleep(0.12)  # what is asked more often is answered from memory
    await other_mysql.run(f"kill query {ours}")
    with pytest.raises(CommitUnknownError):
        await commit
    await other_mysql.run("rollback")
    assert await mysql.settle(batch) is None
    assert (await mysql.commit(batch)).alive
    assert await scene.seqs("e0") == [1]


@pytest.mark.mysql
async def test_while_mariadb_has_no_connection_left_nothing_is_lost(
    mariadb_server: MariaDbServer, mysql_url: str, other_mysql: Any
) -> None:
    name = f"few_{mysql_url.rsplit('_', 1)[1]}"
    await other_mysql.run(f"create user {name}@'127.0.0.1'")
    await other_mysql.run(f"grant all on *.* to {name}@'127.0.0.1'")
    store = MysqlStore(mariadb_server.url(mysql_url.rsplit("/", 1)[1], user=name))
    await store.open()
    scene = await running(store)
    await other_mysql.run(f"alter user {name}@'127.0.0.1' with max_user_connections 1")
    await other_mysql.run(f"revoke all on *.* from {name}@'127.0.0.1'")
    await other_mysql.run(f"grant all on {mysql_url.rsplit('/', 1)[1]}.* to {name}@'127.0.0.1'")
    await other_mysql.run(f"kill user {name}")
    taken = await connect(read_address(mariadb_server.url(mysql_url.rsplit("/", 1)[1], user=name)))
    while store._commits._session is not None and not store._commits._session.is_broken:
        await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailableError):
        await store.count(Query())
    with pytest.raises(StoreUnavailableError, match=r"used up|no connection left"):
        await store.count(Query())
    await taken.close()
    await other_mysql.run(f"alter user {name}@'127.0.0.1' with max_user_connections 0")
    assert (await scene.commit(entries=[scene.entry("e0", 1)])).alive
    assert await scene.seqs("e0") == [1]
    await store.close()


@pytest.mark.mysql
async def test_what_the_disk_of_mariadb_has_no_room_for_is_not_recorded_by_halves() -> None:
    settings = {"innodb-file-per-table": "0", "innodb-data-file-path": "ibdata1:12M:autoextend:max:24M"}
    settings["innodb-flush-log-at-trx-commit"] = "2"
    with MariaDbServer(settings=settings) as server, server.database() as url:
        store = MysqlStore(url)
        await store.open()
        scene = await running(store)
        acknowledged: list[int] = []
        with pytest.raises(StoreUnavailableError, match="full"):
            for seq in range(1, 40, 2):
                large = scene.entry("e0", seq + 1)._replace(output='"' + "y" * 4_000_000 + '"')
                await store.commit(scene.batch(entries=[scene.entry("e0", seq), large]))
                acknowledged += [seq, seq + 1]
        assert await scene.seqs("e0") == acknowledged
        server.stop(signal.SIGKILL)
        server.settings["innodb-data-file-path"] = "ibdata1:12M:autoextend"  # somebody makes room
        server.start()
        again = MysqlStore(url)
        await again.open()
        seq = len(acknowledged) + 1
        assert (await again.commit(scene.batch(entries=[scene.entry("e0", seq)]))).alive
        assert [entry.seq for entry in await again.history(scene.id("e0"))] == [*acknowledged, seq]
        await again.close()
        await store.close()


# A server that is away --------------------------------------------------------------------------------


@step
async def adds(n: int) -> int:
    await asyncio.sleep(0.01)
    return n + 1


@workflow
async def counts(n: int) -> int:
    for _ in range(20):
        n = await adds(n)
    return n


async def insist(act: Callable[[], Awaitable[Any]]) -> Any:
    """Who asks is told that the server is away, and asks again."""
    while True:
        try:
            return await act()
        except StoreUnavailableError:
            await asyncio.sleep(0.05)


TRIES = 15
A_SECOND = 5
"""So many tries a second of a worker, its heartbeats and its presence among them."""
AT_ONCE = 12
"""Those that were at it when the first of them failed: the pool's ten, the commits and the heartbeats."""


@pytest.mark.parametrize(
    "kind", [pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("mysql", marks=pytest.mark.mysql)]
)
async def test_a_server_that_is_away_is_tried_now_and_then_and_fails_nothing(
    request: pytest.FixtureRequest, kind: str
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    server: Any = request.getfixturevalue("postgres_server" if kind == "postgres" else "mariadb_server")
    loop = asyncio.get_running_loop()
    async with Proxy(server.port) as proxy:
        place = server.url(url.rsplit("/", 1)[1], port=proxy.port)
        async with Engine(place, workflows=[counts], poll=0.05, lease=6.0) as engine:
            handles = [await engine.start(counts, n) for n in range(30)]
            proxy.target = 1  # nobody is there
            await proxy.sever()
            before = proxy.attempts
            began = loop.time()
            while proxy.attempts < before + AT_ONCE + TRIES:
                await asyncio.sleep(0.01)
            assert (loop.time() - began) * A_SECOND > proxy.attempts - before - AT_ONCE - 1
            proxy.target = server.port
            assert [await insist(handle.result) for handle in handles] == [n + 20 for n in range(30)]
            assert set(await insist(engine.count)) == {"completed"}
