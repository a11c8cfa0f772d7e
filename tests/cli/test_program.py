"""`perdure` itself: help, version, the demo behind its verb, what is typed wrongly."""

from __future__ import annotations

import pytest

import perdure

from .conftest import Shell

VERBS = (
    "demo",
    "new",
    "run",
    "start",
    "worker",
    "schedule",
    "list",
    "show",
    "watch",
    "events",
    "value",
    "inbox",
    "stats",
    "export",
    "answer",
    "signal",
    "cancel",
    "pause",
    "resume",
    "retry",
    "prune",
    "verify",
    "lint",
    "db",
    "completion",
)


def test_without_a_command_it_shows_help(shell: Shell) -> None:
    bare, asked, group = shell(), shell("--help"), shell("db")
    assert bare.code == asked.code == group.code == 0
    assert bare.out == asked.out
    assert all(f"\n  {verb} " in bare.out for verb in VERBS)
    assert "init" in group.out


def test_help_fits_a_narrow_terminal_and_cuts_no_line(shell: Shell) -> None:
    for words in ([], *([verb] for verb in VERBS if verb != "demo"), ["schedule", "add"]):
        out = shell(*words, "--help").out
        assert max(map(len, out.splitlines())) <= 80
        assert [line for line in out.splitlines()[1:] if line.endswith("...")] == []


def test_the_version_is_the_packages(shell: Shell) -> None:
    assert shell("--version").out == f"perdure {perdure.__version__}\n"


@pytest.mark.parametrize("words", [["nope"], ["run"], ["show"], ["list", "--limit", "0"], ["show", "x", "--nope"]])
def test_what_is_typed_wrongly_is_a_usage_error(shell: Shell, words: list[str]) -> None:
    said = shell(*words)
    assert said.code == 2
    assert "Usage:" in said.err
    assert "Traceback" not in said.err


def test_the_demo_is_behind_its_verb(shell: Shell) -> None:
    said = shell("demo", "--help")
    assert said.code == 0
    assert "perdure demo" in said.out
    assert "--yes" in said.out
