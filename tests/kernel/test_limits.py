"""Limits in numbers: what is over one fails where it was asked for, and says which."""

from typing import Any

import pytest

from perdure import Engine, TooLargeError, interrupt, receive, restart, start_child, step, workflow


@step
async def one(text: str) -> int:
    return len(text)


@workflow
async def steps(n: int) -> int:
    return sum([await one("x") for _ in range(n)])


@workflow
async def waits(text: str) -> list[Any]:
    return [await interrupt("How?"), await receive("note"), len(text)]


async def test_a_journal_has_a_limit_and_the_call_beyond_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.endings.JOURNAL_LIMIT", 5)
    async with Engine("memory://", workflows=[steps]) as engine:
        assert await engine.run(steps, 5) == 5
        handle = await engine.start(steps, 6)
        with pytest.raises(TooLargeError, match=r"5 entries, which is the limit, and one#6 would be one more.*restart"):
            await handle.result()
        assert len(await handle.history()) == 5


async def test_values_have_a_limit_wherever_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.checking.VALUE_LIMIT", 1000)
    large = "x" * 1000
    async with Engine("memory://", workflows=[waits]) as engine:
        with pytest.raises(TooLargeError, match="the input of waits takes 1,0"):
            await engine.start(waits, large)
        handle = await engine.start(waits, "x")
        await handle.outcome()
        (request,) = await handle.requests()
        with pytest.raises(TooLargeError, match=r"the answer to .* takes"):
            await engine.answer(request.id, large)
        with pytest.raises(TooLargeError, match="the message 'note' takes"):
            await handle.signal("note", large)
        await engine.answer(request.id, "so")
        await handle.signal("note", "short")
        assert await handle.result() == ["so", "short", 1]


@step
async def outer(size: int) -> int:
    return await one("x" * size)


@workflow
async def passes(size: int, how: str) -> str:
    try:
        if how == "step":
            await one("x" * size)
        elif how == "by name":
            await one(text="x" * size)
        elif how == "inside":
            await outer(size)
        elif how == "child":
            await waits("x" * size)
        elif how == "started":
            await start_child(waits, "x" * size)
        else:
            await restart(size, "x" * size)
    except TooLargeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", ["step", "by name", "inside", "child", "started", "restart"])
async def test_what_a_call_is_given_has_the_limit_too_and_nothing_of_it_is_recorded(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("perdure.checking.VALUE_LIMIT", 1000)
    async with Engine("memory://", workflows=[passes, waits]) as engine:
        handle = await engine.start(passes, 1000, how)
        words = await handle.result()
        of = {"child": "waits#1", "started": "waits#1", "inside": "outer#1/one#1", "restart": handle.id}
        assert words.startswith(f"the input of {of.get(how, 'one#1')} takes 1,0")
        assert words.endswith("the limit is 1,000. Nothing was recorded")
        journal = await engine.store.history(handle.id)
        assert all(len(entry.input or "") < 100 for entry in journal)
        assert [entry.key for entry in journal] == (["outer#1"] if how == "inside" else [])
        assert await engine.count() == {"completed": 1}


async def test_what_a_workflow_returns_has_the_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.checking.VALUE_LIMIT", 1000)
    async with Engine("memory://", workflows=[returns]) as engine:
        with pytest.raises(TooLargeError, match="the result of returns takes 1,002 bytes"):
            await engine.run(returns, 1000)
        assert await engine.run(returns, 998) == "x" * 998


@workflow
async def returns(size: int) -> str:
    return "x" * size
