"""Executions go from one database to another as they are, open ones too, whatever breaks the move off."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    AlreadyExistsError,
    Encryption,
    Engine,
    MovedError,
    PerdureError,
    interrupt,
    receive,
    sleep,
    step,
    workflow,
)
from perdure.codec import checksum
from perdure.moving import Move, ready
from perdure.records import Execution, Parcel, Status, WorkerRecord
from perdure.store import Movable
from perdure.stores import open_store
from perdure.stores.parcels import OF_EXECUTIONS, OF_NONE

pytestmark = [pytest.mark.postgres, pytest.mark.mysql]

Made = Callable[[str], Any]


@step
async def weigh(item: str) -> int:
    return len(item)


@workflow(name="move.child")
async def child(item: str) -> int:
    return await weigh(item)


@workflow(name="move.parent")
async def parent(item: str) -> str:
    weight = await child(item)
    address = await interrupt("Where to?", schema=str, details={"item": item})
    return f"{weight} to {address}"


@workflow(name="move.reader")
async def reader() -> list[str]:
    return [await receive("letter"), await receive("letter")]


@workflow(name="move.sleeper")
async def sleeper() -> str:
    await sleep(3600)
    return "rested"


@workflow(name="move.fails")
async def fails() -> None:
    raise ValueError("no")


FLOWS = [child, parent, reader, sleeper, fails]


async def fill(url: str, **options: Any) -> None:
    """One of each kind, some open, and one in the hands of a worker that died."""
    async with Engine(url, workflows=FLOWS, **options) as engine:
        for flow, id, words in (
            (parent, "answered", ("a lamp",)),
            (parent, "asks", ("a chair",)),
            (reader, "reads", ()),
            (sleeper, "sleeps", ()),
            (fails, "fails", ()),
        ):
            await (await engine.start(flow.options(execution_id=id, attributes={"customer": 7}), *words)).outcome()
        await engine.answer("answered:interrupt#1", "Berlin", by="ana")
        assert await engine.get("answered").result() == "6 to Berlin"
        await engine.get("reads").signal("letter", "one")
        await engine.get("reads").outcome()
        await engine.schedule("nightly", child, cron="0 3 * * *", args=("x",))
        await engine.start(child.options(execution_id="died", delay=3600), "a wardrobe")
    store = await opened(url)
    worker = await store.register(WorkerRecord(0, workflows='[["move.child",1]]'), 60.0)
    row = (await store.get(["died"]))["died"]
    await store.unpack([])
    await claim_now(store, worker, row)
    await store.declare_dead(worker.id, anyway=True)
    await store.close()


async def claim_now(store: Movable, worker: WorkerRecord, row: Execution) -> None:
    """Take what is delayed, as if its time had come."""
    parcel = (await store.pack([row.id]))[0]
    row_of = parcel.rows["workflow_executions"][0]
    row_of |= {"id": "running", "status": "running", "owner": worker.id, "fence": 1, "wake_at": None}
    await store.unpack([Parcel("running", parcel.rows)])


async def opened(url: str, *, even_if_moved: bool = True) -> Movable:
    store: Any = open_store(url)
    store.even_if_moved = even_if_moved
    await store.open()
    made: Movable = store
    return made


async def moved(source: str, target: str) -> Move:
    there, here = await opened(target), await opened(source)
    try:
        move = Move(here, there)
        await move.close_source()
        assert not await move.live_workers()
        await move.carry()
        return move
    finally:
        await here.close()
        await there.close()


async def contents(url: str) -> list[Parcel]:
    store = await opened(url)
    try:
        return [ready(parcel) for parcel in await store.pack(await store.ids("", 1000))]
    finally:
        await store.close()


def same(parcels: list[Parcel]) -> list[Any]:
    return [(it.id, {t: [sorted(row.items()) for row in rows] for t, rows in it.rows.items()}) for it in parcels]


async def test_from_one_store_to_the_next_nothing_is_changed_and_all_goes_on(
    tmp_path: Path, postgres_url: str, mysql_url: str
) -> None:
    first = f"sqlite:///{tmp_path}/first.db"
    stations = [first, f"file://{tmp_path}/folder", postgres_url, mysql_url, f"sqlite:///{tmp_path}/last.db"]
    await fill(first)
    before = await contents(first)
    for source, target in itertools.pairwise(stations):
        move = await moved(source, target)
        assert move.moved.executions == len(before) == 9
        assert move.moved.left == move.moved.arrived
        assert move.moved.left["step_executions"].rows == sum(len(it.rows.get("step_executions", ())) for it in before)
        assert same(await contents(target)) == same(before)
    assert same(await contents(first)) == same(before), "nothing is deleted"
    async with Engine(stations[-1], workflows=FLOWS) as engine:
        await engine.answer("asks:interrupt#1", "Lisbon")
        assert await engine.get("asks").result() == "7 to Lisbon"
        await engine.get("reads").signal("letter", "two")
        assert await engine.get("reads").result() == ["one", "two"]
        assert await engine.get("running").result() == len("a wardrobe")
        assert await engine.get("answered").result() == "6 to Berlin"
        assert [view.name for view in await engine.schedules()] == ["nightly"]
        with pytest.raises(ValueError, match="no"):
            await engine.get("fails").result()
        assert await engine.get("sleeps").status() == Status.WAITING


@pytest.fixture(params=["sqlite", "file", "postgres", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path}/source.db"
        case "file":
            return f"file://{tmp_path}/source"
        case other:
            url: str = request.getfixturevalue(f"{other}_url")
            return url


async def test_where_executions_were_moved_away_nothing_is_opened(place: str, tmp_path: Path) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        await engine.run(child, "a lamp")
    target = f"sqlite:///{tmp_path}/target.db"
    await moved(place, target)
    for engine in (Engine(place, workflows=FLOWS), Engine(place, worker=False, workflows=FLOWS)):
        with pytest.raises(MovedError, match=r"moved to sqlite:///.*target\.db.*nothing was deleted"):
            await engine.__aenter__()
    with pytest.raises(PerdureError, match=r"was moved to .*target\.db"):
        await moved(place, f"sqlite:///{tmp_path}/another.db")
    store = await opened(place)
    await store.mark_moved(None)
    await store.close()
    async with Engine(place, workflows=FLOWS) as engine:
        assert await engine.run(child, "a chair") == 7


async def test_who_works_in_the_source_is_seen_and_who_only_submits_is_shut_out(place: str, tmp_path: Path) -> None:
    async with Engine(place, workflows=FLOWS, lease=60.0) as engine:
        client = engine.client()
        async with client:
            await client.run(child, "a lamp")
            here = await opened(place)
            there = await opened(f"sqlite:///{tmp_path}/target.db")
            move = Move(here, there)
            assert len(await move.live_workers()) == 1
            await client.run(child, "a chair")
    async with Engine(place, worker=False, workflows=FLOWS) as client:
        await client.start(child.options(execution_id="before"), "a table")
        await move.close_source()
        assert not await move.live_workers()
        with pytest.raises(MovedError):
            await asyncio.wait_for(client.start(child.options(execution_id="after"), "a shelf"), 20)
    assert (await move.carry()).executions == 3
    assert set(await there.get(["before", "after"])) == {"before"}
    await here.close()
    await there.close()


class Broken(BaseException):
    """The process dies."""


class Dying:
    """A store whose process dies at its nth verb, before or after it was carried out."""

    def __init__(self, store: Any, calls: list[str], die_at: int) -> None:
        self._store, self._calls, self._die_at = store, calls, die_at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def verb(*values: Any) -> Any:
            self._die(f"before {name}")
            result = await found(*values)
            self._die(f"after {name}")
            return result

        return verb

    def _die(self, at: str) -> None:
        self._calls.append(at)
        if len(self._calls) == self._die_at:
            raise Broken(at)


async def test_a_move_that_dies_at_any_point_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.moving.MOST", 3)
    source = f"sqlite:///{tmp_path}/source.db"
    await fill(source)
    before = same(await contents(source))
    died: list[str] = []
    for die_at in range(1, 1000):
        target = f"sqlite:///{tmp_path}/target{die_at}.db"
        here, there = await opened(source), await opened(target)
        await here.mark_moved(None)
        calls: list[str] = []
        try:
            move = Move(*(Dying(store, calls, die_at) for store in (here, there)))  # type: ignore[arg-type]
            await move.close_source()
            await move.carry()
        except Broken as error:
            died.append(str(error))
        finally:
            await here.close()
            await there.close()
        again = await moved(source, target)
        assert same(await contents(target)) == before, f"it died {died[-1]}"
        assert again.moved.left == again.moved.arrived
        if len(calls) < die_at:
            assert again.moved.there_before == again.moved.executions
            break
    assert {"after mark_moved", "before unpack", "after unpack", "after pack", "before ids"} <= set(died)


def test_what_a_killed_process_had_moved_is_left_as_it_is(tmp_path: Path, postgres_url: str) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    asyncio.run(fill_many(source))
    words = [sys.executable, "-m", "perdure", "move", source, postgres_url]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "200 of 1200 moved\n"
        os.kill(process.pid, signal.SIGKILL)
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "1200 executions moved" in done.stdout
    assert "were there already" in done.stdout
    assert same(asyncio.run(contents(postgres_url))) == same(asyncio.run(contents(source)))


async def fill_many(source: str) -> None:
    store: Any = await opened(source)
    row = {"workflow": "w", "version": 1, "status": "completed", "queue": "q", "priority": 0, "fence": 1, "nudges": 0}
    row |= {"generation": 0, "input": "{}", "encoding": "json", "checksum": 1, "build": "", "crashes": 0, "base_seq": 0}
    row |= {"crash_seq": 0, "token": "", "created_at": 5, "updated_at": 6, "ended_at": 7}
    ids = [f"e{n:05}" for n in range(1200)]
    await store.unpack([Parcel(id, {"workflow_executions": [{"id": id, **row}]}) for id in ids])
    await store.close()


async def test_another_execution_of_the_same_name_stops_the_move(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    for url in (source, target):
        async with Engine(url, workflows=FLOWS) as engine:
            await engine.run(child.options(execution_id="one"), "a lamp")
    before = same(await contents(target))
    with pytest.raises(AlreadyExistsError, match="another execution called one"):
        await moved(source, target)
    assert same(await contents(target)) == before


async def test_what_the_target_has_taken_up_already_is_not_taken_for_damage(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    await fill(source)
    await moved(source, target)
    async with Engine(target, workflows=FLOWS) as engine:
        await engine.answer("asks:interrupt#1", "Lisbon")
        await engine.get("asks").result()
    again = await moved(source, target)
    assert again.moved.gone_on >= 1
    async with Engine(target, workflows=FLOWS) as engine:
        assert await engine.get("asks").result() == "7 to Lisbon"


class Careless:
    """A target that loses an entry."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def unpack(self, parcels: list[Parcel]) -> Any:
        lost = [Parcel(it.id, {t: rows[t != "workflow_executions" :] for t, rows in it.rows.items()}) for it in parcels]
        return await self._store.unpack(lost)


async def test_what_did_not_arrive_as_it_left_is_told(tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    async with Engine(source, workflows=FLOWS) as engine:
        await engine.run(child.options(execution_id="one"), "a lamp")
    here, there = await opened(source), await opened(f"sqlite:///{tmp_path}/target.db")
    move = Move(here, Careless(there))  # type: ignore[arg-type]
    await move.close_source()
    with pytest.raises(PerdureError, match="one did not arrive as it left: step_executions"):
        await move.carry()
    await here.close()
    await there.close()


async def test_encrypted_executions_are_carried_as_they_are(tmp_path: Path, postgres_url: str) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    codec = Encryption({"k1": b"x" * 32})
    async with Engine(source, workflows=FLOWS, codec=codec) as engine:
        await (await engine.start(parent.options(execution_id="asks"), "a lamp")).outcome()
    await moved(source, postgres_url)
    assert "lamp" not in str([parcel.rows for parcel in await contents(postgres_url)])
    async with Engine(postgres_url, workflows=FLOWS, codec=codec) as engine:
        await engine.answer("asks:interrupt#1", "Lisbon")
        assert await engine.get("asks").result() == "6 to Lisbon"


async def test_what_a_committed_transaction_asked_for_arrives_too(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    store = await opened(source)
    words = '{"item":"a lamp"}'
    row = store.outgoing(Execution("mine", "move.child", input=words, checksum=checksum(words, None, None)))
    await store.close()
    with closing(sqlite3.connect(tmp_path / "source.db")) as own, own:
        own.execute(
            "insert into outbox (kind, execution_id, content) values (?, ?, ?)",
            (row.kind, row.execution_id, row.content),
        )
    assert (await moved(source, target)).moved.executions == 1
    async with Engine(target, workflows=FLOWS) as engine:
        assert await engine.get("mine").result() == 6


UNMOVED = {"schema_versions", "workers", "queues", "outbox", "execution_tallies", "execution_attributes"}
"""What belongs to a database, and to no execution; what becomes an execution or a message before the move; what
triggers keep of executions."""


@pytest.mark.parametrize("dialect", ["sqlite", "postgres", "mysql"])
async def test_no_table_is_forgotten(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db" if dialect == "sqlite" else request.getfixturevalue(f"{dialect}_url")
    store: Any = await opened(url)
    tables = {name for name, _ in await store.migrate()}
    await store.close()
    assert tables - UNMOVED == {*OF_EXECUTIONS, *OF_NONE}
