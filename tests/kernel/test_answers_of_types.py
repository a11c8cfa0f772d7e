"""An answer that fits its JSON Schema and that the type itself refuses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from perdure import Blocked, DecodeError, Engine, InvalidAnswerError, Waiting, interrupt, step, workflow

STRICT = [True]


@dataclass
class Range:
    low: int
    high: int

    def __post_init__(self) -> None:
        if STRICT[0] and self.low > self.high:
            raise ValueError("low is above high")


class Pair(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def _in_order(self) -> "Pair":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


@step
async def look() -> str:
    return "looked"


@workflow
async def asks_range() -> int:
    await look()
    answer = await interrupt("Which range?", schema=Range)
    return answer.high - answer.low


@workflow
async def asks_pair() -> int:
    answer = await interrupt("Which pair?", schema=Pair)
    return answer.high - answer.low


FLOWS = [asks_range, asks_pair]
WRONG = {"low": 5, "high": 1}


@pytest.mark.parametrize("flow", FLOWS, ids=["dataclass", "pydantic"])
async def test_where_the_type_is_known_it_is_refused_at_the_call_and_nothing_changes(flow: Any, tmp_path: Path) -> None:
    async with Engine(f"sqlite:///{tmp_path}/x.db", workflows=FLOWS) as engine:
        handle = await engine.start(flow)
        waiting = await handle.outcome()
        assert isinstance(waiting, Waiting)
        before = await handle.row()
        with pytest.raises(InvalidAnswerError, match=r"low is above high.*nothing was changed") as caught:
            await engine.answer(waiting.requests[0].id, WRONG)
        assert (caught.value.execution_id, caught.value.key) == (handle.id, "interrupt#1")
        assert await handle.requests() == waiting.requests
        assert await handle.row() == before
        await engine.answer(waiting.requests[0].id, {"low": 1, "high": 5})
        assert await handle.result() == 4


async def blocked(url: str, engine: Engine) -> Any:
    handle = await engine.start(asks_range)
    waiting = await handle.outcome()
    assert isinstance(waiting, Waiting)
    async with Engine(url, worker=False, workflows=[]) as stranger:
        await stranger.answer(waiting.requests[0].id, WRONG)
    outcome = await handle.outcome()
    while not isinstance(outcome, Blocked):
        outcome = await handle.outcome()
    assert isinstance(outcome.error, DecodeError)
    assert outcome.error.key == "interrupt#1"
    assert outcome.reason.startswith(
        f"the answer to {handle.id}:interrupt#1 does not fit what the code asks for: Range: low is above high."
    )
    return handle


async def test_where_nobody_knew_it_blocks_and_tells_the_ways_out_which_are_some(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    async with Engine(url, workflows=FLOWS) as engine:
        handle = await blocked(url, engine)
        await handle.rollback(to="look#1")
        waiting = await handle.outcome()
        assert isinstance(waiting, Waiting)
        await engine.answer(waiting.requests[0].id, {"low": 1, "high": 5})
        assert await handle.result() == 4

        handle = await blocked(url, engine)
        STRICT[0] = False
        try:
            await handle.resume()
            assert await handle.result() == -4
        finally:
            STRICT[0] = True
