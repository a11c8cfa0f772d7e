"""Whatever lies behind a rollback's target is taken back, and then asked for anew: on every store alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure import (
    AlreadyDecidedError,
    Engine,
    Handle,
    RolledBack,
    Waiting,
    checkpoint,
    current,
    interrupt,
    race,
    receive,
    sleep,
    start_child,
    step,
    workflow,
)
from perdure.records import Entry

HOUR = 3600

SAID: list[tuple[str, str, str]] = []


@pytest.fixture
def said() -> Iterator[list[tuple[str, str, str]]]:
    """What was put there and taken back: (which of these, what, the idempotency key of the step)."""
    SAID.clear()
    yield SAID


async def take_back(key: str, name: str) -> None:
    SAID.append(("took back", name, key))


@step(name="put", undo=take_back)
async def put(name: str) -> str:
    key = current().idempotency_key
    SAID.append(("put", name, key))
    return key


async def side() -> list[Any]:
    await put("side")
    news = await receive("news", schema=str)
    answer = await interrupt("Which?", schema=str)
    await sleep(0.01)
    won = await race(nap=sleep(HOUR), woken=receive("wake", schema=bool))
    return [news, answer, won.name]


@workflow(name="puts_below")
async def puts_below() -> str:
    await put("below 1")
    await put("below 2")
    return "below"


@workflow(name="asks_below")
async def asks_below() -> bool:
    await put("asks")
    return await interrupt("Below?", schema=bool)


@workflow(name="branches_out")
async def branches_out() -> list[Any]:
    await put("first")
    await checkpoint("start")
    branch = asyncio.ensure_future(side())
    child = await puts_below()
    detached = await start_child(asks_below)
    await put("main")
    return [child, detached.id, *await branch]


FLOWS = [branches_out, puts_below, asks_below]
BEHIND = ["side", "below 1", "below 2", "asks", "main"]


async def asked(handle: Handle[Any], *messages: str) -> dict[str, str]:
    """The ids of what it and its children ask, once nothing can go on without an answer to these."""
    while True:
        outcome = await handle.outcome()
        assert isinstance(outcome, Waiting)
        if sorted(request.message for request in outcome.requests) == sorted(messages):
            return {request.message: request.id for request in outcome.requests}
        await handle.engine.store.changed(0.05)


async def recorded(handle: Handle[Any], enough: Callable[[list[Entry]], bool]) -> list[Entry]:
    """Its journal, once there is enough in it."""
    while not enough(entries := await handle.engine.store.history(handle.id)):
        await handle.engine.store.changed(0.05)
    return entries


def timers(entries: list[Entry], generation: int, status: str) -> list[Entry]:
    wanted = "timer", generation, status
    return [entry for entry in entries if (entry.kind, entry.generation, entry.status) == wanted]


async def up_to_its_nap(handle: Handle[Any], answer: str, generation: int) -> dict[str, str]:
    """Answer its branch: one of its timers fires, the other one is set. Gives the ids of what was asked."""
    questions = await asked(handle, "Which?", "Below?")
    await handle.engine.answer(questions["Which?"], answer)
    entries = await recorded(handle, lambda all: len(timers(all, generation, "set")) == 2)
    assert len(timers(entries, generation, "completed")) == 1
    nap = timers(entries, generation, "set")[-1]
    assert nap.started_at is not None
    left = int(nap.output or "0") - nap.started_at
    assert (HOUR - 60) * 1_000_000 < left <= (HOUR + 60) * 1_000_000, "it runs in full"
    return questions


async def test_a_branch_children_a_message_an_answer_and_timers_are_taken_back_and_asked_for_anew(
    place: Any, said: list[tuple[str, str, str]]
) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        store = engine.store
        handle = await engine.start(branches_out.options(execution_id="b"))
        for value in ("first", "second"):
            await handle.signal("news", value)
        before = await up_to_its_nap(handle, "no", 0)

        plan = await handle.rollback("start", by="ana", reason="once more")
        assert sorted(undo.key for undo in plan.undos) == ["asks_below#1", "put#2", "puts_below#1", "t1/put#1"]
        assert sorted(name for what, name, _ in said if what == "took back") == sorted(BEHIND), "each of them once"
        voided = {key for key in plan.voided if not key.startswith("put")}
        assert {"t1/receive#1", "t1/interrupt#1", "t1/timer#1", "asks_below#1"} <= voided
        after = await up_to_its_nap(handle, "yes", 1)
        assert not set(before.values()) & set(after.values()), "asked anew under new ids"
        old = {row.message: row for row in await store.requests(ids=list(before.values()), status=None)}
        assert (old["Which?"].status, old["Which?"].answer) == ("decided", '"no"'), "the history still tells it"
        assert old["Below?"].status == "withdrawn"
        with pytest.raises(AlreadyDecidedError):
            await engine.answer(before["Which?"], "too late")
        children = {row.id: str(row.status) for row in (await store.inbox(["b"]))["b"].children}
        assert children == {
            "b/puts_below#1": "rolled_back",
            "b/asks_below#1": "rolled_back",
            "b/puts_below#1@1": "completed",
            "b/asks_below#1@1": "waiting",
        }

        await handle.signal("wake", True)
        assert await handle.result() == ["below", "b/asks_below#1@1", "first", "yes", "woken"]
        await engine.answer(after["Below?"], True)
        assert await engine.get("b/asks_below#1@1").result() is True
        [left] = [message for message in (await store.inbox(["b"]))["b"].messages if message.taken_seq is None]
        assert left.value == '"second"', "in their order, each taken once"

        await handle.rollback(by="ana")
        assert isinstance(await handle.outcome(), RolledBack)
        dossier = (await store.dossiers(["b"]))["b"]
        assert {action.status for action in dossier.actions} == {"completed"}
        assert Counter(action.generation for action in dossier.actions) == {0: 4, 1: 5}

    done = [(name, key) for what, name, key in said if what == "put"]
    undone = [(name, key) for what, name, key in said if what == "took back"]
    assert sorted(name for name, _ in done) == sorted(["first", *BEHIND, *BEHIND])
    assert len({key for _, key in done}) == len(done), "other generations have other keys"
    assert sorted(undone) == sorted(done), "all that was done is undone, and with the result that it gave"
    assert undone[-1][0] == "first"
