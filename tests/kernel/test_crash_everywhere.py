"""`crash_everywhere` finds what depends on where a process dies; `replay` what no longer fits."""

import json
import time
from typing import Any

import pytest

from perdure import (
    Completed,
    Engine,
    JournalMismatchError,
    Retry,
    RollbackFailed,
    RolledBack,
    Signal,
    Waiting,
    current,
    interrupt,
    receive,
    sleep,
    step,
    workflow,
)
from perdure.testing import crash_everywhere, replay

EFFECTS: list[str] = []


@step
async def charge(amount: int) -> str:
    EFFECTS.append("charge")
    return f"charged {amount}"


@step(once=True, verify=lambda amount: f"shipped {amount}" if EFFECTS else None)
async def ship(amount: int) -> str:
    return f"shipped {amount}"


@step(retry=Retry(attempts=3, initial=1.0))
def flaky(amount: int) -> str:
    time.sleep(0.001)
    if current().attempt < 2:
        raise OSError("not yet")
    return f"{inner(amount)}"


@step
def inner(amount: int) -> str:
    return f"inner {amount}"


@workflow
async def child(amount: int) -> str:
    await sleep(3)
    return await charge(amount)


@workflow
async def order(amount: int) -> list[Any]:
    first = await charge(amount)
    where = await interrupt("Where to?", schema=str)
    again = await interrupt("Where to?", schema=str)
    await sleep(86400)
    paid = await receive("paid")
    return [first, where, again, paid, await flaky.aio(amount), await child(amount), await ship(amount)]


async def test_a_sound_workflow_comes_to_the_same_end_from_everywhere() -> None:
    report = await crash_everywhere(
        order, 5, answers={"Where to?": ["Rome", "Oslo"]}, signals=[Signal("paid", 9)], workflows=[order, child]
    )
    assert report.end == Completed(["charged 5", "Rome", "Oslo", 9, "inner 5", "charged 5", "shipped 5"])
    assert report.differences == []
    assert report.crashes == 2 * report.commits and report.commits > 10
    assert report.repeated == {"charge#1": 1, "flaky#1": 1, "flaky#1/inner#1": 1}
    assert "charge#1 entered 1 times more" in str(report)


COUNT: list[int] = []


@step
async def tick() -> int:
    return 1


@workflow
async def remembers_outside() -> int:
    COUNT.append(1)  # a workflow that keeps something in its process
    await tick()
    return len(COUNT) % 2


async def test_what_depends_on_the_process_is_found() -> None:
    report = await crash_everywhere(remembers_outside)
    assert report.differences and "it gave" in report.differences[0]


async def release(room: str, amount: int) -> None:
    EFFECTS.append("release")
    if amount > 5:
        raise OSError("nobody answers")


@step(undo=step(release))
async def book(amount: int) -> str:
    return f"room {amount}"


@workflow(rollback_on_failure=True)
async def stay(amount: int) -> None:
    await book(amount)
    raise ValueError("the house is full")


@pytest.mark.parametrize("amount", [5, 6])
async def test_what_is_rolled_back_comes_to_the_same_end_and_undos_are_counted(amount: int) -> None:
    report = await crash_everywhere(stay, amount)
    assert isinstance(report.end, RolledBack if amount == 5 else RollbackFailed)
    assert report.differences == []
    assert report.repeated == {"book#1": 1, "undo:book#1": 1}


async def test_what_waits_for_somebody_ends_waiting() -> None:
    report = await crash_everywhere(order, 5, workflows=[order, child])
    assert isinstance(report.end, Waiting) and not report.differences


async def test_histories_are_replayed_on_todays_code() -> None:
    async with Engine("memory://", workflows=[order, child]) as engine:
        handle = await engine.start(order, 5)
        await handle.outcome()
        history, document = await handle.history(), json.loads(json.dumps(await handle.export()))
    assert [entry.key for entry in history] == ["charge#1"]
    for recorded in (history, document):
        assert (await replay(recorded, order)).fit == "fits"
    document["journal"][0]["key"] = "reserve#1"
    with pytest.raises(JournalMismatchError, match="reserve"):
        await replay(document, order)
    with pytest.raises(ValueError, match="not of <workflow child"):
        await replay(document, child)
