"""Changed code: left to a build that fits, blocked only where there is none."""

import asyncio
from typing import Any

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
