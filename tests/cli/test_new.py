"""`new`: what it writes runs, and it writes over nothing."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from perdure.linting import lint

from .conftest import Shell

FILES = [".env", ".gitignore", "README.md", "my_shop.py", "pyproject.toml", "test_my_shop.py"]


@pytest.fixture
def project(shell: Shell) -> Shell:
    said = shell("new", "my-shop")
    assert said.code == 0, said.err
    return Shell(shell.folder / "my-shop")


def test_the_project_has_its_files_and_no_blanks_left(project: Shell) -> None:
    assert sorted(path.name for path in project.folder.iterdir()) == FILES
    for path in project.folder.iterdir():
        assert "{{" not in path.read_text()
    assert "DATABASE_URL=sqlite:///perdure.db\n" in (project.folder / ".env").read_text()
    assert ".env\n" in (project.folder / ".gitignore").read_text()
    assert tomllib.loads((project.folder / "pyproject.toml").read_text())["project"]["name"] == "my-shop"


def test_its_workflow_runs_waits_for_an_answer_and_ends(project: Shell) -> None:
    run = ("run", "my_shop:fulfil", '["a lamp", 1999]', "--id", "order-1")
    assert project(*run).code == 3
    assert (project.folder / "perdure.db").exists()
    assert "Where to?" in project("inbox").out
    assert project("answer", "order-1", "Main Street 1").code == 0
    ended = project(*run, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["output"]["address"] == "Main Street 1"
    assert [entry["kind"] for entry in project("show", "order-1", "--json").json["history"]] == [
        "step",
        "interrupt",
        "checkpoint",
        "step",
        "step",
    ]


def test_the_commands_that_are_shown_can_be_pasted(shell: Shell) -> None:
    commands = shell("new", "shop", "--folder", "a folder", "--json").json["next"]
    assert commands[0].startswith("cd ")
    folder = shell.folder / shlex.split(commands[0])[1]
    assert folder == shell.folder / "a folder" / "shop"
    codes = []
    for command in commands[1:]:
        words = shlex.split(command)
        at = next(i for i, word in enumerate(words) if word.endswith("perdure"))
        codes.append(Shell(folder)(*words[at + 1 :]).code)
    assert codes == [3, 0, 0]


def test_its_commands_in_the_readme_are_those_of_perdure(project: Shell) -> None:
    readme = (project.folder / "README.md").read_text().split("```")[1]
    codes = [project(*shlex.split(line)[1:]).code for line in readme.strip().splitlines()]
    assert codes == [3, 0, 0, 0, 0]


def test_its_test_passes(project: Shell) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_its_workflow_has_nothing_for_lint_to_say(project: Shell) -> None:
    report = lint((project.folder / "my_shop.py").read_text())
    assert (report.findings, report.workflows) == ((), ("fulfil",))


def test_nothing_is_overwritten(shell: Shell) -> None:
    mine = shell.folder / "shop" / "shop.py"
    mine.parent.mkdir()
    mine.write_text("mine")
    said = shell("new", "shop")
    assert said.code == 1
    assert "nothing was written" in said.err
    assert mine.read_text() == "mine"
    assert [path.name for path in mine.parent.iterdir()] == ["shop.py"]
    assert shell("new", "app.py").code == 1  # a file of this name
    assert (shell.folder / "app.py").is_file()


def test_an_empty_folder_may_be_there(shell: Shell) -> None:
    (shell.folder / "shop").mkdir()
    assert shell("new", "shop").code == 0


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "1st", "a b", "-x", "a--b", "a-", "class", "match", "json", "Click", "é", "x" * 101],
)
def test_a_name_that_cannot_be_a_module_is_a_usage_error(shell: Shell, name: str) -> None:
    said = shell("new", "--", name)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert [path.name for path in shell.folder.iterdir()] == ["app.py"]


def test_a_folder_that_cannot_be_made_is_said_in_words(shell: Shell) -> None:
    said = shell("new", "shop", "--folder", "app.py")
    assert said.code == 1
    assert "cannot be written" in said.err
    assert "Traceback" not in said.err


def test_it_says_what_goes_before_the_projects_own_database(shell: Shell) -> None:
    assert "DATABASE_URL is set" in shell("new", "one", DATABASE_URL="sqlite:///x.db").err
    assert "DATABASE_URL is set" not in shell("new", "two").err


def test_json_says_what_was_written(shell: Shell) -> None:
    document = shell("new", "my-shop", "--json").json
    assert (document["folder"], document["package"], document["files"]) == ("my-shop", "my_shop", FILES)
    assert Path(shell.folder, "my-shop", "my_shop.py").exists()
