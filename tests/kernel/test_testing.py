"""The kit for users' own tests, listeners, and messages that come with a start."""

from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    AlreadyExistsError,
    Engine,
    Happening,
    NoExecutionError,
    Retry,
    Signal,
    interrupt,
    receive,
    send,
    sleep,
    step,
    sync,
    workflow,
)
from perdure.testing import Clock, answers


@step
async def charge(amount: int) -> str:
    return f"charged {amount}"


@workflow
async def order(amount: int) -> list[Any]:
    where = await interrupt("Where to?", details={"amount": amount})
    await sleep(timedelta(days=30))
    first, second = await receive("paid"), await receive("paid")
    await send("other", "done", amount)
    return [await charge(amount), where, first, second]


@workflow
def plain_order() -> str:
    sync.sleep(5)
    return str(sync.interrupt("Where to?"))


async def test_workflows_are_tested_without_an_engine() -> None:
    with answers({"Where to?": "Berlin", "paid": [1, 2]}) as given:
        assert await order(5) == ["charged 5", "Berlin", 1, 2]
    assert [kind for kind, _, _ in given.asked] == ["interrupt", "sleep", "receive", "receive", "send"]
    assert given.asked[0] == ("interrupt", "Where to?", {"amount": 5})
    with answers({"Where to?": "Rome"}):
        assert plain_order() == "Rome"


async def test_what_has_no_answer_is_named_and_errors_are_raised() -> None:
    with answers({"Where to?": "Berlin", "paid": [1]}), pytest.raises(NoExecutionError, match="no further answer"):
        await order(5)
    with answers({}), pytest.raises(NoExecutionError, match=r"interrupt 'Where to\?'"):
        await order(5)
    with answers({"Where to?": TimeoutError("nobody")}), pytest.raises(TimeoutError, match="nobody"):
        await order(5)
    with pytest.raises(NoExecutionError):
        await order(5)
    with pytest.raises(NoExecutionError):
        plain_order()


async def test_the_fixtures_give_a_virtual_engine(
    perdure_engine: Engine, perdure_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.registering.REGISTRY", {order.identity: [order]})  # other tests have imported others
    async with perdure_engine as engine:
        handle = await engine.start(order, 5)
        await handle.outcome()  # it has asked
        await engine.answer(f"{handle.id}:interrupt#1", "x")
        await perdure_clock.advance(timedelta(days=31))
        assert await handle.status() == "waiting"


@step(retry=Retry(attempts=2, initial=0.0))
async def shaky(fail: bool) -> None:
    if fail:
        raise OSError("no")


@workflow
async def watched() -> None:
    await shaky(False)
    try:
        await shaky(True)
    except OSError:
        await interrupt("?")


async def test_listeners_are_told_and_cannot_do_harm() -> None:
    heard: list[Happening] = []

    def broken(happening: Happening) -> None:
        raise ValueError("a listener's own error")

    async with Engine("memory://", workflows=[watched], listeners=[broken, heard.append]) as engine:
        handle = await engine.start(watched)
        await handle.outcome()
        await engine.answer((await handle.requests())[0].id, None)
        await handle.result()
    told = [(h.name, h.key, h.attempt, h.status) for h in heard]
    assert told == [
        ("worker.registered", None, None, None),
        ("execution.began", None, None, None),
        ("step.completed", "shaky#1", 1, None),
        ("step.retried", "shaky#2", 1, None),
        ("step.failed", "shaky#2", 2, None),
        ("execution.left", None, None, "waiting"),
        ("execution.began", None, None, None),
        ("execution.left", None, None, "completed"),
    ]
    assert {h.workflow for h in heard[1:]} == {"watched"}


@workflow
async def collects(n: int) -> list[Any]:
    return [await receive("item") for _ in range(n)]


async def test_a_message_comes_with_the_start_once_for_each_id() -> None:
    async with Engine("memory://", workflows=[collects, order]) as engine:
        for value, id in (("a", "1"), ("b", "2"), ("b", "2"), ("c", "3")):
            flow = collects.options(execution_id="cart", signal=Signal("item", value, id=id))
            handle = await engine.start(flow, 3 if value == "a" else 99)
        assert await handle.result() == ["a", "b", "c"]
        with pytest.raises(AlreadyExistsError):
            await engine.start(order.options(execution_id="cart", signal=Signal("item", 1)), 5)
