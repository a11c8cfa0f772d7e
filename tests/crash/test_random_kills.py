"""Two workers compete for eight executions and are killed, and killed again."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.crash.places import shared_out
from tests.crash.processes import Servers
from tests.crash.trials import Trial, undisturbed

pytestmark = pytest.mark.slow

WAVES = 3


# In a folder of files one process at a time runs executions.
@pytest.mark.parametrize(
    ("url", "seed"), [case for case in shared_out(range(6)) if case.values[0] != "file"], indirect=["url"]
)
def test_competing_workers_killed_at_random_end_what_they_ran_as_if_undisturbed(
    servers: Servers, folder: Path, url: str, seed: int
) -> None:
    random = Random(seed)
    reference = undisturbed(servers, folder, url)
    ids = [f"x{n}" for n in range(8)]
    trial = Trial(servers, folder, url, f"round-{seed}", *ids, lease=1.0)
    kills = 0
    for _ in range(WAVES):
        when = [random.choice(("before", "after")) for _ in "ab"]
        at = [random.randrange(5, 250) for _ in "ab"]
        ended = servers.each(trial.rival, [{"kill": f"{w}:{n}"} for w, n in zip(when, at, strict=True)])
        kills += sum(one.killed for one in ended)
        trial.look()
    last = servers.each(trial.rival, [{}, {}])
    print(f"{kills} kills, {len(trial.look().entries)} entries")
    assert kills
    assert trial.wrong(reference, [result for one in last for result in one.results]) == []
