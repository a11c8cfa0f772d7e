"""People of a quorum who say different things: until it is decided each may say something else, and all is kept."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import (
    Action,
    AlreadyDecidedError,
    Approved,
    Decision,
    Edit,
    Engine,
    MemoryStore,
    NotApproverError,
    Rejected,
    Stage,
    User,
    Waiting,
    approval,
    workflow,
)
from perdure.testing.clock import Clock
from perdure.timeline import faults

SPEND = [Action("spend", "spend", {"cents": 50, "whom": "eva"})]
DISPUTED = [Action("mail", "send mail", {"n": 1}), Action("wipe", "wipe disk", {"disk": "a"})]


@workflow(name="spends_by_two")
async def spends_by_two() -> Decision:
    return await approval("Spend?", actions=SPEND, approvers=["ana", "bob"], quorum=2)


@workflow(name="parts_by_two")
async def parts_by_two() -> Decision:
    return await approval("Do these?", actions=DISPUTED, approvers=["ana", "bob", "cid"], quorum=2)


@workflow(name="spends_in_stages")
async def spends_in_stages() -> Decision:
    return await approval("Spend?", actions=SPEND, stages=[Stage(["ana", "bob"], 2), Stage(["cid", "dan", "ana"], 2)])


FLOWS = [spends_by_two, parts_by_two, spends_in_stages]


async def asks(engine: Engine, flow: Any) -> tuple[Any, str]:
    handle = await engine.start(flow.options(execution_id="x"))
    outcome = await handle.outcome(timeout=30)
    assert isinstance(outcome, Waiting)
    return handle, outcome.requests[0].id


def spend(cents: int) -> dict[str, Edit]:
    return {"spend": Edit({"cents": cents})}


async def wrong(engine: Engine) -> list[str]:
    store = engine.store
    requests, dossiers = await store.requests(execution_ids=["x"], status=None), await store.dossiers(["x"])
    return faults((await store.get(["x"]))["x"], requests, dossiers["x"], await store.history("x"))


@pytest.mark.parametrize("joins", ["ana", "bob"])
async def test_either_joins_the_other_and_every_word_is_kept(place: Any, joins: str) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle, id = await asks(engine, spends_by_two)
        words = {"ana": spend(40), "bob": spend(30)}
        for who, word in words.items():
            assert (await engine.decide(id, word, by=who, comment=who)).status == "open"
        done = await engine.decide(id, words["bob" if joins == "ana" else "ana"], by=joins)
        assert done.status == "decided"
        decision = await handle.result(timeout=30)
        cents = 30 if joins == "ana" else 40
        assert (decision.by, decision["spend"]) == (joins, Approved({"cents": cents, "whom": "eva"}, edited=True))
        dossier = (await engine.store.dossiers(["x"]))["x"]
        assert [row.decided_by for row in dossier.decisions] == ["ana", "bob", joins]
        assert [event.actor for event in dossier.events] == ["ana", "bob", joins]
        assert await wrong(engine) == []


async def test_who_has_approved_may_still_reject_and_that_ends_it(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle, id = await asks(engine, spends_by_two)
        await engine.approve(id, by="ana")
        assert (await engine.reject(id, reason="on second thoughts", by="ana")).status == "decided"
        decision = await handle.result(timeout=30)
        assert (decision.approved, decision.by, decision["spend"]) == (False, "ana", Rejected("on second thoughts"))
        with pytest.raises(AlreadyDecidedError, match="was rejected by ana"):
            await engine.approve(id, by="bob")
        assert await wrong(engine) == []


async def test_it_is_told_who_says_what_while_they_differ(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        _, id = await asks(engine, spends_by_two)
        assert (await engine.decide(id, spend(40), by="ana")).split == {}
        differs = await engine.approve(id, by="bob")
        assert differs.split == {"ana": 'edited to {"cents":40}', "bob": "approved"}
        [listed] = await engine.requests()
        assert listed.split == differs.split
        changed = await engine.decide(id, spend(30), by="ana")
        assert changed.split == {"bob": "approved", "ana": 'edited to {"cents":30}'}
        done = await engine.decide(id, spend(30), by="bob")
        assert (done.status, done.split) == ("decided", {})


async def test_the_same_word_again_changes_nothing_also_after_another_one(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        _, id = await asks(engine, spends_by_two)
        for word in (spend(40), "approve", "approve", spend(40), spend(40)):
            assert (await engine.decide(id, word, by="ana")).status == "open"
        dossier = (await engine.store.dossiers(["x"]))["x"]
        assert [row.decision for row in dossier.decisions] == ["edited", "approved", "edited"]
        assert await wrong(engine) == []


async def test_parts_are_joined_too_and_only_the_latest_word_of_each_counts(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle, id = await asks(engine, parts_by_two)
        await engine.decide(id, {"mail": "approve", "wipe": Rejected("never")}, by="ana")
        await engine.decide(id, {"mail": Edit({"n": 2}), "wipe": "approve"}, by="bob")
        differs = await engine.approve(id, by="cid")
        assert differs.split == {
            "ana": "mail approved, wipe rejected",
            "bob": 'mail edited to {"n":2}, wipe approved',
            "cid": "approved",
        }
        await engine.decide(id, {"mail": Edit({"n": 3}), "wipe": "approve"}, by="cid")
        assert (await engine.approve(id, by="bob")).status == "open"  # nobody else says so any more
        done = await engine.decide(id, {"mail": Edit({"n": 3}), "wipe": "approve"}, by="ana")
        assert done.status == "decided"
        decision = await handle.result(timeout=30)
        assert decision.approved
        assert decision["mail"] == Approved({"n": 3}, edited=True)
        assert await wrong(engine) == []


async def test_a_stage_that_is_over_stands(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle, id = await asks(engine, spends_in_stages)
        await engine.approve(id, by="ana")
        assert (await engine.approve(id, by="bob")).approvers == ["cid", "dan", "ana"]
        with pytest.raises(AlreadyDecidedError, match=r"ana has already approved .* in an earlier stage; that stands"):
            await engine.reject(id, by="ana")
        await engine.decide(id, spend(40), by="cid")
        assert (await engine.approve(id, by="dan")).split == {"cid": 'edited to {"cents":40}', "dan": "approved"}
        await engine.approve(id, by="cid")
        decision = await handle.result(timeout=30)
        assert (decision.by, decision["spend"].edited) == ("cid", False)


async def test_who_may_no_longer_decide_may_not_say_otherwise() -> None:
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        _, id = await asks(engine, spends_by_two)
        await engine.approve(id, by="ana")
        await engine.reassign(id, to="eva", by="ana")
        with pytest.raises(NotApproverError):
            await engine.reject(id, by=User("ana"))


async def test_words_said_at_one_moment_are_told_apart() -> None:
    store, clock = MemoryStore(), Clock()
    async with Engine(store, clock=clock, workflows=FLOWS) as engine:
        handle = await engine.start(parts_by_two.options(execution_id="x"))
        await clock.settle()
        outcome = await handle.outcome()
        assert isinstance(outcome, Waiting)
        id = outcome.requests[0].id
        for word in (Rejected("no"), "approve", "reject"):
            voice = await engine.decide(id, {"mail": "approve", "wipe": word}, by="ana", comment=str(word))
        assert [(each.action, each.decision) for each in voice.decisions] == [
            ("mail", "approved"),
            ("wipe", "rejected"),
            ("mail", "approved"),
            ("wipe", "approved"),
            ("mail", "approved"),
            ("wipe", "rejected"),
        ]
        assert await wrong(engine) == []
