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


LONG = "x" * 300


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["run", "app:add", "1", "--id", ""], "'--id'"),
        (["run", "app:add", "1", "--id", LONG], "at most 255 bytes"),
        (["start", "app:add", "1", "--id", LONG], "at most 255 bytes"),
        (["start", "app:add", "1", "--namespace", "shop", "--id", "x" * 250], "at most 249 bytes"),
        (["start", "app:add", "1", "--queue", ""], "'--queue'"),
        (["start", "app:add", "1", "--queue", "~x"], "does not begin with ~"),
        (["schedule", "add", "s", "app:add", "0 2 * * *", "[1]", "--queue", LONG], "'--queue'"),
        (["fork", "x", "--id", LONG], "at most 255 bytes"),
        (["list", "--namespace", ""], "'--namespace'"),
        (["list", "--namespace", "a b"], "'--namespace'"),
        (["worker", "app", "--namespace", LONG], "'--namespace'"),
        (["worker", "app", "--queues", f"{LONG}:4"], "--queues: a queue's name"),
        (["worker", "app", "--queues", "~x"], "--queues: a queue's name"),
        (["worker", "app", "--health-port", "0", "--health-host", ""], "'--health-host'"),
        (["worker", f"{LONG}.py"], "there is no file"),
        (["lint", LONG], "there is no module"),
        (["signal", "x", ""], "'NAME'"),
        (["signal", "x", "letter", "--id", ""], "'--id'"),
        (["cancel", "--text", ""], "'--text'"),
        (["approve", "x", "--by", ""], "'--by'"),
    ],
    ids=lambda value: " ".join(word[:12] for word in value) if isinstance(value, list) else "",
)
def test_what_is_empty_or_too_long_is_a_usage_error_in_words(shell: Shell, words: list[str], why: str) -> None:
    said = shell(*words, "--json")
    assert (said.code, said.json["error"]["type"] in ("BadParameter", "UsageError")) == (2, True), said.err
    assert why in said.json["error"]["message"]
    assert "Traceback" not in said.err
    assert not (shell.folder / "perdure.db").exists()


def test_a_namespace_of_the_environment_is_looked_at_alike(shell: Shell) -> None:
    said = shell("list", PERDURE_NAMESPACE="a b")
    assert said.code == 2
    assert "PERDURE_NAMESPACE" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ["new", "shop", "--folder", LONG],
        ["list", "--db", f"sqlite:///{LONG}"],
        ["worker", "app", "--health-port", "0", "--health-host", LONG],
    ],
)
def test_what_the_system_refuses_is_said_in_words(shell: Shell, words: list[str]) -> None:
    said = shell(*words, "--json")
    assert said.code == 1
    assert "Error: " in said.err and "Traceback" not in said.err


def test_the_demo_is_behind_its_verb(shell: Shell) -> None:
    said = shell("demo", "--help")
    assert said.code == 0
    assert "perdure demo" in said.out
    assert "--yes" in said.out
