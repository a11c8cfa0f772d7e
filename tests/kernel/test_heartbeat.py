"""Who is taken for silent: an event loop that does not run, and only as long as it does not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine, Waiting, current, interrupt, step, workflow
from perdure.heartbeat import BEATS, SILENT_LEASES, Heartbeat
from perdure.records import Batch, Entry, Verdicts, WorkerRecord
from perdure.stores.memory import MemoryStore
from perdure.stores.postgres import PostgresStore
from perdure.stores.sqlite import SqliteStore
from perdure.worker import Worker

LEASE = 0.03


def worker_of(engine: Engine) -> Worker:
    assert engine.worker is not None
    return engine.worker


def heart_of(engine: Engine) -> Heartbeat:
    found = worker_of(engine).heartbeat
    assert found is not None
    return found


class Counting(MemoryStore):
    beats = 0

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        self.beats += 1
        return await super().heartbeat(worker, epoch, lease)


async def beating(store: Counting) -> Heartbeat:
    worker = await store.register(WorkerRecord(0), 60.0)
    nothing: Any = lambda *told: None  # noqa: E731
    since = time.monotonic()
    heart = Heartbeat(store, worker.id, worker.epoch, LEASE, since=since, beaten=nothing, dead=nothing, seen=nothing)
    heart.start()
    return heart


async def more_beats(store: Counting, number: int) -> None:
    wanted = store.beats + number
    while store.beats < wanted:
        await asyncio.sleep(LEASE / BEATS)


async def test_a_loop_that_runs_is_not_silent_whatever_its_worker_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    store = Counting()
    heart = await beating(store)
    await more_beats(store, 2 * BEATS * SILENT_LEASES)
    heart.stop()
    assert not [record for record in caplog.records if record.levelno >= logging.CRITICAL]


async def test_a_loop_that_hangs_is_reported_once_and_beats_again_when_it_runs_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Counting()
    heart = await beating(store)

    def reports() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.CRITICAL]

    def hang() -> None:
        time.sleep(LEASE)

    while not reports():
        hang()
    beats = store.beats
    hang()
    assert store.beats == beats, "who hangs is to be taken over"
    await more_beats(store, 2)
    heart.stop()
    assert len(reports()) == 1
    assert "in hang" in reports()[0]


async def test_once_the_lease_may_be_over_the_next_beat_comes_soon() -> None:
    store = Counting()
    worker = await store.register(WorkerRecord(0), 60.0)
    nothing: Any = lambda *told: None  # noqa: E731
    over = time.monotonic() - 3600.0
    heart = Heartbeat(store, worker.id, worker.epoch, 3600.0, since=over, beaten=nothing, dead=nothing, seen=nothing)
    assert heart.is_late()
    heart.start()
    await more_beats(store, 1)  # a regular one would come in twenty minutes
    heart.stop()
    assert not heart.is_late()


@pytest.mark.parametrize("kind", ["async", "plain", "once"])
@pytest.mark.parametrize("overtaken", [False, True], ids=["renewed", "overtaken"])
async def test_no_body_enters_while_the_lease_may_be_over(tmp_path: Path, kind: str, overtaken: bool) -> None:
    entered: list[tuple[bool, int]] = []

    @step
    async def freeze() -> None:
        heart()._lasts_until = 0.0  # as if the process had been stopped for so long

    @step(name="body", once=kind == "once", verify=(lambda: None) if kind == "once" else None)
    async def body() -> None:
        entered.append((heart().is_late(), current().fence))

    @step(name="body")
    def plain() -> None:
        entered.append((heart().is_late(), current().fence))

    @workflow
    async def two_steps() -> None:
        await freeze()
        await (plain.aio() if kind == "plain" else body())

    store = SqliteStore(tmp_path / "late.db")
    async with Engine(store, workflows=[two_steps], lease=3600.0) as engine:
        worker, heart = partial(worker_of, engine), partial(heart_of, engine)
        handle = await engine.start(two_steps)
        while not entered and not [run for run in worker().runs.values() if run.working and heart().is_late()]:
            await asyncio.sleep(0)
        assert entered == []
        if overtaken:
            mine = worker().record.id
            assert await store.declare_dead(mine, anyway=True)
            worker()._declared_dead(mine)
        else:
            heart()._lasts_until = time.monotonic() + 3600.0
        await handle.result()
    assert entered == [(False, 2 if overtaken else 1)]


@pytest.mark.postgres
@pytest.mark.parametrize("overtaken", [False, True], ids=["renewed", "overtaken"])
async def test_nothing_is_handed_over_while_the_lease_may_be_over(postgres_url: str, overtaken: bool) -> None:
    heard: list[tuple[bool, int]] = []

    @step
    async def freeze() -> None:
        heart()._lasts_until = 0.0  # as if the process had been stopped until the store's answer had come

    @workflow
    async def one_step() -> None:
        await freeze()
        heard.append((heart().is_late(), current().fence))

    async with Engine(postgres_url, workflows=[one_step], lease=3600.0) as engine:
        worker, heart = partial(worker_of, engine), partial(heart_of, engine)
        handle = await engine.start(one_step)
        while not [entry for entry in await handle.history() if entry.status == "completed"]:
            await asyncio.sleep(0)
        for _ in range(3):  # the answer has come long since
            await engine.store.get([handle.id])
        assert worker().is_late()
        assert heard == []
        if overtaken:
            mine = worker().record.id
            assert await engine.store.declare_dead(mine, anyway=True)
            worker()._declared_dead(mine)
        else:
            heart()._lasts_until = time.monotonic() + 3600.0
        await handle.result()
    assert heard == [(False, 2 if overtaken else 1)]


@pytest.mark.postgres
@pytest.mark.parametrize("overtaken", [False, True], ids=["renewed", "overtaken"])
async def test_who_is_stopped_among_the_answers_of_a_batch_hands_the_rest_of_them_over_once_the_lease_is_sure(
    postgres_url: str, overtaken: bool
) -> None:
    heard: list[tuple[bool, int]] = []

    @step
    async def body(n: int) -> int:
        return n

    @workflow
    async def two_steps(n: int) -> int:
        first = await body(n)
        heard.append((heart().is_late(), current().fence))
        if len(heard) == 1:
            heart()._lasts_until = 0.0  # as if the process had been stopped here
        return first + await body(n)

    async with Engine(postgres_url, workflows=[two_steps], lease=3600.0) as engine:
        worker, heart = partial(worker_of, engine), partial(heart_of, engine)
        committer = worker().committer
        await committer.hold()  # so that all of them go in one batch
        starting = [asyncio.ensure_future(engine.start(two_steps.options(execution_id=f"n{n}"), n)) for n in range(5)]
        while len(committer.work.creates) < 5:
            await asyncio.sleep(0)
        committer.let_go()
        handles = await asyncio.gather(*starting)
        while not committer.held and len(heard) < 5:  # all of them: nothing was held back
            await asyncio.sleep(0)
        for _ in range(3):
            await engine.store.get(["n0"])
        assert heard == [(False, 1)]
        mine = worker().record.id
        if overtaken:
            assert await engine.store.declare_dead(mine, anyway=True)
            worker()._declared_dead(mine)
        else:
            heart()._lasts_until = time.monotonic() + 3600.0
        assert [await handle.result() for handle in handles] == [0, 2, 4, 6, 8]
    assert [late for late, _ in heard] == [False] * len(heard)
    assert sorted(fence for _, fence in heard) == ([1, 2, 2, 2, 2, 2] if overtaken else [1] * 5)


class Withheld(PostgresStore):
    """The answer to a start, and then the new name of a worker that was declared dead, come when they are let go."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.recorded, self.answer, self.name = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def commit(self, batch: Batch) -> Verdicts:
        verdicts = await super().commit(batch)
        if batch.creates:
            self.recorded.set()
            await self.answer.wait()
        return verdicts

    async def register(self, record: WorkerRecord, lease: float) -> WorkerRecord:
        if self.recorded.is_set():
            await self.name.wait()
        return await super().register(record, lease)


@pytest.mark.postgres
@pytest.mark.parametrize("first", ["the answer", "the name"])
async def test_what_was_started_by_one_who_was_declared_dead_runs_once_for_its_next_owner(
    postgres_url: str, first: str
) -> None:
    entered: list[int] = []

    @step
    async def body() -> None:
        entered.append(current().fence)

    @workflow
    async def one_step() -> None:
        await body()

    store = Withheld(postgres_url)
    async with Engine(store, workflows=[one_step], lease=3600.0) as engine:
        assert engine.worker is not None
        starting = asyncio.ensure_future(engine.start(one_step))
        await store.recorded.wait()
        mine = engine.worker.record.id
        assert await store.declare_dead(mine, anyway=True)
        engine.worker._declared_dead(mine)
        let_go = [store.answer, store.name] if first == "the answer" else [store.name, store.answer]
        for each in let_go:
            each.set()
            for _ in range(5):  # whatever follows from it has its time
                await store.get(["nobody"])
        await (await starting).result()
        assert engine.worker.runs == {}
    assert entered == [2]


class Held(PostgresStore):
    """Journals are read when they are let go."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        self.asked.set()
        await self.go.wait()
        return await super().load(ids)


@pytest.mark.postgres
async def test_who_was_stopped_between_claim_and_reading_replays_nothing_that_another_has_recorded_since(
    postgres_url: str,
) -> None:
    heard: list[int] = []

    @step
    async def body(n: int) -> int:
        return n

    @workflow
    async def asks() -> int:
        first = await body(1)
        heard.append(current().fence)
        more = await interrupt("how many more?", schema=int)
        return first + more + await body(5)

    flows = [asks]
    async with Engine(postgres_url, workflows=flows) as engine:
        handle = await engine.start(asks)
        waits = await handle.outcome()
        assert isinstance(waits, Waiting)
    slow = Held(postgres_url)
    async with Engine(slow, workflows=flows, lease=3600.0) as stopped:
        assert stopped.worker is not None
        await stopped.answer(waits.requests[0].id, 10)
        await slow.asked.wait()  # it has claimed it
        async with Engine(postgres_url, workflows=flows) as other:
            assert await other.store.declare_dead(stopped.worker.record.id, anyway=True)
            assert await other.get(handle.id).result() == 16
        slow.go.set()
        while stopped.worker.claims.loading:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert stopped.worker.runs == {}
    assert heard == [1, 3]
