"""Pausing, retrying, beginning anew, and running out of time."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Blocked,
    Completed,
    CrashLoopError,
    DecodeError,
    Engine,
    Failed,
    MemoryStore,
    Paused,
    PerdureError,
    Query,
    Retry,
    Waiting,
    current,
    interrupt,
    now,
    receive,
    restart,
    sleep,
    step,
    workflow,
)
from perdure.records import Status
from tests.kernel.test_calls import over, virtual

SEEN: list[Any] = []
GATE: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    GATE.clear()


@pytest.fixture(params=["memory", "sqlite", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | str:
    """Where executions are kept: the same for all engines of a test."""
    if request.param == "memory":
        return MemoryStore()
    return f"sqlite:///{tmp_path}/perdure.db" if request.param == "sqlite" else f"file://{tmp_path}/perdure"


@step
async def held(n: int) -> int:
    SEEN.append(n)
    if n in GATE:
        await GATE[n].wait()
    return n


@workflow
async def three() -> list[int]:
    return [await held(1), await held(2), await held(3)]


async def test_a_pause_lets_the_running_body_end_and_starts_no_other() -> None:
    GATE[2] = asyncio.Event()  # type: ignore[index]
    async with virtual(three) as (engine, _):
        handle = await engine.start(three)
        while SEEN != [1, 2]:
            await asyncio.sleep(0)
        pausing = asyncio.create_task(handle.pause(by="ana", reason="lunch"))
        await asyncio.sleep(0)
        GATE[2].set()  # type: ignore[index]
        await over(engine.clock, pausing)
        assert await handle.outcome() == Paused("ana", "lunch")
        assert [e.key for e in await handle.history()] == ["held#1", "held#2"]
        assert SEEN == [1, 2]
        await handle.resume(by="ana")
        assert await over(engine.clock, handle.result()) == [1, 2, 3]
        assert SEEN == [1, 2, 3]


@workflow
async def waits_long() -> str:
    await sleep(timedelta(days=1))
    return "over"


async def test_what_waits_is_paused_and_its_time_comes_after_the_resume() -> None:
    async with virtual(waits_long) as (engine, clock):
        handle = await engine.start(waits_long)
        assert isinstance(await over(clock, handle.outcome()), Waiting)
        await over(clock, handle.pause())
        await clock.advance(timedelta(days=2))
        assert await handle.status() == Status.PAUSED
        await handle.resume()
        assert await over(clock, handle.result()) == "over"


async def test_what_has_ended_is_not_paused() -> None:
    async with virtual(three) as (engine, clock):
        handle = await engine.start(three)
        await over(clock, handle.result())
        with pytest.raises(PerdureError, match="completed"):
            await over(clock, handle.pause())


# Retrying -------------------------------------------------------------------------------------------------

BROKEN: set[str] = set()


@step(retry=Retry(attempts=2, initial=0.0))
async def fragile(name: str) -> str:
    SEEN.append((name, current().attempt, current().idempotency_key))
    if name in BROKEN:
        raise OSError(f"{name} is broken")
    return name


@workflow
async def breaks() -> list[str]:
    return [await fragile("a"), await fragile("b"), await fragile("c")]


async def test_a_retry_tries_the_failed_step_again_with_the_same_key_and_a_new_policy() -> None:
    BROKEN.clear()
    BROKEN.add("b")
    async with virtual(breaks) as (engine, clock):
        handle = await engine.start(breaks)
        assert isinstance(await over(clock, handle.outcome()), Failed)
        BROKEN.clear()
        await handle.retry(by="ana")
        assert await over(clock, handle.result()) == ["a", "b", "c"]
        history = await engine.store.history(handle.id)
    assert [(name, attempt) for name, attempt, _ in SEEN] == [("a", 1), ("b", 1), ("b", 2), ("b", 3), ("c", 1)]
    assert len({key for name, _, key in SEEN if name == "b"}) == 1
    assert [e.seq for e in history] == list(range(1, len(history) + 1))
    with pytest.raises(PerdureError, match="only a failed"):
        async with Engine("memory://", workflows=[breaks]) as other:
            done = await other.start(breaks)
            await done.result()
            await done.retry()


async def test_a_retry_that_fails_again_uses_up_its_policy_again() -> None:
    BROKEN.clear()
    BROKEN.add("b")
    async with virtual(breaks) as (engine, clock):
        handle = await engine.start(breaks)
        await over(clock, handle.outcome())
        await handle.retry()
        assert isinstance(await over(clock, handle.outcome()), Failed)
        assert [attempt for name, attempt, _ in SEEN if name == "b"] == [1, 2, 3, 4]
        BROKEN.clear()
        done = await engine.retry(Query(status="failed"))
        assert list(done.ids) == [handle.id]
        assert await over(clock, handle.result()) == ["a", "b", "c"]
    assert [attempt for name, attempt, _ in SEEN if name == "b"] == [1, 2, 3, 4, 5]


@workflow
async def has_child() -> list[str]:
    return await breaks()


async def test_a_retry_reaches_the_child_that_failed() -> None:
    BROKEN.clear()
    BROKEN.add("c")
    async with virtual(breaks, has_child) as (engine, clock):
        handle = await engine.start(has_child)
        assert isinstance(await over(clock, handle.outcome()), Failed)
        BROKEN.clear()
        await handle.retry()
        assert await over(clock, handle.result()) == ["a", "b", "c"]
    assert [name for name, _, _ in SEEN] == ["a", "b", "c", "c", "c"]


# Restarting -----------------------------------------------------------------------------------------------


@workflow
async def counts(n: int, so_far: list[Any]) -> list[Any]:
    key = await fragile(f"round {n}")
    said = await receive("word")
    so_far = [*so_far, [key, said, current().generation, now().isoformat()]]
    if n < 3:
        await restart(n + 1, so_far)
        SEEN.append("never")
    return so_far


async def test_a_restart_begins_a_fresh_journal_under_the_same_id(place: MemoryStore | str) -> None:
    BROKEN.clear()
    async with Engine(place, workflows=[counts]) as engine:
        handle = await engine.start(counts.options(execution_id="c"), 1, [])
        for word in ("x", "y", "z"):
            await handle.signal("word", word)
        found = await handle.result()
        row = await handle.row()
        journal = await engine.store.load(["c"])
        history = await engine.store.history("c")
    assert [(r[0], r[1], r[2]) for r in found] == [("round 1", "x", 0), ("round 2", "y", 1), ("round 3", "z", 2)]
    assert "never" not in SEEN
    assert len({key for name, _, key in (s for s in SEEN)}) == 3, "each life has its own idempotency keys"
    assert row.base_seq > 0
    assert [e.seq for e in history] == list(range(1, len(history) + 1)), "nothing is ever removed"
    assert len(journal["c"]) < len(history) / 2, "the lives before are not read any more"


@workflow
async def clockwork(n: int, began: list[str]) -> list[str]:
    began = [*began, now().isoformat()]
    await sleep(timedelta(hours=1))
    if n < 2:
        await restart(n + 1, began)
    return began


async def test_each_life_begins_at_its_own_time() -> None:
    async with virtual(clockwork) as (engine, clock):
        handle = await engine.start(clockwork, 0, [])
        await clock.advance(timedelta(hours=4))
        first, second, third = await over(clock, handle.result())
    hours = [int(a[11:13]) for a in (first, second, third)]
    assert (hours[1] - hours[0]) % 24 == 1
    assert (hours[2] - hours[1]) % 24 == 1


# Time -----------------------------------------------------------------------------------------------------


@workflow(timeout=timedelta(hours=1))
async def in_time(seconds: int) -> str:
    await sleep(seconds)
    return "in time"


async def test_a_workflow_has_a_deadline_over_all_waits() -> None:
    async with virtual(in_time) as (engine, clock):
        quick, slow = await engine.start(in_time, 60), await engine.start(in_time, 86_400)
        await clock.advance(timedelta(minutes=59))
        assert await slow.status() == Status.WAITING
        await clock.advance(timedelta(minutes=2))
        assert await over(clock, quick.result()) == "in time"
        with pytest.raises(TimeoutError, match="in_time took longer than 3600 s"):
            await over(clock, slow.result())


async def test_a_deadline_may_be_added_and_removed_later(place: MemoryStore | str) -> None:
    async def body() -> str:
        first = await fragile("before")
        await interrupt("go on?")
        await sleep(0)
        return first

    with_deadline = workflow(name="late", timeout=3600.0)(body)
    without = workflow(name="late")(body)
    for old, new in ((with_deadline, without), (without, with_deadline)):
        async with Engine(place, workflows=[old]) as engine:
            handle = await engine.start(old)
            await handle.outcome()
        async with Engine(place, workflows=[new]) as engine:
            await engine.answer((await engine.get(handle.id).requests())[0].id, None)
            assert await engine.get(handle.id).outcome() == Completed("before")


# Poison ---------------------------------------------------------------------------------------------------


async def test_an_execution_whose_owner_died_five_times_is_blocked_and_can_be_resumed() -> None:
    BROKEN.clear()
    store = MemoryStore()
    async with Engine(store, workflows=[breaks], worker=False) as client:
        handle = await client.start(breaks.options(execution_id="poison"))
    store._executions["poison"].crashes = 5
    async with Engine(store, workflows=[breaks], lease=0.05, poll=0.01) as engine:
        outcome = await engine.get("poison").outcome()
        assert isinstance(outcome, Blocked)
        assert isinstance(outcome.error, CrashLoopError)
        other = await engine.start(breaks)
        assert await other.result() == ["a", "b", "c"], "it does not hold up the others"
        await engine.get(handle.id).resume()
        assert await engine.get(handle.id).result() == ["a", "b", "c"]


async def test_a_suspect_runs_alone_until_it_has_recorded_something() -> None:
    GATE[1] = asyncio.Event()  # type: ignore[index]
    store = MemoryStore()
    async with Engine(store, workflows=[three], worker=False) as client:
        await client.start(three.options(execution_id="suspect"))
    store._executions["suspect"].crashes = 3
    async with Engine(store, workflows=[three, breaks], lease=0.05, poll=0.01) as engine:
        while SEEN != [1]:
            await asyncio.sleep(0)
        assert engine.worker is not None
        assert list(engine.worker.runs) == ["suspect"]
        other = await engine.start(breaks)
        for _ in range(50):
            await asyncio.sleep(0)
        assert await other.status() == Status.PENDING
        GATE[1].set()  # type: ignore[index]
        assert await engine.get("suspect").result() == [1, 2, 3]
        assert await other.result() == ["a", "b", "c"]


@workflow
async def breaks_in_branches() -> list[str]:
    async def late(name: str) -> str:
        await held(9)
        return await fragile(name)

    return list(await asyncio.gather(fragile("a"), late("b"), return_exceptions=False))


async def test_of_several_failures_the_one_that_came_through_is_tried_again() -> None:
    BROKEN.clear()
    BROKEN.update(("a", "b"))
    async with virtual(breaks_in_branches) as (engine, clock):
        handle = await engine.start(breaks_in_branches)
        outcome: Any = await over(clock, handle.outcome())
        assert isinstance(outcome, Failed)
        BROKEN.clear()
        await handle.retry()
        assert await over(clock, handle.result()) == ["a", "b"]


@workflow
async def takes_numbers() -> list[Any]:
    found: list[Any] = []
    while len(found) < 2:
        try:
            found.append(await receive("n", schema=int))
        except DecodeError as error:
            found.append(type(error).__name__)
    await interrupt("?")
    return found


async def test_a_message_that_does_not_fit_is_an_error_in_the_workflow_alike_in_replay() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[takes_numbers]) as engine:
        handle = await engine.start(takes_numbers)
        await handle.signal("n", "twelve")
        await handle.signal("n", 12)
        await handle.outcome()
    async with Engine(store, workflows=[takes_numbers]) as engine:
        await engine.answer((await engine.get(handle.id).requests())[0].id, None)
        assert await engine.get(handle.id).result() == ["DecodeError", 12]
