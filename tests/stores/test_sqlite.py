"""What is particular to SQLite: errors in words, the schema, what another connection does meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure.clock import SystemClock
from perdure.deliveries import Post
from perdure.errors import (
    BadBatchError,
    CommitUnknownError,
    DecodeError,
    SchemaVersionError,
    StoreUnavailableError,
)
from perdure.records import Query, Status
from perdure.stores import sqlite_database
from perdure.stores.conditions import composed
from perdure.stores.migrations import Migration
from perdure.stores.sqlite import Busy, SqliteStore
from perdure.testing.checks.scene import HOUR, Scene

PROMISED_FIRST = [
    "workflow_definitions",
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "rollback_actions",
]


class CountingClock(SystemClock):
    """Tells when others came again often enough: each pause asks for a jitter."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses = 0
        self.often = asyncio.Event()

    def jitter(self) -> float:
        self.pauses += 1
        if self.pauses == 40:
            self.often.set()
        return 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "perdure.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, clock=CountingClock())
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def scene(store: SqliteStore) -> Scene:
    return await Scene.begin(store)


@pytest.fixture
def elsewhere(path: Path, store: SqliteStore) -> Iterator[sqlite3.Connection]:
    """Another connection, as another process has it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


# Another process holds the lock ------------------------------------------------------------------------


async def test_a_commit_never_waits_for_another_process(scene: Scene, elsewhere: sqlite3.Connection) -> None:
    await scene.run()
    elsewhere.execute("begin immediate")
    batch = scene.batch(entries=[scene.entry()])
    with pytest.raises(Busy) as caught:
        scene.store.commit(batch)
    assert isinstance(caught.value, StoreUnavailableError)
    assert not isinstance(caught.value, CommitUnknownError)
    assert await scene.seqs() == []
    elsewhere.execute("rollback")
    await scene.send(batch)
    assert await scene.seqs() == [1]


async def test_the_other_verbs_come_again_until_it_is_free(scene: Scene, elsewhere: sqlite3.Connection) -> None:
    await scene.park()
    await scene.create(scene.execution("free"))
    clock = scene.store.clock
    assert isinstance(clock, CountingClock)
    elsewhere.execute("begin immediate")
    verbs = [
        asyncio.create_task(scene.store.deliver(Post(scene.message()), scene.now)),
        asyncio.create_task(scene.claim()),
        asyncio.create_task(scene.store.settle(scene.batch())),
        asyncio.create_task(scene.other_worker()),
    ]
    await clock.often.wait()
    assert not any(verb.done() for verb in verbs)
    elsewhere.execute("rollback")
    await asyncio.gather(*verbs)
    assert [entry.nudges for entry in (await scene.store.get([scene.id()])).values()] == [1]


async def test_reads_do_not_wait_for_a_writer(scene: Scene, elsewhere: sqlite3.Connection) -> None:
    await scene.run()
    elsewhere.execute("begin immediate")
    elsewhere.execute("delete from workflow_executions")
    assert (await scene.row()).status is Status.RUNNING
    assert await scene.store.load([scene.id()]) == {scene.id(): []}
    assert await scene.claim() == [], "an idle look takes no lock"


async def test_what_another_connection_does_to_a_worker_is_seen_by_the_next_commit(
    scene: Scene, elsewhere: sqlite3.Connection
) -> None:
    await scene.run()
    await scene.commit(entries=[scene.entry(seq=1)])
    elsewhere.execute("update workers set epoch = epoch + 1, state = 'dead'")
    assert not (await scene.send(scene.batch(entries=[scene.entry(seq=2)]))).alive
    assert await scene.seqs() == [1]


async def test_a_change_elsewhere_ends_the_wait_for_one(scene: Scene, elsewhere: sqlite3.Connection) -> None:
    await scene.store.changed(0.0)
    waits = [asyncio.create_task(scene.store.changed(100_000.0)) for _ in range(3)]
    await asyncio.sleep(0)
    elsewhere.execute("update workers set host = 'another'")
    await asyncio.gather(*waits)


async def test_a_delivery_of_its_own_ends_the_wait_for_a_change(scene: Scene) -> None:
    await scene.park()
    waits = asyncio.create_task(scene.store.changed(100_000.0))
    await asyncio.sleep(0)
    await scene.post()
    await waits


# Disks, rights, files that are none --------------------------------------------------------------------


async def test_a_full_disk_is_told_and_nothing_is_recorded(scene: Scene, store: SqliteStore) -> None:
    await scene.run()
    connection = store._db.connection
    (pages,) = connection.execute("pragma page_count").fetchone()
    connection.execute(f"pragma max_page_count = {pages + 2}")
    large = scene.batch(entries=[scene.entry(output="x" * 100_000)], changes=[scene.change()])
    with pytest.raises(StoreUnavailableError, match="full") as caught:
        await scene.send(large)
    assert not isinstance(caught.value, CommitUnknownError | Busy)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert (await scene.row()).status is Status.RUNNING
    assert await scene.seqs() == []
    connection.execute("pragma max_page_count = 1000000")
    assert (await scene.send(large)).alive
    assert await scene.seqs() == [1]


def test_a_disk_that_fills_up_at_commit_leaves_nobody_in_doubt(path: Path) -> None:
    """The limit on the size of files hits the log, which is written at COMMIT."""
    script = """
import asyncio, os, resource, sys
from perdure.errors import CommitUnknownError
from perdure.stores.sqlite import SqliteStore
from perdure.testing.checks.scene import Scene

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    scene = await Scene.begin(store)
    await scene.run()
    batch = scene.batch(entries=[scene.entry(output="x" * 100_000)])
    size = os.path.getsize(sys.argv[1] + "-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
    try:
        await scene.send(batch)
    except CommitUnknownError:
        print("unknown")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(await store.settle(batch))
    print((await scene.send(batch)).alive, await store.settle(batch) is not None, await scene.seqs())
    await store.close()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["unknown", "None", "True True [1]"]


class Failing:
    """A connection whose COMMIT reports an error, before or after it did its work."""

    def __init__(self, connection: sqlite3.Connection, *, after: bool) -> None:
        self._connection = connection
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if sql != "commit":
            return self._connection.execute(sql, parameters)
        if self._after:
            self._connection.execute(sql)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("recorded", [True, False])
async def test_an_error_at_commit_does_not_say_that_nothing_is_recorded(
    scene: Scene, store: SqliteStore, recorded: bool
) -> None:
    await scene.run()
    connection = store._db.connection
    batch = scene.batch(entries=[scene.entry()], changes=[scene.change()])
    store._db.connection = Failing(connection, after=recorded)  # type: ignore[assignment]
    with pytest.raises(CommitUnknownError):
        await scene.send(batch)
    store._db.connection = connection
    settled = await store.settle(batch)
    assert (settled is not None) is recorded
    if settled is None:
        settled = await scene.send(batch)
    assert [str(verdict) for verdict in settled.changes] == ["ok"]
    assert (await scene.row()).status is Status.COMPLETED
    assert await scene.seqs() == [1]


async def test_a_value_that_sqlite_cannot_take_is_a_bad_batch(scene: Scene, store: SqliteStore) -> None:
    await scene.run()
    store._db.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    for odd in ({"output": "x" * 200_000}, {"checksum": 2**70}, {"key": "\ud800"}, {"status": "unheard of"}):
        for entries in ([scene.entry(**odd)], [scene.entry(seq=2), scene.entry(**odd)]):
            with pytest.raises(BadBatchError):
                await scene.send(scene.batch(entries=entries))
    assert await scene.seqs() == []
    await scene.commit(entries=[scene.entry()])


AS_NOBODY = """
import asyncio, os, sys
from perdure.errors import PerdureError
from perdure.stores.migrations import load_migrations
from perdure.stores.queries import load_queries
from perdure.stores.sqlite import SqliteStore
load_queries("sqlite"), load_queries("sqlite_reads"), load_migrations("sqlite")  # read while this user may
if os.getuid() == 0:
    os.setuid(65534)
async def main():
    store = SqliteStore(sys.argv[1])
    try:
        await store.open()
    except PerdureError as error:
        print(type(error).__name__, error)
    else:
        print("opened")
    await store.close()
asyncio.run(main())
"""


def _open_as_nobody(path: Path) -> str:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        os.chmod(folder, 0o755)


async def test_a_folder_or_file_that_may_not_be_written_is_told_at_open(shared_folder: Path) -> None:
    os.chmod(shared_folder, 0o555)
    said = _open_as_nobody(shared_folder / "new.db")
    assert said.startswith("StoreUnavailableError")
    assert f"may not write to the folder {shared_folder}" in said

    os.chmod(shared_folder, 0o755)
    existing = SqliteStore(shared_folder / "old.db")
    await existing.open()
    await existing.close()
    (shared_folder / "old.db").chmod(0o444)
    os.chmod(shared_folder, 0o555)
    said = _open_as_nobody(shared_folder / "old.db")
    assert said.startswith("StoreUnavailableError")
    assert "may not" in said

    os.chmod(shared_folder, 0o777)
    assert "may not be written" in _open_as_nobody(shared_folder / "old.db")


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _text(path: Path) -> str:
    return path.read_text()


async def _refused(path: Path, error: type[Exception], words: str) -> None:
    store = SqliteStore(path)
    with pytest.raises(error, match=words):
        await store.open()
    await store.close()


async def test_what_is_no_database_is_left_as_it_is(path: Path) -> None:
    notes = "these are my notes, not a database\n" * 100
    _write(path, notes)
    await _refused(path, StoreUnavailableError, "not an SQLite database")
    assert _text(path) == notes


async def test_a_missing_folder_is_not_made(path: Path) -> None:
    await _refused(path.parent / "absent" / "perdure.db", StoreUnavailableError, "no folder .*absent; create it")
    assert not (path.parent / "absent").exists()


async def test_a_folder_is_no_file(path: Path) -> None:
    os.mkdir(path)
    await _refused(path, StoreUnavailableError, "cannot be opened: it is a folder")


async def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="not open"):
        await store.next_wake()
    await store.open()
    scene = await Scene.begin(store)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailableError, match="not open"):
        store.commit(scene.batch())
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.heartbeat(scene.worker.id, 1, 1.0)


# Damage ------------------------------------------------------------------------------------------------


async def test_damaged_text_is_read_for_its_checksum_to_find(scene: Scene, elsewhere: sqlite3.Connection) -> None:
    await scene.run()
    await scene.run("whole")
    await scene.commit(entries=[scene.entry(), scene.entry(seq=2), scene.entry("whole")])
    elsewhere.execute("update step_executions set output = cast(x'22ff22' as text) where seq = 2")
    journals = await scene.store.load([scene.id(), scene.id("whole")])
    assert [entry.output for entry in journals[scene.id()]] == ["1", '"\ufffd"']
    assert journals[scene.id("whole")] == [scene.entry("whole")]
    assert await scene.store.history(scene.id()) == journals[scene.id()]


async def test_a_journal_that_cannot_be_read_is_named(scene: Scene, elsewhere: sqlite3.Connection) -> None:
    await scene.run()
    await scene.run("whole")
    await scene.commit(entries=[scene.entry(), scene.entry("whole")])
    elsewhere.execute("update step_executions set completed_at = 'soon' where execution_id = ?", (scene.id(),))
    with pytest.raises(DecodeError) as caught:
        await scene.store.load([scene.id("whole"), scene.id()])
    assert caught.value.execution_id == scene.id()
    assert await scene.store.load([scene.id("whole")]) == {scene.id("whole"): [scene.entry("whole")]}


# The schema --------------------------------------------------------------------------------------------


async def test_the_six_tables_of_the_design_come_first(path: Path) -> None:
    store = SqliteStore(path)
    store._connect()
    tables = await store.migrate()
    assert [name for name, _ in tables[:6]] == PROMISED_FIRST
    assert {created for _, created in tables} == {True}
    assert {created for _, created in await store.migrate()} == {False}
    await store.close()


async def test_a_commit_is_on_the_disk_when_it_returns(store: SqliteStore) -> None:
    connection = store._db.connection
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma synchronous").fetchone() == (2,)


async def test_times_are_text_that_sorts_as_time_does(scene: Scene, elsewhere: sqlite3.Connection) -> None:
    at = 1795293180_123456
    await scene.create(scene.execution(created_at=at, wake_at=at + 876_544))
    row = elsewhere.execute("select created_at, wake_at, datetime(created_at) from workflow_executions").fetchone()
    assert row == ("2026-11-21T20:33:00.123456Z", "2026-11-21T20:33:01.000000Z", "2026-11-21 20:33:00")


async def test_a_schema_that_asks_for_a_newer_library_is_left_alone(path: Path, elsewhere: sqlite3.Connection) -> None:
    elsewhere.execute("insert into schema_versions values (99, '2030-01-01T00:00:00.000000Z', 98)")
    await _refused(path, SchemaVersionError, "schema 99.* knows schema 98.* up to 7.*upgrade perdure")


async def test_a_newer_schema_that_admits_this_library_is_written_to(path: Path, elsewhere: sqlite3.Connection) -> None:
    elsewhere.execute("insert into schema_versions values (99, '2030-01-01T00:00:00.000000Z', 1)")
    for table in ("workflow_executions", "approval_requests", "messages", "workers", "step_executions"):
        elsewhere.execute(f"alter table {table} add column something_new text")
    store = SqliteStore(path)
    await store.open()
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request()])
    await scene.post()
    assert (await scene.row()).status is Status.PENDING
    assert (await scene.one_request()).status == "open"
    assert await scene.message_ids() == ["m"]
    await store.close()


async def test_tables_of_somebody_else_are_not_taken(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table messages (text)")
        connection.execute("create table customers (name)")
    await _refused(path, SchemaVersionError, r"not Perdure's: \['messages'\]")


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sqlite_database.load_migrations("sqlite")
    text = "create table more (id);\ncreate index workflow_executions_created on more (id);\n"
    broken = Migration(version=len(known) + 1, name="more", oldest_writer=1, text=text, tables=frozenset({"more"}))
    mended = Migration(
        version=len(known) + 1,
        name="more",
        oldest_writer=1,
        text="create table more (id);\n",
        tables=frozenset({"more"}),
    )
    monkeypatch.setattr(sqlite_database, "load_migrations", lambda dialect: (*known, broken))
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        await store.migrate()
    monkeypatch.setattr(sqlite_database, "load_migrations", lambda dialect: (*known, mended))
    for _ in range(2):
        await store.migrate()
    with closing(sqlite3.connect(path)) as connection:
        versions = connection.execute("select version from schema_versions order by 1").fetchall()
        assert versions == [(n,) for n in range(1, len(known) + 2)]


async def test_what_workers_registered_is_on_record(store: SqliteStore, elsewhere: sqlite3.Connection) -> None:
    scene = await Scene.begin(store)
    for build in ("b1", "b2"):
        scene.worker.workflows, scene.worker.build = '[["fulfil",1],["f\\u00fcr",2]]', build
        await store.register(scene.worker, 1.0)
    rows = elsewhere.execute("select name, version, build from workflow_definitions order by 2").fetchall()
    assert rows == [("fulfil", 1, "b2"), ("f\u00fcr", 2, "b2")]


# What is read must be found by an index ------------------------------------------------------------------

WHOLE_TABLES_ALLOWED = {"count_executions", "count_first", "count_newest", "all_requests", "tallies", "count_tallied"}
PIECES = {
    "list_ended_newest": "and w.ended_at < :ended_before",
    "list_ended_oldest": "and w.ended_at < :ended_before",
    "many_prefix": "and w.id >= :prefix",
}


async def test_no_statement_reads_a_large_table_as_a_whole(store: SqliteStore) -> None:
    found = []
    store._db.run("make_moved_away")  # a table that only some have
    for name, piece in store._db.sql.items():
        sql = piece.replace("{conditions}", PIECES.get(name, ""))
        if (
            "{columns}" in sql
            or name in WHOLE_TABLES_ALLOWED
            or not sql.startswith(("select", "with", "update", "insert", "delete"))
        ):
            continue
        names = set(re.findall(r":(\w+)", sql))
        parameters: Any = dict.fromkeys(names) if names else [None] * sql.count("?")
        for row in store._db.connection.execute(f"explain query plan {sql}", parameters):
            if re.match(r"SCAN (workflow|step|approval|messages|entry|child|execution|ready|whole)\w*$", row[3]):
                found.append((name, row[3]))
    assert found == []


async def test_a_list_enters_its_index_by_time_and_sorts_nothing(store: SqliteStore) -> None:
    plans: list[str] = []
    for name, place in (("list_newest", "where_older"), ("list_oldest", "where_newer")):
        sql = composed(store._db.sql, name, [place])
        parameters = dict.fromkeys(re.findall(r":(\w+)", sql))
        plans += [row[3] for row in store._db.connection.execute(f"explain query plan {sql}", parameters)]
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]
    entered = [plan for plan in plans if re.search(r"workflow_executions_created \(.*\(created_at,id\)[<>]", plan)]
    assert len(entered) == 2


async def test_a_list_of_what_was_created_at_one_instant_goes_on(scene: Scene) -> None:
    await scene.create(*(scene.execution(f"n{n:03}", created_at=HOUR) for n in range(25)))
    for order in ("newest", "oldest"):
        seen, cursor = [], None
        while True:
            page = await scene.store.list(Query(workflow=scene.name, order=order), 10, cursor)
            seen += [row.id for row in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == sorted((scene.id(f"n{n:03}") for n in range(25)), reverse=order == "newest")


async def test_an_idle_worker_says_that_its_file_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(tmp_path / "gone.db")
    await store.open()
    os.rename(tmp_path / "gone.db", tmp_path / "moved.db")
    with pytest.raises(StoreUnavailableError, match="was deleted or replaced while it was open"):
        await store.suspects(1)
    os.rename(tmp_path / "moved.db", tmp_path / "gone.db")
    assert await store.suspects(1) == []
    await store.close()
