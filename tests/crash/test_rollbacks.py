"""A process is killed at every write of executions that roll back: all is undone all the same, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash.places import everywhere
from tests.crash.processes import Servers
from tests.crash.rolled_back import broken, wrong
from tests.crash.rows import Rows
from tests.crash.trials import Trial

pytestmark = pytest.mark.slow

PARTS = 6


def look(trial: Trial) -> Rows:
    with trial.tables:
        return trial.look()


@pytest.mark.parametrize(("plant", "promise"), [("forget_undone", "I28"), ("undo_forwards", "I28")])
def test_a_planted_bug_is_convicted(servers: Servers, folder: Path, plant: str, promise: str) -> None:
    wrong: list[str] = []
    for n in (22, 26, 30, 34, 38):
        trial = Trial(servers, folder, "sqlite:///", f"trial-{n}", flow="undone", plant=plant)
        trial.run(kill=f"after:{n}", must_end=False)
        trial.run(must_end=False, patience=6.0)
        wrong += broken(trial.ids[0], trial.book, look(trial), kills=1)
    print(*wrong[:5], sep="\n")
    assert [line for line in wrong if line.startswith(promise)]


@pytest.mark.parametrize(("url", "part"), everywhere(range(PARTS)), indirect=["url"])
def test_killed_at_any_write_of_a_rollback_it_is_undone_all_the_same(
    servers: Servers, folder: Path, url: str, part: int
) -> None:
    first = Trial(servers, folder, url, f"whole-{part}", flow="undone")
    ended = first.run(kill="before:1000000")
    result, last = ended.results
    assert result["error"] == ["Doomed", "generation 1"]
    assert list(broken(first.ids[0], first.book, look(first), kills=0)) == []

    def kill_at(n: int) -> tuple[int, list[str]]:
        kills, wrong = 0, []
        for when in ("before", "after"):
            trial = Trial(servers, folder, url, f"{when}-{n}", flow="undone")
            ended = trial.run(kill=f"{when}:{n}")
            if ended.killed:
                kills += 1
                ended = trial.run()
            if ended.results[0].get("error") != result["error"]:
                wrong.append(f"{trial.name}: the end is {json.dumps(ended.results[0])}")
            wrong += [f"{trial.name}: {line}" for line in broken(trial.ids[0], trial.book, look(trial), kills=1)]
        return kills, wrong

    numbers = range(1 + part, last["boundaries"] + 1, PARTS)
    found = servers.each(kill_at, numbers)
    kills = sum(kills for kills, _ in found)
    print(f"{last['boundaries']} boundaries, {kills} kills at {len(numbers)} of them")
    assert kills >= len(numbers)
    assert [line for _, lines in found for line in lines] == []


@pytest.mark.parametrize(("url", "trouble"), everywhere(["", "twice", "never"]), indirect=["url"])
def test_killed_at_any_write_of_its_rollback_a_journey_is_cancelled_all_the_same(
    servers: Servers, folder: Path, url: str, trouble: str
) -> None:
    given = {"flow": "journey", "argument": json.dumps(trouble), "of": "rollback"}
    first = Trial(servers, folder, url, "whole", **given)
    boundaries = first.run(kill="before:1000000").results[-1]["boundaries"]
    assert list(wrong(first.ids[0], first.book, look(first), trouble, kills=0)) == []
    assert boundaries >= 5

    def kill_at(place: str) -> tuple[int, list[str]]:
        trial = Trial(servers, folder, url, place.replace(":", "-"), **given)
        kills = 0
        if trial.run(kill=place).killed:
            kills = 1
            trial.run()
        return kills, [f"{place}: {line}" for line in wrong(trial.ids[0], trial.book, look(trial), trouble, kills)]

    places = [f"{when}:{n}" for n in range(1, boundaries + 1) for when in ("before", "after")]
    found = servers.each(kill_at, places)
    print(f"{boundaries} boundaries, {sum(kills for kills, _ in found)} kills")
    assert [line for _, lines in found for line in lines] == []
    assert sum(kills for kills, _ in found) >= len(places) - 2
