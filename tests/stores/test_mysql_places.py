"""Where a MariaDB or MySQL database is, what is in it, and what its server refuses, or does differently."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest

from perdure.clock import SECOND
from perdure.deliveries import Post
from perdure.errors import BadBatchError, PerdureError, SchemaVersionError, StoreUnavailableError
from perdure.records import Message, Query, Status, Verdict, WorkerRecord
from perdure.stores.migrations import load_migrations
from perdure.stores.mysql import MysqlStore
from perdure.stores.mysql_address import read_address
from perdure.stores.mysql_columns import Statements
from perdure.stores.mysql_schema import COLLATION, COLLATION_OF_MYSQL, TABLES
from perdure.stores.mysql_sessions import connect
from perdure.stores.naming import Names
from perdure.testing.checks.scene import Scene
from tests.proxy import Proxy
from tests.servers import MariaDbServer
from tests.stores.test_sql_schema import WHEN, nothing_is_left_after_pruning

pytestmark = pytest.mark.mysql


@pytest.fixture
async def store(mysql_url: str) -> AsyncIterator[MysqlStore]:
    opened = MysqlStore(mysql_url)
    await opened.open()
    yield opened
    await opened.close()


# Addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown", "expected"),
    [
        ("mysql://ana:geheim@h/d", "mysql://ana:***@h/d", {"host": "h", "port": 3306, "user": "ana"}),
        ("mysql+asyncmy://ana:geheim@h:33/d", "mysql://ana:***@h:33/d", {"port": 33, "database": "d"}),
        ("mysql+aiomysql://ana:geheim@h/d?charset=utf8", "mysql://ana:***@h/d?charset=utf8", {"database": "d"}),
        ("mariadb://ana:geheim@h/d", "mariadb://ana:***@h/d", {"password": b"geheim"}),
        ("mysql://ana:geheim%40x@h/d", "mysql://ana:***@h/d", {"password": b"geheim@x"}),
        ("mysql://h/d", "mysql://h/d", {"user": None, "password": b""}),
        ("mysql://ana@/d?unix_socket=%2Frun%2Fm.sock", None, {"unix_socket": "/run/m.sock", "host": "127.0.0.1"}),
        ("mysql://ana@[::1]:33/d?connect_timeout=3", None, {"host": "::1", "port": 33, "connect_timeout": 3.0}),
        ("mysql://ana@h/d", None, {"ssl": None}),
        ("mysql://ana@h/d?ssl=true", None, {"ssl": {"ca": None, "verify_mode": "none", "check_hostname": True}}),
    ],
)
def test_an_address_is_read_as_hosts_write_it_and_shown_without_its_password(
    url: str, shown: str | None, expected: dict[str, object]
) -> None:
    address = read_address(url)
    assert expected.items() <= address.options.items()
    assert shown is None or address.shown == shown
    assert "geheim" not in address.shown
    assert "geheim" not in repr(address)
    for secret in address.secrets:
        assert "geheim" not in address.hide(f"login with {secret} failed")


@pytest.mark.parametrize("url", ["mysql://ana:geh/eim@h/d", "mysql://ana:geh#eim@h/d", "mysql://ana:geheim@h:x/d"])
def test_an_address_that_cannot_be_read_is_said_without_its_password(url: str) -> None:
    with pytest.raises(PerdureError, match="no URL that can be read") as caught:
        read_address(url)
    assert "eim" not in str(caught.value)


def test_an_address_without_a_database_is_refused() -> None:
    with pytest.raises(PerdureError, match="names no database"):
        read_address("mysql://ana:geheim@h")


async def test_a_wrong_password_is_said_in_words_and_a_right_one_opens(
    mariadb_server: MariaDbServer, mysql_url: str
) -> None:
    name = mysql_url.rsplit("/", 1)[1]
    mariadb_server.execute("create or replace user locked@'127.0.0.1' identified by 'grün@geheim'")
    mariadb_server.execute(f"grant all on {name}.* to locked@'127.0.0.1'")
    place = f"127.0.0.1:{mariadb_server.port}/{name}"
    wrong = MysqlStore(f"mysql://locked:falsch-geheim@{place}")
    with pytest.raises(StoreUnavailableError, match="the login was refused") as caught:
        await wrong.open()
    assert "geheim" not in str(caught.value)
    await wrong.close()
    right = MysqlStore(f"mysql://locked:gr%C3%BCn%40geheim@{place}")
    await right.open()
    assert await right.count(Query()) == {}
    await right.close()


async def test_a_database_that_is_not_there_is_said_in_words(mariadb_server: MariaDbServer) -> None:
    store = MysqlStore(mariadb_server.url("nowhere"))
    with pytest.raises(StoreUnavailableError, match="there is no such database"):
        await store.open()
    await store.close()


async def test_a_host_that_is_not_there_is_said_in_words() -> None:
    store = MysqlStore("mysql://ana:geheim@127.0.0.1:1/d")
    with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
        await store.open()
    assert "geheim" not in str(caught.value)
    await store.close()


async def test_a_socket_is_a_place(mariadb_server: MariaDbServer, mysql_url: str) -> None:
    store = MysqlStore(mariadb_server.socket_url(mysql_url.rsplit("/", 1)[1]))
    await store.open()
    assert await store.count(Query()) == {}
    await store.close()


# The schema -------------------------------------------------------------------------------------------


async def test_eight_who_migrate_at_once_do_it_once(mysql_url: str) -> None:
    stores = [MysqlStore(mysql_url) for _ in range(8)]
    await asyncio.gather(*[store._pool.open() for store in stores])
    results = await asyncio.gather(*[store.migrate() for store in stores])
    assert sorted(sum(new for _, new in result) for result in results) == [0] * 7 + [len(TABLES)]
    await asyncio.gather(*[store.close() for store in stores])


OPEN = """
import asyncio, sys
from perdure.stores import open_store

async def main():
    store = open_store(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    print(len(await store.schedules()), flush=True)
    await store.close()

asyncio.run(main())
"""


def test_eight_processes_that_open_at_once_all_succeed(mysql_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, mysql_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        outputs.append(process.communicate(timeout=60)[0])
    assert outputs == ["0\n"] * 8


@pytest.mark.parametrize("made", [1, 2, 7, len(TABLES)])
async def test_a_migration_that_was_killed_is_resumed(mysql_url: str, made: int) -> None:
    session = await connect(read_address(mysql_url))
    for statement in load_migrations("mysql")[0].statements[:made]:
        await session.run(statement)
    await session.close()
    store = MysqlStore(mysql_url)
    await store.open()
    assert [name for name, new in await store.migrate() if new] == []
    scene = await Scene.begin(store)
    await scene.run("e0")
    assert await store.count(Query()) == {"running": 1}
    await store.close()


async def test_a_schema_of_a_newer_library_is_refused_unless_it_lets_us_write(
    store: MysqlStore, mysql_url: str
) -> None:
    again = MysqlStore(mysql_url)
    await store._pool.run("insert into schema_versions values (90, utc_timestamp(6), 1)")
    await again.open()
    await store._pool.run("insert into schema_versions values (91, utc_timestamp(6), 91)")
    with pytest.raises(SchemaVersionError, match="a newer Perdure wrote"):
        await again.open()
    await again.close()


async def test_a_database_with_tables_of_our_names_that_are_not_ours_is_left_alone(mysql_url: str) -> None:
    session = await connect(read_address(mysql_url))
    await session.run("create table messages (mine text)")
    store = MysqlStore(mysql_url)
    with pytest.raises(SchemaVersionError, match=r"not Perdure's: \['messages'\]"):
        await store.open()
    with pytest.raises(SchemaVersionError, match=r"not Perdure's: \['messages'\]"):
        await store.migrate()
    assert [row[0] for row in (await session.run("show tables"))[0].tuples] == ["messages"]
    await session.close()
    await store.close()


async def test_tables_that_vanished_are_said_in_words(store: MysqlStore) -> None:
    await store._pool.run("drop table schedules")
    with pytest.raises(SchemaVersionError, match="perdure db upgrade"):
        await store.schedules()


async def test_ids_compare_byte_for_byte_whatever_the_database_has(store: MysqlStore) -> None:
    found = await store._pool.run(
        "select distinct collation_name from information_schema.columns"
        " where table_schema = database() and collation_name is not null"
    )
    assert [name for (name,) in found[0].tuples] == [COLLATION]


def test_mysql_s_collation_is_put_in_the_place_of_mariadb_s() -> None:
    texts = [migration.text for migration in load_migrations("mysql")]
    statements = [part for text in texts for part in text.split("engine = innodb")[1:]]
    assert len(statements) == len(TABLES)
    assert all(part.startswith(f" default charset = utf8mb4 collate = {COLLATION} ") for part in statements)
    assert COLLATION_OF_MYSQL.endswith("_bin")
    assert COLLATION_OF_MYSQL in Statements(Names("mysql"))["names_mysql"]


async def test_pruning_clears_every_table(store: MysqlStore) -> None:
    async def run(statements: Iterable[str]) -> list[Any]:
        plain = [statement.replace(WHEN, WHEN[:-1]) for statement in statements]
        return [tuple(row) for row in (await store._pool.run(*plain))[-1].tuples]

    await nothing_is_left_after_pruning(store, run)


# Values -----------------------------------------------------------------------------------------------


async def test_ids_that_differ_by_case_spaces_or_accents_are_many(store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    suffixes = ["a", "A", "a ", "a  ", "á", "a\t", "a'", 'a"', "a\\", "a%", "a_", "%s", "a;b", "a--b"]
    creates = [scene.execution(suffix) for suffix in suffixes]
    verdicts = await scene.commit(creates=creates)
    assert verdicts.creates == [Verdict.OK] * len(suffixes)
    ids = [scene.id(suffix) for suffix in suffixes]
    assert set(await store.get(ids)) == set(ids)
    await scene.commit(entries=[scene.entry(suffix, 1, output=f'"{n}"') for n, suffix in enumerate(suffixes)])
    journals = await store.load(ids)
    assert [[entry.output for entry in journals[id]] for id in ids] == [[f'"{n}"'] for n in range(len(suffixes))]
    for id in ids:
        page = await store.list(Query(id_prefix=id), 100, None)
        assert {row.id for row in page.items} == {other for other in ids if other.startswith(id)}


PAYLOADS = [
    '"\\u0000"',
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\\\\\\\u0000 \\" \' %s %(x)s ; -- # /* */ \\n"',
    '"' + "\\\\" * 1000 + '"',
    "'; drop table workers; --",
    "raw \0 and \x1a and 😀 and é\r\n\t",
    "",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
async def test_payloads_come_back_as_they_were(store: MysqlStore, payload: str) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0", input=payload)
    await scene.commit(entries=[scene.entry("e0", 1, output=payload, input=payload), scene.entry("e0", 2)])
    await scene.commit(changes=[scene.change("e0", Status.WAITING, reason=payload)])
    await store.deliver(Post(Message("m-" + scene.id(), scene.id("e0"), payload, payload)), 0)
    row = await scene.row("e0")
    assert (row.input, row.reason) == (payload, payload)
    entry = (await store.history(row.id))[0]
    assert (entry.input, entry.output, entry.error) == (payload, payload, None)
    message = (await store.inbox([row.id]))[row.id].messages[0]
    assert (message.name, message.value) == (payload, payload)


async def test_a_text_that_utf8_cannot_hold_is_a_bad_batch(store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    with pytest.raises(BadBatchError, match="UTF-8 cannot hold"):
        await scene.commit(entries=[scene.entry("e0", 1, output="\ud800")])
    with pytest.raises(BadBatchError, match="UTF-8 cannot hold"):
        await store.deliver(Post(Message("m", scene.id("e0"), "news", "\udc80")), 0)
    assert (await scene.commit(entries=[scene.entry("e0", 1)])).alive
    assert await store.deliver(Post(Message("m-" + scene.id(), scene.id("e0"), "news", "1")), 0)


@pytest.mark.parametrize("changes", [False, True], ids=["entries", "everything"])
async def test_too_large_a_packet_is_refused_in_words_before_it_is_sent(store: MysqlStore, changes: bool) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    session = await store._commits.ready()
    assert session.most_bytes == 16 * 1024 * 1024
    extra = [scene.change("e0", Status.COMPLETED)] if changes else []
    with pytest.raises(BadBatchError, match="max_allowed_packet"):
        await scene.commit(entries=[scene.entry("e0", 1, output="x" * session.most_bytes)], changes=extra)
    assert not session.is_broken, "the connection stands"
    assert await scene.seqs("e0") == []
    nearly = "x" * (session.most_bytes - 4000)
    assert (await scene.commit(entries=[scene.entry("e0", 1, output=nearly)], changes=extra)).alive
    assert (await store.load([scene.id("e0")]))[scene.id("e0")][0].output == nearly


async def test_a_duplicate_entry_is_a_bad_batch_and_nothing_of_it_is_recorded(store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    await scene.run("e1")
    await scene.commit(entries=[scene.entry("e0", 1)])
    for changes in ([], [scene.change("e1", Status.COMPLETED)]):
        with pytest.raises(BadBatchError, match="recorded already"):
            await scene.commit(entries=[scene.entry("e1", 1), scene.entry("e0", 1)], changes=changes)
        assert await scene.seqs("e1") == []
        assert (await scene.row("e1")).status is Status.RUNNING


async def test_an_id_that_is_too_long_is_a_bad_batch_and_not_cut_off(store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    with pytest.raises(BadBatchError, match="does not fit its column"):
        await scene.commit(creates=[replace(scene.execution("e0"), id="x" * 300)])
    assert await store.count(Query()) == {}


async def test_times_are_exact_and_in_utc_whatever_the_server_s_zone(store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    moments = [0, 1, 999_999, 1_774_746_000_123_456, 7_600 * 365 * 86_400 * SECOND + 1]
    await scene.commit(creates=[scene.execution(f"e{n}", created_at=when) for n, when in enumerate(moments)])
    rows = await store.get([scene.id(f"e{n}") for n in range(len(moments))])
    assert [row.created_at for row in rows.values()] == sorted(moments)


# Servers that go --------------------------------------------------------------------------------------


async def test_after_a_crash_of_the_server_all_works_again() -> None:
    with MariaDbServer(durable=True) as server, server.database() as url:
        store = MysqlStore(url)
        await store.open()
        scene = await Scene.begin(store)
        await scene.run("e0")
        await scene.commit(entries=[scene.entry("e0", 1)])
        server.stop(signal.SIGKILL)
        with pytest.raises(StoreUnavailableError):
            await scene.commit(entries=[scene.entry("e0", 2)])
        with pytest.raises(StoreUnavailableError):
            await store.count(Query())
        with pytest.raises(StoreUnavailableError):
            await store.heartbeat(scene.worker.id, 1, 10.0)
        server.start()
        assert (await scene.commit(entries=[scene.entry("e0", 2)])).alive
        assert await scene.seqs("e0") == [1, 2]
        assert (await store.heartbeat(scene.worker.id, 1, 10.0))[0]
        await store.close()


async def test_a_session_that_the_server_ended_is_replaced(mariadb_server: MariaDbServer, store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    async with store._pool.session() as session:
        ours = (await session.run("select id from information_schema.processlist where id <> connection_id()"))[0]
        for (id,) in ours.tuples:
            await session.run(f"kill soft {id}")
    async with asyncio.timeout(20):
        while store._commits._session is None or not store._commits._session.is_broken:
            await asyncio.sleep(0.01)
    assert (await scene.commit(entries=[scene.entry("e0", 1)])).alive
    assert (await store.heartbeat(scene.worker.id, 1, 10.0))[0]


async def test_a_store_closed_while_a_heartbeat_thread_lives_leaves_nothing_open(mysql_url: str) -> None:
    store = MysqlStore(mysql_url)
    await store.open()
    worker = await store.register(WorkerRecord(0), 60.0)
    beaten, closed = threading.Event(), threading.Event()
    said: list[object] = []

    async def beat() -> None:
        said.append((await store.heartbeat(worker.id, 1, 60.0))[0])
        beaten.set()
        await asyncio.to_thread(closed.wait)
        try:
            await store.heartbeat(worker.id, 1, 60.0)
        except StoreUnavailableError as error:
            said.append(str(error))

    thread = threading.Thread(target=lambda: asyncio.run(beat()))
    thread.start()
    await asyncio.to_thread(beaten.wait)
    await store.close()
    closed.set()
    await asyncio.to_thread(thread.join)
    assert said == [True, f"{store.url} is closed"]
    session = await connect(read_address(mysql_url))
    others = "select count(*) from information_schema.processlist where db = database() and id <> connection_id()"
    async with asyncio.timeout(20):
        while (await session.run(others))[0].value:
            await asyncio.sleep(0.01)
    await session.close()


async def test_a_read_only_server_is_unavailable_and_not_a_bad_batch() -> None:
    with MariaDbServer() as server, server.database() as url:
        store = MysqlStore(url)
        await store.open()
        scene = await Scene.begin(store)
        await scene.run("e0")
        server.execute("create user writer@'127.0.0.1'")
        server.execute("grant all on *.* to writer@'127.0.0.1'")
        server.execute("revoke read_only admin, super on *.* from writer@'127.0.0.1'")
        server.execute("set global read_only = 1")
        writer = MysqlStore(server.url(url.rsplit("/", 1)[1], user="writer"))
        await writer.open()
        with pytest.raises(StoreUnavailableError, match="read-only"):
            await writer.commit(scene.batch(entries=[scene.entry("e0", 1)]))
        await writer.close()
        await store.close()


async def test_who_asks_while_the_server_is_away_shares_one_try(mariadb_server: MariaDbServer, mysql_url: str) -> None:
    async with Proxy(mariadb_server.port) as proxy:
        store = MysqlStore(mariadb_server.url(mysql_url.rsplit("/", 1)[1], port=proxy.port))
        await store.open()
        await proxy.sever()
        proxy.target = 1  # nobody is there
        before = proxy.attempts
        results = await asyncio.gather(*[store.count(Query()) for _ in range(50)], return_exceptions=True)
        assert all(isinstance(result, StoreUnavailableError) for result in results)
        assert proxy.attempts - before <= 20, "ten that the pool has room for, then one at a time"
        proxy.target = mariadb_server.port
        assert await store.count(Query()) == {}
        await store.close()


# Plans ------------------------------------------------------------------------------------------------


async def test_a_claim_finds_what_is_ready_in_order_without_sorting(store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    await scene.commit(creates=[scene.execution(f"e{n}") for n in range(300)])
    wanted = {"queue": scene.name, "workflows": [(scene.name, 1)], "build": '""', "limit": 3}
    plan = (await store._pool.run("explain " + Statements(Names("mysql")).fill("take_ready", **wanted)))[0].rows[0]
    assert plan["key"] == "workflow_executions_ready"
    assert "filesort" not in plan["Extra"]
