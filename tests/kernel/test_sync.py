"""Workflows and programs that are plain functions."""

import asyncio
import contextvars
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Blocked,
    Completed,
    Engine,
    Event,
    FramesRefusedError,
    MemoryStore,
    Retry,
    Waiting,
    WrongFaceError,
    current,
    interrupt,
    now,
    patched,
    random,
    sleep,
    step,
    sync,
    uuid4,
    workflow,
)
from tests.kernel.test_calls import over, virtual

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()


@step(retry=Retry(attempts=2, initial=0.0))
def plain(x: int) -> int:
    SEEN.append((x, current().attempt, threading.current_thread().name.split("_")[0]))
    if x == 13 and current().attempt == 1:
        raise OSError("unlucky")
    return x * 2


@step
async def async_step(x: int) -> int:
    return x + 1


@workflow
def child(x: int) -> int:
    return plain(x)


@workflow
async def async_child(x: int) -> int:
    return await async_step(x)


@workflow
def everything(x: int) -> list[Any]:
    a = plain(x)
    b = sync.call(async_step, a)
    sync.sleep(timedelta(days=30))
    answer = sync.interrupt("go on?", schema=int)
    word = sync.receive("word")
    both = [child(answer), sync.call(async_child, answer)]
    many = sync.map(plain, [1, 2, 3], limit=2)
    sync.emit("nearly")
    sync.publish("at", "end")
    sync.set_attributes(done=True)
    made = [str(uuid4()), random().random(), now().isoformat(), patched("new")]
    detached = sync.start_child(child, 5)
    return [a, b, answer, word, both, many, made, detached, current().execution_id]


async def test_a_plain_workflow_does_all_that_an_async_one_does_and_goes_on_elsewhere(tmp_path: Path) -> None:
    store = MemoryStore()
    from perdure.testing.clock import Clock

    clock = Clock()
    flows = [everything, child, async_child]
    async with Engine(store, clock=clock, workflows=flows) as engine:
        handle = await engine.start(everything.options(execution_id="e"), 13)
        assert isinstance(await over(clock, handle.outcome()), Waiting)
        await clock.advance(timedelta(days=31))
        assert (await handle.requests())[0].message == "go on?"
    async with Engine(store, clock=clock, workflows=flows) as engine:
        handle = engine.get("e")
        await engine.answer((await handle.requests())[0].id, 7)
        await handle.signal("word", "x")
        found = await over(clock, handle.result())
        assert found[:6] == [26, 27, 7, "x", [14, 8], [2, 4, 6]]
        assert found[6][3] is True
        assert found[8] == "e"
        assert [i.value for i in [i async for i in handle.events()] if isinstance(i, Event)] == ["nearly"]
        assert await handle.value("at") == "end"
        row = await handle.row()
        assert row.attributes == '{"done":true}'
    assert [(x, n) for x, n, _ in SEEN if x == 13] == [(13, 1), (13, 2)], "what was recorded does not run again"
    assert {name for _, _, name in SEEN} == {"perdure-step"}, "steps have threads of their own"


@workflow
def recovers() -> str:
    try:
        plain_fails()
    except ValueError as error:
        return f"caught {error}"
    return "nothing"


@step
def plain_fails() -> None:
    raise ValueError("a step's error")


async def test_errors_are_raised_where_the_call_stands() -> None:
    async with Engine("memory://", workflows=[recovers]) as engine:
        assert await engine.run(recovers) == "caught a step's error"


@workflow
def tidies_up() -> str:
    try:
        SEEN.append("begin")
        return str(sync.interrupt("?"))
    finally:
        SEEN.append(("finally", current().unwinding))


async def test_parking_runs_synchronous_cleanup_only_and_leaves_no_thread() -> None:
    async with Engine("memory://", workflows=[tidies_up]) as engine:
        handles = [await engine.start(tidies_up) for _ in range(20)]
        for handle in handles:
            await handle.outcome()
        busy = [t for t in threading.enumerate() if t.name.startswith("perdure-workflow")]
        assert SEEN.count(("finally", True)) == 20
        assert len(busy) <= 2, "parked executions hold no thread"
        await engine.answer((await handles[0].requests())[0].id, "yes")
        assert await handles[0].result() == "yes"
        assert ("finally", False) in SEEN


@workflow
def never_lets_go() -> None:
    while True:
        try:
            sync.interrupt("?")
        except BaseException:
            continue


async def test_code_that_swallows_everything_is_blocked_with_its_place() -> None:
    async with Engine("memory://", workflows=[never_lets_go]) as engine:
        handle = await engine.start(never_lets_go)
        for _ in range(1000):
            if await handle.status() == "blocked":
                break
            await asyncio.sleep(0)
        outcome: Any = await handle.outcome()
        assert isinstance(outcome, Blocked)
        assert isinstance(outcome.error, FramesRefusedError)
        assert f"{__file__}:" in outcome.reason, "it names the place"


@workflow
def wrong_here(what: str) -> Any:
    match what:
        case "sleep":
            return sleep(1)
        case "interrupt":
            return interrupt("?")
        case "step":
            return async_step(1)
        case _:
            return async_child(1)


@workflow
async def wrong_there(what: str) -> Any:
    match what:
        case "sync":
            sync.sleep(1)
        case "step":
            plain(1)
        case _:
            child(1)


async def test_the_wrong_face_names_the_right_one() -> None:
    async with Engine("memory://", workflows=[wrong_here, wrong_there, async_child, child]) as engine:
        for what, words in (
            ("sleep", "perdure.sync.sleep"),
            ("interrupt", "perdure.sync.interrupt"),
            ("step", "sync.call"),
            ("workflow", "sync.call"),
        ):
            with pytest.raises(WrongFaceError, match=words):
                await engine.run(wrong_here, what)
        for what, words in (("sync", "plain functions"), ("step", "plain.aio"), ("workflow", "child.aio")):
            with pytest.raises(WrongFaceError, match=words):
                await engine.run(wrong_there, what)


@workflow
def strays_plainly() -> list[str]:
    caught: list[BaseException] = []
    copied = contextvars.copy_context()

    def elsewhere() -> None:
        try:
            sync.sleep(1)
        except BaseException as error:
            caught.append(error)

    for target in (elsewhere, lambda: copied.run(elsewhere)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    return [type(error).__name__ for error in caught]


async def test_durable_calls_of_another_thread_raise() -> None:
    async with virtual(strays_plainly) as (engine, clock):
        assert await over(clock, engine.run(strays_plainly)) == ["NoExecutionError", "WrongFaceError"]


def test_outside_of_an_execution_it_just_runs() -> None:
    assert twice(4) == 8


@workflow
def twice(x: int) -> int:
    return double(x)


@step
def double(x: int) -> int:
    return x * 2


# Programs -------------------------------------------------------------------------------------------------


def test_an_engine_for_plain_programs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'plain.db'}"
    with sync.Engine(url, workflows=[tidies_up, child]) as engine:
        assert engine.run(child, 4) == 8
        handle = engine.start(tidies_up)
        outcome = handle.outcome()
        assert isinstance(outcome, Waiting)
        engine.answer(outcome.requests[0].id, "from a program", by="ana")
        assert handle.result() == "from a program"
        assert handle.outcome() == Completed("from a program")
        assert list(handle.events()) == []
        assert engine.count() == {"completed": 2}
        assert [e.key for e in engine.get(handle.id).history()] == ["interrupt#1"]
    assert not [t for t in threading.enumerate() if t.name == "perdure-engine"]


def test_threads_of_a_plain_program_share_an_engine(tmp_path: Path) -> None:
    results: list[int] = []
    with sync.Engine("memory://", workflows=[child]) as engine:
        threads = [threading.Thread(target=lambda n=n: results.append(engine.run(child, n))) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [n * 2 for n in range(1, 9)]
