"""The audit of verbs: who cancelled, retried or rolled something back, and how that is known, at each moment of it."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import Cancelled, Engine, MemoryStore, RolledBack, User, interrupt, start_child, step, workflow
from perdure.timeline import Moment, timeline

BROKEN: set[str] = set()


async def unmake() -> None: ...


@step(name="makes", undo=unmake)
async def makes() -> None:
    if "makes" in BROKEN:
        raise OSError("it is broken")


@workflow(name="makes_then_asks")
async def makes_then_asks() -> bool:
    await makes()
    return await interrupt("Go on?", schema=bool)


@workflow(name="has_a_child")
async def has_a_child() -> bool:
    await start_child(makes_then_asks)
    return await interrupt("Go on?", schema=bool)


FLOWS = [makes_then_asks, has_a_child]
WHO = [User("ana", via="cli"), User("ana", via="login"), User("ana"), "ana"]


async def told(engine: Engine, id: str, *verbs: str) -> list[Moment]:
    store = engine.store
    requests, dossier = await store.requests(execution_ids=[id], status=None), (await store.dossiers([id]))[id]
    moments = timeline((await store.get([id]))[id], requests, dossier, await store.history(id))
    return [moment for moment in moments if moment.what in verbs]


def known(moments: list[Moment]) -> list[tuple[str, str | None, str | None, bool]]:
    return [(moment.what, moment.who, moment.via, moment.is_unverified) for moment in moments]


@pytest.mark.parametrize("by", WHO)
async def test_who_rolls_it_back_is_known_alike_when_it_is_asked_begun_and_done(place: Any, by: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(makes_then_asks.options(execution_id="x"))
        await handle.outcome()
        await handle.rollback(to=0, by=User("bob", via="login"))
        await handle.outcome()
        await handle.rollback(by=by)
        verbs = ("rollback asked", "rollback begun", "rolled back")
        via = getattr(by, "via", None)
        found = known(await told(engine, "x", *verbs))
        assert sorted(found) == sorted(
            [(verb, "bob", "login", False) for verb in verbs]
            + [(verb, "ana", via, via == "cli") for verb in verbs]
        )  # fmt: skip


@pytest.mark.parametrize("by", WHO)
async def test_who_cancels_it_is_known_alike_when_it_is_asked_and_done(place: Any, by: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(makes_then_asks.options(execution_id="x"))
        await handle.outcome()
        assert await handle.cancel(by=by, reason="enough") == Cancelled("ana", "enough")
        via = getattr(by, "via", None)
        moments = await told(engine, "x", "cancel asked", "cancelled")
        assert known(moments) == [(what, "ana", via, via == "cli") for what in ("cancel asked", "cancelled")]
        assert [moment.words for moment in moments] == ["enough", "enough"]


@pytest.mark.parametrize("by", WHO)
async def test_who_cancels_it_and_has_it_undone_is_known_alike(place: Any, by: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(makes_then_asks.options(execution_id="x"))
        await handle.outcome()
        assert isinstance(await handle.cancel(rollback=True, by=by), RolledBack)
        via = getattr(by, "via", None)
        verbs = ("rollback asked", "rollback begun", "rolled back")
        assert known(await told(engine, "x", *verbs)) == [(verb, "ana", via, via == "cli") for verb in verbs]


@pytest.mark.parametrize("by", WHO)
async def test_how_it_is_known_who_retries_is_kept(place: Any, by: Any) -> None:
    BROKEN.add("makes")
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(makes_then_asks.options(execution_id="x"))
        await handle.outcome()
        BROKEN.clear()
        await handle.retry(by=by)
        await handle.outcome()
        via = getattr(by, "via", None)
        assert known(await told(engine, "x", "retried")) == [("retried", "ana", via, via == "cli")]


async def test_nobody_is_made_up_where_nobody_is_named(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(makes_then_asks.options(execution_id="x"))
        await handle.outcome()
        await handle.cancel()
        assert known(await told(engine, "x", "cancel asked", "cancelled")) == [("cancelled", None, None, False)]


async def test_what_has_ended_has_no_event_of_a_cancel() -> None:
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        handle = await engine.start(makes_then_asks.options(execution_id="x"))
        await handle.outcome()
        await handle.cancel(by="ana")
        await handle.cancel(by="bob")
        assert [moment.who for moment in await told(engine, "x", "cancel asked", "cancelled")] == ["ana", "ana"]


async def test_of_whom_a_child_tells_nothing_but_the_name_is_unverified_there() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=FLOWS) as engine:
        await (await engine.start(has_a_child.options(execution_id="x"))).outcome()
        [child] = [row.id for row in await store.tree("x")]
        await engine.get(child).outcome()
    async with Engine(store, workflows=FLOWS, worker=False) as client:
        await client.get("x").cancel(by=User("ana", via="login"))
        assert known(await told(client, "x", "cancelled")) == [("cancelled", "ana", "login", False)]
        assert known(await told(client, child, "cancelled")) == [("cancelled", "ana", "unknown", True)]


async def test_who_makes_a_fork_is_known_as_its_event_says() -> None:
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        handle = await engine.start(makes_then_asks.options(execution_id="x"))
        await handle.outcome()
        fork = await handle.fork(by=User("ana", via="cli"))
        assert known(await told(engine, fork.id, "started")) == [("started", "ana", "cli", True)]
