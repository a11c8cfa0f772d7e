"""`db init` and `db check`."""

from __future__ import annotations

import pytest

from perdure.cli.session import Session

from .conftest import Shell

SIX = [
    "workflow_definitions",
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "rollback_actions",
]


def test_init_says_of_each_table_whether_it_was_there(shell: Shell) -> None:
    first = shell("db", "init", "--json").json["tables"]
    again = shell("db", "init", "--json").json["tables"]
    assert [table["name"] for table in first[:6]] == SIX
    assert all(table["created"] for table in first)
    assert not any(table["created"] for table in again)
    assert shell("db", "init").out.count("already there") == len(first)


def test_check_says_line_by_line_that_all_is_well_and_changes_nothing(shell: Shell) -> None:
    shell("run", "app:mail", "--id", "m")
    before = shell("list", "--json").json
    said = shell("db", "check")
    assert said.code == 0, said.err
    assert [line.split()[0] for line in said.out.splitlines()] == ["ok"] * 6
    assert shell("list", "--json").json == before


@pytest.mark.parametrize("words", [["db", "check"], ["db", "init"], ["list"], ["run", "app:add", "1"]])
def test_a_server_that_is_not_there_is_said_in_words_and_without_the_password(shell: Shell, words: list[str]) -> None:
    pytest.importorskip("asyncpg")
    said = shell(*words, "--db", "postgresql://ana:s3cret@127.0.0.1:1/x")
    assert said.code == 1
    assert "127.0.0.1:1/x cannot be reached" in said.out + said.err
    assert "s3cret" not in said.out + said.err
    assert "Traceback" not in said.out + said.err


def test_no_password_is_repeated(shell: Shell) -> None:
    said = shell("--db", "ana:s3cret@host", "list")
    assert said.code == 2
    assert "s3cret" not in said.err
    assert Session(db="postgresql://ana:s3cret@host/x").command("list").endswith("--db URL list")


def test_a_file_of_another_kind_is_left_as_it_is(shell: Shell) -> None:
    (shell.folder / "notes.db").write_text("my notes, no database at all")
    for words in (["list"], ["db", "check"], ["db", "init"]):
        said = shell(*words, "--db", "sqlite:///notes.db")
        assert said.code == 1
        assert "is not an SQLite database" in said.out + said.err
    assert (shell.folder / "notes.db").read_text() == "my notes, no database at all"
