"""A journal that one version of Python wrote replays on every other, from every prefix."""

import json
from pathlib import Path
from typing import Any

import pytest

from perdure import Completed
from perdure.records import Entry
from perdure.testing.clock import Clock
from perdure.testing.replaying import play
from tests.replay.shapes import SHAPES, World

pytestmark = pytest.mark.replay
FILES = sorted((Path(__file__).parent / "journals").glob("python*.json"))


def test_there_are_journals_of_several_versions() -> None:
    assert len(FILES) >= 3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_journals_of_this_version_replay_here(file: Path) -> None:
    shapes = {shape.name: shape for shape in SHAPES}
    recorded: list[dict[str, Any]] = json.loads(file.read_text())
    assert {one["shape"] for one in recorded} == set(shapes), "record the journals again: python -m tests.replay.record"
    for one in recorded:
        journal = [Entry(*row) for row in one["journal"]]
        for length in range(len(journal) + 1):
            clock = Clock(seed=99)
            World.reset(99, clock)
            played = await play(shapes[one["shape"]], journal=journal[:length], clock=clock)
            assert isinstance(played.outcome, Completed), (one["shape"], length, played.outcome)
            assert played.journal[:length] == journal[:length]
            if length == len(journal):
                assert json.loads(json.dumps(played.outcome.value)) == one["result"]
                assert played.journal == journal
                assert World.entered == []
