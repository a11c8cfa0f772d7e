"""Several processes share one SQLite file: deaths that show, zombies, and a database opened by all at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure.records import Status
from perdure.stores.migrations import load_migrations
from perdure.stores.sqlite import SqliteStore
from perdure.testing.checks.scene import Scene

# A worker in a process of its own, which does what it is told line by line and says what came of it.
WORKER = """
import asyncio, os, sys, time
from perdure.records import Limit, Query, Status
from perdure.stores.sqlite import Busy, SqliteStore
from perdure.testing.checks.scene import Scene, new_worker

async def send(scene, batch):
    while True:
        try:
            return await scene.send(batch)
        except Busy:
            time.sleep(0.001)

async def main(path, name):
    store = SqliteStore(path)
    await store.open()
    worker = await new_worker(store, lease=3600.0)
    _, now = await store.heartbeat(worker.id, 1, 3600.0)
    scene = Scene(store, worker, now, name)
    fence = 1
    print(worker.id, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["claim"]:
                rows = await scene.claim()
                fence = rows[0].fence
                print(len(rows), flush=True)
            case ["commit", seq]:
                verdicts = await send(scene, scene.batch(entries=[scene.entry(seq=int(seq), fence=fence)]))
                print(verdicts.alive, flush=True)
            case ["rush"]:
                seq = 0
                while (await send(scene, scene.batch(entries=[scene.entry(seq=seq + 1, fence=fence)]))).alive:
                    seq += 1
                    print(seq, flush=True)
                print("refused", flush=True)
            case ["work", number]:
                limits = [Limit(name, concurrency=3)]
                while True:
                    rows = await scene.claim(limits=limits, limit=2)
                    time.sleep(0.001)
                    for row in rows:
                        await send(scene, scene.batch(changes=[scene.change(row.id.rpartition("/")[2])]))
                    done = await store.count(Query(workflow=name, status=(Status.COMPLETED,)))
                    if done.get("completed") == int(number):
                        break
                print("done", flush=True)
            case ["suspects"]:
                print(await store.suspects(worker.id), flush=True)
            case ["fork"]:
                if os.fork() == 0:
                    sys.stdin.close()
                    os.read(int(sys.argv[3]), 1)
                    os._exit(0)
                print("forked", flush=True)
            case ["release"]:
                await store.release(worker.id, 1)
                print("released", flush=True)
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


class OtherProcess:
    """A worker of another process."""

    def __init__(self, path: Path, name: str) -> None:
        self.forked, self._end = os.pipe()  # its forked child lives until this end is closed
        arguments = [sys.executable, "-c", WORKER, str(path), name, str(self.forked)]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[self.forked]
        )
        self.worker = int(self.hear())

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.say(line)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        for end in (self.forked, self._end):
            os.close(end)
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "perdure.db"


@pytest.fixture
async def scene(path: Path) -> AsyncIterator[Scene]:
    store = SqliteStore(path)
    await store.open()
    yield await Scene.begin(store)
    await store.close()


@pytest.fixture
def other(path: Path, scene: Scene) -> Iterator[OtherProcess]:
    process = OtherProcess(path, scene.name)
    yield process
    process.close()


def _lock_files(path: Path) -> set[str]:
    return {file.name.rpartition("-")[2] for file in path.parent.glob("perdure.db.worker-*")}


# Deaths ------------------------------------------------------------------------------------------------


async def test_a_killed_process_shows_at_once_and_its_execution_is_taken_over(
    path: Path, scene: Scene, other: OtherProcess
) -> None:
    await scene.create(scene.execution())
    assert other.ask("claim") == "1"
    assert other.ask("commit 1") == "True"
    assert await scene.store.suspects(scene.worker.id) == []
    assert not await scene.store.declare_dead(other.worker)
    other.kill()
    assert await scene.store.suspects(scene.worker.id) == [other.worker]
    assert await scene.claim() == [], "a suspect still owns what it owns"
    assert await scene.store.declare_dead(other.worker)
    assert _lock_files(path) == {str(scene.worker.id)}
    assert await scene.store.suspects(scene.worker.id) == []
    assert [(row.fence, row.crashes) for row in await scene.claim()] == [(2, 1)]
    assert await scene.seqs() == [1], "what was acknowledged is there"


async def test_a_forked_child_does_not_keep_a_killed_process_alive(scene: Scene, other: OtherProcess) -> None:
    assert other.ask("fork") == "forked"
    assert await scene.store.suspects(scene.worker.id) == []
    other.kill()
    assert await scene.store.suspects(scene.worker.id) == [other.worker]


async def test_looking_at_the_others_does_not_give_the_own_lock_away(
    path: Path, scene: Scene, other: OtherProcess
) -> None:
    """Closing any descriptor of a file drops this process's lock on it."""
    beside = SqliteStore(path)
    await beside.open()
    twin = await Scene.begin(beside)
    for store, worker in ((scene.store, scene.worker), (beside, twin.worker)):
        assert await store.suspects(worker.id) == []
        assert not await store.declare_dead(scene.worker.id)
        assert not await store.declare_dead(twin.worker.id)
    assert other.ask("suspects") == "[]"
    await beside.close()
    assert other.ask("suspects") == f"[{twin.worker.id}]", "closed without release: its lock is free"


async def test_who_leaves_takes_its_lock_file_along(path: Path, scene: Scene, other: OtherProcess) -> None:
    assert _lock_files(path) == {str(scene.worker.id), str(other.worker)}
    assert other.ask("release") == "released"
    assert _lock_files(path) == {str(scene.worker.id)}
    assert await scene.store.suspects(scene.worker.id) == []
    await scene.store.release(scene.worker.id, 1)
    assert _lock_files(path) == set()


async def test_a_lock_file_that_somebody_removed_says_nothing(path: Path, scene: Scene, other: OtherProcess) -> None:
    for file in path.parent.glob("perdure.db.worker-*"):
        file.unlink()
    assert await scene.store.suspects(scene.worker.id) == []
    assert not await scene.store.declare_dead(other.worker)


async def test_a_process_that_only_stands_still_is_not_dead(scene: Scene, other: OtherProcess) -> None:
    other.process.send_signal(signal.SIGSTOP)
    assert await scene.store.suspects(scene.worker.id) == []
    other.process.send_signal(signal.SIGCONT)


# Limits ------------------------------------------------------------------------------------------------


async def test_two_processes_never_run_more_than_a_queue_may(path: Path, scene: Scene, other: OtherProcess) -> None:
    await scene.create(*(scene.execution(f"n{n}") for n in range(50)))
    second = OtherProcess(path, scene.name)
    most = 0
    with closing(sqlite3.connect(path)) as connection:
        for process in (other, second):
            process.say("work 50")
        count = "select sum(status = 'running'), sum(status = 'completed') from workflow_executions"
        completed = 0
        while completed < 50:
            running, completed = connection.execute(count).fetchone()
            most = max(most, running)
    assert (other.hear(), second.hear()) == ("done", "done")
    second.close()
    assert 0 < most <= 3
    assert {row.fence for row in (await scene.store.get([scene.id(f"n{n}") for n in range(50)])).values()} == {1}


# Zombies -----------------------------------------------------------------------------------------------


async def test_a_process_that_was_declared_dead_while_it_stood_still_records_nothing(
    scene: Scene, other: OtherProcess
) -> None:
    await scene.create(scene.execution())
    other.ask("claim")
    assert other.ask("commit 1") == "True"
    other.process.send_signal(signal.SIGSTOP)
    assert await scene.store.declare_dead(other.worker, anyway=True)
    assert [row.fence for row in await scene.claim()] == [2]
    other.process.send_signal(signal.SIGCONT)
    assert other.ask("commit 2") == "False"
    await scene.commit(entries=[scene.entry(seq=2, fence=2)])
    assert other.ask("commit 3") == "False"
    assert [entry.fence for entry in await scene.store.history(scene.id())] == [1, 2]


@pytest.mark.parametrize("after", [1, 10, 50])
async def test_after_declare_dead_not_one_entry_more_is_recorded(scene: Scene, other: OtherProcess, after: int) -> None:
    """The other one commits as fast as it can; what it was told is recorded, and nothing else."""
    await scene.create(scene.execution())
    other.ask("claim")
    other.say("rush")
    for _ in range(after):
        last = other.hear()
    assert await scene.store.declare_dead(other.worker, anyway=True)
    recorded = await scene.seqs()
    while (heard := other.hear()) != "refused":
        last = heard
    assert recorded == list(range(1, int(last) + 1)), "acknowledged, and no more than that"
    assert await scene.seqs() == recorded
    assert not (await scene.store.heartbeat(other.worker, 1, 1.0))[0]


@pytest.mark.parametrize("after", [1, 30])
async def test_what_was_acknowledged_survives_a_kill(scene: Scene, other: OtherProcess, after: int) -> None:
    await scene.create(scene.execution())
    other.ask("claim")
    other.say("rush")
    for _ in range(after):
        last = int(other.hear())
    other.kill()
    seqs = await scene.seqs()
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= last
    assert (await scene.row()).status is Status.RUNNING


# Opening -----------------------------------------------------------------------------------------------

OPEN = """
import asyncio, sys
from perdure.stores.sqlite import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    print(await store.next_wake())
    await store.close()
asyncio.run(main())
"""


def test_eight_processes_that_open_a_new_database_at_once_migrate_it_once(path: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", OPEN, str(path)], **pipes) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0].strip() for process in processes] == ["None"] * 8
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("select version, oldest_writer from schema_versions order by 1").fetchall()
    assert found == [(number, 1) for number in range(1, len(load_migrations("sqlite")) + 1)]
