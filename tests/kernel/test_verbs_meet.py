"""Rollbacks meet what else is done from outside at the same time: each verb is carried out, or refused in words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import (
    AlreadyDecidedError,
    AlreadyExistsError,
    AlreadyRollingBackError,
    Cancelled,
    Encryption,
    Engine,
    Handle,
    PerdureError,
    Retry,
    RollbackFailed,
    RolledBack,
    User,
    Waiting,
    approval,
    checkpoint,
    gather,
    generate_key,
    interrupt,
    step,
    workflow,
)
from perdure.deliveries import Wish
from perdure.testing.checks.scene import new_worker
from perdure.timeline import timeline

GATE: dict[str, asyncio.Event] = {}
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def gate() -> Iterator[dict[str, asyncio.Event]]:
    """What bodies tell, and what they wait for: "entered", "open"; of an undo "undoing", "undo"."""
    GATE.update({name: asyncio.Event() for name in ("entered", "open", "undoing", "undo")})
    BROKEN.clear()
    yield GATE


@step(retry=Retry(attempts=1))
async def unmake(result: str) -> None:
    GATE["undoing"].set()
    await GATE["undo"].wait()
    if "undo" in BROKEN:
        raise OSError("the undo is broken")


@step(name="made", undo=unmake)
async def made() -> str:
    return "made"


@step(name="lasts")
async def lasts() -> str:
    GATE["entered"].set()
    await GATE["open"].wait()
    return "over"


@workflow(name="makes_and_asks")
async def makes_and_asks() -> bool:
    await checkpoint("start")
    await made()
    return await interrupt("Go on?", schema=bool)


@workflow(name="asks_meanwhile")
async def asks_meanwhile() -> list[Any]:
    await checkpoint("start")
    await made()
    return await gather(lasts(), interrupt("Go on?", schema=bool), approval("May it?"))


FLOWS = [makes_and_asks, asks_meanwhile]


async def asks(engine: Engine, id: str = "x") -> Handle[Any]:
    handle = await engine.start(makes_and_asks.options(execution_id=id))
    assert isinstance(await handle.outcome(), Waiting)
    return handle


async def has_wish(handle: Handle[Any]) -> None:
    while not (await handle.row()).wish:
        await asyncio.sleep(0)


# Cancelling ---------------------------------------------------------------------------------------------------


async def test_what_nobody_is_there_to_roll_back_is_not_cancelled_and_that_is_said(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        await asks(engine)
    async with Engine(place, workflows=FLOWS, worker=False) as client:
        handle = client.get("x")
        await handle.rollback(wait=False)
        with pytest.raises(PerdureError, match="is being rolled back, and no live worker knows makes_and_asks"):
            await handle.cancel(by="ana")
        assert await handle.status() == "rolling_back"
        GATE["undo"].set()
        async with Engine(place, workflows=FLOWS):
            assert isinstance(await handle.cancel(by="ana"), RolledBack)


async def test_who_was_carried_out_is_who_cancelled_whatever_was_wished_since(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(asks_meanwhile.options(execution_id="x"))
        await GATE["entered"].wait()
        assert engine.worker is not None
        run = engine.worker.runs["x"]
        cancelling = asyncio.ensure_future(handle.cancel(by="ana", reason="no more"))
        while run.stopping is None:
            await asyncio.sleep(0)
        await engine.store.deliver(Wish("x", "pause", None, "lunch"), engine.clock.now())
        assert await cancelling == Cancelled("ana", "no more")
        assert await handle.outcome() == Cancelled("ana", "no more")


async def test_the_first_of_two_who_cancel_is_who_did_it(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(asks_meanwhile.options(execution_id="x"))
        await GATE["entered"].wait()
        for by in ("ana", None):
            await engine.store.deliver(Wish("x", "cancel", by, by and "no more"), engine.clock.now())
        assert await handle.outcome() == Cancelled("ana", "no more")
        waiting = await asks(engine, "y")
        for by in ("ana", None):
            await engine.store.deliver(Wish("y", "cancel", by, by and "no more"), engine.clock.now())
        assert await waiting.cancel(by="bo") == Cancelled("ana", "no more")


# A rollback that waits for a person -----------------------------------------------------------------------------


async def test_a_rollback_that_waits_for_a_person_takes_no_second_one(place: Any) -> None:
    BROKEN.add("undo")
    GATE["undo"].set()
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        await handle.rollback("start", by="ana")
        assert isinstance(await handle.outcome(60), RollbackFailed)
        for to in (None, "start"):
            with pytest.raises(AlreadyRollingBackError, match="resolve"):
                await handle.rollback(to, by="bo")
        row = await handle.row()
        assert (row.status, row.wish_by) == ("rollback_failed", "ana")
        [asked] = await engine.requests()
        await engine.resolve(asked.id, "done", by="bo")
        while isinstance(outcome := await handle.outcome(), RollbackFailed):
            await asyncio.sleep(0)
        assert isinstance(outcome, Waiting), "it goes on from where the first one was to go"
        assert (await handle.row()).generation == 1


@pytest.mark.parametrize("encrypted", [False, True])
async def test_who_settles_it_alike_again_is_not_refused(place: Any, encrypted: bool) -> None:
    BROKEN.add("undo")
    GATE["undo"].set()
    codec = Encryption.from_text(f"k:{generate_key()}") if encrypted else None
    async with Engine(place, workflows=FLOWS, codec=codec) as engine:
        handle = await asks(engine)
        await handle.rollback(by="ana")
        assert isinstance(await handle.outcome(60), RollbackFailed)
        [asked] = await engine.requests()
        first = await engine.resolve(asked.id, "done", by="bo")
        again = await engine.resolve(asked.id, "done", by="cleo")
        assert (again.status, again.answer, again.answered_by) == (first.status, first.answer, "bo")
        with pytest.raises(AlreadyDecidedError, match="by bo"):
            await engine.resolve(asked.id, "retry", by="bo")
        events = (await engine.store.dossiers(["x"]))["x"].events
        assert [event.what for event in events] == ["rollback asked", "done"]


# Answers ------------------------------------------------------------------------------------------------------


async def test_between_asking_for_a_rollback_and_its_beginning_no_answer_is_taken(place: Any) -> None:
    GATE["undo"].set()
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(asks_meanwhile.options(execution_id="x"))
        await GATE["entered"].wait()
        while len(questions := await handle.requests()) < 2:
            await asyncio.sleep(0)
        rolling = asyncio.ensure_future(handle.rollback("start", by="ana"))
        await has_wish(handle)
        assert await handle.status() == "running", "a body is still awaited"
        ids = {question.kind: question.id for question in questions}
        with pytest.raises(AlreadyDecidedError, match="rolled back"):
            await engine.answer(ids["input"], True)
        with pytest.raises(AlreadyDecidedError, match="rolled back"):
            await engine.approve(ids["approval"], by="ana")
        GATE["open"].set()
        await rolling
        rows = await engine.store.requests(ids=list(ids.values()), status=None)
        assert [(row.status, row.answer) for row in rows] == [("withdrawn", None)] * 2
        while len(questions := await handle.requests()) < 2:
            await asyncio.sleep(0)
        assert not {question.id for question in questions} & set(ids.values())
        for question in questions:
            await (engine.answer(question.id, True) if question.kind == "input" else engine.approve(question.id))
        done = await handle.result()
        assert done[:2] == ["over", True]


async def test_what_is_to_be_rolled_back_by_whoever_comes_takes_no_answer(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        [question] = await handle.requests()
    async with Engine(place, workflows=FLOWS, worker=False) as client:
        await client.get("x").rollback(wait=False)
        with pytest.raises(AlreadyDecidedError, match="rolled back"):
            await client.answer(question.id, True)


# What is said of it -------------------------------------------------------------------------------------------


async def told(engine: Engine, id: str) -> list[tuple[str, str | None, str | None]]:
    row = await engine.get(id).row()
    requests = await engine.store.requests(execution_ids=[id], status=None)
    dossier = (await engine.store.dossiers([id]))[id]
    moments = timeline(row, requests, dossier, await engine.store.history(id))
    return [(moment.what, moment.who, moment.via) for moment in moments if "roll" in moment.what]


async def test_nothing_is_told_to_be_rolled_back_before_it_is(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        rolling = asyncio.ensure_future(handle.rollback("start", by=User("ana", via="cli")))
        await GATE["undoing"].wait()
        asked, begun = ("rollback asked", "ana", "cli"), ("rollback begun", "ana", "cli")
        assert sorted(await told(engine, "x")) == sorted([asked, begun])
        GATE["undo"].set()
        await rolling
        assert await told(engine, "x") == [asked, begun, ("rolled back", "ana", "cli")]


async def test_a_fork_is_noted_and_its_source_is_not_touched(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        await handle.fork("start", execution_id="y", by=User("ana", via="cli"), reason="what if")
        [event] = (await engine.store.dossiers(["y"]))["y"].events
        assert (event.what, event.actor, event.via, event.comment) == ("forked", "ana", "cli", "what if")
        assert '"x"' in (event.details or "")
        assert (await engine.store.dossiers(["x"]))["x"].events == []


async def test_a_fork_and_a_start_of_one_id_at_the_same_moment_are_not_mixed(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        Engine(place, workflows=FLOWS) as engine,
        Engine(place, workflows=[], worker=False) as other,
    ):
        handle = await asks(engine)
        look = engine.store.get

        async def get(ids: Any) -> Any:
            found = await look(ids)
            if "y" in ids and not found:  # it is free; and now no more
                await other.start(makes_and_asks.options(execution_id="y", queue="nobody"))
            return found

        monkeypatch.setattr(engine.store, "get", get)
        with pytest.raises(AlreadyExistsError):
            await handle.fork(execution_id="y")
        monkeypatch.undo()
        assert await engine.store.history("y") == []
        row = await engine.get("y").row()
        assert (row.status, row.queue, row.fence) == ("pending", "nobody", 0)
        assert (await engine.store.dossiers(["y"]))["y"].events == []
        fork = await handle.fork("start", execution_id="z")
        assert [entry.key for entry in await engine.store.history("z")][:2] == ["start#1", "inherited"]
        assert isinstance(await fork.outcome(), Waiting)


# A rollback that has not begun --------------------------------------------------------------------------------


async def test_a_rollback_whose_owner_has_died_is_not_overwritten_by_a_later_wish(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        await asks(engine)
    async with Engine(place, workflows=FLOWS, worker=False) as client:
        handle = client.get("x")
        [question] = await handle.requests()
        await client.answer(question.id, True)
        dying = await new_worker(client.store)
        known = {"workflows": [(makes_and_asks.name, 1)], "queues": ["default"]}
        [claimed] = await client.store.claim(dying.id, dying.epoch, 1, now=client.clock.now(), **known)
        await handle.rollback(by="ana", wait=False)
        assert await client.store.declare_dead(dying.id, anyway=True)
        before = await handle.row()
        assert (claimed.id, before.status, before.wish_by) == ("x", "running", "ana")
        with pytest.raises(PerdureError, match="is to be rolled back, and no live worker knows makes_and_asks"):
            await handle.cancel(by="bo")
        with pytest.raises(PerdureError, match="is to be rolled back: it cannot be paused"):
            await handle.pause(by="bo")
        with pytest.raises(AlreadyRollingBackError):
            await handle.rollback("start", by="bo", wait=False)
        after = await handle.row()
        assert (after.status, after.wish, after.wish_by) == (before.status, before.wish, "ana")
        GATE["undo"].set()
        async with Engine(place, workflows=FLOWS):
            while not isinstance(outcome := await handle.outcome(), RolledBack):
                assert not isinstance(outcome, Cancelled)
                await asyncio.sleep(0)
        assert GATE["undoing"].is_set()
        actions = (await client.store.dossiers(["x"]))["x"].actions
        assert [(action.key, action.status) for action in actions] == [("made#1", "completed")]


async def test_who_meets_a_rollback_that_has_not_begun_is_told_and_who_asked_for_it_is_not(place: Any) -> None:
    GATE["undo"].set()
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(asks_meanwhile.options(execution_id="x"))
        await GATE["entered"].wait()
        rolling = asyncio.ensure_future(handle.rollback(by="ana"))
        await has_wish(handle)
        with pytest.raises(PerdureError, match="is to be rolled back: it cannot be paused"):
            await handle.pause(by="bo")
        with pytest.raises(AlreadyRollingBackError):
            await handle.rollback("start", by="bo")
        cancelling = asyncio.ensure_future(handle.cancel(by="cleo"))
        GATE["open"].set()
        await rolling
        assert isinstance(await cancelling, RolledBack)


async def test_who_cancels_with_a_rollback_waits_for_the_one_that_goes_on(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        rolling = asyncio.ensure_future(handle.rollback("start", by="ana"))
        await GATE["undoing"].wait()
        cancelling = asyncio.ensure_future(handle.cancel(rollback=True, by="bo"))
        GATE["undo"].set()
        await rolling
        assert isinstance(await cancelling, RolledBack)
        assert (await handle.row()).wish_by == "bo"
