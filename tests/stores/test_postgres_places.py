"""Servers that go and come back, places that are not there, the schema, and how things are done on PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any, TypeVar
from urllib.parse import quote

import asyncpg
import pytest

from perdure.deliveries import Answer
from perdure.errors import DecodeError, PerdureError, SchemaVersionError, StoreUnavailableError
from perdure.records import Status, WorkerRecord
from perdure.stores.naming import Names, load_statements
from perdure.stores.postgres import PostgresStore
from perdure.stores.postgres_address import PARTS, read_address
from perdure.testing.check_store import CHECKS, run_check
from perdure.testing.checks.scene import HOUR, Scene
from tests.proxy import Proxy
from tests.servers import LOCKED, PostgresServer

pytestmark = pytest.mark.postgres

Result = TypeVar("Result")
SQL = load_statements(PARTS, Names("postgres"))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    await opened.open()
    yield opened
    await opened.close()


# Servers that go, and places that are not there -------------------------------------------------------


async def until_well(work: Callable[[], Awaitable[Result]]) -> Result:
    """Try again while the store is unavailable: each of its connections may have to notice for itself."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await work()
            except StoreUnavailableError:
                continue


async def test_after_a_crash_of_the_server_all_works_again(
    postgres_server: PostgresServer, store: PostgresStore
) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    await store.commit(scene.batch(entries=[scene.entry("e0")]))
    postgres_server.crash()
    batch = scene.batch(entries=[scene.entry("e0", 2)])
    for verb in (
        lambda: store.commit(batch),
        lambda: store.settle(batch),
        lambda: store.get([scene.id("e0")]),
        lambda: scene.claim(),
        lambda: store.heartbeat(scene.worker.id, 1, 60.0),
    ):
        with pytest.raises(StoreUnavailableError, match=r"postgresql://postgres@127\.0\.0\.1"):
            await verb()
    postgres_server.start()
    assert await until_well(lambda: store.settle(batch)) is None
    assert (await until_well(lambda: store.commit(batch))).alive
    assert (await until_well(lambda: store.heartbeat(scene.worker.id, 1, 60.0)))[0]
    assert [entry.seq for entry in await until_well(lambda: store.history(scene.id("e0")))] == [1, 2]


async def test_a_damaged_value_is_told_with_its_execution(
    postgres_server: PostgresServer, store: PostgresStore, postgres_url: str
) -> None:
    scene = await Scene.begin(store)
    noise = Random(7).randbytes(50_000).hex()
    await scene.commit(entries=[scene.entry("whole"), scene.entry("torn", output=noise)])
    connection = await asyncpg.connect(postgres_url)
    path = await connection.fetchval(
        "select pg_relation_filepath(reltoastrelid) from pg_class where relname = 'step_executions'"
    )
    await connection.execute("checkpoint")
    await connection.close()
    postgres_server.stop()
    data = postgres_server.folder / "data" / path
    data.write_bytes(bytes(data.stat().st_size))
    postgres_server.start()
    ids = [scene.id("whole"), scene.id("torn")]
    with pytest.raises(DecodeError, match="torn") as caught:
        await until_well(lambda: store.load(ids))
    assert caught.value.execution_id == scene.id("torn")
    assert len((await store.load(ids[:1]))[ids[0]]) == 1


async def test_who_asks_while_the_server_is_away_shares_one_try() -> None:
    async with Proxy(1) as proxy:  # nothing listens there
        store = PostgresStore(f"postgresql://nobody@127.0.0.1:{proxy.port}/nothing")
        with pytest.raises(StoreUnavailableError):
            await store.open()
        tried = proxy.attempts
        results = await asyncio.gather(*(store.open() for _ in range(20)), return_exceptions=True)
        assert {type(result) for result in results} == {StoreUnavailableError}
        assert proxy.attempts == tried * 2, "twenty came, one tried"
        await store.close()


async def refusal(url: str) -> str:
    store = PostgresStore(url)
    try:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.open()
    finally:
        await store.close()
    assert "s3cr3t" not in store.url
    assert "s3cr3t" not in str(caught.value)
    return str(caught.value)


async def test_a_wrong_password_is_said_in_words_and_a_right_one_opens(
    postgres_server: PostgresServer, store: PostgresStore, postgres_url: str
) -> None:
    right, place = "s3cr3t@/?#:%", postgres_url.rpartition("@")[2]
    postgres_server.execute(f"create role {LOCKED} superuser login password '{right}'")
    try:
        said = await refusal(f"postgresql://{LOCKED}:s3cr3t-wrong@{place}")
        assert "the password is wrong" in said
        again = PostgresStore(f"postgresql+asyncpg://{LOCKED}:{quote(right, safe='')}@{place}")
        await again.open()
        await again.close()
        assert again.url == f"postgresql://{LOCKED}:***@{place}"
    finally:
        postgres_server.execute(f"drop role {LOCKED}")


async def test_a_database_that_is_not_there_is_said_in_words(postgres_server: PostgresServer) -> None:
    url = postgres_server.url("nowhere").replace("postgres@", "postgres:s3cr3t@")
    assert "no such database" in await refusal(url)


async def test_a_host_that_is_not_there_is_said_in_words() -> None:
    assert "cannot be reached" in await refusal("postgresql://ana:s3cr3t@127.0.0.1:1/orders")
    assert "cannot be reached" in await refusal("postgresql://ana:s3cr3t@/orders?host=/nowhere&port=1")


async def test_a_socket_folder_is_a_host(postgres_server: PostgresServer, postgres_url: str) -> None:
    store = PostgresStore(postgres_server.socket_url(postgres_url.rpartition("/")[2]))
    await store.open()
    assert (await store.register(WorkerRecord(0), 60.0)).state == "live"
    await store.close()


@pytest.mark.parametrize(
    ("url", "dsn", "shown"),
    [
        ("postgres://ana:p%40ss@h:5/db", "postgresql://ana:p%40ss@h:5/db", "postgresql://ana:***@h:5/db"),
        ("postgresql+asyncpg://h/db?sslmode=require", "postgresql://h/db?sslmode=require", None),
        ("postgres://h/db?channel_binding=require&connect_timeout=3", "postgresql://h/db", None),
        ("postgres://h/db?statement_cache_size=0&pool_timeout=9", "postgresql://h/db", None),
        ("postgresql://u@/db?host=/var/run/x", "postgresql://u@/db?host=%2Fvar%2Frun%2Fx", None),
        ("postgresql://u:abcd@h1:1,h2:2/db", "postgresql://u:abcd@h1:1,h2:2/db", "postgresql://u:***@h1:1,h2:2/db"),
        ("postgres://h/db?password=abcd", "postgresql://h/db?password=abcd", "postgresql://h/db?password=***"),
        ("postgres:///db", "postgresql:///db", None),
        ("postgres://", "postgresql://", None),
    ],
)
def test_an_address_is_read_as_hosts_write_it_and_shown_without_its_password(
    url: str, dsn: str, shown: str | None
) -> None:
    address = read_address(url)
    assert (address.dsn, address.shown) == (dsn, shown or dsn)
    assert address.pooled is (True if "statement_cache_size=0" in url else None)
    assert address.connect_seconds == (3.0 if "connect_timeout" in url else 10.0)


@pytest.mark.parametrize("password", ["s3cr/t@h", "s3cr#t@h", "s3cr?t@h", "[s3crt"])
def test_a_password_that_should_have_been_encoded_is_said_without_it(password: str) -> None:
    with pytest.raises(PerdureError, match="percent-encoded") as caught:
        PostgresStore(f"postgresql://ana:{password}@h/db")
    assert "s3cr" not in str(caught.value)


# The schema -------------------------------------------------------------------------------------------


async def test_eight_who_migrate_at_once_do_it_once(postgres_url: str) -> None:
    stores = [PostgresStore(postgres_url) for _ in range(8)]
    await asyncio.gather(*(store._pool.open() for store in stores))
    reports = await asyncio.gather(*(store.migrate() for store in stores))
    for store in stores:
        await store.close()
    assert sorted(sum(created for _, created in report) for report in reports) == [0] * 7 + [16]


def test_eight_processes_that_open_at_once_all_succeed(postgres_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from perdure.stores.postgres import PostgresStore\n"
        "async def main():\n"
        "    store = PostgresStore(sys.argv[1])\n"
        "    await store.open()\n"
        "    print(sum(created for _, created in await store.migrate()))\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, postgres_url]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    assert [run.communicate() for run in runs] == [("0\n", "")] * 8


async def altered(url: str, statement: str) -> PostgresStore:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()
    return PostgresStore(url)


async def test_a_schema_of_a_newer_library_is_refused_unless_it_lets_us_write(
    store: PostgresStore, postgres_url: str
) -> None:
    newer = await altered(postgres_url, "insert into schema_versions values (99, now(), 1)")
    await newer.open()
    await newer.close()
    refused = await altered(postgres_url, "update schema_versions set oldest_writer = 98 where version = 99")
    with pytest.raises(SchemaVersionError, match="newer Perdure"):
        await refused.open()
    await refused.close()


async def test_a_database_with_tables_of_our_names_that_are_not_ours_is_left_alone(postgres_url: str) -> None:
    store = await altered(postgres_url, "create table messages (text text)")
    with pytest.raises(SchemaVersionError, match="messages"):
        await store.open()
    await store.close()


async def test_tables_that_vanished_are_said_in_words(store: PostgresStore, postgres_url: str) -> None:
    await altered(postgres_url, "drop table step_executions")
    with pytest.raises(SchemaVersionError, match="perdure db upgrade"):
        await store.history("x")


# How it is done ---------------------------------------------------------------------------------------


async def test_a_pool_that_the_user_has_is_used_and_left_open(postgres_url: str) -> None:
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool:
        for check in CHECKS:
            if check.group in ("workers", "claims", "deliveries", "keeping"):
                await run_check(check, lambda: PostgresStore(postgres_url, pool=pool))
        assert await pool.fetchval("select 1") == 1


async def test_ids_that_hold_the_separator_are_kept_apart(store: PostgresStore) -> None:
    scene = await Scene.begin(store)
    odd = ["a\x1fb", "\x1f", "\x1e", "a\x1f\x1e", "a,b", '{"', "NULL"]
    entries = [scene.entry(suffix, key=suffix, build=suffix) for suffix in odd]
    await scene.commit(entries=entries[:3])
    await scene.commit(entries=entries[3:], creates=[scene.execution(suffix) for suffix in odd])
    for entry in entries:
        assert await store.history(entry.execution_id) == [entry]
    assert set(await store.get([scene.id(suffix) for suffix in odd])) == {scene.id(suffix) for suffix in odd}


async def test_one_entry_with_empty_texts_in_a_batch_of_everything(store: PostgresStore) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    entry = scene.entry(build="", output="", input=None)
    await scene.commit(entries=[entry], changes=[scene.change()])
    assert await store.history(scene.id()) == [entry]


async def test_a_batch_may_ask_and_close_at_once(store: PostgresStore) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(requests=[scene.request("a"), scene.request("b")], closes=[scene.id("a")])
    assert [(await scene.one_request(name)).status for name in "ab"] == ["withdrawn", "open"]


async def test_what_becomes_pending_here_wakes_at_once(store: PostgresStore) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request()])
    for act in (
        lambda: scene.create(scene.execution("new")),
        lambda: store.deliver(Answer(scene.id("r"), "1", None, None, 0), 0),
    ):
        waiting = asyncio.ensure_future(store.changed(3600.0))
        await asyncio.sleep(0)
        await act()
        await waiting


async def test_a_store_closed_while_a_heartbeat_thread_lives_leaves_nothing_open(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
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
    assert await sessions(postgres_url) == 0


async def sessions(url: str) -> int:
    """How many of our sessions the server still has, once it had the time to end those that were closed."""
    connection = await asyncpg.connect(url)
    count = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    try:
        for _ in range(2000):
            number: int = await connection.fetchval(count)
            if number == 0:
                break
        return number
    finally:
        await connection.close()


async def test_what_is_looked_for_all_the_time_is_found_by_index(store: PostgresStore, postgres_url: str) -> None:
    scene = await Scene.begin(store)
    for status in (Status.PENDING, Status.WAITING, Status.COMPLETED, Status.RUNNING):
        for hundred in range(20):
            rows = [
                scene.execution(f"{status}{hundred}-{n}", status=status, created_at=scene.now + n, parent_id="p" * n)
                for n in range(100)
            ]
            for row in rows:
                row.wake_at = scene.now + HOUR if status is Status.WAITING else None
                row.owner = scene.worker.id if status is Status.RUNNING else None
            await scene.create(*rows)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("analyze")
    await connection.fetch(SQL["prepare_session"])
    looks: dict[str, list[Any]] = {
        "claim": [scene.worker.id, 1, 10, [scene.name], "{1}", [scene.name], ""],
        "next_wake": [],
        "nudged": [scene.worker.id + 1],
        "inbox_children": [["x", "y"]],
        "claimable": [[scene.name], "{1}", [scene.name], "", 10],
        "claimable_suspects": [[scene.name], "{1}", [scene.name], "b1", 10],
        "claim_these": [scene.worker.id, 1, ["x", "y"]],
        "running_places": [scene.name],
        "recent_places": [scene.name, 1_000_000, 10],
        "tail": ["x", 5, ["event"], 10],
        "latest": ["x", "key"],
        "lock_families": [["x", "y"]],
        "prune": [["x", "y"]],
        "get_executions": [["x", "y"]],
        "load_journals": [["x", "y"]],
        "descendants": ["x"],
    }
    for name, values in looks.items():
        plan = "\n".join(line for (line,) in await connection.fetch("explain " + SQL[name], *values))
        for table in ("workflow_executions", "step_executions", "approval_requests", "messages"):
            assert f"Seq Scan on {table}" not in plan, f"{name}\n{plan}"
    await connection.close()


async def test_who_only_looks_makes_no_tables(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    store.creates = False
    with pytest.raises(SchemaVersionError, match=r"no tables of Perdure.*db init"):
        await store.open()
    await store.close()
    other = PostgresStore(postgres_url)
    assert all(new for _, new in await _created(other))


async def _created(store: PostgresStore) -> list[tuple[str, bool]]:
    await store._pool.open()
    try:
        return await store.migrate()
    finally:
        await store.close()
