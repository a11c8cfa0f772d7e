"""A process is killed at every single write, before it and after it: the end is that of an undisturbed run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.crash.places import shared_out
from tests.crash.processes import Servers
from tests.crash.trials import Reference, Trial, undisturbed

PARTS = 12
SERVERS_STRIDE = 3  # of so many writes, the last one is where it is killed

pytestmark = pytest.mark.slow


def kill_everywhere(
    servers: Servers, reference: Reference, folder: Path, url: str, numbers: Sequence[int], **settings: Any
) -> tuple[int, list[str]]:
    """Kill one execution each before, while and after the n-th write; resume it. Gives kills and broken promises."""

    def kill_at(n: int) -> tuple[int, list[str]]:
        kills, wrong = 0, []
        # "during", the commit is on its way to a server: it is recorded or not, and nobody was told.
        for when in (
            ("before", "after") if url.startswith(("sqlite", "file")) or n % 3 else ("before", "during", "after")
        ):
            trial = Trial(servers, folder, url, f"{when}-{n}", **settings)
            ended = trial.run(kill=f"{when}:{n}")
            if ended.killed:
                kills += 1
                trial.look()
                ended = trial.run()
            else:  # the number of boundaries varies a little: this run had fewer
                assert ended.results[-1]["boundaries"] < n
            wrong += trial.wrong(reference, ended.results)
        return kills, wrong

    found = servers.each(kill_at, numbers)
    kills = sum(kills for kills, _ in found)
    print(f"{reference.boundaries} boundaries, {kills} kills at {len(numbers)} of them")
    assert kills >= 2 * len([n for n in numbers if n < reference.boundaries / 2])
    return kills, [line for _, lines in found for line in lines]


@pytest.mark.parametrize(("url", "part"), shared_out(range(PARTS)), indirect=["url"])
def test_killed_once_at_any_boundary_it_ends_as_if_undisturbed(
    servers: Servers, folder: Path, url: str, part: int
) -> None:
    reference = undisturbed(servers, folder, url)
    numbers = range(1 + part, reference.boundaries + PARTS + 1, PARTS)
    _, wrong = kill_everywhere(servers, reference, folder, url, numbers)
    assert wrong == []


@pytest.mark.parametrize(("url", "part"), shared_out(range(4)), indirect=["url"])
@pytest.mark.parametrize("how", ["cancel", "fail"])
def test_killed_while_it_comes_to_a_bad_end_it_takes_all_its_children_with_it(
    servers: Servers, folder: Path, url: str, how: str, part: int
) -> None:
    settings = {"flow": "doomed", "argument": json.dumps(how), "cancel": how == "cancel"}
    reference = undisturbed(servers, folder, url, shaped=False, **settings)  # it does more or less until its end
    numbers = range(1 + part, reference.boundaries + 1, 4)
    _, wrong = kill_everywhere(servers, reference, folder, url, numbers, **settings)
    assert wrong == []


def test_killed_at_every_boundary_of_its_life_in_turn_it_ends_as_if_undisturbed(
    servers: Servers, folder: Path, url: str
) -> None:
    if url.startswith("file:"):
        pytest.skip("test_files.py has one of its own, at every access to the disk")
    reference = undisturbed(servers, folder, url)
    stride = 1 if url.startswith("sqlite") else SERVERS_STRIDE
    # So many deaths in a row are taken for the work of what ran: each process begins by letting it go on.
    trial = Trial(servers, folder, url, "chain", mend=True)
    length, idle = 0, 0
    for n in count(1):
        if idle < 2:
            ended = trial.run(kill=f"{'before' if n % 2 else 'after'}:{stride}", of="writes")
        else:
            ended = trial.run(kill=f"after:{stride}", of="entries")
        if not ended.killed:
            break
        grown = len(trial.look().entries)
        idle = idle + 1 if grown == length else 0
        length = grown
    print(f"{n - 1} kills in one life of {length} entries")
    assert n - 1 >= reference.boundaries // (2 * stride)
    assert trial.wrong(reference, ended.results) == []
