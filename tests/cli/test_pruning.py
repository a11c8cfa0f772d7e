"""`prune`: what ended long ago is forgotten, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from .conftest import Shell


@pytest.fixture
def ended(shell: Shell) -> Shell:
    """Three that have ended, two of them forty days ago, and one that is open and as old."""
    for n in range(3):
        assert shell("run", "app:add", str(n), "--id", f"a{n}").code == 0
    shell("run", "app:mail", "--id", "m")
    with closing(sqlite3.connect(shell.folder / "perdure.db")) as database:
        for column in ("created_at", "ended_at"):
            database.execute(
                f"update workflow_executions set {column} = strftime('%Y-%m-%dT%H:%M:%f000Z', {column}, '-40 days')"
                " where id in ('a0', 'a1', 'm')"
            )
        database.commit()
    return shell


def ids(shell: Shell) -> list[str]:
    return sorted(item["id"] for item in shell("list", "--json").json["items"])


def test_only_what_ended_so_long_ago_goes(ended: Shell) -> None:
    looked = ended("prune", "--older-than", "30d", "--dry-run")
    assert looked.out.split() == ["a1", "a0"]
    assert ids(ended) == ["a0", "a1", "a2", "m"]
    assert ended("prune", "--older-than", "7w").out == "0 pruned.\n"
    assert ended.paste(looked.err).out == "2 pruned.\n"
    assert ids(ended) == ["a2", "m"]


def test_filters_narrow_it(ended: Shell) -> None:
    assert ended("prune", "--older-than", "1d", "--text", "a0", "--json").json["pruned"] == ["a0"]
    assert ended("prune", "--older-than", "1d", "--status", "failed", "--json").json["pruned"] == []
    assert ended("prune", "--older-than", "1d", "--status", "waiting").code == 2


def test_how_old_must_be_said(ended: Shell) -> None:
    for words in ([], ["--older-than", "old"], ["--older-than", "30"]):
        assert ended("prune", *words).code == 2
    assert len(ids(ended)) == 4


def test_on_a_terminal_several_are_asked_about(ended: Shell) -> None:
    assert ended.terminal("prune", "--older-than", "1d", typed="n\n").code == 1
    assert len(ids(ended)) == 4
    assert "2 pruned." in ended.terminal("prune", "--older-than", "1d", typed="y\n").out


def test_what_an_open_parent_needs_stays(shell: Shell) -> None:
    (shell.folder / "app.py").write_text(
        (shell.folder / "app.py").read_text()
        + "\n\n@workflow\nasync def parent() -> str:\n    await add(1)\n    return await receive('letter')\n"
    )
    assert shell("run", "app:parent", "--id", "p").code == 3
    said = shell("prune", "--older-than", "0s")
    assert said.out == "0 pruned.\n"
    assert "1 stay for now" in said.err
    assert ids(shell) == ["p", "p/add#1"]
