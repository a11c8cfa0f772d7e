"""What is particular to a folder of files: what stands in it, damage and where it ends, disks that fail."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from perdure.deliveries import Post
from perdure.errors import (
    BadBatchError,
    CommitUnknownError,
    DecodeError,
    SchemaVersionError,
    StoreUnavailableError,
)
from perdure.records import Batch, Execution, Query, Schedule, Status, Verdict, Verdicts
from perdure.stores import files_disk, files_folder
from perdure.stores.files import Busy, FileStore
from perdure.stores.files_names import file_of
from perdure.stores.memory import MemoryStore
from perdure.testing.check_store import CHECKS, Check, run_check
from perdure.testing.checks.reads import ALIKE
from perdure.testing.checks.scene import HOUR, Scene

GARBAGE = Random(7).randbytes(100_000)


@pytest.fixture
def path(memory_folder: Path) -> Path:
    return memory_folder / "perdure"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[FileStore]:
    store = FileStore(path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def scene(store: FileStore) -> Scene:
    return await Scene.begin(store)


async def everything(store: FileStore) -> dict[str, Any]:
    """All that can be read of it."""
    rows = (await store.list(Query(order="oldest"), 10_000, None)).items
    ids = [row.id for row in rows]
    return {
        "rows": rows,
        "journals": {id: await store.history(id) for id in ids},
        "inboxes": await store.inbox(ids),
        "requests": await store.requests(status=None),
        "schedules": await store.schedules(),
    }


async def reopened(path: Path) -> dict[str, Any]:
    store = FileStore(path)
    await store.open()
    try:
        return await everything(store)
    finally:
        await store.close()


def copied(path: Path, to: Path) -> Path:
    """The folder as it is on the disk at this moment."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(path, to))


# What memory says is what the disk says ----------------------------------------------------------------


class Rereading(FileStore):
    """Believes nothing that it has not read from the disk."""

    async def _transaction(self, work: Any) -> Any:
        try:
            return await super()._transaction(work)
        finally:
            self._folder._stale = True

    def commit(self, batch: Batch) -> Verdicts:
        try:
            return super().commit(batch)
        finally:
            self._folder._stale = True


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_read_from_the_disk_after_each_verb_it_keeps_every_promise(check: Check, path: Path) -> None:
    await run_check(check, lambda: Rereading(path))


def test_every_table_of_the_memory_store_is_written_down() -> None:
    plain, watched = vars(MemoryStore()), vars(files_folder.WatchedStore())
    derived = {"_asked", "_posted", "_below"}
    tables = {name for name, value in plain.items() if isinstance(value, dict)} - derived
    assert {name for name in tables if type(watched[name]) is dict} == set()


async def test_schedules_and_removed_executions_are_as_they_were_left(path: Path, store: FileStore) -> None:
    scene = await Scene.begin(store)
    schedule = Schedule(scene.name, "w", 1, "* * * * *", "UTC", "skip", False, "{}", next_at=HOUR)
    await store.put_schedule(schedule)
    await store.put_schedule(Schedule("gone", "w", 1, "* * * * *", "UTC", "skip", False, "{}"))
    assert await store.remove_schedule("gone")
    schedule.next_at, schedule.queue = None, "q"
    assert await store.move_schedule(schedule, HOUR)
    await scene.run("x", status=Status.COMPLETED)
    await scene.commit(entries=[scene.entry()])
    assert await store.prune([scene.id()]) == [scene.id()]
    await scene.run("y", status=Status.COMPLETED)
    assert await store.prune([scene.id("y")]) == [scene.id("y")]
    await scene.run("y", input='"again"')
    found = await reopened(copied(path, path.with_name("copy")))
    assert found["schedules"] == [schedule]
    assert [(row.id, row.input) for row in found["rows"]] == [(scene.id("y"), '"again"')]
    assert found["journals"] == {scene.id("y"): []}


async def test_left_in_order_the_log_is_empty_and_the_files_alone_hold_everything(path: Path) -> None:
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request()])
    await scene.commit(creates=[scene.execution(id) for id in ALIKE])
    before = await everything(store)
    await store.close()
    assert [segment.read_bytes() for segment in (path / "log").iterdir()] == [b""]
    shutil.rmtree(path / "log")
    assert await reopened(path) == before


async def test_an_execution_is_a_file_of_json_lines_under_its_name(path: Path) -> None:
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    row = scene.execution()
    row.id = "order-17"
    await scene.commit(creates=[row], entries=[scene.entry()._replace(execution_id="order-17")])
    await store.close()
    lines = [json.loads(line) for line in (path / "executions" / "order-17.jsonl").read_text().splitlines()]
    assert [line["put"] for line in lines] == ["execution", "entry"]
    assert lines[0]["row"]["id"] == "order-17"
    assert (lines[1]["row"]["seq"], lines[1]["row"]["key"]) == (1, "step#1")


def test_files_have_safe_names_that_differ_where_the_case_of_letters_does_not_count() -> None:
    ids = [*ALIKE, "..", ".hidden", "-rf", "a@b", "con", "x" * 255, "x" * 254, "X" * 255, "\n", "/", "\U0001f4b6" * 60]
    ids += [file_of("A").removeprefix("executions/").removesuffix(".jsonl")]
    names = [file_of(id) for id in ids]
    for name in names:
        folder, _, last = name.rpartition("/")
        assert (folder, last[0] not in ".-", len(last) < 150) == ("executions", True, True)
        assert last.isascii() and last.isprintable() and not set(last) & set(' /\\:*?"<>|%')
    for one, other in combinations(names, 2):
        assert one.lower() != other.lower()
    assert file_of("order-17.b") == "executions/order-17.b.jsonl"


async def test_the_log_is_folded_into_the_files_over_and_over(
    path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_folder, "LOG_SIZE", 4000)
    monkeypatch.setattr(files_folder, "BEHIND", 1000)
    scene = await Scene.begin(store)
    for n in range(60):
        await scene.run(f"n{n % 7}-{n // 7}")
        await scene.commit(entries=[scene.entry(f"n{n % 7}-{n // 7}", seq) for seq in range(1, 4)])
        if n % 10 == 9:
            _rest(store)
            assert await reopened(copied(path, path.with_name("copy"))) == await everything(store)
    assert store._folder.log.number > 3
    assert len(store._folder.log.segments()) <= 2
    assert await reopened(copied(path, path.with_name("copy"))) == await everything(store)


def _rest(store: FileStore) -> None:
    """What is done beside the work has been done."""
    folding = store._folder._folding
    if folding is not None:
        folding.join()


# A batch is there as a whole or not at all -------------------------------------------------------------


async def _torn(path: Path, spoil: Callable[[bytes, int], bytes], step: int) -> None:
    """Spoil the last batch, which was never acknowledged, at each of its bytes, or at every so manieth."""
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    await scene.run("a")
    await scene.run("b")
    before = await everything(store)
    log = path / "log" / "00000001.jsonl"
    start = len(log.read_bytes())
    await scene.commit(
        entries=[scene.entry("a"), scene.entry("b")], creates=[scene.execution("c")], changes=[scene.change("a")]
    )
    after = await everything(store)
    whole = log.read_bytes()
    assert after != before
    for cut in range(start, len(whole), step):
        torn = copied(path, path.with_name("torn"))
        (torn / "log" / log.name).write_bytes(spoil(whole, cut))
        assert await reopened(torn) == before, f"cut at byte {cut - start} of {len(whole) - start}"
        if cut % 5 == 0:
            assert await _works_on(torn, scene) == before["rows"]
    await store.close()
    assert await reopened(path) == after


async def _works_on(path: Path, scene: Scene) -> list[Execution]:
    """What was there before, after something new was recorded and read back."""
    store = FileStore(path)
    await store.open()
    heir = await scene.other_worker(store)
    await heir.run("new")
    now = await everything(store)
    await store.close()
    assert await reopened(path) == now
    return [row for row in now["rows"] if row.id != scene.id("new")]


@pytest.mark.parametrize(
    ("spoil", "step"),
    [
        pytest.param(lambda whole, cut: whole[:cut], 1, id="cut"),
        pytest.param(lambda whole, cut: whole[:cut] + bytes(len(whole) - cut), 3, id="zeros"),
        pytest.param(lambda whole, cut: whole[:cut] + GARBAGE[: len(whole) - cut], 3, id="garbage"),
        pytest.param(lambda whole, cut: whole[:cut] + bytes([whole[cut] ^ 1]) + whole[cut + 1 :], 1, id="flipped"),
    ],
)
async def test_a_batch_torn_at_any_byte_is_not_there_at_all(
    path: Path, spoil: Callable[[bytes, int], bytes], step: int
) -> None:
    await _torn(path, spoil, step)


@pytest.mark.parametrize("tail", [b"", b"\0" * 700, b'{"put":"entry","row":{"se'], ids=["cut", "zeros", "half"])
async def test_a_torn_last_line_of_a_file_is_dropped(path: Path, tail: bytes) -> None:
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(entries=[scene.entry(seq=1), scene.entry(seq=2)])
    await store.close()
    file = path / file_of(scene.id())
    whole = file.read_bytes()
    file.write_bytes(whole + tail if tail else whole[:-30])
    kept = [1, 2] if tail else [1]
    await store.open()
    assert [entry.seq for entry in await store.history(scene.id())] == kept
    heir = await scene.other_worker()
    await heir.commit(entries=[scene.entry(seq=3)])
    await store.close()
    assert [entry.seq for entry in (await reopened(path))["journals"][scene.id()]] == [*kept, 3]


# Damage ------------------------------------------------------------------------------------------------


async def test_damage_at_any_byte_is_named_and_stays_with_its_execution(path: Path) -> None:
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    for suffix in ("good", "bad"):
        await scene.park(suffix, requests=[scene.request(f"r-{suffix}", suffix)])
        await scene.commit(entries=[scene.entry(suffix, seq) for seq in (1, 2, 3)])
    before = await everything(store)
    await store.close()
    file, good, bad = path / file_of(scene.id("bad")), scene.id("good"), scene.id("bad")
    whole = file.read_bytes()
    for n in range(0, len(whole) - 1, 13):
        file.write_bytes(whole[:n] + bytes([whole[n] ^ 2]) + whole[n + 1 :])
        await store.open()
        for verb in (store.load([bad]), store.load([good, bad]), store.history(bad)):
            with pytest.raises(DecodeError, match=r"perdure/executions/.*damaged") as caught:
                await verb
            assert caught.value.execution_id == bad
        assert (await store.get([good]))[good] == next(row for row in before["rows"] if row.id == good)
        assert await store.history(good) == before["journals"][good]
        assert (await store.requests(execution_ids=[good]))[0].id == scene.id("r-good")
        await store.close()
        assert file.read_bytes()[: len(whole)] == whole[:n] + bytes([whole[n] ^ 2]) + whole[n + 1 :], "left as it is"


async def test_an_execution_of_which_nothing_can_be_read_is_shown_as_blocked(path: Path) -> None:
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    await scene.run("good")
    await store.close()
    (path / "executions" / "lost.jsonl").write_bytes(b"\xff\x00 nothing\n")
    await store.open()
    rows = {row.id: row.status for row in (await store.list(Query(), 10, None)).items}
    assert rows == {scene.id("good"): Status.RUNNING, "lost": Status.BLOCKED}
    with pytest.raises(DecodeError, match=r"lost\.jsonl"):
        await store.load(["lost"])
    await store.close()


async def test_a_damaged_line_in_the_middle_of_the_log_loses_no_other_line(path: Path, store: FileStore) -> None:
    scene = await Scene.begin(store)
    for suffix in ("good", "bad"):
        await scene.run(suffix)
    for seq in (1, 2, 3):
        await scene.commit(entries=[scene.entry("good", seq), scene.entry("bad", seq)])
    spoiled = copied(path, path.with_name("spoiled"))
    [log] = (spoiled / "log").iterdir()
    lines = log.read_bytes().splitlines(keepends=True)
    [n] = [n for n, line in enumerate(lines) if b'/bad","' in line and b'"seq":2' in line]
    log.write_bytes(b"".join([*lines[:n], lines[n].replace(b'"seq":2', b'"seq":7'), *lines[n + 1 :]]))
    for file in (spoiled / "executions").iterdir():
        file.unlink()  # nor had the files been written yet
    other = FileStore(spoiled)
    await other.open()
    assert await other.history(scene.id("good")) == await store.history(scene.id("good"))
    with pytest.raises(DecodeError):
        await other.history(scene.id("bad"))
    await other.close()


async def test_a_copy_of_a_file_under_another_name_is_left_alone(path: Path) -> None:
    store = FileStore(path)
    await store.open()
    scene = await Scene.begin(store)
    await scene.run()
    await store.close()
    file = path / file_of(scene.id())
    shutil.copy(file, file.with_name("a copy.jsonl"))
    assert [row.id for row in (await reopened(path))["rows"]] == [scene.id()]


async def test_workers_whose_lines_cannot_be_read_are_dead_and_their_ids_are_not_given_again(path: Path) -> None:
    store = FileStore(path)
    await store.open()
    first, second = await Scene.begin(store), await Scene.begin(store)
    await first.run()
    await store.close()
    file = path / "workers.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([b"#" + lines[0], *lines[1:]]))
    await store.open()
    heir = await first.other_worker()
    assert heir.worker.id == second.worker.id + 1
    assert [row.id for row in await heir.claim()] == [first.id()]
    await store.close()


# Disks that fail ---------------------------------------------------------------------------------------


class BadDisk:
    """Writes a part, and then fails, while it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number: int | None = None
        self.at_sync = False
        self._write, self._sync = files_disk.write, files_disk.sync
        monkeypatch.setattr(files_disk, "write", self.write)
        monkeypatch.setattr(files_disk, "sync", self.sync)

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        if self.number is not None and not self.at_sync:
            self._write(descriptor, data[: len(data) // 2], at)
            raise OSError(self.number, os.strerror(self.number))
        self._write(descriptor, data, at)

    def sync(self, descriptor: int) -> None:
        if self.number is not None:
            raise OSError(self.number, os.strerror(self.number))
        self._sync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> BadDisk:
    return BadDisk(monkeypatch)


@pytest.mark.parametrize("at_sync", [False, True], ids=["write", "sync"])
@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "may not be written"), (errno.EIO, "disk reports an error")],
)
async def test_a_disk_that_fails_is_told_in_words_and_nothing_is_lost(
    path: Path, scene: Scene, disk: BadDisk, number: int, words: str, at_sync: bool
) -> None:
    store = scene.store
    assert isinstance(store, FileStore)
    await scene.run()
    before = await everything(store)
    disk.number, disk.at_sync = number, at_sync
    batch = scene.batch(creates=[scene.execution("new")], entries=[scene.entry()], changes=[scene.change()])
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match=words) as caught:
            store.commit(batch)
        assert not isinstance(caught.value, CommitUnknownError)
        assert await everything(store) == before
    with pytest.raises(StoreUnavailableError, match=words):
        await store.deliver(Post(scene.message()), scene.now)
    disk.number = None
    verdicts = await scene.send(batch)
    assert (verdicts.creates, verdicts.changes) == ([Verdict.OK], [Verdict.OK])
    assert await reopened(copied(path, path.with_name("copy"))) == await everything(store)


async def test_a_log_that_cannot_be_folded_refuses_no_commit(
    path: Path, scene: Scene, disk: BadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scene.store
    assert isinstance(store, FileStore)
    monkeypatch.setattr(files_folder, "LOG_SIZE", 0)
    roll = store._folder.log.roll

    def fail_at_the_second_half() -> None:
        disk.number = errno.EIO
        try:
            roll()
        finally:
            disk.number = None

    monkeypatch.setattr(store._folder.log, "roll", fail_at_the_second_half)
    await scene.run()
    for seq in range(1, 5):
        assert (await scene.send(scene.batch(entries=[scene.entry(seq=seq)]))).alive
    monkeypatch.setattr(store._folder.log, "roll", roll)
    await scene.commit(entries=[scene.entry(seq=5)])
    _rest(store)
    assert len(store._folder.log.segments()) == 1
    assert await reopened(copied(path, path.with_name("copy"))) == await everything(store)
    assert await scene.seqs() == [1, 2, 3, 4, 5]


async def test_files_that_could_not_be_flushed_are_written_again_from_the_log(
    path: Path, scene: Scene, disk: BadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scene.store
    assert isinstance(store, FileStore)
    await scene.run()
    sync_folder = files_disk.sync_folder

    def fail(_path: str) -> None:
        raise OSError(errno.EIO, "the flush failed")

    monkeypatch.setattr(files_folder, "LOG_SIZE", 0)
    begin = store._folder._begin_fold

    def begin_then_fail() -> tuple[int, set[str]]:
        begun = begin()
        monkeypatch.setattr(files_disk, "sync_folder", fail)
        return begun

    monkeypatch.setattr(store._folder, "_begin_fold", begin_then_fail)
    await scene.commit(entries=[scene.entry(seq=1)])
    _rest(store)
    monkeypatch.undo()
    assert len(store._folder.log.segments()) == 2, "the log is there as long as it is needed"
    assert files_disk.sync_folder is sync_folder
    (path / file_of(scene.id())).write_bytes(b"")  # as a crash may find it
    monkeypatch.setattr(files_folder, "LOG_SIZE", 0)
    await scene.commit(entries=[scene.entry(seq=2)])
    _rest(store)
    assert len(store._folder.log.segments()) == 1
    assert await reopened(copied(path, path.with_name("copy"))) == await everything(store)


async def test_what_could_not_be_taken_back_is_unknown_and_settled(
    scene: Scene, disk: BadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.run()
    disk.number, disk.at_sync = errno.EIO, True
    batch = scene.batch(entries=[scene.entry()])
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", lambda descriptor, size: disk.sync(descriptor))
        with pytest.raises(CommitUnknownError):
            scene.store.commit(batch)
    disk.number = None
    assert (await scene.store.settle(batch)) == Verdicts(True)
    assert await scene.seqs() == [1]


async def test_what_json_cannot_hold_is_a_bad_batch_of_which_nothing_is_recorded(path: Path, scene: Scene) -> None:
    await scene.run()
    for bad in (
        scene.batch(creates=[scene.execution("new")], entries=[scene.entry(output="\ud800")]),
        scene.batch(creates=[scene.execution("\udfff")]),
    ):
        with pytest.raises(BadBatchError):
            scene.store.commit(bad)
        assert await scene.seqs() == []
        assert await scene.store.get([scene.id("new")]) == {}
    await scene.commit(entries=[scene.entry()])
    assert (await reopened(copied(path, path.with_name("copy"))))["journals"][scene.id()] == [scene.entry()]


async def test_a_folder_that_was_deleted_is_told_and_nothing_goes_into_the_void(path: Path, scene: Scene) -> None:
    await scene.run()
    shutil.rmtree(path)
    with pytest.raises(StoreUnavailableError, match="was deleted"):
        scene.store.commit(scene.batch(entries=[scene.entry()]))
    with pytest.raises(StoreUnavailableError, match="was deleted"):
        await scene.store.get([scene.id()])


# Folders that are none ---------------------------------------------------------------------------------


def _other_things(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("do not touch")


def _newer(path: Path) -> None:
    path.mkdir()
    (path / "perdure.json").write_text('{"format": 2}')


def _damaged(path: Path) -> None:
    path.mkdir()
    (path / "perdure.json").write_text('{"form')


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (_other_things, StoreUnavailableError, r"holds something else \(thesis.txt\)"),
        (_newer, SchemaVersionError, "newer Perdure"),
        (_damaged, SchemaVersionError, "not Perdure's, or damaged"),
        (lambda path: path.write_text("a file"), StoreUnavailableError, "is a file"),
    ],
)
async def test_what_is_no_folder_of_ours_is_refused_and_left_as_it_is(
    path: Path, prepare: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    prepare(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    store = FileStore(path)
    with pytest.raises(error, match=words):
        await store.open()
    await store.close()
    assert {file: file.read_bytes() for file in before} == before


async def test_a_folder_whose_parent_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"there is no folder .*; create it first"):
        await FileStore(tmp_path / "no" / "folder").open()


async def test_migrating_tells_what_was_made(path: Path) -> None:
    store = FileStore(path)
    assert {made for _, made in await store.migrate()} == {True}
    assert {made for _, made in await store.migrate()} == {False}


# Another process holds the lock ------------------------------------------------------------------------

HOLD = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


async def test_a_commit_never_waits_for_another_process_and_reads_go_on(path: Path, scene: Scene) -> None:
    await scene.run()
    arguments = [sys.executable, "-c", HOLD, str(path / "locks" / "write")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes) as holder:  # noqa: ASYNC220
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        batch = scene.batch(entries=[scene.entry()])
        with pytest.raises(Busy) as caught:
            scene.store.commit(batch)
        assert not isinstance(caught.value, CommitUnknownError)
        assert await scene.seqs() == []
        assert (await scene.row()).status is Status.RUNNING
        holder.stdin.write("\n")
        holder.stdin.flush()
        holder.wait()
    await scene.send(batch)
    assert await scene.seqs() == [1]
