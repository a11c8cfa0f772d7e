"""Processes are killed at every boundary around a transactional step, and around the delivery of an outbox row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.own_transactions.conftest import DATABASES
from tests.own_transactions.host import OUTBOX_POINTS, STEP_POINTS

ROOT = Path(__file__).parents[2]
SURE = {"begin before", "begin after", "entered", "written", "commit 1", "recorded"}
SURE |= {"asked", "committed", "fold 1", "folded"}
"""Where a process dies on each database; how often it waits in between differs."""


@pytest.mark.slow
@pytest.mark.parametrize("database", DATABASES)
def test_killed_anywhere_there_are_rows_if_and_only_if_there_is_a_record(database: str, url: str) -> None:
    command = [sys.executable, "-m", "tests.own_transactions.host", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    told: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(STEP_POINTS) + len(OUTBOX_POINTS), done.stderr[-4000:]
    wrong = [line for line in told if not _is_right(line)]
    assert wrong == [], done.stderr[-4000:]
    kills = [line["point"] for line in told if line["ends"][0] == "killed"]
    assert {point[2:] for point in kills} >= SURE, kills
    print(f"{len(kills)} kills at {len(told)} points")


def _is_right(line: dict[str, Any]) -> bool:
    killed, finished = line["looks"]
    together = all(look["rows"] == look["records"] <= 1 and look["asked"] <= 1 for look in line["looks"])
    if line["ends"][0] not in ("killed", "exit 0") or line["ends"][1] != "exit 0" or not together:
        return False
    if line["point"].startswith("s"):
        return bool(finished["rows"] == finished["completed"] == 1)
    # Asked for in the user's transaction: started, or still to be, if and only if that was committed.
    asked = all(look["started"] == look["asked"] for look in line["looks"])
    return bool(asked and finished["asked"] == killed["asked"] == finished["completed"])
