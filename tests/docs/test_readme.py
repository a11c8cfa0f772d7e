"""What the README shows is what happens: every example runs, in order, in one folder.

- ```python: saved under the name in its first line (`# name.py`) and run in a process of its own.
- ```console: each `$ perdure ...` or `$ python ...` is run. Where lines follow it, they are what it prints
  (`...` stands for anything). It ends with 0.
"""

import doctest
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    text: str


def blocks(text: str) -> list[Block]:
    return [Block(m[1], text.count("\n", 0, m.start()) + 1, m[2]) for m in FENCE.finditer(text)]


def commands(block: Block) -> list[tuple[list[str], str]]:
    """The commands of a console block, each with what it is said to print."""
    found: list[tuple[list[str], str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((shlex.split(line[2:]), ""))
        else:
            command, printed = found[-1]
            found[-1] = (command, f"{printed}{line}\n")
    return found


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    here = {name: value for name, value in os.environ.items() if name not in ("PERDURE_DATABASE_URL", "DATABASE_URL")}
    return subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, timeout=60)


def program(command: list[str]) -> list[str]:
    match command:
        case ["perdure", *rest]:
            return [sys.executable, "-m", "perdure", *rest]
        case ["python", *rest]:
            return [sys.executable, *rest]
    raise AssertionError(f"the README shows a command that no test can run: {shlex.join(command)}")


def test_every_example_of_the_readme_runs(tmp_path: Path) -> None:
    for block in blocks(README.read_text()):
        where = f"README.md:{block.line}"
        if block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.text)
            assert name is not None, f"{where}: the first line names no file"
            (tmp_path / name[1]).write_text(block.text)
            done = run([sys.executable, "-W", "error", name[1]], tmp_path)
            assert done.returncode == 0, f"{where}:\n{done.stdout}{done.stderr}"
            continue
        for command, printed in commands(block):
            done = run(program(command), tmp_path)
            assert done.returncode == 0, f"{where}: {shlex.join(command)}:\n{done.stdout}{done.stderr}"
            if printed:
                fits = doctest.OutputChecker().check_output(printed, done.stdout, FLAGS)
                assert fits, f"{where}: {shlex.join(command)} printed\n{done.stdout}"


def test_the_readme_has_examples_of_both_kinds() -> None:
    languages = [block.language for block in blocks(README.read_text())]
    assert languages.count("python") >= 2
    assert languages.count("console") >= 2


@pytest.mark.parametrize("claim", ["exactly-once execution", "executed exactly once", "runs exactly once"])
def test_the_readme_never_claims_exactly_once_execution(claim: str) -> None:
    assert claim not in README.read_text().lower()
