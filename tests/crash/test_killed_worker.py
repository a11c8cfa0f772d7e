"""The death of a process is seen where it can be seen, not waited for."""

from __future__ import annotations

import time
from pathlib import Path

from tests.crash import ledger
from tests.crash.processes import Host, until
from tests.crash.promises import broken
from tests.crash.rows import Tables

ID = "orphaned"


def test_on_sqlite_what_a_killed_worker_ran_goes_on_however_long_its_lease(folder: Path) -> None:
    url = f"sqlite:///{folder}/perdure.db"
    arguments = (url, ID, "--flow", "gated", "--argument", '"x"', "--lease", "3600", "--poll", "0.25")
    book = folder / "ledger"
    (folder / "gate-2").touch()
    with Tables(url) as tables, Host(folder, "first", *arguments) as first:
        until(lambda: [line for line in ledger.read(book) if line.key == "gate#1"], "the first worker to be at work")
        with Host(folder, "second", *arguments) as second:
            until(lambda: len(tables.read().workers) == 2, "the second worker to be there")
            first.kill()
            killed = time.monotonic()
            until(lambda: tables.read().execution(ID)["fence"] == 2, "the execution to be taken over")
            taken = time.monotonic()
            until(lambda: tables.read().journal(ID)[-1]["fence"] == 2, "a new step to be recorded")
            recorded = time.monotonic()
            [result] = second.results()
        print(f"taken over {taken - killed:.3f} s after the kill, a new step recorded after {recorded - killed:.3f} s")
        assert result["value"] == ["X", "x", "x!"]
        assert broken(ledger.read(book), tables.read()) == []


def test_no_lock_is_held_while_user_code_runs(folder: Path, url: str) -> None:
    with Tables(url) as tables, Host(folder, "only", url, ID, "--flow", "gated", "--argument", '"x"') as only:
        lines = folder / "ledger"
        until(lambda: [line for line in ledger.read(lines) if line.key == "gate#1"], "the step to be under way")
        until(tables.lock_all, "the locks of all tables")
        (folder / "gate-1").touch()
        assert only.results()[0]["status"] == "completed"
