"""`--json`: one document on stdout, whatever happens."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from .conftest import APP, Shell

COMMANDS = [
    (["run", "app:add", "1"], 0),
    (["run", "app:mail"], 3),
    (["run", "app:fails", "1"], 1),
    (["start", "app:add", "1"], 0),
    (["list"], 0),
    (["show", "x"], 0),
    (["inbox"], 0),
    (["requests"], 0),
    (["answer", "x", "here"], 0),
    (["signal", "m", "letter", "1"], 0),
    (["cancel", "x"], 0),
    (["resume", "--status", "paused"], 0),
    (["pause", "m"], 0),
    (["pause", "--workflow", "mail"], 0),
    (["resume", "--workflow", "mail", "--dry-run"], 0),
    (["retry", "f"], 0),
    (["retry", "--status", "failed"], 0),
    (["prune", "--older-than", "0s"], 0),
    (["prune", "--older-than", "1d", "--dry-run"], 0),
    (["stats"], 0),
    (["export", "x"], 0),
    (["events", "x"], 0),
    (["value", "t", "mood"], 0),
    (["schedule", "list"], 0),
    (["schedule", "add", "n", "app:add", "0 2 * * *", "[1]"], 0),
    (["schedule", "pause", "nightly"], 0),
    (["schedule", "resume", "nightly"], 0),
    (["schedule", "remove", "nightly"], 0),
    (["verify", "app"], 0),
    (["lint", "app.py"], 0),
    (["new", "my-shop"], 0),
    (["completion", "bash"], 0),
    (["db", "init"], 0),
    (["db", "check"], 0),
]
ERRORS = [
    (["run", "app:nope"], 2),
    (["run", "app:add", "[]"], 2),
    (["show", "nope"], 1),
    (["watch", "nope"], 1),
    (["answer", "x", "5"], 1),
    (["answer", "m", "5"], 1),
    (["signal", "x", "n", "{"], 2),
    (["cancel", "done"], 1),
    (["resume", "m"], 1),
    (["pause", "done"], 1),
    (["retry", "m"], 1),
    (["retry"], 2),
    (["cancel", "--status", "completed"], 2),
    (["prune", "--older-than", "old"], 2),
    (["export", "nope"], 1),
    (["events", "nope"], 1),
    (["value", "x", "nope"], 1),
    (["schedule", "pause", "nope"], 1),
    (["schedule", "add", "n", "app:add", "often", "[1]"], 2),
    (["verify", "nope"], 2),
    (["lint", "nope"], 2),
    (["new", "1"], 2),
    (["completion", "csh"], 2),
    (["list", "--db", "sqlite:///missing.db"], 1),
]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    (folder / "app.py").write_text(APP)
    shell = Shell(folder)
    shell("run", "app:fulfil", '"a lamp"', "--id", "x")
    shell("run", "app:mail", "--id", "m")
    shell("run", "app:add", "1", "--id", "done")
    shell("run", "app:fails", "1", "--id", "f")
    shell("run", "app:talks", "false", "--id", "t")
    shell("schedule", "add", "nightly", "app:add", "0 2 * * *", "[1]")
    return folder


@pytest.fixture
def filled(once: Path, tmp_path: Path) -> Shell:
    return Shell(Path(shutil.copytree(once, tmp_path / "filled")))


@pytest.mark.parametrize(
    ("words", "code"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_every_command_gives_one_document(filled: Shell, words: list[str], code: int) -> None:
    said = filled("--json", *words)
    assert (said.code, type(said.json)) == (code, dict), said.err


@pytest.mark.parametrize(
    ("words", "code"), ERRORS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_an_error_is_a_document_too_and_stays_in_words_on_stderr(filled: Shell, words: list[str], code: int) -> None:
    said = filled(*words, "--json")
    assert said.code == code, said.out + said.err
    assert "Traceback" not in said.err
    assert said.err.strip()
    assert set(said.json["error"]) == {"type", "message"}


def test_a_worker_tells_in_one_document_what_it_runs(filled: Shell) -> None:
    with filled.running("worker", "app", "--json") as child:
        assert child.stdout is not None
        text = ""
        for line in child.stdout:
            text += line
            if line == "}\n":
                break
        child.send_signal(signal.SIGTERM)
        rest, err = child.communicate(timeout=60)
    assert rest == ""
    assert child.returncode == 0, err
    assert {"name": "fulfil", "version": 1} in json.loads(text)["workflows"]
