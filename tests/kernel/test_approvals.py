"""Approvals: who decides, what runs then, and that each decision is bound to exactly what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Action,
    AlreadyDecidedError,
    Approval,
    ApprovalRejectedError,
    Approved,
    Completed,
    Decision,
    Edit,
    Engine,
    InvalidAnswerError,
    MemoryStore,
    NotApproverError,
    OpenRequest,
    PerdureError,
    Question,
    Rejected,
    Stage,
    User,
    Waiting,
    approval,
    gather,
    race,
    step,
    sync,
    workflow,
)
from perdure.approvals import make_ask
from perdure.auditing import break_in
from perdure.testing import answers
from perdure.testing.clock import Clock
from perdure.timeline import faults

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield


@step(name="charge")
async def charge(cents: int) -> int:
    RAN.append(cents)
    return cents


@workflow(name="buy")
async def buy(cents: int) -> str:
    decision = await approval(f"Charge {cents}?", details={"cents": cents}, approvers=["ana", "role:finance"])
    if not decision.approved:
        return f"rejected by {decision.by}: {decision.comment}"
    await charge(cents)
    return f"approved by {decision.by}: {decision.comment}"


async def asked(engine: Engine, handle: Any) -> OpenRequest:
    outcome = await handle.outcome(timeout=30)
    assert isinstance(outcome, Waiting), outcome
    [request] = outcome.requests
    return request


async def test_a_decision_lets_it_go_on_and_says_who_why_and_of_what(place: Any) -> None:
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy.options(execution_id="b"), 5)
        request = await asked(engine, handle)
        assert (request.kind, request.details, request.approvers) == ("approval", {"cents": 5}, ["ana", "role:finance"])
        decided = await engine.decide(request.id, "approve", by=User("bob", roles=["finance"]), comment="fine")
        assert decided.status == "decided"
        assert await handle.result(timeout=30) == "approved by bob: fine"
        assert RAN == [5]
        dossier = (await engine.store.dossiers(["b"]))["b"]
        [row] = dossier.decisions
        assert (row.decided_by, row.comment, row.digest, row.decision) == ("bob", "fine", request.digest, "approved")
        assert [event.what for event in dossier.events] == ["approved"]
        assert break_in(dossier.events, "b") is None
        [entry] = [entry for entry in await engine.store.history("b") if entry.kind == "approval"]
        assert request.digest is not None
        assert request.digest in (entry.output or "")
        exported = await handle.export()
        assert [each["decided_by"] for each in exported["decisions"]] == ["bob"]
        assert [each["what"] for each in exported["events"]] == ["approved"]


async def test_a_rejection_is_a_value(place: Any) -> None:
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy, 5)
        request = await asked(engine, handle)
        await engine.reject(request.id, reason="too much", by="ana")
        assert await handle.result(timeout=30) == "rejected by ana: too much"
        assert RAN == []


async def test_who_is_not_named_does_not_decide(place: Any) -> None:
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy, 5)
        request = await asked(engine, handle)
        for who in (None, "", "bob", User("bob", roles=["sales"]), "finance", "role:finance", User("role:finance")):
            with pytest.raises(NotApproverError, match="nothing was changed"):
                await engine.approve(request.id, by=who)
        with pytest.raises(InvalidAnswerError):
            await engine.answer(request.id, True, by="ana")
        assert [r.decisions for r in await engine.requests()] == [[]]
        await engine.approve(request.id, by="ana")
        await handle.result(timeout=30)


async def test_the_first_word_stands_and_is_shown(place: Any) -> None:
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy, 5)
        request = await asked(engine, handle)
        await engine.approve(request.id, by="ana", comment="ok")
        await engine.approve(request.id, by="ana")
        with pytest.raises(AlreadyDecidedError, match="approved by ana"):
            await engine.reject(request.id, by="ana")
        with pytest.raises(AlreadyDecidedError, match="approved by ana"):
            await engine.approve(request.id, by=User("bob", roles=["finance"]))
        assert await handle.result(timeout=30) == "approved by ana: ok"
        dossier = (await engine.store.dossiers([handle.id]))[handle.id]
        assert len(dossier.decisions) == 1


ROUNDS = 50


async def test_of_opposite_decisions_at_the_same_moment_one_stands(place: Any) -> None:
    async with Engine(place, workflows=[buy]) as engine, engine.client() as other:
        handles = [await engine.start(buy, n) for n in range(ROUNDS)]
        finance = User("bob", roles=["finance"])
        for handle in handles:
            request = await asked(engine, handle)
            told = await asyncio.gather(
                engine.approve(request.id, by="ana"), other.reject(request.id, by=finance), return_exceptions=True
            )
            lost = [each for each in told if isinstance(each, AlreadyDecidedError)]
            [won] = [each for each in told if isinstance(each, OpenRequest)]
            assert len(lost) == 1, told
            assert won.answered_by in str(lost[0])
            said = await handle.result(timeout=30)
            assert said.startswith("approved by ana" if won.answered_by == "ana" else "rejected by bob")
        assert sorted(RAN) == [n for n, h in enumerate(handles) if (await h.result()).startswith("approved")]


# Actions --------------------------------------------------------------------------------------------------


@workflow(name="several")
async def several() -> Decision:
    return await approval(
        "Do these?",
        actions=[
            Action("mail", "send mail", {"to": "x@y", "n": 1}, schema={"properties": {"n": {"type": "integer"}}}),
            Action("wipe", "wipe disk", {"disk": "a"}, "all of it"),
        ],
    )


async def test_each_action_is_approved_rejected_or_edited(place: Any) -> None:
    async with Engine(place, workflows=[several]) as engine:
        handle = await engine.start(several)
        request = await asked(engine, handle)
        assert [(a.id, a.name, a.arguments) for a in request.actions] == [
            ("mail", "send mail", {"to": "x@y", "n": 1}),
            ("wipe", "wipe disk", {"disk": "a"}),
        ]
        for wrong in (
            {"mail": "approve"},
            {"mail": "approve", "wipe": "reject", "more": "approve"},
            [("mail", "approve"), ("wipe", "reject"), ("mail", "reject")],
            {"mail": Edit({"n": "three"}), "wipe": "approve"},
            {"mail": "maybe", "wipe": "approve"},
            "perhaps",
        ):
            with pytest.raises(InvalidAnswerError, match="nothing was changed"):
                await engine.decide(request.id, wrong, by="ana")
        assert [r.decisions for r in await engine.requests()] == [[]]
        await engine.decide(request.id, {"mail": Edit({"n": 3}), "wipe": Rejected("never")}, by="ana")
        decision = await handle.result(timeout=30)
        assert decision["mail"] == Approved({"to": "x@y", "n": 3}, edited=True)
        assert decision["wipe"] == Rejected("never")
        assert not decision.approved


# Guarded steps --------------------------------------------------------------------------------------------


@step(name="delete", approval=Approval("Delete {n} rows of {table}?", when=lambda n: n > 100, approvers=["ana"]))
async def delete(table: str, n: int = 0) -> str:
    RAN.append((table, n))
    return f"{n} rows"


@workflow(name="tidy")
async def tidy(n: int) -> str:
    try:
        return await delete("t", n)
    except ApprovalRejectedError as error:
        return str(error)


async def test_a_guarded_step_asks_only_where_it_has_to_and_runs_with_the_edited_arguments(place: Any) -> None:
    async with Engine(place, workflows=[tidy]) as engine:
        assert await engine.run(tidy, 5) == "5 rows"
        handle = await engine.start(tidy, 500)
        request = await asked(engine, handle)
        assert request.message == "Delete 500 rows of t?"
        assert RAN == [("t", 5)]
        for wrong in ({"n": "many"}, {"m": 1}):
            with pytest.raises(InvalidAnswerError):
                await engine.decide(request.id, {"delete": Edit(wrong)}, by="ana")
        await engine.decide(request.id, {"delete": Edit({"n": 200})}, by="ana")
        assert await handle.result(timeout=30) == "200 rows"
        assert RAN == [("t", 5), ("t", 200)]


async def test_a_rejected_step_never_runs(place: Any) -> None:
    async with Engine(place, workflows=[tidy]) as engine:
        handle = await engine.start(tidy, 500)
        request = await asked(engine, handle)
        await engine.reject(request.id, reason="keep them", by="ana")
        assert await handle.result(timeout=30) == "delete was rejected by ana: keep them"
        handle = await engine.start(tidy, 500)
        request = await asked(engine, handle)
        await engine.decide(request.id, {"delete": Rejected("too many")}, by="ana")
        assert await handle.result(timeout=30) == "delete was rejected by ana: too many"
        handle = await engine.start(tidy, 500)
        request = await asked(engine, handle)
        await engine.reject(request.id, reason="too many", comment="ask again on Monday", by="ana")
        assert await handle.result(timeout=30) == "delete was rejected by ana: too many; ask again on Monday"
        assert RAN == []


# Bound to what was asked ----------------------------------------------------------------------------------


def pay(cents: int) -> Any:
    """The same workflow, as it asks for another amount after a change of its code."""

    @workflow(name="pay")
    async def paying() -> str:
        decision = await approval("Pay?", details={"cents": cents}, approvers=["ana"])
        await charge(cents)
        return f"{decision.by} {cents}"

    return paying


async def test_what_has_changed_since_it_was_approved_is_asked_anew(place: Any) -> None:
    before, after = pay(5), pay(5_000)
    async with Engine(place, workflows=[before]) as engine:
        first = await asked(engine, await engine.start(before.options(execution_id="p")))
    async with Engine(place, workflows=[before], worker=False) as engine:
        await engine.approve(first.id, by="ana")
    async with Engine(place, workflows=[after]) as engine:
        handle = engine.get("p")
        second = await asked(engine, handle)
        assert second.id != first.id
        assert second.digest != first.digest
        assert second.details == {"cents": 5_000}
        assert RAN == []
        with pytest.raises(AlreadyDecidedError):
            await engine.reject(first.id, by="ana")
        await engine.approve(second.id, by="ana")
        assert await handle.result(timeout=30) == "ana 5000"
        assert RAN == [5_000]


async def test_what_has_changed_before_it_was_decided_is_withdrawn_and_asked_anew(place: Any) -> None:
    before, after = pay(5), pay(6)
    async with Engine(place, workflows=[before]) as engine:
        first = await asked(engine, await engine.start(before.options(execution_id="p")))
    async with Engine(place, workflows=[after]) as engine:
        await engine.get("p").pause()
        await engine.get("p").resume()
        while not (found := [r for r in await engine.requests() if r.id != first.id]):
            await engine.store.changed(0.05)
        with pytest.raises(AlreadyDecidedError, match="withdrawn"):
            await engine.approve(first.id, by="ana")
        [second] = found
        await engine.approve(second.id, by="ana")
        assert await engine.get("p").result(timeout=30) == "ana 6"


async def test_a_decision_that_is_used_too_late_is_asked_for_anew() -> None:
    @workflow(name="soon")
    async def soon() -> str:
        decision = await approval("Now?", execute_within=60)
        return str(decision.comment)

    clock, store = Clock(), MemoryStore()
    async with Engine(store, clock=clock, workflows=[soon]) as engine:
        handle = await engine.start(soon.options(execution_id="s"))
        await clock.settle()
        await clock.advance(1)
        first = await asked(engine, handle)
    async with Engine(store, clock=clock, worker=False, workflows=[]) as engine:
        await engine.approve(first.id, by="ana", comment="one")
    await clock.advance(61)
    async with Engine(store, clock=clock, workflows=[soon]) as engine:
        await clock.advance(1)
        second = await asked(engine, engine.get("s"))
        assert second.id == f"{first.id}~2"
        await engine.approve(second.id, by="ana", comment="two")
        await clock.advance(1)
        assert await engine.get("s").outcome() == Completed("two")


# Who decides ----------------------------------------------------------------------------------------------


def named(question: Question) -> list[str]:
    """Large sums are the boss's to approve."""
    return ["boss"] if question.details["cents"] > 100 else ["ana"]


@workflow(name="staged")
async def staged(cents: int) -> Decision:
    return await approval(
        "Spend?",
        details={"cents": cents},
        actions=[Action("spend", "spend", {"cents": cents})],
        stages=[Stage(["ana", "bob", "cid"], quorum=2), [named]],
        exclude_requester=True,
    )


async def test_stages_follow_one_another_each_with_its_quorum_of_different_people() -> None:
    async with Engine(MemoryStore(), workflows=[staged]) as engine:
        handle = await engine.start(staged.options(by="cid"), 500)
        request = await asked(engine, handle)
        for who in ("boss", "cid", "dan"):
            with pytest.raises(NotApproverError):
                await engine.approve(request.id, by=who)
        assert (await engine.approve(request.id, by="ana")).status == "open"
        again = await engine.approve(request.id, by="ana")
        assert len(again.decisions) == 1
        second = await engine.approve(request.id, by="bob")
        assert (second.status, second.approvers) == ("open", ["boss"])
        with pytest.raises(AlreadyDecidedError, match=r"ana has already approved .* in an earlier stage"):
            await engine.reject(request.id, by="ana")
        with pytest.raises(NotApproverError):
            await engine.approve(request.id, by="dan")
        done = await engine.decide(request.id, {"spend": Edit({"cents": 400})}, by="boss")
        assert done.status == "decided"
        decision = await handle.result(timeout=30)
        assert (decision.by, decision["spend"]) == ("boss", Approved({"cents": 400}, edited=True))
        assert [voice.by for voice in done.decisions] == ["ana", "bob", "boss"]


async def test_nobody_approves_what_somebody_else_has_edited_without_saying_so() -> None:
    async with Engine(MemoryStore(), workflows=[staged]) as engine:
        handle = await engine.start(staged, 50)
        request = await asked(engine, handle)
        edit = {"spend": Edit({"cents": 40})}
        await engine.approve(request.id, by="bob")
        with pytest.raises(NotApproverError):
            await engine.approve(request.id)  # the requester is nobody known, and so is this one
        assert (await engine.decide(request.id, edit, by="cid")).approvers == ["ana", "bob", "cid"]
        joined = await engine.decide(request.id, edit, by="bob")
        assert (joined.approvers, joined.actions[0].arguments) == (["ana"], {"cents": 40})
        await engine.approve(request.id, by="ana")
    assert RAN == []


async def test_a_rejection_in_any_stage_ends_it() -> None:
    async with Engine(MemoryStore(), workflows=[staged]) as engine:
        handle = await engine.start(staged, 50)
        request = await asked(engine, handle)
        await engine.approve(request.id, by="ana")
        await engine.reject(request.id, by="bob", reason="no")
        decision = await handle.result(timeout=30)
        assert (decision.approved, decision.by, decision["spend"]) == (False, "bob", Rejected("no"))


async def test_the_directory_gives_the_roles_of_a_name() -> None:
    async def directory(name: str) -> User | None:
        return User(name, ["finance"]) if name == "fay" else None

    async with Engine(MemoryStore(), workflows=[buy], directory=directory) as engine:
        handle = await engine.start(buy, 5)
        request = await asked(engine, handle)
        with pytest.raises(NotApproverError):
            await engine.approve(request.id, by="fred")
        await engine.approve(request.id, by="fay")
        assert (await handle.result(timeout=30)).startswith("approved by fay")


async def test_who_has_handed_it_on_does_not_decide_by_a_role_either() -> None:
    async with Engine(MemoryStore(), workflows=[buy]) as engine:
        handle = await engine.start(buy, 5)
        request = await asked(engine, handle)
        fay = User("fay", roles=["finance"])
        await engine.reassign(request.id, to="zoe", by=fay)
        with pytest.raises(NotApproverError):
            await engine.approve(request.id, by=fay)
        await engine.reassign(request.id, to="fay", by="zoe")
        await engine.approve(request.id, by="fay")
        assert (await handle.result(timeout=30)).startswith("approved by fay")


def small(question: Question) -> str | None:
    """Who asks for little gets it."""
    return "approve" if question.details["cents"] < 10 else None


async def never(question: Question) -> dict[str, Any] | None:
    return {"spend": Rejected("far too much")} if question.details["cents"] > 1000 else None


@workflow(name="ruled")
async def ruled(cents: int) -> Decision:
    spend = [Action("spend", "spend", {"cents": cents})]
    return await approval("Spend?", details={"cents": cents}, actions=spend, approvers=["ana"], rules=[small, never])


async def test_rules_decide_at_once_and_are_named(place: Any) -> None:
    async with Engine(place, workflows=[ruled]) as engine:
        decision = await engine.run(ruled.options(execution_id="little"), 5)
        assert (decision.approved, decision.by, decision["spend"]) == (True, "rule:small", Approved({"cents": 5}))
        refused = await engine.run(ruled, 5000)
        assert (refused.by, refused["spend"]) == ("rule:never", Rejected("far too much"))
        [row] = await engine.store.requests(execution_ids=["little"], status=None)
        assert (row.status, row.answered_by) == ("decided", "rule:small")
        await asked(engine, await engine.start(ruled, 100))


async def test_nobody_speaks_in_the_name_of_a_rule_a_role_or_time() -> None:
    async with Engine(MemoryStore(), workflows=[several]) as engine:
        request = await asked(engine, await engine.start(several))
        for name in ("rule:small", "role:finance", "expiry", User("rule:small", roles=["finance"]), ""):
            with pytest.raises(NotApproverError, match="no name of a person"):
                await engine.approve(request.id, by=name)
            with pytest.raises(NotApproverError):
                await engine.claim(request.id, by=name)
        await engine.reassign(request.id, to="ana", by="ana")


async def test_a_function_that_fails_fails_the_approval_and_nothing_else() -> None:
    def broken(question: Question) -> str:
        raise OSError("no list")

    @workflow(name="unnamed")
    async def unnamed() -> str:
        try:
            await approval("Who?", approvers=[broken])
        except OSError as error:
            return f"failed: {error}"
        return "asked"

    async with Engine(MemoryStore(), workflows=[unnamed]) as engine:
        assert await engine.run(unnamed) == "failed: no list"


# Time -----------------------------------------------------------------------------------------------------


def hurried(**settings: Any) -> Any:
    @workflow(name="hurried")
    async def hurrying() -> str:
        try:
            decision = await approval("Quick?", approvers=["ana"], expires=timedelta(hours=1), **settings)
        except TimeoutError as error:
            return str(error)
        return f"{decision.approved} by {decision.by}"

    return hurrying


@pytest.mark.parametrize(
    ("rule", "result"),
    [
        ("reject", "False by expiry"),
        ("approve", "True by expiry"),
        ("raise", "approval#1: nobody decided in time"),
    ],
)
async def test_where_nobody_decides_in_time_the_rule_does(rule: str, result: str) -> None:
    clock, flow = Clock(), hurried(on_expiry=rule)
    async with Engine(MemoryStore(), clock=clock, workflows=[flow]) as engine:
        handle = await engine.start(flow.options(execution_id="h"))
        await clock.advance(3599)
        request = await asked(engine, handle)
        await clock.advance(2)
        assert await handle.outcome() == Completed(result)
        with pytest.raises(AlreadyDecidedError, match="expired"):
            await engine.approve(request.id, by="ana")
        dossier = (await engine.store.dossiers(["h"]))["h"]
        assert [event.what for event in dossier.events] == ["expired"]
        assert [row.decided_by for row in dossier.decisions] == ([] if rule == "raise" else ["expiry"])


async def test_an_escalation_has_others_decide_in_a_new_term_and_reminders_go_on() -> None:
    clock = Clock()
    flow = hurried(on_expiry="escalate", escalate_to=["boss"], reminders=timedelta(minutes=25))
    async with Engine(MemoryStore(), clock=clock, workflows=[flow]) as engine:
        handle = await engine.start(flow.options(execution_id="h"))
        await clock.advance(timedelta(minutes=59))
        request = await asked(engine, handle)
        whats = [event.what for event in (await engine.store.dossiers(["h"]))["h"].events]
        assert whats == ["reminded", "reminded"]
        await clock.advance(timedelta(minutes=2))
        with pytest.raises(NotApproverError):
            await engine.approve(request.id, by="ana")
        [now] = await engine.requests()
        assert now.approvers == ["boss"]
        await clock.advance(timedelta(minutes=20))
        await engine.approve(request.id, by="boss")
        await clock.advance(1)
        assert await handle.outcome() == Completed("True by boss")


async def test_an_escalation_that_nobody_hears_ends_in_a_rejection() -> None:
    clock, flow = Clock(), hurried(on_expiry="escalate", escalate_to=["boss"])
    async with Engine(MemoryStore(), clock=clock, workflows=[flow]) as engine:
        handle = await engine.start(flow)
        await clock.advance(timedelta(minutes=121))
        assert await handle.outcome() == Completed("False by expiry")


@workflow(name="brief")
async def brief() -> str:
    try:
        decision = await approval("Quick?", approvers=["ana"], expires=0.02, on_expiry="reject")
    except TimeoutError:
        return "late"
    return str(decision.by)


async def test_a_decision_and_the_end_of_its_time_come_to_one_outcome(place: Any) -> None:
    async with Engine(place, workflows=[brief]) as engine:
        for n in range(ROUNDS):
            handle = await engine.start(brief.options(execution_id=f"b{n}"))
            while not (found := await engine.store.requests(execution_ids=[handle.id], status=None)):
                await engine.store.changed(0.005)
            while engine.clock.now() < (found[0].expires_at or 0) - (n % 10 - 5) * 400:
                await asyncio.sleep(0)
            try:
                won = await engine.approve(found[0].id, by="ana")
                told = won.answered_by
            except AlreadyDecidedError as error:
                assert "expired" in str(error)
                told = "expiry"
            assert await handle.result(timeout=30) == told
            [row] = await engine.store.requests(execution_ids=[handle.id], status=None)
            assert row.answered_by == told


# The inbox ------------------------------------------------------------------------------------------------


async def test_comments_claims_handing_on_and_seeing_are_kept_in_the_chain(place: Any) -> None:
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy.options(execution_id="b"), 5)
        request = await asked(engine, handle)
        await engine.see(request.id, by="dan")
        await engine.see(request.id, by="dan")
        await engine.comment(request.id, "is that right?", by="dan")
        with pytest.raises(NotApproverError):
            await engine.claim(request.id, by="dan")
        assert (await engine.claim(request.id, by="ana")).assignee == "ana"
        with pytest.raises(PerdureError, match="ana's"):
            await engine.claim(request.id, by=User("bob", ["finance"]))
        handed = await engine.reassign(request.id, to="eva", by="ana")
        assert (handed.assignee, handed.approvers) == ("eva", ["role:finance", "eva"])
        with pytest.raises(NotApproverError):
            await engine.approve(request.id, by="ana")
        await engine.approve(request.id, by="eva")
        await handle.result(timeout=30)
        events = (await engine.store.dossiers(["b"]))["b"].events
        assert [(event.what, event.actor) for event in events] == [
            ("seen", "dan"),
            ("commented", "dan"),
            ("claimed", "ana"),
            ("reassigned", "ana"),
            ("approved", "eva"),
        ]
        assert break_in(events, "b") is None
        changed = [*events[:1], replace(events[1], comment="fine"), *events[2:]]
        assert "event 2 was changed" in (break_in(changed, "b") or "")
        assert "missing" in (break_in([*events[:2], *events[3:]], "b") or "")
        assert break_in([events[1], events[0], *events[2:]], "b") is not None


@workflow(name="either")
async def either() -> str:
    won = await race(first=approval("First?"), second=approval("Second?"))
    return won.name


async def test_who_loses_a_race_is_withdrawn(place: Any) -> None:
    async with Engine(place, workflows=[either]) as engine:
        handle = await engine.start(either)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        requests = {request.message: request.id for request in outcome.requests}
        await engine.approve(requests["Second?"])
        assert await handle.result(timeout=30) == "second"
        with pytest.raises(AlreadyDecidedError, match="withdrawn"):
            await engine.approve(requests["First?"])


@workflow(name="both")
async def both() -> list[bool]:
    first, second = await gather(approval("First?"), approval("Second?"))
    return [first.approved, second.approved]


async def test_branches_are_decided_in_any_order(place: Any) -> None:
    async with Engine(place, workflows=[both]) as engine:
        handle = await engine.start(both)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        requests = {request.message: request.id for request in outcome.requests}
        await engine.reject(requests["Second?"])
        await engine.approve(requests["First?"])
        assert await handle.result(timeout=30) == [True, False]


async def test_a_blocked_execution_is_an_item_of_the_inbox() -> None:
    @workflow(name="odd")
    async def before() -> int:
        await charge(1)
        await approval("On?")
        return 1

    @workflow(name="odd")
    async def after() -> int:
        await approval("On?")
        return 2

    store = MemoryStore()
    async with Engine(store, workflows=[before]) as engine:
        await asked(engine, await engine.start(before.options(execution_id="o")))
        [request] = await engine.requests()
    async with Engine(store, workflows=[after]) as engine:
        await engine.approve(request.id)
        await engine.get("o").outcome()
        [item] = await engine.requests()
        assert (item.id, item.kind) == ("o", "blocked")
    async with Engine(store, workflows=[before]) as engine:
        await engine.resolve("o", "resume", by="ops", comment="old code is back")
        assert await engine.get("o").result(timeout=30) == 1
        assert await engine.requests() == []
        with pytest.raises(AlreadyDecidedError):
            await engine.resolve("o", "cancel")
        events = (await store.dossiers(["o"]))["o"].events
        assert [(event.what, event.actor) for event in events][-1] == ("resumed", "ops")


async def test_approvals_that_can_never_be_are_refused_where_they_are_written() -> None:
    for wrong in (
        {"approvers": ["ana"], "quorum": 2},
        {"approvers": ["ana"], "stages": [["bob"]]},
        {"on_expiry": "escalate"},
        {"on_expiry": "perhaps"},
        {"quorum": 0},
        {"actions": [Action("a", "a"), Action("a", "b")]},
    ):
        with pytest.raises(ValueError):
            make_ask("Go?", **wrong)  # type: ignore[arg-type]


async def test_a_unit_test_decides_by_the_message() -> None:
    with answers({"Charge 5?": ["approve", False], "Delete 500 rows of t?": [{"delete": Edit({"n": 7})}, "reject"]}):
        assert (await buy(5)).startswith("approved by")
        assert (await buy(5)).startswith("rejected by")
        assert await tidy(500) == "7 rows"
        assert (await tidy(500)).startswith("delete was rejected")
    assert RAN == [5, ("t", 7)]


@workflow(name="plain")
def plain() -> bool:
    return sync.approval("Plainly?").approved


async def test_plain_functions_ask_too() -> None:
    async with Engine(MemoryStore(), workflows=[plain]) as engine:
        handle = await engine.start(plain)
        await engine.approve((await asked(engine, handle)).id)
        assert await handle.result(timeout=30) is True


async def test_the_audit_finds_decisions_that_were_dropped_or_changed() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[several]) as engine:
        handle = await engine.start(several.options(execution_id="s"))
        request = await asked(engine, handle)
        ids = [action.id for action in request.actions]
        decision: dict[str, Any] = dict.fromkeys(ids, "reject")
        decision[ids[0]] = Rejected("no")
        decision[ids[-1]] = "approve"
        await engine.decide(request.id, decision, by="ana")
        await handle.outcome(timeout=30)

        async def found(**change: Any) -> list[str]:
            dossier = (await store.dossiers(["s"]))["s"]
            if change:
                dossier.decisions[-1] = replace(dossier.decisions[-1], **change)
            row, rows = (await store.get(["s"]))["s"], await store.requests(execution_ids=["s"], status=None)
            if change.get("decided_by") == "":
                dossier.decisions.clear()
            return faults(row, rows, dossier, await store.history("s"))

        assert await found() == []
        assert any("missing" in words for words in await found(decided_by=""))
        assert any("do not lead" in words for words in await found(decision="edited", arguments='{"n":1}'))
