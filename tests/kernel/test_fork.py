"""Forks: the beginning of one execution's journal goes on in another one, and the source hears nothing of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    AlreadyExistsError,
    Completed,
    DecodeError,
    Engine,
    Failed,
    MemoryStore,
    PerdureError,
    Retry,
    RolledBack,
    Waiting,
    checkpoint,
    current,
    gather,
    interrupt,
    now,
    receive,
    step,
    uuid4,
    workflow,
)

RAN: list[Any] = []
UNDONE: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    RAN.clear()
    UNDONE.clear()


async def unbook(result: str, what: str) -> None:
    UNDONE.append(what)


@step(name="fk_book", undo=unbook)
async def book(what: str) -> str:
    RAN.append((what, current().idempotency_key))
    return f"{what} booked"


@checkpoint(name="fk_pack")
async def pack(n: int) -> int:
    RAN.append(n)
    return n + 1


@step(name="fk_fixed")
async def fixed(word: str) -> str:
    RAN.append(word)
    return word


@workflow(name="fk_trip")
async def trip(where: str) -> list[Any]:
    made = str(uuid4())
    began = now()
    first = await book("flight")
    n = await pack(1)
    n = await pack(n)
    second = await book("hotel")
    said = await interrupt("Go on?")
    if said == "fail":
        raise ValueError(said)
    return [made, str(began), first, n, second, said, str(await receive("go"))]


async def waits(handle: Any) -> str:
    outcome = await handle.outcome()
    assert isinstance(outcome, Waiting), outcome
    return outcome.requests[0].id if outcome.requests else ""


async def dump(engine: Engine, id: str) -> list[Any]:
    store = engine.store
    return [
        (await store.get([id]))[id],
        await store.history(id),
        await store.requests(execution_ids=[id], status=None),
        (await store.dossiers([id], snapshots=True))[id],
    ]


KINDS = [
    "memory",
    "sqlite",
    "file",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("mysql", marks=pytest.mark.mysql),
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fork_goes_on_behind_a_checkpoint_and_the_source_is_not_touched(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/f.db", "file": f"file://{tmp_path}/f"}
    async with Engine(urls.get(kind) or request.getfixturevalue(f"{kind}_url"), workflows=[trip]) as engine:
        source = await engine.start(trip.options(execution_id="source", attributes={"a": 1}), "Rome")
        asked = await waits(source)
        await source.signal("go", "unread")
        await waits(source)
        before = await dump(engine, source.id)
        ran, RAN[:] = list(RAN), []

        fork = await source.fork(at="fk_pack#1", execution_id="fork", by="ana", reason="what if")
        own = await waits(fork)
        assert own == "fork:interrupt#1" != asked
        assert [2, ("hotel", RAN[1][1])] == RAN, "what is inherited ran again, or the rest did not"
        assert RAN[1][1] != ran[3][1], "an idempotency key of another execution"

        entries = await engine.store.history("fork")
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert {entry.generation for entry in entries} == {0}
        kept = before[1][: _life(entries)]
        assert [(e.key, e.kind, e.input, e.output, e.completed_at) for e in kept] == [
            (e.key, e.kind, e.input, e.output, e.completed_at) for e in entries[: len(kept)]
        ]
        assert kept[-1].key == "fk_pack#1"
        state = await fork.inspect()
        lineage = state.metadata["lineage"]
        assert (lineage["forked_from"], lineage["forked_by"], lineage["fork_reason"]) == ("source", "ana", "what if")
        assert state.metadata["attributes"] == {"a": 1} and state.variables["n"] == 3
        assert (await fork.inspect(at="fk_pack#1")).variables["n"] == 2

        await engine.answer(own, "yes")
        assert isinstance(await fork.outcome(), Waiting), "an unread message was taken along"
        await fork.signal("go", "mine")
        mine = await fork.result()
        assert await dump(engine, source.id) == before
        await engine.answer(asked, "no")
        theirs = await source.result()
        assert mine == [*theirs[:5], "yes", "mine"] and theirs[5:] == ["no", "unread"]


def _life(entries: list[Any]) -> int:
    return next(n for n, entry in enumerate(entries) if entry.key == "inherited")


async def test_a_rollback_of_a_fork_undoes_only_what_is_its_own() -> None:
    async with Engine("memory://", workflows=[trip]) as engine:
        source = await engine.start(trip, "Rome")
        await waits(source)
        fork = await source.fork(at="fk_pack")
        own = await waits(fork)
        plan = await fork.rollback(dry_run=True)
        assert [undo.key for undo in plan.undos] == ["fk_book#2"]
        await fork.rollback()
        assert UNDONE == ["hotel"]
        assert isinstance(await source.outcome(), Waiting)
        assert own


async def test_a_fork_of_all_asks_its_open_questions_anew() -> None:
    async with Engine("memory://", workflows=[trip]) as engine:
        source = await engine.start(trip, "Rome")
        asked = await waits(source)
        ran = list(RAN)
        forks = [await source.fork() for _ in range(3)]
        owns = {await waits(fork) for fork in forks}
        assert len(owns) == 3 and asked not in owns and ran == RAN
        again = await forks[0].fork(at="fk_pack#1")  # a fork of a fork
        await waits(again)
        lineage = (await again.inspect()).metadata["lineage"]
        assert lineage["forked_from"] == forks[0].id
        await forks[1].cancel()
        assert isinstance(await source.outcome(), Waiting)


# Other results --------------------------------------------------------------------------------------------


@workflow(name="fk_chain")
async def chain() -> list[Any]:
    a = await pack(1)
    free = await fixed("free of it")
    b = await pack(a)
    late = await fixed("late")
    return [a, free, b, late]


async def test_with_another_result_is_kept_what_the_code_still_asks_with_the_same_arguments() -> None:
    async with Engine("memory://", workflows=[chain]) as engine:
        source = await engine.start(
            chain,
        )
        assert await source.result() == [2, "free of it", 3, "late"]
        RAN.clear()
        fork = await source.fork(changes={"fk_pack#1": 40})
        assert await fork.result() == [40, "free of it", 41, "late"]
        assert RAN == [40, "late"], "entries behind one that does not fit were kept, or one that fits was not"
        fork = await source.fork(changes={"fk_fixed#1": "other"})
        RAN.clear()
        assert await fork.result() == [2, "other", 3, "late"]
        assert RAN == []
        assert (await fork.inspect()).metadata["lineage"]["changed"] == ["fk_fixed#1"]
        fork = await source.fork(at="fk_pack#1", changes={"fk_pack#1": 7})
        assert await fork.result() == [7, "free of it", 8, "late"]
        assert await source.result() == [2, "free of it", 3, "late"]


@step(name="fk_charge")
async def charge(n: int) -> int:
    raise OSError("refused")


@workflow(name="fk_pays")
async def pays() -> int:
    n = await pack(1)
    return await charge(n)


async def test_a_failed_step_may_have_worked_in_the_fork() -> None:
    async with Engine("memory://", workflows=[pays]) as engine:
        source = await engine.start(pays)
        assert isinstance(await source.outcome(), Failed)
        fork = await source.fork(changes={"fk_charge#1": 5})
        assert await fork.outcome() == Completed(5)
        assert isinstance(await (await source.fork()).outcome(), Failed)
        assert isinstance(await source.outcome(), Failed)


async def test_what_cannot_be_forked_is_said_and_nothing_is_started() -> None:
    async with Engine("memory://", workflows=[chain, trip]) as engine:
        source = await engine.start(chain)
        await source.result()
        known = sum((await engine.count()).values())
        for at, changes in (("nowhere", {}), (99, {}), (None, {"nothing#1": 1}), ("fk_pack#1", {"fk_fixed#1": "x"})):
            with pytest.raises(PerdureError):
                await source.fork(at=at, changes=changes)
        with pytest.raises(DecodeError, match=r"fk_pack#1 .*'no number'.* int: .* Nothing was forked") as caught:
            await source.fork(changes={"fk_pack#1": "no number"})
        assert (caught.value.execution_id, caught.value.key) == (source.id, "fk_pack#1")
        with pytest.raises(DecodeError, match=r"fk_fixed#1 .* str: .* Nothing was forked"):
            await source.fork(changes={"fk_pack#1": 2, "fk_fixed#1": 5})
        with pytest.raises(PerdureError, match=r"fk_pack#2 cannot be changed too: .* Nothing was forked"):
            await source.fork(changes={"fk_pack#1": 40, "fk_pack#2": 7})
        with pytest.raises(AlreadyExistsError):
            await source.fork(execution_id=source.id)
        with pytest.raises(ValueError, match="id"):
            await source.fork(execution_id="")
        assert sum((await engine.count()).values()) == known


@workflow(name="fk_asks")
async def asks() -> int:
    return await interrupt("How many?", schema=int)


async def test_an_answer_that_does_not_fit_is_told_as_a_change_and_not_as_an_answer() -> None:
    async with Engine("memory://", workflows=[asks]) as engine:
        source = await engine.start(asks)
        await engine.answer(await waits(source), 3)
        await source.result()
        with pytest.raises(DecodeError) as caught:
            await source.fork(changes={"interrupt#1": "many"})
        assert str(caught.value) == (
            "the result of interrupt#1 cannot be 'many': it does not fit int: Expected `int`, got `str`."
            " Nothing was forked"
        )


async def test_only_for_other_results_the_code_is_needed() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[chain]) as engine:
        source = await engine.start(chain)
        await source.result()
        async with Engine(store, workflows=[trip], worker=False) as other:
            fork = await other.get(source.id).fork(at="fk_pack#1")
            with pytest.raises(PerdureError, match="at hand"):
                await other.get(source.id).fork(changes={"fk_pack#1": 4})
        assert await engine.get(fork.id).result() == [2, "free of it", 3, "late"]


# What replay lives on -------------------------------------------------------------------------------------


@workflow(name="fk_sets")
async def sets() -> list[str]:
    tasks = {asyncio.create_task(named(f"n{n}")) for n in range(8)}
    seen = []
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            seen.append(await fixed(task.result()))
        for task in tasks:  # in the order of the set
            await fixed(f"still {task.get_name()[-2:]}")
    await interrupt("Well?")
    return seen


async def named(name: str) -> str:
    return await fixed(name)


async def test_sets_of_tasks_iterate_as_in_the_source_also_after_another_start() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[sets]) as engine:
        source = await engine.start(sets)
        await waits(source)
        forks = [await source.fork() for _ in range(12)]
        forks += [await forks[0].fork(), await source.fork(at="fk_fixed#5"), await source.fork(at=1)]
        asked = [await waits(fork) for fork in forks]
        assert [v.error async for v in engine.verify()] == [None] * len([source, *forks])
    async with Engine(store, workflows=[sets]) as engine:
        for fork, request in zip(forks, asked, strict=True):
            assert (await engine.get(fork.id).inspect(at=3)).source == "code"
            await engine.answer(request, "yes")
            assert len(await engine.get(fork.id).result()) == 8


@checkpoint(name="fk_grow")
async def grow(pages: list[str]) -> list[str]:
    return [*pages, f"{len(pages)} " + "x" * 3000]


@workflow(name="fk_grows")
async def grows() -> list[str]:
    pages: list[str] = []
    for _ in range(6):
        pages = await grow(pages)
    await interrupt("Well?")
    return pages


async def test_large_texts_stay_readable_where_voids_lie_between() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[grows]) as engine:
        source = await engine.start(grows)
        await waits(source)
        await source.rollback(to="fk_grow#2")
        await waits(source)
        fork = await source.fork(at="fk_grow#5", changes={"fk_grow#3": ["changed"]})
        later = await source.fork()
        for handle in (fork, later):
            await waits(handle)
        entries = await store.history(later.id)
        assert any(entry.encoding == "packed" for entry in entries), "nothing large was recorded"
        assert sum(len(e.output or "") + len(e.input or "") for e in entries) < 60_000
    async with Engine(store, workflows=[grows]) as engine:
        for handle, count in ((fork, 4), (later, 6)):
            await engine.answer(f"{handle.id}:interrupt#1", "yes")
            pages = await engine.get(handle.id).result()
            assert len(pages) == count
            history = await engine.get(handle.id).history()
            assert [e.output for e in history if e.kind == "checkpoint"][-1] == pages


@step(name="fk_flaky", retry=Retry(attempts=5, initial=100.0))
async def flaky() -> None:
    RAN.append("flaky")
    if current().execution_id == "source":
        raise OSError("once more")


@step(name="fk_once", once=True)
async def once() -> str:
    RAN.append("once")
    inside = await fixed("inner")
    return inside


@workflow(name="fk_open")
async def opens() -> None:
    await gather(flaky(), held())
    await once()


async def held() -> None:
    await interrupt("Well?")


async def test_attempts_and_intents_that_are_open_are_not_taken_along() -> None:
    async with Engine("memory://", workflows=[opens]) as engine:
        source = await engine.start(opens.options(execution_id="source"))
        await waits(source)
        assert [e.kind for e in await engine.store.history("source")] == ["attempt"]
        fork = await source.fork()
        await waits(fork)
        kinds = [(e.kind, e.attempt) for e in await engine.store.history(fork.id)]
        assert kinds == [("life", 1), ("step", 1)], "its attempts go on counting"
        await engine.answer(f"{fork.id}:t2/interrupt#1", None)
        await fork.result()
        assert RAN == ["flaky", "flaky", "once", "inner"]
        again = await fork.fork()
        await again.result()
        assert RAN == ["flaky", "flaky", "once", "inner"]


async def test_a_rolled_back_execution_is_forked_from_its_beginning() -> None:
    async with Engine("memory://", workflows=[trip]) as engine:
        source = await engine.start(trip, "Rome")
        await waits(source)
        await source.rollback()
        assert isinstance(await source.outcome(), RolledBack)
        RAN.clear()
        fork = await source.fork()
        await waits(fork)
        assert [each if isinstance(each, int) else each[0] for each in RAN] == ["flight", 1, 2, "hotel"]
