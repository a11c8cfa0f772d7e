"""Ten thousand values of every kind over every store, with a restart; a quarter of them through every place.

Each store gets `COUNT` generated values as arguments and results of steps and of workflows; and `EVERYWHERE` of them,
many in one execution, also of a child, as messages, as answers, as what is emitted and published. In the middle the
engine is closed: what comes after is read from the store. A value of the same type and content arrives, or the call
says by an `EncodeError` where in it something cannot be recorded. Types are compared by `picture`, not by the codec's
own comparison.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from perdure import EncodeError, Engine, MemoryStore, emit, interrupt, publish, receive, step, workflow
from tests.unit.value_kinds import HINTED, Order, picture, values

COUNT, EVERYWHERE, MANY = 10_000, 2_500, 100
TAGS = ["dataclass", "tuple", "secret", "dict", "int", "exception", "path", "unknown", None, 5]
LOOKALIKES = [
    look for tag in TAGS for look in ({"$": tag}, {"$": tag, "v": [1, 2], "t": "os:system"}, {"$": {"$": tag, "v": {}}})
]


@functools.cache
def generated() -> list[Any]:
    """The values, the same in each run: those that look like tags, those with annotations, and all others."""
    found: list[Any] = list(LOOKALIKES)

    @seed(20261122)
    @settings(max_examples=COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(values, values, values, *[strategy for strategy, _ in HINTED]))
    def gather(value: Any) -> None:
        found.append(value)

    gather()
    return found[:COUNT]


def part(n: int) -> list[Any]:
    return generated()[n * MANY : (n + 1) * MANY]


WRONG: list[str] = []


def arrived(where: str, n: int, got: Any) -> None:
    """The part `n` of the values is here."""
    for k, (value, wanted) in enumerate(zip(got, part(n), strict=True)):
        if type(value) is not type(wanted) or picture(value) != picture(wanted):
            WRONG.append(f"{where}, value {n * MANY + k}: {value!r} instead of {wanted!r}")


@step
async def one(n: int, k: int, value: Any) -> Any:
    wanted = part(n)[k]
    if picture(value) != picture(wanted):
        WRONG.append(f"a step's argument {n * MANY + k}: {value!r} instead of {wanted!r}")
    return wanted


@step
async def many(n: int, *given: Any, **named: Any) -> dict[str, Any]:
    arrived("arguments of a step", n, given)
    arrived("named arguments of a step", n, named.values())
    return dict(named)


@workflow
async def child(n: int, given: list[Any]) -> list[Any]:
    arrived("the argument of a child", n, given)
    return part(n)


@workflow
async def carries(n: int, *given: Any) -> list[Any]:
    arrived("arguments of a workflow", n, given)
    for k, value in enumerate(given):
        await emit(value)
        got = await one(n, k, value)
        if picture(got) != picture(part(n)[k]):
            WRONG.append(f"a step's result {n * MANY + k}: {got!r}")
    await publish("all", list(given))
    named = await many(n, *given, **{f"v{k}": value for k, value in enumerate(given)})
    arrived("the result of a step", n, named.values())
    arrived("the result of a child", n, await child(n, list(given)))
    arrived("an answer", n, await interrupt("?", details=list(given)))
    arrived("messages", n, [await receive("value") for _ in range(MANY)])
    return list(given)


SERVERS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("postgres", "mysql")]


@pytest.fixture(params=["memory", "sqlite", "file", *SERVERS])
def place(request: pytest.FixtureRequest, folder: Path) -> Any:
    """Where executions are kept: the same for all engines of a test."""
    if request.param in ("postgres", "mysql"):
        return request.getfixturevalue(f"{request.param}_url")
    if request.param == "memory":
        return MemoryStore()
    return f"sqlite:///{folder}/perdure.db" if request.param == "sqlite" else f"file://{folder}/perdure"


async def test_all_values_arrive_everywhere_as_they_were(place: Any) -> None:
    WRONG.clear()
    parts = range(EVERYWHERE // MANY)
    async with Engine(place, workflows=[carries, child]) as engine:
        for n in parts:
            await engine.start(carries.options(execution_id=f"c{n}"), n, *part(n))
        for n in parts:
            await engine.get(f"c{n}").outcome(timeout=60)
    async with Engine(place, worker=False, workflows=[]) as client:
        for n in parts:
            handle = client.get(f"c{n}")
            (request,) = await handle.requests()
            arrived("the details of a question", n, request.details)
            arrived("a published value", n, await handle.value("all"))
            history = [entry for entry in await handle.history() if entry.name == "one"]
            arrived("arguments in the history", n, [entry.input["value"] for entry in history])
            arrived("results in the history", n, [entry.output for entry in history])
            await client.answer(request.id, part(n))
            for value in part(n):
                await handle.signal("value", value)
    async with Engine(place, workflows=[carries, child]) as engine:
        for n in parts:
            arrived("the result of a workflow", n, await engine.get(f"c{n}").result(timeout=60))
    async with Engine(place, worker=False, workflows=[]) as client:
        for n in parts:
            arrived("the result of a workflow, without its code", n, await client.get(f"c{n}").result(timeout=60))
    assert WRONG == []


@workflow
async def echoes(n: int, given: list[Any]) -> list[Any]:
    arrived("the argument of a workflow", n, given)
    back = await many(n, *given, **{f"v{k}": value for k, value in enumerate(given)})
    await interrupt("go on?")
    arrived("the result of a step", n, back.values())
    return given


async def test_ten_thousand_values_arrive_as_they_were_through_steps_workflows_and_a_restart(place: Any) -> None:
    WRONG.clear()
    assert len(generated()) == COUNT
    parts = range(COUNT // MANY)
    async with Engine(place, workflows=[echoes]) as engine:
        for n in parts:
            await engine.start(echoes.options(execution_id=f"e{n}"), n, part(n))
        for n in parts:
            await engine.get(f"e{n}").outcome(timeout=60)
    async with Engine(place, workflows=[echoes]) as engine:
        for n in parts:
            await engine.answer(f"e{n}:interrupt#1", None)
        for n in parts:
            arrived("the result of a workflow", n, await engine.get(f"e{n}").result(timeout=60))
    assert WRONG == []


@workflow
async def emits(value: Any) -> None:
    await emit(value)


@pytest.mark.parametrize("value", ["\ud800", ["\udfff", 1], {"\ud83d": 2}], ids=ascii)
async def test_an_emitted_value_with_a_lone_surrogate_arrives(value: Any) -> None:
    async with Engine("memory://", workflows=[emits]) as engine:
        handle = await engine.start(emits, value)
        await handle.result(timeout=60)
        assert [item.value async for item in handle.events()] == [value]


# By annotation --------------------------------------------------------------------------------------------


@step
async def orders(given: list[Order]) -> list[Order]:
    return given


@workflow
async def annotated(given: list[Order]) -> list[Order]:
    back = await orders(given)
    answer = await interrupt("which?", schema=list[str])
    return [*back, *[order for order in given if str(order.id) in answer]]


async def test_by_annotation_the_same_and_an_answer_by_its_schema(place: Any) -> None:
    found: list[Any] = []

    @seed(1)
    @settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(HINTED[0][0])
    def gather(value: Any) -> None:
        found.append(value)

    gather()
    async with Engine(place, workflows=[annotated]) as engine:
        for n, given_ in enumerate(found):
            await engine.start(annotated.options(execution_id=f"a{n}"), given_)
        for n in range(len(found)):
            await engine.get(f"a{n}").outcome(timeout=60)
    async with Engine(place, workflows=[annotated]) as engine:
        for n, given_ in enumerate(found):
            (request,) = await engine.get(f"a{n}").requests()
            await engine.answer(request.id, [str(order.id) for order in given_])
        for n, given_ in enumerate(found):
            assert picture(await engine.get(f"a{n}").result(timeout=60)) == picture([*given_, *given_])


# What cannot be recorded ----------------------------------------------------------------------------------


def unrecordable() -> Any:
    return {"a": [1, {"b": object()}]}


@workflow
async def refused(how: str) -> str:
    calls: dict[str, Callable[[], Any]] = {
        "a step's argument": lambda: many(0, unrecordable()),
        "a step's result": lambda: gives_it(),
        "a child's argument": lambda: child(0, [unrecordable()]),
        "emit": lambda: emit(unrecordable()),
        "publish": lambda: publish("x", unrecordable()),
        "details": lambda: interrupt("?", details=unrecordable()),
    }
    try:
        await calls[how]()
    except EncodeError as error:
        return str(error)
    return "it was taken"


@step
async def gives_it() -> Any:
    return unrecordable()


@workflow
async def ends_with_it() -> Any:
    return unrecordable()


REFUSED = ["a step's argument", "a step's result", "a child's argument", "emit", "publish", "details"]


async def test_what_cannot_be_recorded_is_an_error_at_the_call_that_names_the_path(place: Any) -> None:
    workflows = [refused, ends_with_it, carries, child, annotated_any]
    async with Engine(place, workflows=workflows) as engine:
        for how in REFUSED:
            assert "object" in (told := await (await engine.start(refused, how)).result(timeout=10)), how
            assert "['b']" in told or ".b" in told or "[b]" in told, told
        with pytest.raises(EncodeError, match="b"):
            await engine.start(carries.options(execution_id="never"), 0, unrecordable())
        with pytest.raises(EncodeError, match="b"):
            await (await engine.start(ends_with_it)).result(timeout=10)
        waits = await engine.start(annotated_any)
        await waits.outcome()
        (request,) = await waits.requests()
        with pytest.raises(EncodeError, match="b"):
            await engine.answer(request.id, unrecordable())
        with pytest.raises(EncodeError, match="b"):
            await waits.signal("x", unrecordable())
        await engine.answer(request.id, 1)
        assert await waits.result() == 1, "nothing of it has changed anything"


@workflow
async def annotated_any() -> Any:
    return await interrupt("?")
