"""`move`: what it says, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .conftest import Shell


@pytest.fixture
def filled(shell: Shell) -> Shell:
    assert shell("run", "app:add", "1", "--id", "a1").code == 0
    assert shell("run", "app:fulfil", '"lamp"', "--id", "f1").code == 3
    return shell


SOURCE, TARGET = "sqlite:///perdure.db", "sqlite:///new.db"


def test_it_tells_what_was_moved_and_the_rest_goes_on_there(filled: Shell) -> None:
    done = filled("move", SOURCE, TARGET, "--json")
    assert done.code == 0, done.err
    assert {name: done.json[name] for name in ("source", "target", "executions", "there_before", "gone_on")} == {
        "source": SOURCE,
        "target": TARGET,
        "executions": 2,
        "there_before": 0,
        "gone_on": 0,
    }
    assert all(share["arrived"] for share in done.json["tables"].values())
    assert done.json["tables"]["workflow_executions"]["rows"] == 2
    again = filled("move", SOURCE, TARGET)
    assert "2 of them were there already" in again.out
    assert filled("answer", "f1", '"Berlin"', "--db", TARGET).code == 0
    assert '"lamp to Berlin"' in filled("run", "app:fulfil", '"lamp"', "--id", "f1", "--db", TARGET).out


def test_on_a_terminal_a_bar_is_drawn_and_elsewhere_lines_are_written(filled: Shell) -> None:
    assert "[##############################]  2 of 2" in filled.terminal("move", SOURCE, TARGET).out
    assert "2 of 2 moved\n" in filled("move", SOURCE, TARGET).err


def test_the_old_one_is_refused_until_it_is_reopened(filled: Shell) -> None:
    filled("move", SOURCE, TARGET)
    for words in (["list"], ["run", "app:add", "2"], ["answer", "f1", '"x"']):
        refused = filled(*words)
        assert (refused.code, "were moved to sqlite:///new.db" in refused.err) == (1, True), refused
    assert "is in use again" in filled("move", "--reopen", SOURCE).out
    assert filled("list").code == 0
    assert "has no mark" in filled("move", "--reopen", SOURCE).out


def test_a_live_worker_is_named_and_nothing_is_changed_or_it_is_waited_for(filled: Shell) -> None:
    with program(filled, "worker", "app") as worker:
        said_by(worker, "Ctrl-C")
        refused = filled("move", SOURCE, TARGET)
        assert refused.code == 1
        assert f"1 live worker(s) run executions of {SOURCE}" in refused.err
        assert f"pid {worker.pid}" in refused.err
        assert filled("list").code == 0, "it is not marked"
        with program(filled, "move", "--wait", SOURCE, TARGET) as move:
            said_by(move, "Waiting for 1 worker(s) to leave")
            worker.terminate()
            said_by(move, "2 executions moved")
            assert move.wait(60) == 0


@contextmanager
def program(shell: Shell, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on meanwhile, and ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", *words],
        cwd=shell.folder,
        env=shell.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said_by(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"it never said {words!r}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([SOURCE], "give SOURCE and TARGET"),
        (["--reopen", SOURCE, TARGET], "give SOURCE and TARGET"),
        ([SOURCE, SOURCE], "the same database"),
        (["perdure.db", TARGET], "is no URL"),
        (["memory://", TARGET], "nothing can be moved"),
    ],
)
def test_what_makes_no_sense_is_told(filled: Shell, words: list[str], said: str) -> None:
    done = filled("move", *words)
    assert (done.code, said in done.err) == (2, True), done


def test_a_source_that_is_not_there_is_not_created(shell: Shell) -> None:
    assert "there is no database" in shell("move", SOURCE, TARGET).err
    assert not list(shell.folder.glob("*.db"))
