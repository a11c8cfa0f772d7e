"""What is said after a term comes too late, though no worker was there to say that it is over."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import AlreadyDecidedError, Decision, Engine, NotApproverError, Waiting, approval, interrupt, workflow
from perdure.clock import SystemClock

HOURS = 3600.0


class Later(SystemClock):
    """Two hours ahead, whatever a server says."""

    def now(self) -> int:
        return super().now() + 2 * 3_600_000_000


@workflow(name="asks_for_an_hour")
async def asks_for_an_hour(on_expiry: str) -> Any:
    more: dict[str, Any] = {"escalate_to": ["dana"]} if on_expiry == "escalate" else {}
    said = await approval("May it?", approvers=["ana"], expires=HOURS, on_expiry=on_expiry, **more)
    return [said.approved, said.by] if isinstance(said, Decision) else said


@workflow(name="questions_for_an_hour")
async def questions_for_an_hour() -> str:
    return await interrupt("Where to?", schema=str, expires=HOURS, default="nowhere")


FLOWS = [asks_for_an_hour, questions_for_an_hour]


async def left_open(place: Any, flow: Any, *args: Any) -> str:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(flow.options(execution_id="x"), *args)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        return outcome.requests[0].id


@pytest.mark.parametrize("decision", ["approve", "reject"])
@pytest.mark.parametrize(("on_expiry", "ends"), [("reject", [False, "expiry"]), ("approve", [True, "expiry"])])
async def test_a_decision_after_the_term_is_none(place: Any, decision: str, on_expiry: str, ends: Any) -> None:
    id = await left_open(place, asks_for_an_hour, on_expiry)
    async with Engine(place, workflows=[], worker=False, clock=Later()) as client:
        for _ in range(2):
            with pytest.raises(AlreadyDecidedError, match="has expired"):
                await client.decide(id, decision, by="ana")
        [row] = await client.store.requests(ids=[id], status=None)
        assert row.status == "expired"
    async with Engine(place, workflows=FLOWS) as engine:
        assert await engine.get("x").result(timeout=30) == ends


async def test_after_the_term_those_decide_whom_it_goes_on_to(place: Any) -> None:
    id = await left_open(place, asks_for_an_hour, "escalate")
    async with Engine(place, workflows=[], worker=False, clock=Later()) as client:
        with pytest.raises(NotApproverError, match="dana"):
            await client.approve(id, by="ana")
        await client.approve(id, by="dana")
    async with Engine(place, workflows=FLOWS) as engine:
        assert await engine.get("x").result(timeout=30) == [True, "dana"]
        events = (await engine.store.dossiers(["x"]))["x"].events
        assert [event.what for event in events] == ["escalated", "approved"]


async def test_an_answer_after_the_term_is_none(place: Any) -> None:
    id = await left_open(place, questions_for_an_hour)
    async with Engine(place, workflows=[], worker=False, clock=Later()) as client:
        with pytest.raises(AlreadyDecidedError, match="is expired"):
            await client.answer(id, "home")
    async with Engine(place, workflows=FLOWS) as engine:
        assert await engine.get("x").result(timeout=30) == "nowhere"
