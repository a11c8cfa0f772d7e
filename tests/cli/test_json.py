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
