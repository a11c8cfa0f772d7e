"""A folder of files: the process dies at every single access to the disk, and what it was writing is torn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash import ledger
from tests.crash.host import DISK
from tests.crash.processes import Host, Servers, until
from tests.crash.promises import broken
from tests.crash.rows import Tables
from tests.crash.trials import Trial, undisturbed

FLOW: dict[str, Any] = {"flow": "compact", "poll": 0.02}
ID = "orphaned"


@pytest.fixture
def url(folder: Path) -> str:
    return f"file://{folder}/perdure"


@pytest.mark.parametrize("how", DISK)
def test_killed_at_any_access_to_the_disk_it_ends_as_if_undisturbed(
    servers: Servers, folder: Path, url: str, how: str
) -> None:
    reference = undisturbed(servers, folder, url, **FLOW)
    accesses = _accesses(Trial(servers, folder, url, "counted", **FLOW), how)

    def kill_at(n: int) -> tuple[bool, list[str]]:
        trial = Trial(servers, folder, url, f"{how}-{n}", **FLOW)
        ended = trial.run(kill=f"{how}:{n}")
        killed = ended.killed
        if killed:
            trial.look()
            ended = trial.run()
        return killed, trial.wrong(reference, ended.results)

    found = servers.each(kill_at, range(1, accesses + 2))
    kills = sum(killed for killed, _ in found)
    print(f"{accesses} accesses, {kills} kills")
    assert kills > accesses / 2, "the number varies a little, but not by so much"
    assert [line for _, wrong in found for line in wrong] == []


def _accesses(trial: Trial, how: str) -> int:
    last: dict[str, int] = trial.run(kill=f"{how}:1000000").results[-1]
    return last["boundaries"]


def test_killed_again_and_again_it_ends_as_if_undisturbed(servers: Servers, folder: Path, url: str) -> None:
    reference = undisturbed(servers, folder, url, **FLOW)
    trial = Trial(servers, folder, url, "chain", **FLOW)
    kills = 0
    for n in range(200):
        ended = trial.run(kill=f"{DISK[n % len(DISK)]}:{5 + n % 7}")
        if not ended.killed:
            break
        kills += 1
        trial.look()
    print(f"{kills} kills in one life")
    assert kills > 5
    assert trial.wrong(reference, ended.results) == []


@pytest.mark.parametrize("leave", [Host.kill, lambda host: host.results()], ids=["killed", "gone"])
def test_who_stands_by_takes_over_however_long_the_lease(
    folder: Path, url: str, leave: Callable[[Host], object]
) -> None:
    arguments = (url, ID, "--flow", "gated", "--argument", '"x"', "--lease", "3600", "--poll", "0.25")
    book = folder / "ledger"
    with Tables(url) as tables, Host(folder, "first", *arguments) as first:
        until(lambda: [line for line in ledger.read(book) if line.key == "gate#1"], "the first worker to be at work")
        with Host(folder, "second", *arguments[:1], "other", *arguments[2:]) as second:
            until(lambda: [row for row in tables.read().executions if row["id"] == "other"], "the other's start")
            assert tables.read().execution("other")["owner"] in (None, 1), "only one process runs executions"
            left = time.monotonic()
            if leave is Host.kill:
                (folder / "gate-2").touch()
                first.kill()
            else:
                (folder / "gate-1").touch()
            leave(first) if leave is not Host.kill else None
            until(lambda: tables.read().execution(ID)["status"] == "completed", "the end of what the first one ran")
            print(f"completed {time.monotonic() - left:.3f} s after the first worker left")
            (folder / "gate-1").touch()
            (folder / "gate-2").touch()
            [result] = second.results()
        assert result["value"] == ["X", "x", "x!"]
        assert broken(ledger.read(book), tables.read()) == []
