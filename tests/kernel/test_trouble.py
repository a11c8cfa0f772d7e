"""Stores in trouble: errors in words, nothing lost, others unaffected."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Blocked,
    Completed,
    DecodeError,
    Engine,
    Failed,
    MemoryStore,
    SchemaVersionError,
    StoreUnavailableError,
    interrupt,
    step,
    workflow,
)
from perdure.errors import BadBatchError, CommitUnknownError
from perdure.records import Batch, Verdicts
from perdure.stores.patience import Busy
from perdure.testing.clock import Clock


@step(name="big")
async def big(i: int) -> str:
    return f"{i}" * 20_000


@workflow(name="fills")
async def fills(n: int) -> int:
    total = 0
    for i in range(n):
        total += len(await big(i % 10))
    return total


def pages(engine: Engine, limit: int) -> None:
    store: Any = engine.store
    store._db.connection.execute(f"pragma max_page_count = {limit}").fetchone()


async def test_a_full_disk_is_told_in_words_and_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Engine(f"sqlite:///{tmp_path}/full.db", workflows=[fills]) as engine:
        assert await engine.run(fills, 1) == 20_000
        pages(engine, 1)  # SQLite keeps what is there and admits no more
        with pytest.raises(StoreUnavailableError, match="full"):
            while True:
                await engine.start(fills, 3)
        pages(engine, 1_000_000)
        handle = await engine.start(fills.options(execution_id="goes-on"), 50)
        pages(engine, 1)
        with caplog.at_level(logging.WARNING):
            while "does not take commits" not in caplog.text:
                await asyncio.sleep(0)
        assert "full" in caplog.text
        assert await handle.status() == "running"
        pages(engine, 1_000_000)
        assert await handle.result() == 50 * 20_000
        history = await handle.history()
        assert [entry.seq for entry in history] == list(range(1, 51)), "nothing was lost, nothing recorded twice"


@step(name="value")
async def value(i: int) -> int:
    return i


@workflow(name="two_values")
async def two_values() -> list[int]:
    first = await value(1)
    await interrupt("go on?", schema=bool)
    return [first, await value(2)]


async def test_a_damaged_row_blocks_its_execution_by_name_and_no_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rotten.db"
    async with Engine(url, workflows=[two_values]) as engine:
        handles = [await engine.start(two_values.options(execution_id=f"e{n}")) for n in range(3)]
        for handle in handles:
            await handle.outcome()
    database = sqlite3.connect(tmp_path / "rotten.db")
    database.execute("update step_executions set output = '7' where execution_id = 'e0' and key = 'value#1'")
    database.execute("update workflow_executions set input = '{\"x\":1}' where id = 'e1'")
    database.commit()
    database.close()
    async with Engine(url, workflows=[two_values]) as engine:
        for n in range(3):
            await engine.answer(f"e{n}:interrupt#1", True)
        damaged = await engine.get("e0").outcome()
        assert isinstance(damaged, Blocked)
        assert "entry 1 (value#1) of e0 is damaged" in damaged.reason
        with pytest.raises(DecodeError):
            await engine.get("e0").result()
        other = await engine.get("e1").outcome()
        assert isinstance(other, Blocked)
        assert "input of e1 is damaged" in other.reason
        assert await engine.get("e2").outcome() == Completed([1, 2])


async def test_a_database_of_a_newer_library_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/newer.db"
    async with Engine(url, workflows=[]):
        pass
    database = sqlite3.connect(tmp_path / "newer.db")
    database.execute("insert into schema_versions values (999, '2030-01-01T00:00:00.000000Z', 999)")
    database.commit()
    database.close()
    with pytest.raises(SchemaVersionError, match="999"):
        async with Engine(url, workflows=[]):
            pass


class Troubled(MemoryStore):
    """A memory store whose commits go wrong as a list says."""

    def __init__(self, *trouble: str) -> None:
        super().__init__()
        self.trouble = list(trouble)
        self.refuses: str | None = None

    def commit(self, batch: Batch) -> Verdicts:
        if self.refuses is not None and any(self.refuses in (entry.output or "") for entry in batch.entries):
            raise BadBatchError("the database refuses this value")
        what = self.trouble.pop(0) if self.trouble and batch.entries else ""
        if what == "away":
            raise StoreUnavailableError("away")
        if what == "unknown, not done":
            raise CommitUnknownError("the connection broke")
        verdicts = super().commit(batch)
        if what == "unknown, done":
            raise CommitUnknownError("the connection broke")
        return verdicts


@pytest.mark.parametrize("what", ["away", "unknown, not done", "unknown, done"])
async def test_trouble_at_a_commit_loses_nothing_and_records_nothing_twice(what: str) -> None:
    store = Troubled(what, what, "", what)
    async with Engine(store, workflows=[fills]) as engine:
        handle = await engine.start(fills, 6)
        assert await handle.result() == 6 * 20_000
        assert [entry.seq for entry in await handle.history()] == [1, 2, 3, 4, 5, 6]


class Contended(MemoryStore):
    """A memory store whose lock other processes hold, as often as told; what it hears of others is lost once."""

    held = 0
    deaf = True

    def commit(self, batch: Batch) -> Verdicts:
        if self.held:
            self.held -= 1
            raise Busy("locked by another process; nothing was done")
        return super().commit(batch)

    def changed(self, seconds: float) -> Awaitable[bool]:
        if self.deaf:
            self.deaf = False
            raise StoreUnavailableError("nothing is heard")
        return super().changed(seconds)


async def test_a_start_waits_for_a_lock_that_others_hold_rather_than_failing() -> None:
    store = Contended()
    async with Engine(store, workflows=[says]) as engine:
        store.held = 40  # four times as many tries as a store that is away is given
        assert await engine.run(says, 5) == 5
    assert (store.held, store.deaf) == (0, False)


@workflow(name="says")
async def says(i: int) -> int:
    return await value(i)


async def test_a_value_that_the_store_refuses_fails_its_execution_alone() -> None:
    store = Troubled()
    store.refuses = "13"
    async with Engine(store, workflows=[says]) as engine:
        handles = await asyncio.gather(*[engine.start(says, i) for i in range(10, 20)])
        outcomes = await asyncio.gather(*[handle.outcome() for handle in handles])
        for i, outcome in zip(range(10, 20), outcomes, strict=True):
            if i == 13:
                assert isinstance(outcome, Failed)
                assert isinstance(outcome.error, BadBatchError)
            else:
                assert outcome == Completed(i)


async def test_virtual_time_needs_no_waiting() -> None:
    clock = Clock()
    async with Engine("memory://", workflows=[says], clock=clock) as engine:
        waiting: Awaitable[Any] = engine.run(says.options(delay=3600), 5)
        task = asyncio.ensure_future(waiting)
        await clock.advance(3500)
        assert not task.done()
        await clock.advance(200)
        assert await task == 5


async def test_a_database_file_that_was_deleted_records_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "gone.db"
    async with Engine(f"sqlite:///{path}", workflows=[says]) as engine:
        assert await engine.run(says, 1) == 1
        path.unlink()
        with pytest.raises(StoreUnavailableError, match="deleted"):
            await engine.start(says, 2)
    assert not path.exists()


@workflow(name="odd_times")
async def odd_times(how: str) -> Any:
    match how:
        case "inf":
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(float("inf"))
            except TimeoutError:
                return "timeout"
        case "inf-timeout":
            async with asyncio.timeout(float("inf")):
                return await value(1)
        case "nan":
            await asyncio.sleep(float("nan"))
        case "memory":
            return [0] * 10**15


async def test_odd_times_and_sizes_harm_nobody_else() -> None:
    async with Engine("memory://", workflows=[odd_times, says]) as engine:
        hows = ["nan", "inf", "memory", "inf-timeout"]
        handles = await asyncio.gather(*[engine.start(odd_times, how) for how in hows])
        others = await asyncio.gather(*[engine.run(says, n) for n in range(5)])
        assert others == list(range(5))
        outcomes = [await handle.outcome() for handle in handles]
        assert outcomes[1] == Completed("timeout")
        assert outcomes[3] == Completed(1)
        assert isinstance(outcomes[0], Failed) and isinstance(outcomes[0].error, ValueError)
        assert isinstance(outcomes[2], Failed) and isinstance(outcomes[2].error, MemoryError)


class LateStore(MemoryStore):
    """A store whose server carries a claim out long after it was given up: after `looks` looks at who owns what."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks
        self.late: tuple[Any, Any] | None = None

    async def claim(self, *args: Any, **kwargs: Any) -> Any:
        if self.late is None and not kwargs["crashed"]:
            self.late = args, kwargs
            raise StoreUnavailableError("the answer was lost")
        return [] if self.looks > 0 else await super().claim(*args, **kwargs)

    async def nudged(self, worker: int) -> dict[str, int]:
        owned = await super().nudged(worker)
        if self.late is not None:
            self.looks -= 1
            if self.looks == 0:
                args, kwargs = self.late
                await super().claim(*args, **kwargs)
        return owned


@workflow(name="claimed_late")
async def claimed_late() -> str:
    return "done"


async def test_a_claim_that_the_server_carries_out_after_it_was_given_up_is_found() -> None:
    store = LateStore(looks=5)
    flows = [claimed_late]
    async with Engine(store, worker=False, workflows=flows) as client, Engine(store, workflows=flows, poll=0.01):
        handle = await client.start(claimed_late.options(execution_id="late"))
        assert await handle.result() == "done"
    assert store.looks <= 0
