"""What is handed over wrongly is named where it is handed over."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure import Engine, PerdureError, Query, User, publish, receive, sleep, step, workflow


@step
async def one(x: int) -> int:
    return x


@workflow
async def flow(x: int) -> int:
    return await one(x)


@workflow
async def sleeps() -> None:
    await sleep("5")  # type: ignore[arg-type]


@workflow
async def receives() -> None:
    await receive(5)  # type: ignore[arg-type]


@workflow
async def publishes() -> None:
    await publish("", 1)


def function() -> int:
    return 1


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

MADE: dict[str, tuple[Callable[[], Any], str]] = {
    "an option": (lambda: step(retries=3)(function), "no option retries=; is retry= meant"),
    "a slip": (lambda: workflow(nam="x")(function), "no option nam=; is name= meant"),
    "a retry": (lambda: step(retry=5)(function), r"retry= is a Retry"),
    "a version": (lambda: workflow(version="x")(function), "version= is a whole number"),
    "a timeout": (lambda: step(timeout="5s")(function), "seconds or a timedelta, not '5s'"),
    "no function": (lambda: step(5), "marks a function"),
    "a user": (lambda: flow.options(by=5), "by= is a name or a User"),  # type: ignore[arg-type]
    "attributes": (lambda: flow.options(attributes={1: 2}), "attributes= are names"),  # type: ignore[dict-item]
    "a signal": (lambda: flow.options(signal="paid"), "signal= is a Signal"),  # type: ignore[arg-type]
    "a delay": (lambda: flow.options(delay="5s"), "seconds or a timedelta"),  # type: ignore[arg-type]
    "a delay and a time": (lambda: flow.options(delay=1, at=NOON), "delay= or at=, not both"),
    "a budget": (lambda: flow.options(budget=5), r"budget= is a Budget"),  # type: ignore[arg-type]
    "a workflow's budget": (lambda: workflow(budget=5)(function), r"budget= is a Budget"),
    "a codec": (lambda: Engine("memory://", codec="key"), "codec= is an Encryption"),  # type: ignore[arg-type]
    "a url": (lambda: Engine(5), "5 is no URL, Path or Store"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("made", MADE)
def test_options_are_looked_at_where_they_are_given(made: str) -> None:
    make, words = MADE[made]
    with pytest.raises((TypeError, ValueError, PerdureError), match=words):
        make()


def test_of_a_delay_and_a_time_the_last_one_holds() -> None:
    later = flow.options(delay=1).options(at=NOON).options_
    assert (later.delay, later.wake_at is None) == (None, False)
    later = flow.options(at=NOON).options(delay=1).options_
    assert (later.delay, later.wake_at) == (1_000_000, None)


async def test_what_is_asked_of_an_engine_is_looked_at() -> None:
    closed = Engine("memory://")
    for look in (closed.list, closed.count, closed.requests, closed.stats, closed.get("x").status):
        with pytest.raises(PerdureError, match="not open"):
            await look()
    async with Engine("memory://", workflows=[flow, sleeps, receives, publishes]) as engine:
        for made, words in ((sleeps, "timedelta, not '5'"), (receives, "not 5"), (publishes, "not empty")):
            with pytest.raises(TypeError, match=words):
                await engine.run(made)
        handle = await engine.start(flow.options(by=User("ana")), 1)
        assert (await handle.row()).started_by == "ana"
        with pytest.raises(TypeError, match=r"engine.get\(id\)"):
            await engine.cancel("order-1")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="datetime"):
            await engine.list(Query(since="yesterday"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="version is a whole number, not '1'"):
            await engine.list(Query(version="1"))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at least 1"):
            await engine.list(limit=0)
        with pytest.raises(TypeError, match="no workflow"):
            await engine.schedule("s", one, cron="* * * * *")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a text, not 5"):
            engine.get(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [[one], flow])
async def test_workflows_are_a_list_of_workflows(given: Any) -> None:
    with pytest.raises(TypeError, match="list of functions marked"):
        async with Engine("memory://", workflows=given):
            pass


async def test_what_cannot_be_recorded_is_named() -> None:
    with pytest.raises(PerdureError, match=r"attributes.a: cannot record"):
        async with Engine("memory://", workflows=[flow]) as engine:
            await engine.start(flow.options(attributes={"a": threading.Lock()}), 1)
