"""Perdure beside its peers: the same work on the same server and the same disk, in turns.

Each system runs in a process of its own, with the settings that it has by default; but Perdure, which runs 100
executions at once if it is not told otherwise, is told to run all of them, as DBOS does. A peer is installed, in its
newest version, in an environment of its own that goes with the bench; one that cannot be is missed, and the line says
why. A peer that is slower gets fewer executions: rates are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Timer

from bench.lane import STEPS
from bench.places import Places
from bench.report import Report
from tests.servers import find_binaries

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
EXECUTIONS = 500  # of Perdure
INSTALL_SECONDS = 600
LAP_SECONDS = 600
CLOSE_SECONDS = 10
WORDS = "500 executions of 10 steps"


@dataclass(frozen=True)
class Peer:
    """`module`: its lane. `packages`: of the first, the version is told. `least`: of Perdure's rate / its rate."""

    name: str
    module: str
    packages: tuple[str, ...]
    executions: int
    least: float | None = None


DBOS = Peer("DBOS", "bench.on_dbos", ("dbos",), 100, least=80)
DBOS_SQLITE = Peer("DBOS", "bench.on_dbos", ("dbos",), 50)
ABSURD = Peer("Absurd", "bench.on_absurd", ("absurd-sdk", "absurdctl"), 300, least=20)


class PeerError(Exception):
    """A peer could not be installed, or did not run."""


class Lane:
    """A process that races. `errors` is the file for what it says of itself."""

    def __init__(self, python: Path | str, module: str, url: str, errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                [python, "-m", module, url],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def wait_ready(self) -> None:
        """Raises `PeerError` if it ends before it is warm."""
        if self._line() != "ready":
            raise PeerError("it said something else than that it is ready")

    def rate(self, executions: int) -> float:
        """Steps a second, from the first start to the last result."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            print(executions, file=self._process.stdin, flush=True)
        return executions * STEPS / float(self._line())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _line(self) -> str:
        """What it says next. It is killed if that takes too long."""
        assert self._process.stdout is not None
        limit = Timer(LAP_SECONDS, self._process.kill)
        limit.start()
        try:
            if line := self._process.stdout.readline().strip():
                return line
        finally:
            limit.cancel()
        code = self._process.wait()
        why = self._errors.read_text()[-500:].strip() or f"killed after {LAP_SECONDS} s, or by others"
        raise PeerError(f"its process ended with {code}: {why}")


@cache
def installed(packages: tuple[str, ...], folder: Path) -> Path:
    """The programs of an environment that has them, made when it is first asked for."""
    home = folder / f"peer-{packages[0]}"
    _run([sys.executable, "-m", "venv", str(home)])
    _run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages])
    return home / "bin"


def version(peer: Peer, programs: Path) -> str:
    ask = "import sys; from importlib import metadata; print(metadata.version(sys.argv[1]))"
    return _run([str(programs / "python"), "-c", ask, peer.packages[0]])


def prepare(peer: Peer, programs: Path, url: str) -> None:
    """What a peer wants done to a new database by hand."""
    if peer is ABSURD:
        path = os.pathsep.join([str(find_binaries()), os.environ.get("PATH", "")])  # it runs psql
        environment = {**os.environ, "PGDATABASE": url, "PATH": path}
        _run([str(programs / "absurdctl"), "init"], environment)
        _run([str(programs / "absurdctl"), "create-queue", "default"], environment)


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise PeerError(f"{' '.join(command)} failed: {(done.stderr or done.stdout)[-500:].strip()}")
    return done.stdout.strip()


@contextmanager
def started(python: Path | str, module: str, url: str, errors: Path) -> Iterator[Lane]:
    """A lane that is warm."""
    lane = Lane(python, module, url, errors)
    try:
        lane.wait_ready()
        yield lane
    finally:
        lane.close()


def against(report: Report, name: str, peer: Peer, ours: str, theirs: str, folder: Path) -> None:
    """Perdure and a peer in turns. What stops the peer is a missed line."""
    try:
        programs = installed(peer.packages, folder)
        prepare(peer, programs, theirs)
        called = f"{peer.name} {version(peer, programs)}"
        mine, other = [], []
        with ExitStack() as stack:
            home = stack.enter_context(started(sys.executable, "bench.on_perdure", ours, folder / "perdure.log"))
            guest = stack.enter_context(started(programs / "python", peer.module, theirs, folder / "peer.log"))
            for _ in range(ROUNDS):
                mine.append(home.rate(EXECUTIONS))
                other.append(guest.rate(peer.executions))
    except PeerError as error:
        report.miss(f"peers, {peer.name} on {name}: {error}")
        return
    ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
    report.line(f"{name}: {WORDS}, Perdure / {called}", ratio, "", least=peer.least)
    report.line(f"{name}: the same, {called}", statistics.median(other), "steps/s")
    report.line(f"{name}: the same, Perdure in turns with {peer.name}", statistics.median(mine), "steps/s")


def sqlite(report: Report, places: Places) -> None:
    against(report, "SQLite", DBOS_SQLITE, places.sqlite(), places.sqlite(), places.folder)


def postgres(report: Report, places: Places) -> None:
    for peer in (DBOS, ABSURD):
        against(report, "PostgreSQL", peer, places.postgres(), places.postgres(), places.folder)
