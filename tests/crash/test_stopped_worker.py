"""A worker that is stopped for longer than its lease is overtaken, and does no harm when it wakes up."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.crash import ledger
from tests.crash.processes import Host, until
from tests.crash.promises import broken, shrunk
from tests.crash.rows import Tables

ID = "overtaken"
ARGUMENTS = (ID, "--flow", "gated", "--argument", '"x"', "--lease", "1.0")


def test_a_stopped_worker_is_overtaken_records_nothing_says_so_and_serves_on(folder: Path, url: str) -> None:
    if url.startswith("file:"):
        pytest.skip("a lock tells who runs executions in a folder of files: who is only stopped still does")
    book = folder / "ledger"

    def entered(fence: int) -> list[ledger.Line]:
        lines = ledger.read(book)
        return [line for line in lines if (line.what, line.key, line.fence) == (ledger.ENTER, "gate#1", fence)]

    with Tables(url) as tables, Host(folder, "first", url, *ARGUMENTS, "--then", "next") as first:
        until(lambda: entered(1), "the first worker to be in the step")
        first.send(signal.SIGSTOP)
        with Host(folder, "second", url, *ARGUMENTS) as second:
            taken = until(lambda: entered(2), "the second worker to be in the step")
            assert {line.pid for line in taken} == {second.pid}
            (folder / "gate-2").touch()
            [result] = second.results()
        assert result["value"] == ["X", "x", "x!"]
        before = tables.read()
        (folder / "gate-1").touch()  # of the execution that it lost, and of the one to come
        first.send(signal.SIGCONT)
        lost, then = first.results()
        after = tables.read()

    assert lost["value"] == then["value"] == result["value"]
    assert after.journal(ID) == before.journal(ID)
    assert after.execution(ID) == before.execution(ID)
    assert [entry["fence"] for entry in after.journal(ID)] == [1, 2, 2]
    errors = [told for told in first.log() if "LeaseLostError" in told["errors"]]
    assert errors and all(told["level"] == "ERROR" for told in errors)
    mine = {line.pid for line in ledger.read(book) if line.execution == "next" and line.what == ledger.ENTER}
    assert mine == {first.pid}
    assert len([row for row in after.workers if row["pid"] == first.pid]) == 2
    assert broken(ledger.read(book), after) + list(shrunk(before, after)) == []
