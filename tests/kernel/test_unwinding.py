"""Parking closes the frames of workflow code. No statement after a durable call runs because of it, nothing hangs."""

import asyncio
import contextlib
import gc
from typing import Any

import pytest

from perdure import Blocked, Completed, Engine, Waiting, current, gather, interrupt, step, workflow
from perdure.errors import FramesRefusedError
from perdure.workflow import Workflow

LOG: list[Any] = []


@step(name="tick")
async def tick(x: str) -> str:
    LOG.append(("step", x))
    return x


@contextlib.asynccontextmanager
async def resource() -> Any:
    LOG.append("enter")
    try:
        yield
    finally:
        LOG.append("exit")
        await asyncio.sleep(0)
        LOG.append("NEVER while parking: after an await in finally")


@workflow(name="f1")
async def awaits_in_finally() -> Any:
    try:
        async with resource():
            got = await interrupt("?")
    except Exception:
        LOG.append("NEVER: except Exception")
        raise
    finally:
        LOG.append("finally")
        await tick("cleanup")
        LOG.append("after cleanup")
    return got


@workflow(name="f2")
async def task_group() -> Any:
    async def branch(x: int) -> Any:
        try:
            return await interrupt(f"?{x}")
        finally:
            LOG.append(("finally", x))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(i)) for i in range(3)]
    LOG.append("goes on")
    return [t.result() for t in tasks]


@workflow(name="f3")
async def gather_return_exceptions() -> Any:
    got = await asyncio.gather(interrupt("?1"), interrupt("?2"), interrupt("?3"), return_exceptions=True)
    LOG.append("goes on")
    return got


@workflow(name="f4")
async def generator() -> Any:
    async def numbers() -> Any:
        try:
            for i in range(3):
                yield await interrupt(f"?{i}")
        finally:
            LOG.append("generator finally")

    got = []
    async for x in numbers():
        LOG.append("goes on")
        got.append(x)
    return got


@workflow(name="f5")
async def returns_in_finally() -> Any:
    got = None
    try:
        got = await interrupt("?1")
        await interrupt("?2")
        got = await interrupt("?3")
    finally:
        return got  # noqa: B012 - the shape under test


@workflow(name="f6")
async def waits_under_a_timeout() -> Any:
    got = []
    async with asyncio.timeout(3600 * 24):
        for i in range(3):
            done, _ = await asyncio.wait([asyncio.create_task(interrupt(f"?{i}"))], return_when="FIRST_COMPLETED")
            LOG.append("goes on")
            got += [t.result() for t in done]
    return got


@workflow(name="f7")
async def suppresses_everything() -> Any:
    got = []
    for i in range(3):
        with contextlib.suppress(BaseException):
            got.append(await interrupt(f"?{i}"))
        LOG.append(("unwinding" if current().unwinding else "goes on", i))
        if not current().unwinding:
            await tick(f"{i}")
    return got


@workflow(name="f8")
async def shielded() -> Any:
    got = []
    for i in range(3):
        with contextlib.suppress(Exception):
            got.append(await asyncio.shield(interrupt(f"?{i}")))
        got += await gather(tick(f"{i}"), tick(f"{i}'"))
    return got


SHAPES: list[tuple[Workflow[..., Any], Any]] = [
    (awaits_in_finally, 1),
    (task_group, [1, 2, 3]),
    (gather_return_exceptions, [1, 2, 3]),
    (generator, [1, 2, 3]),
    (returns_in_finally, 3),
    (waits_under_a_timeout, [1, 2, 3]),
    (suppresses_everything, [1, 2, 3]),
    (shielded, [1, "0", "0'", 2, "1", "1'", 3, "2", "2'"]),
]


@pytest.mark.parametrize(("shape", "expected"), SHAPES, ids=lambda p: p.name if isinstance(p, Workflow) else "")
async def test_every_shape_parks_without_running_user_code_and_goes_on(
    shape: Workflow[..., Any], expected: Any
) -> None:
    LOG.clear()
    async with Engine("memory://", workflows=[shape]) as engine:
        handle = await engine.start(shape)
        answered = 0
        while True:
            outcome = await handle.outcome()
            if not isinstance(outcome, Waiting):
                break
            assert not engine.worker.runs, "a parked execution is out of memory"  # type: ignore[union-attr]
            assert not [line for line in LOG if str(line).startswith("NEVER")] or answered
            if not answered:
                assert "goes on" not in LOG
                assert not [line for line in LOG if isinstance(line, tuple) and line[0] in ("step", "goes on")]
            answered += 1
            gc.collect()
            await engine.answer(outcome.requests[0].id, answered)
        assert outcome == Completed(expected)
        ran = [line[1] for line in LOG if isinstance(line, tuple) and line[0] == "step"]
        assert len(ran) == len(set(ran)), "a step ran twice"
        history = await handle.history()
        assert [e.seq for e in history if e.kind != "timer"] == sorted(e.seq for e in history if e.kind != "timer")


@workflow(name="refuses")
async def refuses() -> Any:
    while True:
        try:
            return await interrupt("?")
        except BaseException:
            pass


async def test_frames_that_refuse_block_the_execution_with_file_and_line() -> None:
    async with Engine("memory://", workflows=[refuses]) as engine:
        handle = await engine.start(refuses)
        outcome = await handle.outcome()
        while isinstance(outcome, Waiting):
            await engine.store.changed(1)
            outcome = await handle.outcome()
        assert isinstance(outcome, Blocked)
        assert isinstance(outcome.error, FramesRefusedError)
        assert "test_unwinding.py:" in outcome.reason
        gc.collect()
