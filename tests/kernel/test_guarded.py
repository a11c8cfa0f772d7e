"""Approvals beside everything else: kills, rollbacks, encryption, namespaces, children; and bugs, planted in them."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Action,
    AlreadyDecidedError,
    Approval,
    Completed,
    Edit,
    Encryption,
    Engine,
    InvalidAnswerError,
    MemoryStore,
    NoExecutionError,
    NotApproverError,
    NotFoundError,
    PerdureError,
    Stage,
    Waiting,
    approval,
    approving,
    checkpoint,
    current,
    deciding,
    interrupt,
    rollback,
    step,
    votes,
    waits,
    workflow,
)
from perdure.approvals import Asked, Policy, StageRow, make_ask
from perdure.records import Request
from perdure.testing import crash_everywhere
from perdure.timeline import faults, timeline
from perdure.votes import Vote, count, state_of
from tests.proofs.test_hostile_rows import PAYLOADS

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield


async def back(result: str, table: str, n: int) -> None:
    RAN.append(("undone", result, n))


@step(name="drop", undo=back, approval=Approval("Drop {n} of {table}?", approvers=["ana"]))
async def drop(table: str, n: int) -> str:
    RAN.append(("dropped", n))
    return f"{n} dropped"


@workflow(name="dropping")
async def dropping(n: int) -> str:
    said = await drop("t", n)
    await approval("Was it right?")
    return said


async def test_wherever_the_process_dies_what_was_approved_runs_and_nothing_else() -> None:
    answers = {"Drop 9 of t?": {"drop": Edit({"n": 4})}, "Was it right?": True}
    report = await crash_everywhere(dropping, 9, answers=answers, workflows=[dropping])
    assert report.end == Completed("4 dropped")
    assert not report.differences, report
    assert set(RAN) == {("dropped", 4)}


async def test_a_rollback_undoes_what_ran_with_the_arguments_that_ran() -> None:
    async with Engine(MemoryStore(), workflows=[dropping]) as engine:
        handle = await engine.start(dropping, 9)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        await engine.decide(outcome.requests[0].id, {"drop": Edit({"n": 4})}, by="ana")
        await handle.outcome(timeout=30)
        await handle.rollback()
        assert RAN == [("dropped", 4), ("undone", "4 dropped", 4)]


@checkpoint(name="begun")
async def begun() -> None: ...


@workflow(name="again")
async def again() -> str:
    await begun()
    decision = await approval("Go?", approvers=["ana"])
    if current().generation == 0:
        await rollback("begun")
    return str(decision.comment)


async def test_after_a_rollback_it_is_asked_anew_and_the_old_decision_counts_for_nothing() -> None:
    async with Engine(MemoryStore(), workflows=[again]) as engine:
        handle = await engine.start(again)
        ids = []
        for comment in ("one", "two"):
            outcome = await handle.outcome(timeout=30)
            assert isinstance(outcome, Waiting), outcome
            ids.append(outcome.requests[0].id)
            await engine.approve(ids[-1], by="ana", comment=comment)
        assert await handle.result(timeout=30) == "two"
        assert ids[0] != ids[1]


@workflow(name="family")
async def family() -> str:
    return await dropping(3)


async def test_what_a_child_asks_is_its_parents_to_wait_for() -> None:
    async with Engine(MemoryStore(), workflows=[family, dropping]) as engine:
        handle = await engine.start(family.options(execution_id="f"))
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        assert outcome.requests[0].approvers == ["ana"]
        await engine.approve(outcome.requests[0].id, by="ana")
        second = await handle.outcome(timeout=30)
        assert isinstance(second, Waiting)
        await engine.approve(second.requests[0].id)
        assert await handle.result(timeout=30) == "3 dropped"


PLANT = "plant-7f3a"


@workflow(name="hides")
async def hides() -> str:
    action = Action("a", "tell", {"what": PLANT})
    decision = await approval("Tell?", details={"hint": PLANT}, actions=[action], rules=[undecided])
    quick = await approval("Quick?", actions=[action], rules=[decided])
    return f"{decision['a'].arguments['what']} {quick.by}"  # type: ignore[union-attr]


def undecided(question: Any) -> None:
    assert question.details == {"hint": PLANT}


def decided(question: Any) -> bool:
    return bool(question.actions[0].arguments["what"] == PLANT)


async def test_where_it_is_encrypted_neither_arguments_nor_edits_are_readable(tmp_path: Path) -> None:
    url, codec = f"sqlite:///{tmp_path}/sealed.db", Encryption({"k": os.urandom(32)})
    async with Engine(url, workflows=[hides], codec=codec) as engine:
        handle = await engine.start(hides)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        assert outcome.requests[0].actions[0].arguments == {"what": PLANT}
    async with Engine(url, workflows=[hides], worker=False) as engine:
        with pytest.raises(Exception, match=r"cannot be read here|keys"):
            await engine.approve(outcome.requests[0].id)
    async with Engine(url, workflows=[hides], codec=codec) as engine:
        await engine.decide(outcome.requests[0].id, {"a": Edit({"what": PLANT[::-1]})}, by="ana")
        assert await engine.get(handle.id).result(timeout=30) == f"{PLANT[::-1]} rule:decided"
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert PLANT.encode() not in data
    assert PLANT[::-1].encode() not in data


async def test_another_namespace_neither_sees_nor_decides() -> None:
    store = MemoryStore()
    async with (
        Engine(store, workflows=[dropping], namespace="shop") as shop,
        Engine(store, workflows=[dropping], worker=False) as default,
    ):
        handle = await shop.start(dropping.options(execution_id="d"), 1)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        assert await default.requests() == []
        for id in (outcome.requests[0].id, f"~shop/{outcome.requests[0].id}"):
            with pytest.raises(NotFoundError):
                await default.approve(id, by="ana")
        await shop.approve(outcome.requests[0].id, by="ana")
        second = await handle.outcome(timeout=30)
        assert isinstance(second, Waiting)
        assert [row.decided_by for row in (await shop.store.dossiers(["d"]))["d"].decisions] == ["ana"]


@step(name="outer")
async def outer() -> str:
    return await drop("t", 1)


@workflow(name="around")
async def around() -> str:
    return await outer()


async def test_no_step_goes_round_the_guard_of_another() -> None:
    async with Engine(MemoryStore(), workflows=[around]) as engine:
        with pytest.raises(NoExecutionError, match="asks for approval"):
            await engine.run(around)
    assert RAN == []


@workflow(name="questions")
async def questions() -> str:
    return str(await interrupt("Where?", schema=str))


async def test_a_question_is_answered_and_not_decided_but_claimed_like_others() -> None:
    async with Engine(MemoryStore(), workflows=[questions]) as engine:
        handle = await engine.start(questions)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        id = outcome.requests[0].id
        with pytest.raises(InvalidAnswerError, match="answered, not decided"):
            await engine.approve(id)
        assert (await engine.claim(id, by="ana")).assignee == "ana"
        assert (await engine.reassign(id, to="bob", by="ana")).assignee == "bob"
        await engine.answer(id, "there", by="bob")
        assert await handle.result(timeout=30) == "there"


@pytest.mark.slow
async def test_whatever_stands_in_its_row_only_that_approval_suffers() -> None:
    for payload in PAYLOADS:
        for column in ("policy", "details", "answer", "digest"):
            await _suffers(payload, column)


async def _suffers(payload: str, column: str) -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[dropping], namespace="default") as engine:
        for id in ("bad", "good"):
            handle = await engine.start(dropping.options(execution_id=id), 1)
            assert isinstance(await handle.outcome(timeout=300), Waiting)
        row = next(row for row in store._requests.values() if row.execution_id == "bad")
        setattr(row, column, payload)
        if column == "answer":
            row.status, row.answered_by, row.decided_at = "decided", "ana", row.created_at
        ids = {request.execution_id: request.id for request in await engine.requests()}
        assert "good" in ids
        dossier = (await store.dossiers(["bad"]))["bad"]
        execution, rows, entries = (await store.get(["bad"]))["bad"], [row], await store.history("bad")
        timeline(execution, rows, dossier, entries)
        faults(execution, rows, dossier, entries)
        with contextlib.suppress(PerdureError):
            await engine.approve(row.id, by="ana")
        await engine.approve(ids["good"], by="ana")
        assert isinstance(await engine.get("good").outcome(timeout=300), Waiting)
        with contextlib.suppress(PerdureError):
            await engine.get("bad").pause()
            await engine.get("bad").resume()
        assert await engine.get("bad").outcome(timeout=300) is not None
    assert ("dropped", 1) in RAN


# Votes, pure ----------------------------------------------------------------------------------------------

PEOPLE = ["ana", "bob", "cid", "dan"]
ASKED = [Asked("x", "x", {"n": 1}, "", None), Asked("y", "y", {}, "", None)]


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_voted_a_verdict_needs_every_quorum_of_different_people(seed: int) -> None:
    chance = random.Random(seed)
    stages = [StageRow(PEOPLE, chance.randint(1, 3)) for _ in range(chance.randint(1, 3))]
    policy = Policy(stages)
    state = state_of(policy, ASKED, [])
    cast: list[list[tuple[str, Any]]] = [[] for _ in stages]
    for at in range(40):
        if state.verdict is not None:
            break
        word = chance.choice(["approve", "approve", [("x", Edit({"n": chance.randint(2, 3)})), ("y", "approve")]])
        words, reasons = votes.parse(word, ASKED, state.standing)
        vote = Vote(chance.choice(PEOPLE), None, at, None, words, reasons)
        cast[state.stage].append((str(vote.by), votes.content_of(vote, state.standing)))
        count(state, policy, vote)
    assert state.verdict is not None
    for stage, said in zip(stages, cast, strict=True):
        latest = dict(said)
        assert sum(content == said[-1][1] for content in latest.values()) >= stage.quorum
        for n in range(len(said) - 1):
            before = dict(said[: n + 1])
            assert sum(content == said[n][1] for content in before.values()) < stage.quorum, "it was over before"
    assert state.verdict == cast[-1][-1][1]


def test_votes_survive_their_rows() -> None:
    ask = make_ask("Go?", [Action("x", "x", {"n": 1}), Action("y", "y")])
    request = _request(ask)
    cast = [
        Vote("ana", None, 1, "so", *votes.parse("approve", ASKED, {}), True),
        Vote("bob", "web", 1, None, *votes.parse({"x": Edit({"n": 5}), "y": "reject"}, ASKED, {}), False),
        Vote(None, None, 2, None, *votes.parse({"x": "reject", "y": "approve"}, ASKED, {}), False),
    ]
    rows = []
    for vote in cast:
        rows += vote.rows(request, len(rows) + 1)
    assert [row.ordinal for row in rows] == [1, 2, 3, 4, 5]
    assert [(v.by, v.at, v.words) for v in votes.votes_of(rows, ASKED)] == [(v.by, v.at, v.words) for v in cast]


def _request(ask: Any) -> Request:
    return Request("r", "e", "k", 0, "approval", ask.message, ask.details, digest=ask.digest("e", "k", 0))


def test_the_digest_tells_any_two_questions_apart() -> None:
    asks = [
        make_ask("Go?"),
        make_ask("Go!"),
        make_ask("Go?", details={"n": 1}),
        make_ask("Go?", details={"n": 2}),
        make_ask("Go?", [Action("x", "x", {"n": 1})]),
        make_ask("Go?", [Action("x", "x", {"n": 2})]),
        make_ask("Go?", [Action("x", "x", {"n": 1}, "other words")]),
    ]
    digests = {ask.digest("e", key, g) for ask in asks for key in ("a", "b") for g in (0, 1)}
    assert len(digests) == len(asks) * 4
    assert make_ask("Go?", details={"n": 1}).digest("e", "a", 0) == make_ask("Go?", details={"n": 1}).digest(
        "e", "a", 0
    )


# Planted bugs ---------------------------------------------------------------------------------------------


@workflow(name="strict")
async def strict() -> str:
    decision = await approval("Go?", details=DETAILS[0], stages=[Stage(["ana", "bob"], 2)], exclude_requester=True)
    return str(decision.approved)


DETAILS = [1]


async def honest() -> None:
    """A scenario in which each of the rules matters."""
    store = MemoryStore()
    DETAILS[0] = 1
    async with Engine(store, workflows=[strict]) as engine:
        handle = await engine.start(strict.options(execution_id="s", by="cid"))
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        first = outcome.requests[0].id
        for who in ("cid", "dan", None):
            with pytest.raises(NotApproverError):
                await engine.approve(first, by=who)
        await engine.approve(first, by="ana")
        assert len((await engine.approve(first, by="ana")).decisions) == 1
        assert [request.status for request in await engine.requests()] == ["open"]
    async with Engine(store, workflows=[strict], worker=False) as engine:
        assert (await engine.approve(first, by="bob")).status == "decided"
        for who in ("ana", "bob"):
            with pytest.raises(AlreadyDecidedError):
                await engine.reject(first, by=who)
    DETAILS[0] = 2
    async with Engine(store, workflows=[strict]) as engine:
        outcome = await engine.get("s").outcome(timeout=30)
        assert isinstance(outcome, Waiting), f"an approval of something else was used: {outcome}"


async def test_the_scenario_of_the_planted_bugs_is_sound() -> None:
    await honest()


def _no_check(*given: Any) -> None:
    return None


def _bound_to_nothing(run: Any, call: Any) -> None:
    request = run.requests.get(call.key)
    if request is None:
        return approving.enter(run, call)
    return approving._take_up(run, call, request)


PLANTS = {
    "anybody decides": lambda patch: patch.setattr(deciding, "_check_approver", _no_check),
    "a second word replaces the first": lambda patch: patch.setattr(deciding, "_check_first", _no_check),
    "one voice is a quorum": lambda patch: patch.setattr(votes, "stage_of", lambda policy, state: StageRow()),
    "a decision is bound to nothing": lambda patch: patch.setitem(waits._ENTER, "approval", _bound_to_nothing),
    "the digest says nothing": lambda patch: patch.setattr("perdure.approvals._hash", lambda *said: "0"),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS.keys())
async def test_a_planted_bug_is_seen(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await honest()


# Where it is called --------------------------------------------------------------------------------------------


@step(name="erase")
async def erase(n: int) -> str:
    RAN.append(("erased", n))
    return f"{n} erased"


@workflow(name="guards_one_call")
async def guards_one_call() -> list[str]:
    guarded = erase.options(approval=Approval("Erase {n}?", approvers=["ana"]))
    return [await erase(1), await guarded(2), await drop.options(approval=None)("t", 3)]


async def test_a_call_may_be_guarded_that_its_step_is_not_and_the_other_way_round() -> None:
    async with Engine(MemoryStore(), workflows=[guards_one_call]) as engine:
        handle = await engine.start(guards_one_call)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        assert [request.message for request in outcome.requests] == ["Erase 2?"]
        assert RAN == [("erased", 1)]
        await engine.approve(outcome.requests[0].id, by="ana")
        assert await handle.result() == ["1 erased", "2 erased", "3 dropped"]
    with pytest.raises(ValueError, match="undo= runs: it is missing"):
        erase.options(undo_unknown=True)
    with pytest.raises(TypeError, match="approval= is an Approval"):
        erase.options(approval="ana")  # type: ignore[arg-type]
