"""Limits in numbers: what is over one fails where it was asked for, and says which."""

from typing import Any

import pytest

from perdure import Engine, TooLargeError, interrupt, receive, step, workflow


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
