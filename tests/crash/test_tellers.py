"""A process is killed at every write of executions that tell, begin anew, and are plain functions."""

from __future__ import annotations

from pathlib import Path

from tests.crash.processes import Servers
from tests.crash.test_boundaries import kill_everywhere
from tests.crash.trials import Trial, undisturbed


def test_killed_at_any_boundary_it_has_told_everything_once(servers: Servers, folder: Path, url: str) -> None:
    settings = {"flow": "teller", "argument": "7"}
    reference = undisturbed(servers, folder, url, **settings)
    numbers = range(1, reference.boundaries + 3)
    _, wrong = kill_everywhere(servers, reference, folder, url, numbers, **settings)
    assert wrong == []


def test_killed_at_any_boundary_it_begins_each_life_once(servers: Servers, folder: Path, url: str) -> None:
    settings = {"flow": "renews", "argument": "0"}

    def count(n: int) -> int:
        ended = Trial(servers, folder, url, "undisturbed", **settings).run(kill="before:1000000")
        return int(ended.results[-1]["boundaries"])

    def kill_at(n: int) -> tuple[int, list[str]]:
        kills, wrong = 0, []
        for when in ("before", "after"):
            trial = Trial(servers, folder, url, f"{when}-{n}", **settings)
            kills += trial.run(kill=f"{when}:{n}").killed
            result = trial.run().results[0]
            with trial.tables:
                entries = [e for e in trial.look().entries if e["execution_id"] == trial.ids[0]]
            found = {
                "end": (result["status"], result["value"]) == ("completed", [0, 1, 2]),
                "gapless": [e["seq"] for e in entries] == list(range(1, len(entries) + 1)),
                "each life's step once": [(e["generation"], e["output"]) for e in entries if e["kind"] == "step"]
                == [(0, "0"), (1, "1"), (2, "2")],
                "three lives": [e["key"] for e in entries].count("restarted") == 2,
            }
            wrong += [f"{trial.name}: {promise}" for promise, held in found.items() if not held]
        return kills, wrong

    (boundaries,) = servers.each(count, [0])
    found = servers.each(kill_at, range(1, boundaries + 1))
    assert [line for _, lines in found for line in lines] == []
    assert sum(kills for kills, _ in found) >= 2 * (boundaries - 1)
