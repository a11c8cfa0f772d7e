"""Twenty processes do one thing at the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash import ledger
from tests.crash.processes import PATIENCE, ROOT, Host, until
from tests.crash.promises import broken
from tests.crash.rows import Tables

ID = "contended"
RIVALS = 20


def herd(folder: Path, url: str, act: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.herd", url, ID, str(RIVALS), act],
        cwd=ROOT,
        env={**os.environ, ledger.VARIABLE: str(folder / "ledger")},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_of_twenty_different_answers_at_once_one_is_accepted_and_stands(folder: Path, url: str) -> None:
    with Tables(url) as tables:
        with Host(folder, "asking", url, ID, "--flow", "asks") as asking:
            until(lambda: [r for r in tables.read().executions if r["status"] == "waiting"], "it to wait")
            asking.kill()
        rivals = herd(folder, url, "answer")
        after = tables.read()
    assert Counter(told["first"] for told in rivals) == {"accepted": 1, "decided": RIVALS - 1}
    [winner] = [told for told in rivals if told["first"] == "accepted"]
    assert {(told["value"], told["again"], told["by"]) for told in rivals} == {
        (winner["n"], winner["n"], f"rival {winner['n']}")
    }
    [request] = after.requests
    assert (request["status"], json.loads(request["answer"])) == ("decided", winner["n"])
    assert [(e["key"], e["output"]) for e in after.journal(ID)] == [
        ("interrupt#1", str(winner["n"])),
        ("work#1", f'"1 {winner["n"]}!"'),
    ]
    lines = ledger.read(folder / "ledger")
    assert len([line for line in lines if line.what == ledger.ENTER]) == 1
    assert broken(lines, after) == []


def test_of_twenty_starts_of_one_id_at_once_all_get_one_execution_or_an_error(folder: Path, url: str) -> None:
    rivals = herd(folder, url, "start")
    with Tables(url) as tables:
        [row] = tables.read().executions
    given = json.loads(row["input"])["x"]
    told = {rival["n"]: rival["first"] for rival in rivals}
    assert told == {n: "started" if n % 2 == given else "exists" for n in range(RIVALS)}
    assert {rival["id"] for rival in rivals if rival["first"] == "started"} == {ID} == {row["id"]}
