"""Whoever starts an execution with a message is killed in the middle: both are there, or neither."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_killed_anywhere_a_start_and_its_message_are_both_there_or_neither(url: str) -> None:
    command = [sys.executable, "-m", "tests.crash.starter", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    *told, results = map(json.loads, done.stdout.splitlines())
    assert [line["ended"] for line in told] == ["killed"] * (len(told) - 1) + ["exit 0"], done.stderr[-4000:]
    assert {(line["rows"], line["messages"]) for line in told} == {(0, 0), (1, 1)}, told
    assert (told[-1]["rows"], told[-1]["messages"]) == (1, 1)
    assert results == list(range(1, len(told) + 1)), "each is there once, with its message"
    print(f"{len(told) - 1} kills")
