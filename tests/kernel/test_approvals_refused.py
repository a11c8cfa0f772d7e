"""Approvals that can never be what was meant are refused in words: where they are written, or at the request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Action,
    Approval,
    ApprovalRejectedError,
    Engine,
    MemoryStore,
    NotApproverError,
    OpenRequest,
    PerdureError,
    Question,
    Stage,
    User,
    Waiting,
    approval,
    gather,
    step,
    workflow,
)
from perdure.approvals import make_ask
from perdure.timeline import timeline

CENTS = {"type": "object", "properties": {"cents": {"type": "integer"}}, "required": ["cents"]}


async def asked(handle: Any) -> OpenRequest:
    outcome = await handle.outcome(timeout=30)
    assert isinstance(outcome, Waiting), outcome
    [request] = outcome.requests
    return request


# Where it is written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{"cents": "five"}, {}, {"cents": 1.5}])
def test_the_arguments_of_an_action_fit_its_own_schema(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the arguments of 'pay' do not fit its schema"):
        make_ask("Pay?", [Action("pay", "pay", arguments, schema=CENTS)])


def test_arguments_that_fit_are_taken_and_a_type_is_a_schema_too() -> None:
    make_ask("Pay?", [Action("pay", "pay", {"cents": 5}, schema=CENTS)])
    make_ask("Pay?", [Action("pay", "pay", {"cents": 5}, schema=dict[str, int])])
    with pytest.raises(ValueError, match=r"\$\.cents: expected an integer"):
        make_ask("Pay?", [Action("pay", "pay", {"cents": "5"}, schema=dict[str, int])])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"on_expiry": "approve"}, "needs expires="),
        ({"on_expiry": "raise"}, "needs expires="),
        ({"on_expiry": "escalate", "escalate_to": ["eva"]}, "needs expires="),
        ({"escalate_to": ["eva"], "expires": 5}, "on_expiry='escalate'"),
        ({"on_expiry": "never"}, "on_expiry is one of"),
        ({"approvers": ["ana"], "quorum": 2}, "can never be reached"),
        ({"stages": [["ana"], ["ana"]]}, "nobody decides in two stages"),
        ({"approvers": ["role:"]}, "nobody is called so"),
        ({"approvers": ["role: "]}, "nobody is called so"),
        ({"approvers": ["ana", "expiry"]}, "nobody is called so"),
        ({"stages": [["ana"], ["rule:small"]]}, "nobody is called so"),
        ({"expires": 5, "on_expiry": "escalate", "escalate_to": ["role:"]}, "nobody is called so"),
        ({"expires": -1}, "expires= is not negative: -1"),
        ({"expires": timedelta(seconds=-1)}, "expires= is not negative"),
        ({"reminders": -0.5}, "reminders= is not negative"),
        ({"execute_within": -1}, "execute_within= is not negative"),
        ({"stages": [Stage(["ana", "bob"], 2), Stage(["bob", "ana", "cid"], 2)]}, "nobody decides in two stages"),
    ],
)
def test_settings_that_come_to_nothing_are_refused_at_the_call_and_at_the_declaration(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make_ask("Go?", **settings)

    async def go(n: int) -> None: ...

    with pytest.raises(ValueError, match=words):
        step(name="go", approval=Approval("Go {n}?", **settings))(go)


def test_stages_with_people_enough_for_each_are_taken() -> None:
    make_ask("Go?", stages=[["ana", "bob"], ["ana"]])
    make_ask("Go?", stages=[["ana"], ["ana", "role:boss"]])
    make_ask("Go?", stages=[["ana"], ["ana", lambda question: ["eva"]]])
    make_ask("Go?", stages=[Stage(["ana", "bob", "cid"], 2), ["cid"]])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Delete {rows} rows?", "'rows'"),
        ("Delete {} rows?", "by name"),
        ("Delete {0} rows?", "by name"),
        ("Delete {n rows?", "is no template"),
        ("Delete {n:{wide}} rows?", "'wide'"),
        ("Delete {where} rows?", "'where'"),
    ],
)
def test_a_message_names_arguments_of_its_step_or_is_refused_at_the_declaration(message: str, words: str) -> None:
    async def delete(n: int, table: str = "t") -> None: ...

    with pytest.raises(ValueError, match=words) as told:
        step(name="delete", approval=Approval(message))(delete)
    assert "delete" in str(told.value)


@step(name="drop", approval=Approval("Drop {table.name}?"))
async def drop(table: str) -> None: ...


@workflow(name="dropping")
async def dropping() -> str:
    try:
        await drop("t")
    except PerdureError as error:
        return str(error)
    return "dropped"


async def test_what_a_message_cannot_say_is_told_in_words() -> None:
    async with Engine(MemoryStore(), workflows=[dropping]) as engine:
        said = await (await engine.start(dropping)).result(timeout=30)
        assert "the message of its approval, 'Drop {table.name}?', does not fit its arguments" in said
        assert said.startswith("drop")


# Who asked ------------------------------------------------------------------------------------------------


def kept_out(**settings: Any) -> Any:
    @workflow(name="kept_out")
    async def asks() -> str:
        try:
            decision = await approval("Go?", exclude_requester=True, **settings)
        except ValueError as error:
            return str(error)
        return f"{decision.approved} by {decision.by}"

    return asks


def himself(question: Question) -> list[str | None]:
    return [question.requester]


@pytest.mark.parametrize(
    "settings",
    [
        {"approvers": ["ana"]},
        {"approvers": ["ana", "bob"], "quorum": 2},
        {"approvers": [himself]},
        {"stages": [["ana", "bob"], ["bob"]]},
        {"approvers": ["ana"], "expires": 60, "on_expiry": "escalate", "escalate_to": ["ana"]},
    ],
)
async def test_a_request_that_nobody_but_its_requester_could_decide_is_refused(settings: dict[str, Any]) -> None:
    flow = kept_out(**settings)
    async with Engine(MemoryStore(), workflows=[flow]) as engine:
        handle = await engine.start(flow.options(execution_id="k", by="ana"))
        said = await handle.result(timeout=30)
        assert "exclude_requester" in said
        assert "ana" in said
        assert await engine.requests() == []
        [entry] = [entry for entry in await engine.store.history("k") if entry.kind == "approval"]
        assert entry.status == "failed"


@pytest.mark.parametrize(
    "settings",
    [
        {"approvers": ["ana", "bob"]},
        {"approvers": ["ana", "role:boss"]},
        {},
        {"approvers": ["ana"], "expires": 60, "on_expiry": "escalate", "escalate_to": ["bob"]},
    ],
)
async def test_where_somebody_else_can_decide_it_is_asked(settings: dict[str, Any]) -> None:
    flow = kept_out(**settings)
    async with Engine(MemoryStore(), workflows=[flow]) as engine:
        request = await asked(await engine.start(flow.options(by="ana")))
        with pytest.raises(NotApproverError, match="ana has asked for it"):
            await engine.approve(request.id, by="ana")


async def test_where_it_is_not_known_who_asked_only_people_with_names_decide_and_the_audit_says_so() -> None:
    flow = kept_out()
    async with Engine(MemoryStore(), workflows=[flow]) as engine:
        handle = await engine.start(flow.options(execution_id="k"))
        request = await asked(handle)
        with pytest.raises(NotApproverError, match="say who decides"):
            await engine.approve(request.id)
        store = engine.store
        row, rows = (await store.get(["k"]))["k"], await store.requests(execution_ids=["k"], status=None)
        told = timeline(row, rows, (await store.dossiers(["k"]))["k"], await store.history("k"))
        [warned] = [moment.words for moment in told if moment.what == "not excluded"]
        assert warned is not None
        assert "nobody was named who started it" in warned
        await engine.approve(request.id, by="bob")
        assert await handle.result(timeout=30) == "True by bob"


@pytest.mark.parametrize("named", ["role:", "expiry", "", None])
async def test_a_function_names_nobody_who_can_never_decide_it(named: Any) -> None:
    @workflow(name="named")
    async def asks() -> str:
        try:
            await approval("Go?", approvers=[lambda question: [named]])
        except (TypeError, ValueError) as error:
            return str(error)
        return "asked"

    async with Engine(MemoryStore(), workflows=[asks]) as engine:
        assert "an approver is a name, 'role:NAME'" in await (await engine.start(asks)).result(timeout=30)


@pytest.mark.parametrize("to", ["", "expiry", "rule:small", "ana", "role:"])
async def test_it_is_handed_on_to_nobody_who_can_never_decide_it(to: str) -> None:
    flow = kept_out(approvers=["bob"])
    async with Engine(MemoryStore(), workflows=[flow]) as engine:
        handle = await engine.start(flow.options(by="ana"))
        request = await asked(handle)
        with pytest.raises(NotApproverError, match="nothing was changed"):
            await engine.reassign(request.id, to=to, by="bob")
        await engine.reassign(request.id, to="role:boss", by="bob")
        await engine.approve(request.id, by=User("eva", roles=["boss"]))
        assert await handle.result(timeout=30) == "True by eva"


async def test_a_quorum_is_not_handed_on_to_one_person() -> None:
    flow = kept_out(approvers=["bob", "cid"], quorum=2)
    async with Engine(MemoryStore(), workflows=[flow]) as engine:
        handle = await engine.start(flow.options(by="ana"))
        request = await asked(handle)
        with pytest.raises(NotApproverError, match="a quorum of 2 needs others too"):
            await engine.reassign(request.id, to="cid", by="bob")
        await engine.approve(request.id, by="bob")
        await engine.reassign(request.id, to="dan", by="cid")
        await engine.approve(request.id, by="dan")
        assert await handle.result(timeout=30) == "True by dan"


async def test_who_has_decided_an_earlier_stage_is_not_handed_the_next_one() -> None:
    flow = kept_out(stages=[["bob"], ["cid"]])
    async with Engine(MemoryStore(), workflows=[flow]) as engine:
        handle = await engine.start(flow.options(by="ana"))
        request = await asked(handle)
        await engine.approve(request.id, by="bob")
        with pytest.raises(NotApproverError, match="bob has decided an earlier stage"):
            await engine.reassign(request.id, to="bob", by="cid")
        await engine.reassign(request.id, to="dan", by="cid")
        await engine.approve(request.id, by="dan")
        assert await handle.result(timeout=30) == "True by dan"


# The inbox ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1, "x", 1.5])
async def test_a_limit_is_at_least_one(limit: int) -> None:
    async with Engine(MemoryStore(), workflows=[]) as engine:
        with pytest.raises(ValueError, match="limit= must be at least 1"):
            await engine.requests(limit=limit)
        with pytest.raises(ValueError, match="limit= must be at least 1"):
            await engine.outbox(limit=limit)
        with pytest.raises(ValueError, match="limit= must be at least 1"):
            await engine.list(limit=limit)
        with pytest.raises(ValueError, match="limit= must be at least 1"):
            await gather(limit=limit)
    with pytest.raises(ValueError, match="concurrency= must be at least 1"):
        Engine(MemoryStore(), concurrency=limit)


async def test_a_message_may_say_how_its_arguments_are_shown() -> None:
    @step(name="wipe", approval=Approval("Wipe {n:>3} of {table!r}, {{really}}?", approvers=["ana"]))
    async def wipe(n: int, table: str = "t") -> None: ...

    @workflow(name="wiping")
    async def wiping() -> str:
        try:
            await wipe(5)
        except ApprovalRejectedError as error:
            return str(error)
        return "wiped"

    async with Engine(MemoryStore(), workflows=[wiping]) as engine:
        handle = await engine.start(wiping)
        request = await asked(handle)
        assert request.message == "Wipe   5 of 't', {really}?"
        await engine.reject(request.id, by="ana")
        assert await handle.result(timeout=30) == "wipe was rejected by ana"
