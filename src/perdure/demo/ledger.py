"""What really ran: lines appended and fsynced to a file outside the store, by the steps themselves.

The store says what was *recorded*. Whether that is all that *happened* only somebody else can say.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

VARIABLE = "PERDURE_DEMO_LEDGER"


@dataclass(frozen=True)
class Line:
    """`what` is "enter" or "leave"; `at` is the machine's clock, in seconds."""

    what: str
    execution: str
    key: str
    about: str
    attempt: int
    fence: int
    pid: int
    at: float


class Running(Protocol):
    """What `perdure.current()` says about the running step."""

    @property
    def execution_id(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def fence(self) -> int: ...


@contextmanager
def visit(running: Running, about: str) -> Iterator[None]:
    """Note that a step's body enters, and that it leaves. Without a ledger (no demo is on) nothing is noted."""
    path = os.environ.get(VARIABLE)
    if path is None:
        yield
        return
    write(path, _line("enter", running, about))
    yield
    write(path, _line("leave", running, about))


def _line(what: str, running: Running, about: str) -> Line:
    return Line(
        what, running.execution_id, running.key or "", about, running.attempt, running.fence, os.getpid(), time.time()
    )


def write(path: str | Path, line: Line) -> None:
    """Append a line; it is on the disk when this returns. One `write` each: lines of two processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(asdict(line)).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Line]:
    """All whole lines. A last one without an end was cut off by a kill, and is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [Line(**json.loads(line)) for line in whole.splitlines()]
