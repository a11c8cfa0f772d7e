"""The demo's proof finds what it claims to find."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from perdure.demo import ledger
from perdure.demo.ledger import Line
from perdure.demo.proof import in_flight, prove


def line(what: str, key: str, pid: int) -> Line:
    return Line(what=what, execution="e", key=key, about=key.upper(), attempt=1, fence=pid, pid=pid, at=0.0)


KILLED = [line("enter", "a", 1), line("enter", "b", 1), line("leave", "a", 1), line("enter", "c", 1)]
AFTER = [line(what, key, 2) for key in "bc" for what in ("enter", "leave")]


def test_what_entered_and_did_not_leave_is_in_flight() -> None:
    assert in_flight(KILLED) == {"b": "B", "c": "C"}


def test_a_kill_makes_steps_enter_twice_and_be_recorded_once() -> None:
    proof = prove([*KILLED, *AFTER], ["a", "b", "c"], ["a"], killed=1)
    assert proof.broken == []
    assert (proof.entered, proof.recorded) == (5, 3)
    assert [(row.key, row.pids, row.in_flight) for row in proof.twice] == [("b", [1, 2], True), ("c", [1, 2], True)]


@pytest.mark.parametrize(
    ("recorded", "before", "broken"),
    [
        (["a", "b"], ["a"], "c (C) was recorded 0 times instead of once"),
        (["a", "b", "c", "c"], ["a"], "c (C) was recorded 2 times instead of once"),
        (["a", "b", "c"], ["a", "b"], "b (B) entered again after its outcome was recorded"),
        (["a", "b", "c", "d"], ["a"], "d was recorded without ever having run"),
    ],
)
def test_a_broken_promise_is_named(recorded: list[str], before: list[str], broken: str) -> None:
    assert prove([*KILLED, *AFTER], recorded, before, killed=1).broken == [broken]


def test_a_ledger_reads_back_and_drops_a_line_that_a_kill_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert ledger.read(path) == []
    ledger.write(path, KILLED[0])
    ledger.write(path, KILLED[1])
    with path.open("ab") as half:
        half.write(b'{"what": "en')
    assert ledger.read(path) == KILLED[:2]


def test_a_visit_notes_entering_and_leaving_and_no_leaving_on_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    running = SimpleNamespace(execution_id="e", key="k#1", attempt=2, fence=3)
    with ledger.visit(running, "without a ledger"):
        pass
    monkeypatch.setenv(ledger.VARIABLE, str(path))
    with ledger.visit(running, "x"):
        pass
    with pytest.raises(OSError, match="broken"), ledger.visit(running, "y"):
        raise OSError("broken")
    seen = [(each.what, each.about, each.attempt, each.fence, each.pid) for each in ledger.read(path)]
    here = os.getpid()
    assert seen == [("enter", "x", 2, 3, here), ("leave", "x", 2, 3, here), ("enter", "y", 2, 3, here)]
