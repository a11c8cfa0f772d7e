"""Several processes share one folder: one runs executions, the others stand by, deliver and read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.deliveries import Answer
from perdure.records import Status, Verdict
from perdure.stores import files_folder
from perdure.stores.files import FileStore
from perdure.testing.checks.scene import Scene

# Another process, which does what it is told line by line and says what came of it.
OTHER = """
import asyncio, os, sys, time
from perdure.deliveries import (Answer)
from perdure.stores import files_folder
from perdure.stores.files import Busy, FileStore
from perdure.testing.checks.scene import Scene, new_worker

files_folder.LOG_SIZE, files_folder.BEHIND = 20_000, 5_000

async def send(scene, batch):
    while True:
        try:
            return await scene.send(batch)
        except Busy:
            time.sleep(0.0005)

async def main(path, name):
    store = FileStore(path)
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
                fence = rows[0].fence if rows else 0
                print(len(rows), flush=True)
            case ["stands"]:
                print(store.standing_by, flush=True)
            case ["create", suffix]:
                batch = scene.batch(creates=[scene.execution(suffix)])
                print((await send(scene, batch)).creates[0], flush=True)
            case ["commit", seq]:
                verdicts = await send(scene, scene.batch(entries=[scene.entry(seq=int(seq), fence=fence)]))
                print(verdicts.alive, flush=True)
            case ["rush"]:
                seq = 0
                while (await send(scene, scene.batch(entries=[scene.entry(seq=seq + 1, fence=fence)]))).alive:
                    seq += 1
                    print(seq, flush=True)
                print("refused", flush=True)
            case ["answer", value]:
                receipt = await store.deliver(Answer(scene.id("r"), value, "other", None, 0), now)
                print(receipt.verdict, receipt.request.answer, flush=True)
            case ["post", suffix, count]:
                for n in range(int(count)):
                    await scene.post(f"{suffix}{n}")
                print("posted", flush=True)
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
        arguments = [sys.executable, "-c", OTHER, str(path), name, str(self.forked)]
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
def path(memory_folder: Path) -> Path:
    return memory_folder / "perdure"


@pytest.fixture
def first(path: Path) -> Iterator[OtherProcess]:
    """A process that was there before, and so runs executions."""
    process = OtherProcess(path, "shared")
    yield process
    process.close()


@pytest.fixture
async def scene(path: Path) -> AsyncIterator[Scene]:
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    scene.name = "shared"
    yield scene
    await store.close()


@pytest.fixture
def other(path: Path, scene: Scene) -> Iterator[OtherProcess]:
    """A process that came later, and so stands by."""
    process = OtherProcess(path, scene.name)
    yield process
    process.close()


# Who runs ----------------------------------------------------------------------------------------------


async def test_one_process_claims_and_the_other_one_starts_and_delivers(scene: Scene, other: OtherProcess) -> None:
    assert other.ask("stands") == "True"
    assert other.ask("create x") == "ok"
    assert other.ask("claim") == "0"
    assert [row.id for row in await scene.claim()] == [scene.id()]
    assert other.ask("post m 3") == "posted"
    assert await scene.message_ids() == ["m0", "m1", "m2"]
    assert other.ask("claim") == "0"
    await scene.store.release(scene.worker.id, 1)
    assert other.ask("claim") == "1"
    assert (await scene.row()).owner == other.worker


async def test_a_killed_process_is_taken_over_at_once_however_long_its_lease(
    first: OtherProcess, scene: Scene, path: Path
) -> None:
    store = scene.store
    assert isinstance(store, FileStore)
    assert first.ask("create x") == "ok"
    assert first.ask("claim") == "1"
    assert first.ask("commit 1") == "True"
    assert store.standing_by
    assert await scene.claim() == []
    assert await store.suspects(scene.worker.id) == []
    first.kill()
    await store.changed(60.0)
    assert not store.standing_by
    assert await store.suspects(scene.worker.id) == [first.worker]
    assert await scene.claim() == [], "a suspect still owns what it owns"
    assert await store.declare_dead(first.worker)
    assert [(row.fence, row.crashes) for row in await scene.claim()] == [(2, 1)]
    assert await scene.seqs() == [1], "what was acknowledged is there"
    assert [file.name for file in (path / "locks").glob("alive*")] == [f"alive.worker-{scene.worker.id}"]


async def test_who_leaves_hands_over(first: OtherProcess, scene: Scene) -> None:
    store = scene.store
    assert isinstance(store, FileStore)
    first.ask("create x")
    first.ask("claim")
    assert first.ask("release") == "released"
    await store.changed(60.0)
    assert [(row.fence, row.crashes) for row in await scene.claim()] == [(2, 0)]
    assert not store.standing_by


async def test_a_forked_child_does_not_keep_a_killed_process_alive(first: OtherProcess, scene: Scene) -> None:
    assert first.ask("fork") == "forked"
    first.kill()
    await scene.store.changed(60.0)
    assert await scene.store.suspects(scene.worker.id) == [first.worker]
    assert await scene.claim() == []
    assert isinstance(scene.store, FileStore) and not scene.store.standing_by


async def test_a_process_that_only_stands_still_is_not_dead(first: OtherProcess, scene: Scene) -> None:
    first.process.send_signal(signal.SIGSTOP)
    assert await scene.store.suspects(scene.worker.id) == []
    assert isinstance(scene.store, FileStore) and scene.store.standing_by
    first.process.send_signal(signal.SIGCONT)


# Writing at once ---------------------------------------------------------------------------------------


async def test_of_answers_from_two_processes_at_once_one_stands(scene: Scene, other: OtherProcess) -> None:
    for n in range(20):
        await scene.park(f"x{n}", requests=[scene.request("r", f"x{n}")] if n == 0 else [])
    other.say("answer 1")
    receipt = await scene.store.deliver(Answer(scene.id("r"), "2", "me", None, 0), scene.now)
    verdict, standing = other.hear().split()
    assert {str(receipt.verdict), verdict} == {"ok", "decided"}
    assert receipt.request is not None
    assert receipt.request.answer == standing == ("2" if receipt.verdict is Verdict.OK else "1")
    row = await scene.row("x0")
    assert (row.status, row.nudges) == (Status.PENDING, 1)


async def test_what_two_processes_write_at_once_is_all_there_in_one_order(
    first: OtherProcess, scene: Scene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the log is folded all the while, by both."""
    monkeypatch.setattr(files_folder, "LOG_SIZE", 20_000)
    first.ask("create x")
    first.ask("claim")
    first.say("rush")
    posts = 150
    for n in range(posts):
        await scene.post(f"m{n}")
        seqs = await scene.seqs()
        assert seqs == list(range(1, len(seqs) + 1))
    assert await scene.message_ids() == [f"m{n}" for n in range(posts)]
    assert await scene.store.declare_dead(first.worker, anyway=True)
    recorded = await scene.seqs()
    last = "0"
    while (heard := first.hear()) != "refused":
        last = heard
    assert recorded == list(range(1, int(last) + 1)), "acknowledged, and no more than that"
    assert (await scene.row()).nudges == posts
    first.kill()
    fresh = FileStore(path)
    seen = (await scene.store.history(scene.id()), await scene.store.inbox([scene.id()]))
    await scene.store.close()
    await fresh.open()
    assert (await fresh.history(scene.id()), await fresh.inbox([scene.id()])) == seen
    await fresh.close()


@pytest.mark.parametrize("after", [1, 40, 400])
async def test_what_was_acknowledged_survives_a_kill(first: OtherProcess, scene: Scene, after: int) -> None:
    first.ask("create x")
    first.ask("claim")
    first.say("rush")
    for _ in range(after):
        last = int(first.hear())
    first.kill()
    seqs = await scene.seqs()
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= last
    assert (await scene.row()).status is Status.RUNNING


async def test_a_process_that_was_declared_dead_while_it_stood_still_records_nothing(
    first: OtherProcess, scene: Scene
) -> None:
    first.ask("create x")
    first.ask("claim")
    assert first.ask("commit 1") == "True"
    first.process.send_signal(signal.SIGSTOP)
    assert await scene.store.declare_dead(first.worker, anyway=True)
    first.process.send_signal(signal.SIGCONT)
    assert first.ask("commit 2") == "False"
    assert await scene.seqs() == [1]


# Opening -----------------------------------------------------------------------------------------------

OPEN = """
import asyncio, sys
from perdure.stores.files import FileStore
from perdure.stores.patience import Busy
from perdure.testing.checks.scene import Scene
async def main():
    store = FileStore(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    scene = await Scene.begin(store)
    while True:
        try:
            await scene.create(scene.execution())
            break
        except Busy:
            await asyncio.sleep(0.001)
    print(scene.worker.id)
    await store.close()
asyncio.run(main())
"""


async def test_eight_processes_that_open_a_new_folder_at_once_make_it_once(path: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", OPEN, str(path)], **pipes) for _ in range(8)]  # noqa: ASYNC220
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(int(process.communicate()[0]) for process in processes) == list(range(1, 9))
    store = FileStore(path)
    await store.open()
    assert len(list((path / "executions").iterdir())) == 8
    assert len(await store.suspects(0)) == 8, "none of them has left in order"
    await store.close()
