"""Where the demo plays: a folder, and the worker processes that were started for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from perdure.demo import ledger

EXECUTION = "licence-audit"


class Failure(Exception):
    """The demo cannot go on; the message is for the person who watches."""


@dataclass
class Stage:
    """Where the demo plays: a folder with the database, the ledger, the workers' logs and the report."""

    folder: Path
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "perdure.db"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.jsonl"

    @property
    def report(self) -> Path:
        return self.folder / "report.md"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"

    def clear(self) -> None:
        """Remove what an earlier demo left, and nothing else."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n")
        for old in [*self.folder.glob("perdure.db*"), *self.folder.glob("worker-*.log"), self.ledger, self.report]:
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A worker in a process of its own. What it says goes to a log."""
        number = len(self.children) + 1
        with self.log(number).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "perdure.demo.worker", self.url, EXECUTION],
                env={**os.environ, ledger.VARIABLE: str(self.ledger)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.children.append(child)
        return child

    def log(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"

    def let_end(self, child: subprocess.Popen[bytes]) -> None:
        """The work is done: the worker leaves by itself, and says goodbye to the database."""
        try:
            status = child.wait(10)
        except subprocess.TimeoutExpired:
            raise Failure(f"the worker with pid {child.pid} does not end") from None
        if status != 0:
            raise Failure(f"the last worker ended with status {status}.\n{tail(self.log(len(self.children)))}")

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        for child in self.children:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(5)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def shown(path: Path) -> str:
    """A path as a person here would write it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
    return "\n".join([f"The end of {shown(log)}:", *lines])
