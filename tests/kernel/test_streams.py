"""What running code tells the world: events, values, progress, usage, attributes."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Engine,
    Event,
    MemoryStore,
    NoExecutionError,
    Progress,
    Query,
    Restarted,
    Retry,
    current,
    emit,
    interrupt,
    progress,
    publish,
    set_attributes,
    step,
    usage,
    workflow,
)
from perdure.records import Status
from perdure.streams import WAITING
from perdure.testing.clock import Clock
from tests.kernel.test_calls import over, virtual


@pytest.fixture(params=["memory", "sqlite", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | str:
    """Where executions are kept: the same for all engines of a test."""
    if request.param == "memory":
        return MemoryStore()
    return f"sqlite:///{tmp_path}/perdure.db" if request.param == "sqlite" else f"file://{tmp_path}/perdure"


async def collect(handle: Any, **options: Any) -> list[Any]:
    return [item async for item in handle.events(**options)]


@step(retry=Retry(attempts=2, initial=0.0))
async def speaks(fail: bool) -> str:
    for word in ("one", "two"):
        await emit(word)
    progress(1, 2)
    progress(2, 2)
    usage(model="m", input_tokens=3, output_tokens=4, cost=Decimal("0.01"))
    await publish("mood", current().attempt)
    if fail and current().attempt == 1:
        raise OSError("again")
    return "done"


@workflow
async def talks(fail: bool) -> str:
    await emit("hello")
    await publish("mood", "fresh")
    said = await speaks(fail)
    await emit({"said": said})
    return said


async def test_an_offset_that_is_none_is_refused() -> None:
    async with virtual(talks) as (engine, _):
        for after in ("x", -1, 1.5, None):
            with pytest.raises(ValueError, match="after= is an item's offset"):
                await collect(engine.get("x"), after=after)


async def test_events_come_in_order_with_key_and_attempt() -> None:
    async with virtual(talks) as (engine, clock):
        handle = await engine.start(talks, False)
        assert await over(clock, handle.result()) == "done"
        items = await collect(handle)
    words = [(i.key, i.attempt, i.value) for i in items if isinstance(i, Event)]
    assert words == [(None, 1, "hello"), ("speaks#1", 1, "one"), ("speaks#1", 1, "two"), (None, 1, {"said": "done"})]
    assert [(i.done, i.total) for i in items if isinstance(i, Progress)] == [(2, 2)]
    offsets = [i.offset for i in items]
    assert offsets == sorted(offsets)
    assert len(set(offsets)) == len(offsets)


async def test_a_step_tried_again_says_restarted_first() -> None:
    async with virtual(talks) as (engine, clock):
        handle = await engine.start(talks, True)
        assert await over(clock, handle.result()) == "done"
        items = await collect(handle)
        assert await handle.value("mood") == 2
        used = await handle.usage()
    said = [i for i in items if i.key == "speaks#1" and not isinstance(i, Progress)]
    assert [type(i) for i in said] == [Event, Event, Restarted, Event, Event]
    assert [i.attempt for i in said] == [1, 1, 2, 2, 2]
    assert (used.tokens, used.cost, used.models) == (14, Decimal("0.02"), {"m": 14}), (
        "what was spent twice counts twice"
    )


async def test_events_go_on_behind_an_offset() -> None:
    async with virtual(talks) as (engine, clock):
        handle = await engine.start(talks, False)
        await over(clock, handle.result())
        items = await collect(handle)
        for place, item in enumerate(items):
            assert await collect(handle, after=item.offset) == items[place + 1 :]


CLOCK: list[Clock] = []


@step(retry=Retry(attempts=2, initial=0.0))
async def speaks_again(more: int) -> None:
    await emit("before")
    if current().attempt == 1:
        await CLOCK[0].sleep(1.0)
        raise OSError("again")
    for n in range(more):
        await emit(n)
    await CLOCK[0].sleep(10.0)


@workflow
async def speaks_twice(more: int) -> None:
    await speaks_again(more)


async def test_what_a_step_says_when_it_is_tried_again_is_heard_while_it_runs() -> None:
    async with virtual(speaks_twice) as (engine, clock):
        CLOCK[:] = [clock]
        handle = await engine.start(speaks_twice, 1)
        await clock.advance(5.0)
        items = await collect(handle, follow=False)
        assert [getattr(i, "value", type(i)) for i in items] == ["before", Restarted, "before", 0]
        await over(clock, handle.result())


async def test_a_step_that_is_tried_again_may_say_more_than_is_gathered_at_once() -> None:
    async with virtual(speaks_twice) as (engine, clock):
        CLOCK[:] = [clock]
        handle = await engine.start(speaks_twice, WAITING + 1)
        await clock.advance(30.0)
        assert await handle.status() == Status.COMPLETED


@workflow
async def asks_between() -> list[Any]:
    await emit(1)
    await publish("at", "before")
    await publish("at", "before the question")
    answer = await interrupt("go on?")
    await publish("at", "after")
    await emit(2)
    return [answer, dict(current().attributes)]


async def test_replay_says_nothing_twice(place: MemoryStore | str) -> None:
    async with Engine(place, workflows=[asks_between]) as engine:
        handle = await engine.start(asks_between)
        await handle.outcome()
        assert [i.value for i in await collect(handle, follow=False)] == [1]
        assert await handle.value("at") == "before the question"
        assert await handle.value("unknown", "nothing") == "nothing"
    async with Engine(place, workflows=[asks_between]) as engine:
        handle = engine.get(handle.id)
        await engine.answer((await handle.requests())[0].id, "yes")
        assert await handle.result() == ["yes", {}]
        assert [i.value for i in await collect(handle)] == [1, 2]
        assert await handle.value("at") == "after"


GATE: dict[str, asyncio.Event] = {}


@step
async def slow_speaker() -> None:
    await emit("passing", durable=False)
    await emit("kept")
    await GATE["go"].wait()
    await emit("last")


@workflow
async def speaks_slowly() -> None:
    await slow_speaker()


async def test_who_follows_hears_while_the_step_runs(place: MemoryStore | str) -> None:
    GATE["go"] = asyncio.Event()
    heard = []
    async with Engine(place, workflows=[speaks_slowly]) as engine:
        handle = engine.get("slow")
        starting = asyncio.create_task(engine.start(speaks_slowly.options(execution_id="slow")))
        await starting
        async for item in handle.events():
            heard.append(item.value)
            if item.value == "kept":
                GATE["go"].set()
        assert [w for w in heard if w != "passing"] == ["kept", "last"]
        assert [i.value for i in await collect(handle)] == ["kept", "last"], "what passes by is not recorded"


async def test_outside_of_an_execution_nobody_listens() -> None:
    await emit(1)
    await publish("a", 1)
    progress(1)
    usage(cost=1)
    with pytest.raises(NoExecutionError):
        await set_attributes(a=1)


@workflow
async def finds_out() -> list[Any]:
    before = dict(current().attributes)
    await set_attributes(customer=8, vip=True)
    await set_attributes({"vip": None})
    await interrupt("go on?")
    return [before, dict(current().attributes)]


async def test_attributes_are_found_by_and_replayed_as_they_were(place: MemoryStore | str) -> None:
    async with Engine(place, workflows=[finds_out]) as engine:
        handle = await engine.start(finds_out.options(attributes={"customer": 7, "region": "eu"}))
        await handle.outcome()
        found = await engine.list(Query(attributes={"customer": 8, "region": "eu"}))
        assert [row.id for row in found.items] == [handle.id]
        assert not (await engine.list(Query(attributes={"customer": 7}))).items
        assert not (await engine.list(Query(attributes={"vip": True}))).items
    async with Engine(place, workflows=[finds_out]) as engine:
        handle = engine.get(handle.id)
        await engine.answer((await handle.requests())[0].id, None)
        assert await handle.result() == [{"customer": 7, "region": "eu"}, {"customer": 8, "region": "eu"}]


@step(retry=Retry(attempts=2, initial=0.0))
async def floods() -> str:
    await emit("first")
    if current().attempt == 1:
        raise OSError("again")
    for n in range(6000):
        await emit(n)
    return "said"


@workflow
async def flooded() -> str:
    return await floods()


async def test_a_step_tried_again_may_emit_more_than_waits_at_once() -> None:
    async with virtual(flooded) as (engine, clock):
        handle = await engine.start(flooded)
        assert await over(clock, handle.result()) == "said"
        items = await collect(handle)
        assert len(items) == 1 + 1 + 1 + 6000
        assert isinstance(items[1], Restarted)
