"""What was taken back can be looked at as it was then; nothing goes on from it, and why is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from perdure import (
    Engine,
    Failed,
    Handle,
    MemoryStore,
    PerdureError,
    RolledBack,
    Waiting,
    checkpoint,
    interrupt,
    restart,
    step,
    workflow,
)

BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _whole() -> Iterator[None]:
    BROKEN.clear()
    yield


async def unmake(made: int) -> None: ...


@step(name="inner", undo=unmake)
async def inner(n: int) -> int:
    return n


@checkpoint(name="adds", undo=unmake)
async def adds(n: int) -> int:
    return n + await inner(1)


@step(name="breaks")
async def breaks() -> None:
    if "breaks" in BROKEN:
        raise OSError("it is broken")


@workflow(name="adds_thrice")
async def adds_thrice() -> int:
    total = 0
    for _ in range(3):
        total = await adds(total)
    total += await interrupt("How many more?", schema=int)
    await breaks()
    return total


@workflow(name="again")
async def again(n: int) -> int:
    await adds(n)
    if n < 10:
        await restart(n + 10)
    return n


FLOWS = [adds_thrice, again]


async def asks(engine: Engine) -> Handle[Any]:
    handle = await engine.start(adds_thrice.options(execution_id="x"))
    assert isinstance(await handle.outcome(), Waiting)
    return handle


async def test_after_a_rollback_any_entry_is_seen_as_it_was_by_number_key_and_name(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        seqs = {entry.key: entry.seq for entry in await handle.history() if entry.status == "completed"}
        before = {key: await handle.inspect(at=seq) for key, seq in seqs.items()}
        await handle.rollback(by="ana")
        assert isinstance(await handle.outcome(), RolledBack)
        for key, seq in seqs.items():
            by_key, by_number = await handle.inspect(at=key), await handle.inspect(at=seq)
            assert by_key == by_number
            assert (by_key.at, by_key.source, by_key.variables) == (seq, "code", before[key].variables)
            assert by_key.position == before[key].position
            assert by_key.metadata["generation"] == 0
        assert (await handle.inspect(at="adds")).variables["total"] == 3
        for entry in await engine.store.history("x"):
            assert (await handle.inspect(at=entry.seq)).at == entry.seq
        with pytest.raises(PerdureError, match="x has no checkpoint, key or entry 'adds#4'"):
            await handle.inspect(at="adds#4")


async def test_what_stands_goes_before_what_was_taken_back(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        first = {entry.key: entry.seq for entry in await handle.history()}
        await handle.rollback(to="adds#2")
        assert isinstance(await handle.outcome(), Waiting)
        second = {entry.key: entry.seq for entry in await handle.history() if entry.status == "completed"}
        assert (await handle.inspect(at="adds#2")).at == first["adds#2"]
        for name in ("adds#3", "adds"):
            state = await handle.inspect(at=name)
            assert (state.at, state.metadata["generation"]) == (second["adds#3"], 1)
            assert [request.status for request in state.requests] == ["withdrawn", "open"]
        then = await handle.inspect(at=first["adds#3"])
        assert (then.metadata["generation"], [request.status for request in then.requests]) == (0, ["open"])
        assert [place.key for place in then.position.waiting] == ["interrupt#1"]


async def test_without_the_code_its_snapshot_is_found(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        seqs = {entry.key: entry.seq for entry in await handle.history()}
        await handle.rollback()
        async with Engine(place, worker=False, workflows=[again]) as other:
            state = await other.get("x").inspect(at="adds#3")
            assert (state.at, state.source, state.variables["total"]) == (seqs["adds#3"], "snapshot", 3)


async def test_what_failed_before_a_retry_is_seen_with_what_was_asked_then(place: Any) -> None:
    BROKEN.add("breaks")
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        [request] = await handle.requests()
        await engine.answer(request.id, 5, by="ana")
        assert isinstance(await handle.outcome(), Failed)
        [failed] = [entry.seq for entry in await handle.history() if entry.key == "breaks#1"]
        BROKEN.clear()
        await handle.retry()
        assert await handle.result() == 8
        state = await handle.inspect(at=failed)
        assert state.metadata["generation"] == 0
        assert [(each.status, each.answer) for each in state.requests] == [("decided", 5)]
        with pytest.raises(PerdureError, match=rf"breaks#1 \(entry {failed}\) is void .* was tried again"):
            await handle.fork(at=failed)


async def test_nothing_goes_on_from_what_was_rolled_back_and_that_is_said(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await asks(engine)
        seqs = {entry.key: entry.seq for entry in await handle.history()}
        await handle.rollback()
        known = sum((await engine.count()).values())
        words = rf"adds#2 \(entry {seqs['adds#2']}\) is void since entry \d+: it was rolled back, what it did is undone"
        for at in ("adds#2", seqs["adds#2"]):
            with pytest.raises(PerdureError, match=words):
                await handle.fork(at=at)
            with pytest.raises(PerdureError, match=words):
                await handle.rollback(to=at)
        with pytest.raises(PerdureError, match="no checkpoint, key or entry 'adds#4' that stands"):
            await handle.fork(at="adds#4")
        assert sum((await engine.count()).values()) == known
        fork = await handle.fork(at=0)
        assert isinstance(await fork.outcome(), Waiting)


async def test_what_lies_before_a_restart_is_seen_and_not_forked() -> None:
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        handle = await engine.start(again, 1)
        assert await handle.result() == 11
        first = next(
            e.seq for e in await engine.store.history(handle.id) if (e.key, e.status) == ("adds#1", "completed")
        )
        assert (await handle.inspect(at=first)).at == first
        with pytest.raises(PerdureError, match=rf"adds#1 \(entry {first}\) is void .* has begun anew"):
            await handle.fork(at=first)


@checkpoint(name="begin")
async def begin(n: int) -> int:
    return n


@checkpoint(name="goes_on", undo=unmake)
async def goes_on(n: int) -> int:
    return n + 1


@step(name="doubts")
async def doubts() -> bool:
    return "trust" in BROKEN


@workflow(name="lives")
async def lives(first: int) -> int:
    total = await begin(first)
    for _ in range(3):
        if await doubts():
            await interrupt("Go on?")
        total = await goes_on(total)
    total += await interrupt("How many more?", schema=int)
    return total


async def test_a_standing_entry_has_the_snapshot_of_its_own_life(place: Any) -> None:
    async with Engine(place, workflows=[lives]) as engine:
        handle = await engine.start(lives.options(execution_id="x"), 10)
        assert isinstance(await handle.outcome(), Waiting)
        first = {entry.key: entry.seq for entry in await handle.history() if entry.status == "completed"}
        async with Engine(place, worker=False, workflows=[again]) as other:
            before = {seq: await other.get("x").inspect(at=seq) for seq in first.values()}
        BROKEN.add("trust")
        await handle.rollback(to="begin")
        assert isinstance(await handle.outcome(), Waiting)
    async with Engine(place, worker=False, workflows=[again]) as engine:
        handle = engine.get("x")
        journal = await engine.store.history("x")
        [cut] = [entry.seq for entry in journal if entry.kind == "cut"]
        [stands] = [entry.seq for entry in journal if entry.key == "doubts#1" and entry.seq > cut]
        for at in (cut, "begin"):
            state = await handle.inspect(at=at)
            assert (state.source, state.of, state.variables) == ("snapshot", first["begin#1"], {"first": 10})
        for at in (stands, None):
            state = await handle.inspect(at=at)
            assert (state.of, state.variables["total"]) == (stands, 10)
            assert [place.key for place in state.position.waiting] == ["interrupt#1"]
        for seq, then in before.items():
            state = await handle.inspect(at=seq)
            assert (state.of, state.variables, state.position) == (then.of, then.variables, then.position)


async def test_before_the_new_life_has_a_snapshot_of_its_own_none_of_the_old_one_is_shown(place: Any) -> None:
    async with Engine(place, workflows=[lives, again]) as engine:
        handle = await engine.start(lives.options(execution_id="x"), 10)
        assert isinstance(await handle.outcome(), Waiting)
        await handle.rollback()
        assert isinstance(await handle.outcome(), RolledBack)
        state = await handle.inspect()
        assert (state.source, state.variables) == ("journal", {})
        assert "no snapshot of this life" in (state.note or "")
        assert await engine.run(again.options(execution_id="y"), 1) == 11
        journal = await engine.store.history("y")
        [cut] = [entry.seq for entry in journal if entry.kind == "cut"]
        async with Engine(place, worker=False, workflows=[lives]) as other:
            state = await other.get("y").inspect(at=cut)
            assert (state.source, state.variables) == ("journal", {})
            assert (await other.get("y").inspect()).variables == {"n": 11}
