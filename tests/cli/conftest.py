"""The command line as a person meets it: real processes, in a folder of their own, over SQLite."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAM = [sys.executable, "-W", "error", "-m", "perdure"]

APP = """
import asyncio
from dataclasses import dataclass
from pathlib import Path

from perdure import Retry, current, emit, interrupt, progress, publish, receive, sleep, step, usage, workflow


@dataclass
class Order:
    item: str
    cents: int


@step
async def note(what: str) -> str:
    print("note", what)
    with open("ledger.txt", "a") as ledger:
        ledger.write(what + "\\n")
    return what


@step
async def explode(n: int) -> int:
    raise ValueError(f"cannot take {n}")


@step(retry=Retry(attempts=2, initial=0.001))
async def explode_twice(n: int) -> int:
    raise OSError("nobody there")


@step
async def hang() -> None:
    print("hanging", flush=True)
    await asyncio.Event().wait()


@workflow
async def add(a: int, b: int = 1) -> int:
    await note(f"{a}+{b}")
    return a + b


@workflow
async def total(orders: list[Order], *more: int) -> int:
    return sum(order.cents for order in orders) + sum(more)


@workflow
async def one(order: Order) -> Order:
    return order


@workflow
async def fulfil(item: str) -> str:
    await note(item)
    address = await interrupt("Where to?", schema=str, details={"item": item})
    return f"{item} to {address}"


@workflow
async def order() -> Order:
    return await interrupt("Which?", schema=Order)


@workflow
async def anything() -> object:
    return await interrupt("What?")


@workflow
async def family() -> str:
    return await fulfil("a lamp")


@workflow
async def mail() -> str:
    return await receive("letter")


@workflow
async def fails(n: int) -> int:
    return await explode(n)


@workflow
async def retries() -> int:
    return await explode_twice(1)


@workflow
async def hangs() -> None:
    await hang()


@workflow
async def naps() -> str:
    await sleep(1.1)
    return "rested"


@workflow
async def rude() -> str:
    return await interrupt("\\x1b[31mred\\x07", schema=str)


@step(retry=Retry(attempts=2, initial=0.001))
async def speak(fail: bool) -> None:
    await emit("one")
    progress(1, 2)
    usage(model="m", input_tokens=3, output_tokens=4, cost=0.5)
    if fail and current().attempt == 1:
        raise OSError("again")


@workflow
async def talks(fail: bool) -> str:
    await emit(Order("lamp", 5))
    await publish("mood", "good")
    await publish("mood", {"very": "good"})
    await speak(fail)
    said = await receive("letter")
    await emit(said)
    return said


@workflow(queue="slow")
async def elsewhere() -> str:
    return "done"
"""


@dataclass
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Shell:
    """A folder in which commands are called. `app.py` is in it; no variable names a database."""

    folder: Path

    def environment(self, **variables: str) -> dict[str, str]:
        here = {k: v for k, v in os.environ.items() if k not in ("PERDURE_DATABASE_URL", "DATABASE_URL")}
        return {**here, "PYTHONDONTWRITEBYTECODE": "1", **variables}

    def __call__(self, *words: str, stdin: str = "", cwd: Path | None = None, **variables: str) -> Said:
        done = subprocess.run(
            [*PROGRAM, *words],
            cwd=cwd or self.folder,
            env=self.environment(**variables),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def terminal(self, *words: str, typed: str = "", columns: int = 80) -> Said:
        """The same on a terminal, at which somebody types; what is said to stdout and stderr comes as one."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        os.write(ours, typed.encode())
        environment = {k: v for k, v in self.environment().items() if k not in ("COLUMNS", "LINES")}
        child = subprocess.Popen(
            [*PROGRAM, *words], cwd=self.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        said = b""
        with suppress(OSError):  # how Linux says that nobody has the other end any more
            while some := os.read(ours, 65536):
                said += some
        os.close(ours)
        return Said(child.wait(60), said.decode().replace("\r\n", "\n"), "")

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on by itself; it ends with the block, whatever happens."""
        child = subprocess.Popen(
            [*PROGRAM, *words],
            cwd=self.folder,
            env=self.environment(PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield child
        finally:
            child.kill()
            child.communicate()

    @contextmanager
    def worker(self, target: str = "app", *words: str) -> Iterator[str]:
        """A worker at work; gives what it said when it had begun. At the end it is stopped in order."""
        with self.running("worker", target, *words) as child:
            yield read_until(child.stdout, "Ctrl-C stops it.")
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
            assert child.returncode == 0, out + err

    def ledger(self) -> list[str]:
        return (self.folder / "ledger.txt").read_text().split("\n")[:-1]

    def paste(self, said: str) -> Said:
        """Call the one command that was shown, as a person would who pastes it."""
        shown = [line.strip() for line in said.splitlines() if "perdure " in line and line.startswith("  ")]
        assert len(shown) == 1, said
        words = shlex.split(shown[0])
        at = next(i for i, word in enumerate(words) if word.endswith("perdure"))
        return self(*words[at + 1 :])


def read_until(stream: Any, words: str) -> str:
    """What a process says up to the line that holds these words."""
    said = ""
    for line in stream:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it never said {words!r} but:\n{said}")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "app.py").write_text(APP)
    return Shell(tmp_path)
