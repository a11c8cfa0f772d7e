"""Every prefix of a journal is a state that a crash could have left; from each, the execution must go on."""

from typing import Any

import pytest

from perdure import Completed
from perdure.records import Entry
from perdure.testing.clock import Clock
from perdure.testing.replaying import Played, play
from perdure.workflow import Workflow
from tests.replay.shapes import SHAPES, World

pytestmark = pytest.mark.replay
SEEDS = 6


async def run(shape: Workflow[..., Any], journal: list[Entry], seed: int) -> Played:
    clock = Clock(seed=seed)
    World.reset(seed, clock)
    return await play(shape, journal=journal, clock=clock)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_every_prefix_goes_on_to_the_end(shape: Workflow[..., Any]) -> None:
    for seed in range(SEEDS):
        first = await run(shape, [], seed)
        assert isinstance(first.outcome, Completed), (seed, first.outcome)
        assert [entry.seq for entry in first.journal] == list(range(1, len(first.journal) + 1))
        for length in range(len(first.journal) + 1):
            again = await run(shape, first.journal[:length], seed + 1000)
            assert isinstance(again.outcome, Completed), (seed, length, again.outcome)
            assert again.journal[:length] == first.journal[:length], "a recorded entry was changed"
            assert [entry.seq for entry in again.journal] == list(range(1, len(again.journal) + 1))
            recorded = {e.key for e in first.journal[:length] if e.kind == "step"}
            assert not recorded & set(World.entered), "a recorded step was entered again"
            if length == len(first.journal):
                assert again.outcome == first.outcome
                assert again.journal == first.journal, "a complete journal grew"
                assert World.entered == []


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_what_a_crash_left_twice_still_replays(shape: Workflow[..., Any]) -> None:
    for seed in range(SEEDS):
        first = await run(shape, [], seed)
        cut = World.rng.randrange(len(first.journal) + 1)
        second = await run(shape, first.journal[:cut], seed + 1)
        assert isinstance(second.outcome, Completed), (seed, cut, second.outcome)
        cut = World.rng.randrange(len(second.journal) + 1)
        third = await run(shape, second.journal[:cut], seed + 2)
        assert isinstance(third.outcome, Completed), (seed, cut, third.outcome)
        last = await run(shape, third.journal, seed + 3)
        assert last.outcome == third.outcome
        assert last.journal == third.journal
