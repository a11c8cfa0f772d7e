"""A start with a message: both in one transaction, whether the execution is there or not; and how many may wait."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    AlreadyExistsError,
    Engine,
    PerdureError,
    Signal,
    TooLargeError,
    Waiting,
    receive,
    send,
    step,
    workflow,
)
from perdure.deliveries import MOST_WAITING, Post
from perdure.errors import MovedError
from perdure.records import Message


@step
async def pack(what: str) -> str:
    return f"{what} in a box"


@workflow(name="first_paid")
async def paid(what: str) -> list[Any]:
    return [what, await receive("money"), await receive("money")]


@workflow(name="first_hasty")
async def hasty() -> str:
    return await pack("a lamp")


@workflow(name="first_sender")
async def sender(to: str) -> str:
    try:
        await send(to, "money", 1)
    except TooLargeError as error:
        return str(error)
    return "sent"


WORKFLOWS = [paid, hasty, sender]


@pytest.fixture(params=["memory", "sqlite", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/x.db", "file": f"file://{tmp_path}/x"}[
        request.param
    ]


async def test_it_starts_what_is_not_there_and_brings_a_message_to_what_is(url: str) -> None:
    async with Engine(url, workflows=WORKFLOWS) as engine:
        options = paid.options(execution_id="p", signal=Signal("money", 1, id="m1"))
        handle = await engine.start(options, "a lamp")
        assert isinstance(await handle.outcome(), Waiting)
        await engine.start(options, "another lamp")  # the same message: delivered once
        await engine.start(paid.options(execution_id="p", signal=Signal("money", 2)), "a rug")
        assert await handle.result(30) == ["a lamp", 1, 2]


async def test_a_client_without_a_worker_starts_with_a_message(url: str) -> None:
    if url == "memory://":
        pytest.skip("nobody else sees it")
    async with Engine(url, worker=False, workflows=WORKFLOWS) as client:
        first = Signal("money", "first")
        handle = await client.start(paid.options(execution_id="p", signal=first, delay=0.01), "a lamp")
        await client.start(paid.options(execution_id="p", signal=Signal("money", "second")), "a lamp")
        async with Engine(url, workflows=WORKFLOWS):
            assert await handle.result(30) == ["a lamp", "first", "second"]


async def test_the_message_of_a_start_is_never_too_late_for_what_does_not_wait_for_it(url: str) -> None:
    async with Engine(url, workflows=WORKFLOWS) as engine:
        starts = (engine.start(hasty.options(signal=Signal("money", n))) for n in range(20))
        handles = await asyncio.gather(*starts)
        assert [await handle.result(30) for handle in handles] == ["a lamp in a box"] * 20


async def test_what_has_ended_or_is_another_workflow_is_told_and_left_alone(url: str) -> None:
    async with Engine(url, workflows=WORKFLOWS) as engine:
        await engine.run(hasty.options(execution_id="h"))
        with pytest.raises(PerdureError, match="h has ended: 'money' was not delivered"):
            await engine.start(hasty.options(execution_id="h", signal=Signal("money")))
        with pytest.raises(AlreadyExistsError, match="h exists: it is a first_hasty"):
            await engine.start(paid.options(execution_id="h", signal=Signal("money")), "a lamp")
        assert (await engine.store.inbox(["h"]))["h"].messages == []


@pytest.mark.parametrize("worker", [True, False])
async def test_a_worker_that_was_declared_dead_comes_back_and_starts_it(url: str, worker: bool) -> None:
    async with Engine(url, worker=worker, workflows=WORKFLOWS) as engine:
        fallen = engine.worker or await engine._submitter()
        id = fallen.record.id
        assert await engine.store.declare_dead(id, anyway=True)
        handle = await engine.start(paid.options(execution_id="p", signal=Signal("money", 1)), "a lamp")
        assert fallen.record.id != id
        assert len((await engine.store.inbox([handle.id]))[handle.id].messages) == 1


async def test_nothing_is_started_in_a_database_that_was_moved(url: str) -> None:
    async with Engine(url, worker=False, workflows=WORKFLOWS) as client:
        fallen = await client._submitter()
        store: Any = client.store
        await store.mark_moved("sqlite:///elsewhere.db")
        await store.declare_dead(fallen.record.id, anyway=True)
        for _ in range(2):
            with pytest.raises(MovedError, match="elsewhere"):
                await client.start(paid.options(execution_id="p", signal=Signal("money", 1)), "a lamp")
        assert await client.store.get(["p"]) == {}


async def test_ten_thousand_messages_wait_and_the_next_one_is_refused_at_the_call() -> None:
    async with Engine("memory://", workflows=WORKFLOWS) as engine:
        handle = await engine.start(paid.options(execution_id="p", delay=3600), "a lamp")
        for n in range(MOST_WAITING):
            await engine.store.deliver(Post(Message(f"m{n}", "p", "money", str(n))), engine.clock.now())
        words = "10,000 messages wait at p to be received, which is the limit: 'money' was not delivered"
        with pytest.raises(TooLargeError, match=words) as caught:
            await handle.signal("money", "one more")
        assert caught.value.execution_id == "p"
        with pytest.raises(TooLargeError, match=words):
            await engine.start(paid.options(execution_id="p", signal=Signal("money")), "a lamp")
        assert words in await engine.run(sender, "p")
        assert len((await engine.store.inbox(["p"]))["p"].messages) == MOST_WAITING
