"""Pages whose blocks are run: what a reader would see, word by word.

- ```python: saved under the name in its first line (`# name.py`), in the folder of the first terminal.
- ```console: each `$ command` is typed into a terminal (bash). The lines that follow are printed by it, on stdout or
  stderr, in this order; others may stand between them, and `...` stands for anything in a line.

What stands behind the language says more: a number is the exit code of the last command; `terminal 2` is a second
terminal, in which the last command goes on while the page does; it ends with the page, by Ctrl-C.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, TypeVar

from tests.servers import free_port

T = TypeVar("T")

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE = 60.0
HIDDEN = ("PERDURE_DATABASE_URL", "DATABASE_URL", "PERDURE_ENCRYPTION_KEYS", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line`: where it begins. `language` and `options`: the words behind the fence."""

    language: str
    options: tuple[str, ...]
    line: int
    text: str


@dataclass(frozen=True)
class Command:
    text: str
    printed: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, those without a language too."""
    found: list[Block] = []
    begun: tuple[int, list[str]] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif begun is None:
            begun, lines = (number, line[3:].split()), []
        else:
            language, *options = begun[1] or [""]
            found.append(Block(language, tuple(options), begun[0], "".join(f"{each}\n" for each in lines)))
            begun = None
    assert begun is None, f"the block of line {begun} has no end"
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a console block, each with what it is said to print."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], ""))
        elif found and found[-1].text.endswith("\\"):
            found[-1] = Command(f"{found[-1].text}\n{line}", "")
        else:
            assert found, f"line {block.line}: output stands before the first command"
            found[-1] = Command(found[-1].text, f"{found[-1].printed}{line}\n")
    return found


def missing(wanted: str, got: str) -> str | None:
    """The first line that was to be printed and was not; None if all were, in order."""
    printed = iter([" ".join(line.split()) for line in got.splitlines()])
    for line in wanted.splitlines():
        words = ".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))
        if line.split() not in ([], ["..."]) and not any(re.search(rf"^\s*{words}\s*$", each) for each in printed):
            return line
    return None


def environment() -> dict[str, str]:
    """What a reader has: the programs of this virtualenv first, nothing that says where a database is."""
    here = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    here["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{here['PATH']}"
    return here | {"COLUMNS": "120", "PYTHONUNBUFFERED": "1"}


class Terminal:
    """A shell that keeps its folder, variables and jobs from one command to the next."""

    def __init__(self, folder: Path) -> None:
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the terminal
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._number = 0
        self._read = 0
        self.going = ""
        """The line that will tell the end of what goes on here, if anything does."""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ctrl-C for what still goes on, then the end of the shell."""
        try:
            if self.going:
                self.interrupt()
        finally:
            assert self._shell.stdin is not None
            self._shell.stdin.close()
            try:
                self._shell.wait(PATIENCE)
            finally:
                if self._shell.poll() is None:
                    os.killpg(self._shell.pid, signal.SIGKILL)
                self._out.close()

    def type(self, command: str) -> str:
        """Begin a command; gives the line that will tell its end."""
        self._number += 1
        mark = f"--- {self._shell.pid}.{self._number} ended:"
        assert self._shell.stdin is not None
        self._shell.stdin.write(f'{{ {command}\n}} 2>&1 </dev/null; printf "\\n{mark} %s\\n" $?\n'.encode())
        self._shell.stdin.flush()
        return mark

    def run(self, command: str) -> tuple[str, int]:
        """What a command prints, and its exit code."""
        return self._ended(self.type(command), command)

    def begin(self, command: str, printed: str) -> None:
        """Begin a command that goes on, and wait until it has printed this."""
        self.going = self.type(command)
        self._until(lambda text: missing(printed, text) is None or None, command)

    def interrupt(self) -> None:
        """Ctrl-C: for all that runs here, and not for the shell. Waits for its end."""
        mark, self.going = self.going, ""
        children = subprocess.run(["pgrep", "-P", str(self._shell.pid)], capture_output=True, text=True).stdout
        for pid in map(int, children.split()):
            os.kill(pid, signal.SIGINT)
        self._ended(mark, "Ctrl-C")

    def _ended(self, mark: str, command: str) -> tuple[str, int]:
        end = re.compile(rf"^(.*?)\n?{re.escape(mark)} (\d+)\n", re.DOTALL)
        got = self._until(end.match, command)
        self._read += len(got[0].encode())
        return got[1], int(got[2])

    def _until(self, look: Callable[[str], T | None], command: str) -> T:
        """What `look` finds in what was printed since the last command ended."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = os.pread(self._out.fileno(), 10_000_000, self._read).decode()
            if (found := look(text)) is not None:
                return found
            assert self._shell.poll() is None, f"$ {command}\nthe shell ended:\n{text}"
            assert time.monotonic() < deadline, f"$ {command}\nis not done after {PATIENCE:g} s:\n{text}"
            time.sleep(0.02)


def run_page(
    path: Path, folder: Path, *, run_files: bool = False, instead: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Do what the page says, in a folder. Its port 8000 is one that is free here.

    `run_files`: each Python file is run when it is shown, its warnings being errors. `instead`: what the page's words
    for a server are here.
    """
    text = re.sub(r"\b8000\b", str(free_port()), path.read_text())
    for words, here in instead.items():
        assert words in text, f"{path.name} does not speak of {words}"
        text = text.replace(words, here)
    with ExitStack() as stack:
        terminals: dict[str, Terminal] = {}
        for block in blocks(text):
            where = f"{path.name}:{block.line}"
            if block.language == "python":
                file = _save(block, _folder(terminals, folder), where)
                if run_files:
                    command = Block("console", (), block.line, f"$ python -W error {file}\n")
                    _type(command, terminals, folder, stack, where)
            elif block.language == "console":
                _type(block, terminals, folder, stack, where)


def _folder(terminals: dict[str, Terminal], folder: Path) -> Path:
    """Where the reader is: in the folder of the first terminal."""
    return Path(terminals["1"].run("pwd -P")[0].strip()) if "1" in terminals else folder


def _save(block: Block, folder: Path, where: str) -> str:
    name = re.match(r"# ([\w/]+\.py)\n", block.text)
    assert name is not None, f"{where}: the first line names no file"
    (folder / name[1]).write_text(block.text)
    return name[1]


def _type(block: Block, terminals: dict[str, Terminal], folder: Path, stack: ExitStack, where: str) -> None:
    options = iter(block.options)
    number, wanted = "1", 0
    for option in options:
        if option == "terminal":
            number = next(options)
        else:
            wanted = int(option)
    if number not in terminals:
        terminals[number] = stack.enter_context(Terminal(_folder(terminals, folder)))
    terminal = terminals[number]
    given = commands(block)
    for place, command in enumerate(given, 1):
        if number != "1" and place == len(given):
            if terminal.going:
                terminal.interrupt()
            terminal.begin(command.text, command.printed)
            return
        got, code = terminal.run(command.text)
        expected = wanted if place == len(given) else 0
        assert code == expected, f"{where}: $ {command.text}\nended with {code}, not {expected}:\n{got}"
        line = missing(command.printed, got)
        assert line is None, f"{where}: $ {command.text}\ndid not print {line!r} there, but:\n{got}"


PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
"""Those with something to run: the tutorial, and how to do this and that."""

FLEET = DOCS / "how-to" / "from-one-file-to-a-fleet.md"
"""The one that needs a server, which it calls so:"""
FLEET_URL = "postgresql://ana@localhost/fleet"
