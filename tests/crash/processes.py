"""Starts hosts, and kills, stops and continues them, each by its pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

from tests.crash import ledger
from tests.crash.host import Job

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
LOOK = 0.005


def until(look: Callable[[], T], what: str) -> T:
    """Look at the real state until there is something to see."""
    patience = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < patience, f"waited {PATIENCE:g} s for {what}"
        time.sleep(LOOK)
    return found


class Host:
    """One process `python -m tests.crash.host`."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.folder = folder
        self.name = name
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.host", *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env={**os.environ, ledger.VARIABLE: str(folder / "ledger")},
            )

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.send(signal.SIGKILL)
        self.process.wait(PATIENCE)
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process.wait(PATIENCE) == -signal.SIGKILL, self.told()

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def results(self) -> list[dict[str, Any]]:
        """Wait for its orderly end; what it printed."""
        code = self.process.wait(PATIENCE)
        assert code == 0, f"{self.name} ended with {code}: {self.told()}"
        found: list[dict[str, Any]] = json.loads(self.out.read_text().splitlines()[-1])
        return found

    def log(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self.err.read_text().splitlines() if line.startswith("{")]

    def told(self) -> str:
        return self.err.read_text()[-3000:]


@dataclass(frozen=True)
class Ended:
    """How a job's process ended. `code` is negative for a signal; `results` is what it printed, if it did."""

    pid: int
    code: int
    results: list[dict[str, Any]]
    errors: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class _Server:
    """A process that has imported everything, and forks one process for each job."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.host", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self.child: int | None = None

    def run(self, job: Job, book: Path) -> Ended:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({**asdict(job), "ledger": str(book)}) + "\n")
        self.process.stdin.flush()
        self.child = json.loads(self.process.stdout.readline())["pid"]
        told = json.loads(self.process.stdout.readline())
        self.child = None
        out, err = Path(job.out or os.devnull), Path(job.err or os.devnull)
        printed = out.read_text().splitlines()
        return Ended(told["pid"], told["code"], json.loads(printed[-1]) if printed else [], err.read_text()[-3000:])

    def kill_child(self) -> None:
        if self.child is not None:
            with suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)

    def close(self) -> None:
        self.kill_child()
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


class Servers:
    """Several of them; each job takes a free one."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Servers:
        self._all = [_Server() for _ in range(self.count)]
        self._free: SimpleQueue[_Server] = SimpleQueue()
        for server in self._all:
            self._free.put(server)
        self._threads = ThreadPoolExecutor(self.count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for server in self._all:
            server.close()

    def run(self, job: Job, book: Path) -> Ended:
        server = self._free.get()
        try:
            return server.run(job, book)
        finally:
            self._free.put(server)

    def each(self, work: Callable[[T], Any], items: Iterable[T]) -> list[Any]:
        """Do something for all items, as many at once as there are servers. Whatever fails ends the others."""
        ways = [self._threads.submit(work, item) for item in items]
        try:
            return [way.result() for way in ways]
        except BaseException:
            for way in ways:
                way.cancel()
            for server in self._all:
                server.kill_child()
            wait(ways)
            raise
