"""Rollbacks: what was done is undone, last first, once each; what cannot be is asked of a person."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    AlreadyDecidedError,
    AlreadyRollingBackError,
    Blocked,
    Cancelled,
    Completed,
    Encryption,
    Engine,
    Failed,
    InvalidAnswerError,
    MemoryStore,
    PerdureError,
    Protection,
    Retry,
    RollbackFailed,
    RolledBack,
    Unknown,
    Waiting,
    WrongFaceError,
    checkpoint,
    current,
    gather,
    interrupt,
    receive,
    rollback,
    sleep,
    start_child,
    step,
    sync,
    transaction,
    workflow,
)
from perdure.deliveries import Rewind, Wish
from perdure.rollback import RETURNS
from perdure.testing.clock import Clock

Said = list[tuple[Any, ...]]
SAID: Said = []


@pytest.fixture
def said() -> Iterator[Said]:
    """What the bodies of this test's steps and undos did."""
    SAID.clear()
    TROUBLE.clear()
    yield SAID


TROUBLE: dict[str, int] = {}
"""How often an undo fails before it works, by what it undoes."""


def trouble(what: str) -> None:
    if TROUBLE.get(what, 0) > 0:
        TROUBLE[what] -= 1
        raise OSError(f"{what} is busy")


@step
async def cancel_flight(ticket: str, who: str) -> str:
    SAID.append(("cancel", ticket, who))
    trouble("flight")
    return "gone"


def cancel_hotel(room: str) -> None:
    SAID.append(("cancel", room))
    trouble("hotel")


QUICK = Retry(attempts=3, initial=0.0)


@step(retry=QUICK)
async def cancel_car(car: str, who: str, *, days: int) -> None:
    SAID.append(("cancel", car, who, days))
    trouble("car")


@step(name="flight", undo=cancel_flight)
async def flight(who: str) -> str:
    SAID.append(("flight", who))
    return f"ticket of {who}"


@step(name="hotel", undo=cancel_hotel)
def hotel(who: str) -> str:
    SAID.append(("hotel", who))
    return f"room of {who}"


@step(name="car", undo=cancel_car)
async def car(who: str, *, days: int) -> str:
    SAID.append(("car", who))
    return f"car of {who}"


class CardDeclined(Exception):
    pass


@step(name="charge")
async def charge(who: str) -> None:
    SAID.append(("charge", who))
    raise CardDeclined(f"no money of {who}")


@workflow(name="trip", rollback_on_failure=True)
async def trip(who: str) -> None:
    await flight(who)
    await hotel.aio(who)
    await car(who, days=2)
    await charge(who)


DONE = [("flight", "ana"), ("hotel", "ana"), ("car", "ana"), ("charge", "ana")]
UNDONE = [("cancel", "car of ana", "ana", 2), ("cancel", "room of ana"), ("cancel", "ticket of ana", "ana")]


async def actions(engine: Engine, id: str) -> list[tuple[str, str, int]]:
    dossier = (await engine.store.dossiers([id]))[id]
    return [(row.key, row.status, row.attempt) for row in dossier.actions]


# On failure -----------------------------------------------------------------------------------------------


async def test_what_was_done_before_a_failure_is_undone_last_first_and_once(place: Any, said: Said) -> None:
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip.options(execution_id="t"), "ana")
        outcome = await handle.outcome()
        assert isinstance(outcome, RolledBack)
        assert (type(outcome.error), str(outcome.error)) == (CardDeclined, "no money of ana")
        assert outcome.undone == ["car#1", "hotel#1", "flight#1"]
        with pytest.raises(CardDeclined):
            await handle.result()
        assert said == DONE + UNDONE
        assert await actions(engine, "t") == [(key, "completed", 1) for key in ("car#1", "hotel#1", "flight#1")]
        row = await handle.row()
        assert (row.status, row.generation, row.owner) == ("rolled_back", 1, None)
        journal = await engine.store.history("t")
        assert [entry.seq for entry in journal] == list(range(1, len(journal) + 1))
        assert [entry.kind for entry in journal[-5:]] == ["rollback", "undo", "undo", "undo", "cut"]
        with pytest.raises(PerdureError, match="nothing is left to undo"):
            await handle.rollback()


async def test_an_undo_that_fails_twice_and_then_works_is_tried_again(place: Any, said: Said) -> None:
    TROUBLE["car"] = 2
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip.options(execution_id="t"), "ana")
        assert isinstance(await handle.outcome(), RolledBack)
        assert said == [*DONE, UNDONE[0], UNDONE[0], *UNDONE]
        assert await actions(engine, "t") == [
            ("car#1", "completed", 3),
            ("hotel#1", "completed", 1),
            ("flight#1", "completed", 1),
        ]


async def test_an_undo_that_never_works_is_asked_of_a_person_and_the_others_are_done(place: Any, said: Said) -> None:
    TROUBLE["car"] = 99
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip.options(execution_id="t"), "ana")
        outcome = await handle.outcome()
        assert isinstance(outcome, RollbackFailed)
        assert isinstance(outcome.error, CardDeclined)
        assert {key: str(error) for key, error in outcome.undo_errors.items()} == {"car#1": "car is busy"}
        assert said == [*DONE, *[UNDONE[0]] * 3, *UNDONE[1:]], "the others are not held up"
        [asked] = await engine.requests()
        assert (asked.kind, asked.status, asked.execution_id) == ("undo", "open", "t")
        assert "car#1" in asked.message
        told = await handle.cancel()
        assert isinstance(told, RollbackFailed)
        assert list(told.undo_errors) == ["car#1"]
        with pytest.raises(InvalidAnswerError):
            await engine.resolve(asked.id, "happened")
        with pytest.raises(InvalidAnswerError):
            await engine.answer(asked.id, "done")
        TROUBLE["car"] = 0
        await engine.resolve(asked.id, "retry", by="bo", comment="it is back")
        outcome = await handle.outcome()
        assert isinstance(outcome, RolledBack)
        assert said[-1] == UNDONE[0]
        assert len(said) == len(DONE) + 6
        assert (await actions(engine, "t"))[0] == ("car#1", "completed", 4)
        assert await engine.requests() == []
        with pytest.raises(AlreadyDecidedError):
            await engine.resolve(asked.id, "done")


async def test_what_a_person_has_undone_by_hand_is_not_undone_again(place: Any, said: Said) -> None:
    TROUBLE.update(car=99, flight=99)
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip.options(execution_id="t"), "ana")
        outcome = await handle.outcome(60)
        assert isinstance(outcome, RollbackFailed)
        assert set(outcome.undo_errors) == {"car#1", "flight#1"}
        before = len(said)
        for asked in await engine.requests():
            await engine.resolve(asked.id, "done", by="bo")
        while isinstance(outcome := await handle.outcome(), RollbackFailed):
            await asyncio.sleep(0)
        assert isinstance(outcome, RolledBack)
        assert len(said) == before
        dossier = (await engine.store.dossiers(["t"]))["t"]
        assert [row.resolved_by for row in dossier.actions] == ["bo", None, "bo"]
        assert [event.what for event in dossier.events] == ["done", "done"]


# Later, and on cancel -----------------------------------------------------------------------------------------


@workflow(name="holiday")
async def holiday(who: str) -> str:
    await gather(flight(who), hotel.aio(who))
    await interrupt("Happy?", schema=bool)
    await car(who, days=7)
    return "done"


async def test_a_completed_execution_is_rolled_back_later_by_another_engine(place: Any, said: Said) -> None:
    async with Engine(place, workflows=[holiday]) as engine:
        handle = await engine.start(holiday.options(execution_id="h"), "ana")
        outcome = await handle.outcome()
        assert isinstance(outcome, Waiting)
        await engine.answer(outcome.requests[0].id, True)
        assert await handle.result() == "done"
        said.clear()
    async with Engine(place, workflows=[holiday]) as engine:
        handle = engine.get("h")
        plan = await handle.rollback(dry_run=True)
        assert (plan.to, plan.pivot) == (0, None)
        assert plan.undos[0].key == "car#1"
        assert {undo.key for undo in plan.undos} == {"car#1", "hotel#1", "flight#1"}
        assert said == []
        assert await handle.rollback(reason="it rained", by="ana") == plan
        assert said[0] == ("cancel", "car of ana", "ana", 7)
        assert sorted(said[1:]) == sorted(UNDONE[1:])
        assert await handle.outcome() == RolledBack(None, [undo.key for undo in plan.undos])
        row = await handle.row()
        assert (row.wish_by, row.reason) == ("ana", "it rained")


async def test_cancelled_with_a_rollback_what_waits_is_undone(place: Any, said: Said) -> None:
    async with Engine(place, workflows=[holiday]) as engine:
        handle = await engine.start(holiday.options(execution_id="h"), "ana")
        waiting = await handle.outcome()
        assert isinstance(waiting, Waiting)
        outcome = await handle.cancel(rollback=True, reason="ill", by="ana")
        assert isinstance(outcome, RolledBack)
        assert sorted(said[2:]) == sorted(UNDONE[1:])
        assert await engine.requests() == [], "nobody is asked any more"
        assert (await engine.store.requests(ids=[waiting.requests[0].id], status=None))[0].status == "withdrawn"


# Back to a checkpoint -------------------------------------------------------------------------------------------


async def forget(value: int, before: int) -> None:
    SAID.append(("forget", value))


@checkpoint(name="count", undo=forget)
async def count(before: int) -> int:
    SAID.append(("count", before + 1, current().generation, current().idempotency_key))
    return before + 1


@workflow(name="counts")
async def counts() -> list[Any]:
    n = await count(0)
    n = await count(n)
    n = await count(n)
    answer = await interrupt("Go on?", schema=str)
    return [n, answer, current().generation, current().rollback_reason]


async def test_back_to_a_checkpoint_it_goes_on_with_what_that_returned_and_other_keys(place: Any, said: Said) -> None:
    async with Engine(place, workflows=[counts]) as engine:
        handle = await engine.start(counts.options(execution_id="c"))
        first = await handle.outcome()
        assert isinstance(first, Waiting)
        plan = await handle.rollback("count#2", reason="once more", by="ana")
        assert [undo.key for undo in plan.undos] == ["count#3"]
        second = await handle.outcome()
        assert isinstance(second, Waiting)
        assert second.requests[0].id != first.requests[0].id
        with pytest.raises(AlreadyDecidedError):
            await engine.answer(first.requests[0].id, "too late")
        await handle.rollback("count#1", by="ana", reason="and again")
        third = await handle.outcome()
        assert isinstance(third, Waiting)
        await engine.answer(third.requests[0].id, "yes")
        assert await handle.result() == [3, "yes", 2, "and again"]
        done = [line[:3] for line in said]
        assert done == [
            ("count", 1, 0),
            ("count", 2, 0),
            ("count", 3, 0),
            ("forget", 3),
            ("count", 3, 1),
            ("forget", 3),
            ("forget", 2),
            ("count", 2, 2),
            ("count", 3, 2),
        ]
        keys = [line[3] for line in said if line[0] == "count"]
        assert len(set(keys)) == len(keys) == 6
        kinds = [entry.kind for entry in await handle.history()]
        assert (kinds.count("checkpoint"), kinds.count("cut"), kinds.count("undo")) == (6, 2, 3), "all is still there"
        assert [generation for _, generation, _ in await _rows(engine, "c")] == [0, 1, 1]


async def _rows(engine: Engine, id: str) -> list[tuple[str, int, str]]:
    dossier = (await engine.store.dossiers([id]))[id]
    return [(row.key, row.generation, row.status) for row in dossier.actions]


@workflow(name="waits")
async def waits() -> bool:
    await checkpoint("here")
    await car("ana", days=1)
    return await interrupt("Now?", schema=bool)


@workflow(name="tries")
async def tries(limit: int) -> list[Any]:
    n = await count(0)
    await checkpoint("here")
    await car("ana", days=1)
    if current().generation < limit:
        await rollback("here", reason=f"not good enough ({current().generation})")
    return [n, current().generation, current().rollback_reason]


async def test_the_code_itself_goes_back_and_is_told_why(said: Said) -> None:
    async with Engine("memory://", workflows=[tries]) as engine:
        assert await engine.run(tries, 2) == [1, 2, "not good enough (1)"]
        assert [line[0] for line in said] == ["count", *["car", "cancel"] * 2, "car"]


async def test_who_goes_back_more_than_twenty_times_stands_still(said: Said) -> None:
    async with Engine("memory://", workflows=[tries]) as engine:
        handle = await engine.start(tries.options(execution_id="t"), 99)
        outcome = await handle.outcome(60)
        assert isinstance(outcome, Blocked)
        assert "20 times" in outcome.reason
        assert (await handle.row()).generation == 20


async def test_people_may_go_back_as_often_as_they_like(said: Said) -> None:
    async with Engine("memory://", workflows=[tries]) as engine:
        handle = await engine.start(tries.options(execution_id="t"), 0)
        await handle.result()
        for _ in range(RETURNS + 1):
            await handle.rollback("here")
            assert isinstance(await handle.outcome(), Completed)
        await handle.rollback()
        assert isinstance(await handle.outcome(), RolledBack)


async def test_what_has_gone_back_too_often_can_still_be_undone(said: Said) -> None:
    async with Engine("memory://", workflows=[tries]) as engine:
        handle = await engine.start(tries.options(execution_id="t"), 99)
        assert isinstance(await handle.outcome(60), Blocked)
        outcome = await handle.cancel(rollback=True)
        assert isinstance(outcome, RolledBack)
        assert outcome.undone == ["car#1", "count#1"]


@pytest.mark.parametrize("to", ["nowhere", "car#9", 99, True])
async def test_a_target_that_does_not_stand_is_refused(said: Said, to: str | int) -> None:
    async with Engine("memory://", workflows=[holiday]) as engine:
        handle = await engine.start(holiday, "ana")
        await handle.outcome()
        with pytest.raises(PerdureError, match=r"no checkpoint, key or entry"):
            await handle.rollback(to)
        assert isinstance(await handle.outcome(), Waiting)


# What lies behind the target ------------------------------------------------------------------------------------


async def undo_small(result: str, name: str) -> None:
    SAID.append(("undo", name))


@step(name="small", undo=undo_small)
async def small(name: str) -> str:
    SAID.append(("small", name, current().idempotency_key))
    return name


@workflow(name="below")
async def below(name: str) -> str:
    await small(f"{name} 1")
    await small(f"{name} 2")
    return name


async def branch(name: str) -> str:
    await small(f"{name} before")
    news = await receive("news")
    answer = await interrupt(f"{name}?", schema=str)
    await sleep(3600)
    return f"{news} {answer}"


@workflow(name="wide")
async def wide() -> list[Any]:
    await checkpoint("start")
    side = asyncio.ensure_future(branch("side"))
    child = await below("child")
    detached = await start_child(below, "detached")
    await small("main")
    return [child, detached.id.rsplit("/")[-1], await side]


async def test_branch_child_message_answer_and_timer_behind_the_target_are_taken_back(said: Said) -> None:
    clock, store = Clock(), MemoryStore()
    async with Engine(store, workflows=[wide, below], clock=clock) as engine:
        handle = await engine.start(wide.options(execution_id="w"))
        await handle.signal("news", "first")
        await handle.signal("news", "second")
        asked = await waiting_for(handle, clock)
        await engine.answer(asked, "no")
        await clock.settle()
        rolling = asyncio.ensure_future(handle.rollback("start", by="ana"))
        plan = await through(rolling, clock)
        undone = [undo.key for undo in plan.undos]
        assert set(undone) == {"below#1", "below#2", "small#1", "t1/small#1"}
        children = {row.id: str(row.status) for row in (await store.inbox(["w"]))["w"].children}
        assert {children["w/below#1"], children["w/below#2"]} == {"rolled_back"}
        asked_again = await waiting_for(handle, clock)
        assert asked_again != asked
        assert asked_again.endswith("@1")
        await engine.answer(asked_again, "yes")
        result = asyncio.ensure_future(handle.result())
        await clock.settle()
        assert not result.done(), "the timer runs anew, in full"
        await clock.advance(3601)
        child, detached, news = await through(result, clock)
        assert (child, news) == ("child", "first yes"), "the message that was taken is there again, the first one first"
        assert detached.endswith("@1")
        undos = [line[1] for line in said if line[0] == "undo"]
        assert sorted(undos) == sorted(["side before", "child 1", "child 2", "detached 1", "detached 2", "main"]), (
            "each of them once"
        )
        keys = [line[2] for line in said if line[0] == "small"]
        assert len(keys) == len(set(keys)) == 12


async def waiting_for(handle: Any, clock: Clock) -> str:
    while True:
        await clock.settle()
        requests = await handle.requests()
        if requests:
            found: str = requests[0].id
            return found
        await clock.advance(0.5)


async def through(task: asyncio.Future[Any], clock: Clock) -> Any:
    while not task.done():
        await clock.settle()
        if not task.done():
            await clock.advance(0.5)
    return await task


# Pivots, unknown outcomes, bodies -------------------------------------------------------------------------------


@step(name="ship", pivot=True)
async def ship() -> str:
    SAID.append(("ship",))
    return "on its way"


@workflow(name="ships", rollback_on_failure=True)
async def ships(fails: bool) -> str:
    await small("before")
    await ship()
    await small("after")
    if fails:
        raise CardDeclined("too late")
    return "shipped"


async def test_beyond_a_pivot_nothing_is_undone_by_itself(place: Any, said: Said) -> None:
    async with Engine(place, workflows=[ships]) as engine:
        handle = await engine.start(ships.options(execution_id="s"), True)
        outcome = await handle.outcome()
        assert isinstance(outcome, Failed)
        assert str(outcome.error) == "too late"
        assert [line[1] for line in said if line[0] == "undo"] == ["after"]
        [asked] = await engine.requests()
        assert (asked.kind, asked.key) == ("pivot", "ship#1")
        await engine.resolve(asked.id, "done", by="ana")
        assert await engine.requests() == []
        with pytest.raises(PerdureError, match="force=True"):
            await handle.rollback()
        with pytest.raises(PerdureError, match="by="):
            await handle.rollback(force=True)
        await handle.rollback(force=True, by="ana", reason="recalled")
        assert [line[1] for line in said if line[0] == "undo"] == ["after", "before"]
        assert isinstance(await handle.outcome(), RolledBack)


async def undo_maybe(result: Any, n: int) -> None:
    SAID.append(("undo", result is Unknown, n))


async def no_idea(n: int) -> int | None:
    return LEDGER.get(n)


LEDGER: dict[int, int] = {}


def hanging(**settings: Any) -> Any:
    @step(undo=undo_maybe, name="maybe", **settings)
    async def maybe(n: int) -> int:
        SAID.append(("maybe", n))
        await asyncio.Event().wait()
        return n

    @workflow(name="hangs")
    async def hangs() -> None:
        await small("before")
        await maybe(7)

    return hangs


async def crashed(store: MemoryStore, flow: Any) -> None:
    """One process begins the step and dies."""
    engine = Engine(store, workflows=[flow])
    await engine.__aenter__()
    assert engine.worker is not None
    await engine.start(flow.options(execution_id="x"))
    while ("maybe", 7) not in SAID:
        await asyncio.sleep(0)
    await store.declare_dead(engine.worker.record.id, anyway=True)
    engine.worker._lost()
    await engine.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("settings", "knows", "undone"),
    [
        ({"undo_unknown": True}, None, [("undo", True, 7)]),
        ({"once": True, "verify": no_idea}, 5, [("undo", False, 7)]),
        ({"once": True, "verify": no_idea}, None, []),
    ],
)
async def test_a_step_of_unknown_outcome_is_undone_too(
    said: Said, settings: dict[str, Any], knows: int | None, undone: list[Any]
) -> None:
    LEDGER.clear()
    if knows is not None:
        LEDGER[7] = knows
    store, flow = MemoryStore(), hanging(**settings)
    async with Engine(store, workflows=[flow], worker=False) as client:
        await crashed(store, flow)
        asked = asyncio.ensure_future(client.get("x").rollback(by="ana"))
        while (await client.get("x").row()).wish is None:
            await asyncio.sleep(0)
        async with Engine(store, workflows=[flow]):
            await asked
            assert isinstance(await client.get("x").outcome(), RolledBack)
        assert [line for line in said if line[0] == "undo"] == [*undone, ("undo", "before")]


async def test_where_nobody_knows_a_person_decides(said: Said) -> None:
    store, flow = MemoryStore(), hanging()
    async with Engine(store, workflows=[flow], worker=False) as client:
        await crashed(store, flow)
        asked = asyncio.ensure_future(client.get("x").rollback(by="ana"))
        while (await client.get("x").row()).wish is None:
            await asyncio.sleep(0)
        async with Engine(store, workflows=[flow]) as engine:
            await asked
            outcome = await client.get("x").outcome()
            assert isinstance(outcome, RollbackFailed)
            assert "nobody knows" in str(outcome.undo_errors["maybe#1"])
            [request] = await engine.requests()
            await engine.resolve(request.id, "done", by="ana")
            while isinstance(outcome := await client.get("x").outcome(), RollbackFailed):
                await asyncio.sleep(0)
            assert isinstance(outcome, RolledBack)
        assert [line for line in said if line[0] == "undo"] == [("undo", "before")]
        assert await actions(client, "x") == [("maybe#1", "completed", 1), ("small#1", "completed", 1)]


async def undo_outer(result: str, n: int) -> None:
    SAID.append(("undo", "outer", n))


@step(name="outer", undo=undo_outer)
async def outer(n: int) -> str:
    return await small(f"in {n}")


@step(name="plain_outer")
async def plain_outer(n: int) -> str:
    await small(f"plain {n}")
    if n > 2:
        raise ValueError("after its inner step")
    return "ok"


@workflow(name="nests")
async def nests() -> str:
    await outer(1)
    await plain_outer(2)
    with contextlib.suppress(ValueError):
        await plain_outer(3)
    return "ok"


async def test_a_body_with_an_undo_is_undone_by_that_alone_and_one_without_by_its_inner_ones(
    place: Any, said: Said
) -> None:
    async with Engine(place, workflows=[nests]) as engine:
        handle = await engine.start(nests.options(execution_id="n"))
        assert await handle.result() == "ok"
        await handle.rollback(by="ana")
        assert [line[1:] for line in said if line[0] == "undo"] == [("plain 3",), ("plain 2",), ("outer", 1)]


async def test_a_target_inside_a_body_is_refused(said: Said) -> None:
    async with Engine("memory://", workflows=[nests]) as engine:
        handle = await engine.start(nests)
        await handle.result()
        with pytest.raises(PerdureError, match="lies inside plain_outer#1"):
            await handle.rollback("plain_outer#1/small#1")


@step(name="errs", undo=undo_maybe, undo_on_error=True)
async def errs(n: int) -> None:
    raise ValueError(n)


@workflow(name="erring", rollback_on_failure=True)
async def erring() -> None:
    await errs(3)


async def test_a_step_that_failed_is_undone_where_it_says_so(said: Said) -> None:
    async with Engine("memory://", workflows=[erring]) as engine:
        assert isinstance(await (await engine.start(erring)).outcome(), RolledBack)
        assert said == [("undo", True, 3)]


# One at a time, and whatever comes in between -------------------------------------------------------------------


GATE: dict[str, asyncio.Event] = {}


async def slow_undo(result: str) -> None:
    SAID.append(("undo", "slow"))
    GATE["entered"].set()
    await GATE["open"].wait()


@step(name="slow", undo=slow_undo)
async def slow() -> str:
    return "slow"


@workflow(name="slowly")
async def slowly() -> str:
    await small("first")
    return await slow()


@workflow(name="waits_after")
async def waits_after() -> bool:
    await checkpoint("here")
    await slow()
    return await interrupt("Now?", schema=bool)


@workflow(name="ends")
async def ends(fails: bool) -> list[int]:
    n = await count(0)
    n = await count(n)
    if fails and current().generation == 0:
        raise CardDeclined("at first")
    return [n, current().generation]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_has_ended_goes_on_behind_its_checkpoint(place: Any, said: Said, fails: bool) -> None:
    async with Engine(place, workflows=[ends]) as engine:
        handle = await engine.start(ends.options(execution_id="e"), fails)
        assert isinstance(await handle.outcome(), Failed) is fails
        await handle.rollback("count#1", by="ana")
        assert await handle.result() == [2, 1]
        assert [line[:2] for line in said] == [("count", 1), ("count", 2), ("forget", 2), ("count", 2)]


@checkpoint(name="here")
def here() -> None: ...


@workflow(name="plainly_back")
def plainly_back() -> list[Any]:
    here()
    room = hotel("ana")
    if current().generation == 0:
        sync.rollback("here", reason="too dear")
    return [room, current().generation, current().rollback_reason]


@workflow(name="plainly_marked")
def plainly_marked() -> list[Any]:
    sync.checkpoint("here")
    room = hotel("ana")
    if current().generation == 0:
        sync.rollback("here", reason="too dear")
    return [room, current().generation, current().rollback_reason]


@workflow(name="marked_wrongly")
def marked_wrongly() -> None:
    checkpoint("here")  # type: ignore[unused-coroutine]


async def test_a_plain_function_is_told_how_it_marks_a_checkpoint() -> None:
    async with Engine("memory://", workflows=[marked_wrongly]) as engine:
        with pytest.raises(WrongFaceError, match=r'sync.checkpoint\("here"\)'):
            await engine.run(marked_wrongly)


@pytest.mark.parametrize("plainly_back", [plainly_back, plainly_marked])
async def test_plain_functions_go_back_too(said: Said, plainly_back: Any) -> None:
    async with Engine("memory://", workflows=[plainly_back]) as engine:
        assert await engine.run(plainly_back) == ["room of ana", 1, "too dear"]
        assert said == [("hotel", "ana"), ("cancel", "room of ana"), ("hotel", "ana")]


@step(transactional=True)
async def in_transaction(result: str, connection: object = transaction(object)) -> None: ...


async def test_a_second_rollback_during_one_is_refused_and_a_worker_that_leaves_hands_it_on(
    place: Any, said: Said
) -> None:
    GATE.update(entered=asyncio.Event(), open=asyncio.Event())
    async with Engine(place, workflows=[slowly], worker=False) as client:
        async with Engine(place, workflows=[slowly]) as engine:
            handle = await engine.start(slowly.options(execution_id="s"))
            await handle.result()
            first = asyncio.ensure_future(client.get("s").rollback(by="ana"))
            await GATE["entered"].wait()
            assert await handle.status() == "rolling_back"
            with pytest.raises(AlreadyRollingBackError):
                await handle.rollback()
            GATE["open"].set()
        async with Engine(place, workflows=[slowly]):
            await first
            assert isinstance(await client.get("s").outcome(), RolledBack)
        assert said[1:] == [("undo", "slow"), ("undo", "first")]


@pytest.mark.parametrize("to", [None, "here"])
async def test_who_cancels_what_is_being_rolled_back_waits_for_its_end(place: Any, said: Said, to: str | None) -> None:
    GATE.update(entered=asyncio.Event(), open=asyncio.Event())
    async with Engine(place, workflows=[waits_after]) as engine, Engine(place, worker=False, workflows=[]) as client:
        await (await engine.start(waits_after.options(execution_id="w"))).outcome()
        await client.get("w").rollback(to, wait=False)
        await GATE["entered"].wait()
        cancelling = asyncio.create_task(client.get("w").cancel(by="ana"))
        assert await client.get("w").status() == "rolling_back"
        GATE["open"].set()
        outcome = await cancelling
    assert outcome == Cancelled("ana", None) if to else isinstance(outcome, RolledBack)
    assert said[0] == ("undo", "slow")


class _TooLate(MemoryStore):
    """The first wish for a rollback comes while the owner has it recorded already that the execution stands still."""

    late = True

    async def deliver(self, delivery: Any, now: int) -> Any:
        if isinstance(delivery, Rewind) and self.late:
            self.late = False
            delivery = Wish(delivery.execution_id, delivery.wish, delivery.by, delivery.reason)
        return await super().deliver(delivery, now)


@pytest.mark.parametrize("blocked", [False, True])
async def test_a_wish_that_the_owner_has_not_heard_of_before_it_stood_still_is_told_again(
    said: Said, blocked: bool
) -> None:
    async with Engine(_TooLate(), workflows=[tries, waits]) as engine:
        handle = await engine.start(tries, 99) if blocked else await engine.start(waits)
        await handle.outcome(60)
        if not blocked:
            await handle.pause()
        assert await handle.status() == ("blocked" if blocked else "paused")
        await handle.rollback()
        assert isinstance(await handle.outcome(), RolledBack)


async def test_bodies_that_run_are_awaited_and_undone(said: Said) -> None:
    gate = asyncio.Event()

    @step(name="late", undo=undo_small)
    async def late(name: str) -> str:
        await gate.wait()
        SAID.append(("late", name))
        return name

    @workflow(name="two_at_once")
    async def two_at_once() -> None:
        await gather(late("slow one"), small("quick one"))
        await small("never")

    async with Engine("memory://", workflows=[two_at_once]) as engine:
        handle = await engine.start(two_at_once)
        while not any(line[0] == "small" for line in said):
            await asyncio.sleep(0)
        rolling = asyncio.ensure_future(handle.rollback(by="ana"))
        assert engine.worker is not None
        while not engine.worker.runs[handle.id].rolls:
            await asyncio.sleep(0)
        assert not any(line[0] == "undo" for line in said)
        gate.set()
        await rolling
        assert isinstance(await handle.outcome(), RolledBack)
        assert [line[1] for line in said if line[0] == "undo"] == ["slow one", "quick one"]


# A person settles a once-only step ------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "result"), [("happened", 41), ("not_done", None)])
async def test_a_once_only_step_of_unknown_outcome_goes_on_when_somebody_knows(
    said: Said, how: str, result: int | None
) -> None:
    gate = asyncio.Event()

    @step(name="maybe", once=True)
    async def maybe(n: int) -> int:
        SAID.append(("maybe", n))
        await gate.wait()
        return n

    @workflow(name="hangs_once")
    async def hangs_once() -> int:
        return await maybe(7) + 1

    store = MemoryStore()
    await crashed(store, hangs_once)
    async with Engine(store, workflows=[hangs_once]) as engine:
        handle = engine.get("x")
        outcome = await handle.outcome()
        assert isinstance(outcome, Blocked)
        [request] = await engine.requests()
        assert (request.kind, request.key) == ("unknown", "maybe#1")
        gate.set()
        await engine.resolve(request.id, how, result=result, by="ana")
        assert await handle.result() == (42 if how == "happened" else 8)
        assert said == [("maybe", 7)] * (1 if how == "happened" else 2)


async def unpack(box: str, what: str, how: str, *, times: int) -> None:
    SAID.append((box, what, how, times))


@step(undo=unpack)
async def pack(what: str, how: str = "well", *, times: int = 1) -> str:
    return f"box of {what}"


@workflow(rollback_on_failure=True)
async def packs() -> None:
    await pack("books")
    await pack("cups", times=2)
    await pack(how="badly", what="hats")
    raise CardDeclined


async def test_an_undo_is_given_the_defaults_of_what_its_step_was_not_given(said: Said) -> None:
    async with Engine("memory://", workflows=[packs]) as engine:
        handle = await engine.start(packs)
        assert isinstance(await handle.outcome(), RolledBack)
    assert said == [
        ("box of hats", "hats", "badly", 1),
        ("box of cups", "cups", "well", 2),
        ("box of books", "books", "well", 1),
    ]


async def test_an_undo_that_is_a_plain_function_is_tried_five_times(said: Said) -> None:
    clock = Clock()
    async with Engine("memory://", workflows=[trip], clock=clock) as engine:
        for failures in (4, 5):
            TROUBLE["hotel"] = failures
            handle = await engine.start(trip, "ana")
            outcome = await through(asyncio.ensure_future(handle.outcome()), clock)
            assert isinstance(outcome, RolledBack if failures == 4 else RollbackFailed)
        assert said.count(("cancel", "room of ana")) == 10


async def pay_back(receipt: str, card: str) -> None:
    SAID.append(("pay back", receipt, card))


@step(name="paid", undo=pay_back)
async def paid(card: str) -> str:
    return "receipt"


@workflow(name="buys", rollback_on_failure=True, redact=["card"])
async def buys(card: str) -> None:
    await paid(card)
    raise CardDescribed(card)


class CardDescribed(Exception):
    pass


@pytest.mark.parametrize("place", ["plain", "encrypted", "namespace"])
async def test_an_undo_is_given_what_the_code_gave_whatever_is_hidden(tmp_path: Path, said: Said, place: str) -> None:
    url = f"sqlite:///{tmp_path}/perdure.db"
    settings: dict[str, Any] = {
        "plain": {"codec": Protection()},
        "encrypted": {"codec": Protection(Encryption({"k": bytes(range(32))}))},
        "namespace": {"codec": Protection(), "namespace": "shop"},
    }[place]
    async with Engine(url, workflows=[buys], **settings) as engine:
        handle = await engine.start(buys.options(execution_id="b"), "4711-0815")
        outcome = await handle.outcome()
        assert isinstance(outcome, RolledBack)
        assert outcome.undone == ["paid#1"]
        assert said == [("pay back", "receipt", "4711-0815")]
        assert await actions(engine, "b") == [("paid#1", "completed", 1)]
        [entry] = [entry for entry in await engine.store.history("b") if entry.kind == "step"]
        assert "4711" not in (entry.input or "")


def test_what_does_not_go_together_is_refused_where_it_is_declared() -> None:
    async def takes_three(a: Any, b: Any, c: Any) -> None: ...

    with pytest.raises(TypeError, match="neither"):
        step(undo=takes_three)(small.function)
    with pytest.raises(TypeError, match="transactional"):
        step(undo=in_transaction)(small.function)
    with pytest.raises(ValueError, match="it is missing"):
        step(undo_unknown=True)(flight.function)
    with pytest.raises(TypeError):
        step(undo=7)(flight.function)  # type: ignore[call-overload]
