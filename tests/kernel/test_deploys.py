"""Changed code: left to a build that fits, blocked only where there is none."""

import asyncio
from dataclasses import make_dataclass
from typing import Any

import pytest

from perdure import Blocked, Engine, JournalMismatchError, MemoryStore, Query, interrupt, step, workflow


@step
async def first() -> str:
    return "first"


@step
async def second() -> str:
    return "second"


async def old_code() -> list[str]:
    a = await first()
    await interrupt("go on?")
    return [a, "old"]


async def new_code() -> list[str]:
    a = await second()
    await interrupt("go on?")
    return [a, "new"]


OLD, NEW = workflow(name="deployed")(old_code), workflow(name="deployed")(new_code)


async def waiting(store: MemoryStore) -> str:
    async with Engine(store, workflows=[OLD], build="old") as engine:
        handle = await engine.start(OLD)
        await handle.outcome()
    return handle.id


async def test_a_build_that_does_not_fit_leaves_it_to_one_that_does() -> None:
    store = MemoryStore()
    id = await waiting(store)
    async with (
        Engine(store, workflows=[NEW], build="new", poll=0.01) as new,
        Engine(store, workflows=[OLD], build="old", poll=0.01, concurrency=1) as old,
    ):
        hold = await old.start(OLD.options(execution_id="holds the only place"))
        await new.answer((await new.requests(id))[0].id, None)
        assert await new.get(id).result() == ["first", "old"]
        await hold.cancel()


async def test_without_one_it_is_blocked_and_goes_on_once_the_code_fits() -> None:
    store = MemoryStore()
    id = await waiting(store)
    async with (
        Engine(store, workflows=[NEW], build="new", poll=0.01) as new,
        Engine(store, workflows=[NEW], build="newer", poll=0.01),
    ):
        await new.answer((await new.requests(id))[0].id, None)
        outcome: Any = await new.get(id).outcome()
        assert isinstance(outcome, Blocked)
        assert isinstance(outcome.error, JournalMismatchError)
    async with Engine(store, workflows=[OLD], build="mended") as engine:
        done = await engine.resume(Query(status="blocked", workflow="deployed"))
        assert list(done.ids) == [id]
        assert await engine.get(id).result() == ["first", "old"]


async def test_two_versions_run_side_by_side() -> None:
    @workflow(name="both", version=1)
    async def one() -> str:
        await interrupt("?")
        return "one"

    @workflow(name="both", version=2)
    async def two() -> str:
        await interrupt("?")
        return "two"

    store = MemoryStore()
    async with Engine(store, workflows=[one]) as engine:
        old = await engine.start(one)
        await old.outcome()
    async with Engine(store, workflows=[one, two]) as engine:
        new = await engine.start(two)
        await new.outcome()
        for request in await engine.requests():
            await engine.answer(request.id, None)
        assert await asyncio.gather(engine.get(old.id).result(), new.result()) == ["one", "two"]


def selling(*fields: Any, **how: Any) -> Any:
    """The workflow with a Price of an amount and these fields."""
    price: Any = make_dataclass("Price", [("amount", int), *fields], **how)

    @step(name="check")
    async def check(p: price) -> price:
        return p

    @workflow(name="sell")
    async def sell(p: price) -> list[price]:
        await interrupt("ready?")
        checked = await check(p)
        await interrupt("sold?")
        return [checked]

    sell.price = price
    return sell


async def go_on(store: MemoryStore, generation: Any, *given: Any) -> Any:
    """Starts the sale, or answers its question; gives its outcome."""
    async with Engine(store, workflows=[generation]) as engine:
        if given:
            handle = await engine.start(generation.options(execution_id="lamp"), *given)
        else:
            handle = engine.get("lamp")
            await engine.answer((await engine.requests("lamp"))[0].id, None)
        return await handle.outcome()


@pytest.mark.parametrize("how", [{}, {"frozen": True}, {"kw_only": True}, {"slots": True}], ids=str)
async def test_a_recorded_result_keeps_the_default_that_it_had(how: dict[str, Any]) -> None:
    store = MemoryStore()
    first = selling(**how)
    euros, dollars = (selling(("currency", str, default), **how) for default in ("EUR", "USD"))
    await go_on(store, first, first.price(amount=5))
    await go_on(store, euros)
    outcome = await go_on(store, dollars)
    assert outcome.value == [dollars.price(amount=5, currency="EUR")]
