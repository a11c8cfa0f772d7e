"""Budgets: reserved before a step, raised by people, held across processes."""

from decimal import Decimal
from typing import Any

import pytest

from perdure import (
    Budget,
    BudgetExceededError,
    Engine,
    InvalidAnswerError,
    MemoryStore,
    Retry,
    Waiting,
    gather,
    step,
    usage,
    workflow,
)

ENTERED: list[int] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ENTERED.clear()


@step
async def think(n: int) -> int:
    ENTERED.append(n)
    usage(model="m", input_tokens=100, output_tokens=20, cost=Decimal("0.5"))
    return n


@workflow(budget=Budget(cost=2))
async def thinks(rounds: int) -> list[int]:
    return [await think(n) for n in range(rounds)]


@workflow
async def at_once(n: int) -> list[int]:
    return await gather(*[think(k) for k in range(n)])


@workflow
async def spends(rounds: int) -> int:
    for n in range(rounds):
        await think(n)
    return rounds


@workflow(budget=Budget(cost=2, steps=5))
async def has_children(rounds: int) -> list[int]:
    return [await spends(2) for _ in range(rounds)]


async def question(handle: Any) -> Any:
    outcome = await handle.outcome()
    assert isinstance(outcome, Waiting)
    (request,) = outcome.requests
    assert request.kind == "budget"
    return request


async def test_at_the_limit_it_waits_for_a_raise_and_goes_on_elsewhere() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[thinks]) as engine:
        handle = await engine.start(thinks, 7)
        request = await question(handle)
        assert "cost 2.0 of 2" in request.message
        assert ENTERED == [0, 1, 2, 3]
    async with Engine(store, workflows=[thinks]) as engine:
        handle = engine.get(handle.id)
        assert (await question(handle)).id == request.id, "it asks once"
        await engine.answer(request.id, {"cost": 3}, by="ana")
        second = await question(handle)
        assert second.id != request.id
        assert ENTERED == [0, 1, 2, 3, 4, 5]
    async with Engine(store, workflows=[thinks]) as engine:
        await engine.answer(second.id, {"cost": "10"})
        assert await engine.get(handle.id).result() == list(range(7))
        assert (await engine.get(handle.id).usage()).cost == Decimal("3.5")
    assert list(range(7)) == ENTERED


async def test_a_refused_raise_fails_the_step() -> None:
    async with Engine("memory://", workflows=[thinks]) as engine:
        handle = await engine.start(thinks, 7)
        await engine.answer((await question(handle)).id, None)
        with pytest.raises(BudgetExceededError, match="used up"):
            await handle.result()


async def test_places_are_reserved_for_steps_that_begin_at_once() -> None:
    async with Engine("memory://", workflows=[at_once]) as engine:
        handle = await engine.start(at_once.options(budget=Budget(steps=3)), 5)
        request = await question(handle)
        assert sorted(ENTERED) == [0, 1, 2]
        await engine.answer(request.id, {"steps": 4})
        await engine.answer((await question(handle)).id, {"steps": 100})
        assert await handle.result() == [0, 1, 2, 3, 4]
    assert sorted(ENTERED) == [0, 1, 2, 3, 4]


async def test_tokens_count_and_an_execution_may_have_its_own_budget() -> None:
    async with Engine("memory://", workflows=[thinks]) as engine:
        handle = await engine.start(thinks.options(budget=Budget(tokens=240)), 5)
        assert "240 of 240 tokens" in (await question(handle)).message
        await handle.cancel()
        assert not await engine.requests()


@step(retry=Retry(attempts=50, initial=0.0))
async def burns() -> int:
    usage(model="m", output_tokens=100)
    raise OSError("x")


@workflow(budget=Budget(tokens=250))
async def burning() -> int:
    return await burns()


async def test_attempts_are_held_to_the_budget_too() -> None:
    async with Engine("memory://", workflows=[burning]) as engine:
        handle = await engine.start(burning)
        request = await question(handle)
        assert (await handle.usage()).tokens == 300
        await engine.answer(request.id, {"tokens": 450})
        await question(handle)
        assert (await handle.usage()).tokens == 500


REFUSED: list[Any] = [{}, {"tokns": 5}, {"cost": "abc"}, {"tokens": 1.5}, 5]
REFUSED += [{"cost": -1}, {"cost": "-1"}, {"tokens": -1}, {"steps": -1}, {"time": -0.5}]


@pytest.mark.parametrize("answer", REFUSED)
async def test_an_answer_that_raises_nothing_is_refused(answer: Any) -> None:
    async with Engine("memory://", workflows=[thinks]) as engine:
        handle = await engine.start(thinks, 7)
        with pytest.raises(InvalidAnswerError):
            await engine.answer((await question(handle)).id, answer)


def test_a_budget_that_makes_no_sense_is_refused() -> None:
    for settings in ({"tokens": "x"}, {"tokens": -5}, {"steps": 1.5}, {"cost": "abc"}, {"cost": -1}, {"time": -1}):
        with pytest.raises(ValueError, match=r"number|negative"):
            Budget(**settings)  # type: ignore[arg-type]


async def test_what_children_use_counts_for_their_parent_and_they_begin_with_what_it_has_left() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[has_children, spends]) as engine:
        handle = await engine.start(has_children.options(execution_id="p"), 3)
        request = await question(handle)  # two children took four steps for 2.0: the third has nothing left
        assert request.execution_id == "p/spends#3" and "cost 0 of 0" in request.message
        assert (await handle.usage()).cost == Decimal("2.0")
    async with Engine(store, workflows=[has_children, spends]) as engine:  # elsewhere it is known too
        await engine.answer(request.id, {"cost": 10, "steps": 10})
        assert await engine.get("p").result() == [2, 2, 2]
        assert (await engine.get("p").usage()).cost == Decimal("3.0")


async def test_a_child_may_have_a_budget_of_its_own() -> None:
    async with Engine("memory://", workflows=[gives, spends]) as engine:
        handle = await engine.start(gives.options(execution_id="g"))
        request = await question(handle)
        assert request.execution_id == "g/spends#1" and "1 of 1 steps" in request.message


@workflow(budget=Budget(steps=100))
async def gives() -> int:
    return await spends.options(budget=Budget(steps=1))(3)
