"""What happened, told by a file outside the database: one JSON line each, on the disk when `write` returns.

The order of the lines is an order in which it happened: a line is on the disk before what follows it begins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from perdure import current

VARIABLE = "PERDURE_CRASH_LEDGER"

ENTER = "enter"
LEAVE = "leave"
EFFECT = "effect"
HEARD = "heard"
UNWOUND = "unwound"
ACK = "ack"


@dataclass(frozen=True, slots=True)
class Line:
    """`what`:

    enter, leave: a step's body, `key`. effect: what a once-only body does to the world.
    heard: workflow code was handed the outcome of `key`; with a key "=NAME": a value that it may rely on from here on.
    unwound: workflow code after a durable call ran while its frames were being closed.
    ack: a call of the API returned: `key` says which, `value` what it was about.
    """

    what: str
    execution: str
    key: str
    value: str = ""
    attempt: int = 0
    fence: int = 0
    idempotency: str = ""
    pid: int = 0


def write(what: str, execution: str, key: str, value: str = "", *, fence: int = 0) -> None:
    """Append a line about no step's body."""
    append(Line(what, execution, key, value, fence=fence, pid=os.getpid()))


def append(line: Line) -> None:
    """One `write` each: the lines of two processes do not mix."""
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(asdict(line)).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def of_body(what: str) -> None:
    """Append a line about the step's body that runs just now."""
    now = current()
    key = now.key or ""
    append(Line(what, now.execution_id, key, "", now.attempt, now.fence, now.idempotency_key, os.getpid()))


@contextmanager
def visit() -> Iterator[None]:
    """A step's body enters, and leaves (if it does)."""
    of_body(ENTER)
    yield
    of_body(LEAVE)


def read(path: Path) -> list[Line]:
    """All whole lines. A last one without an end was cut off by a kill, and is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [Line(**json.loads(line)) for line in whole.splitlines()]


def here() -> list[Line]:
    """All lines of this process's ledger."""
    return read(Path(os.environ[VARIABLE]))


def folder() -> Path:
    """Where this process's ledger is."""
    return Path(os.environ[VARIABLE]).parent


def holds(line: Line) -> bool:
    """Is there a line of the same four first fields? Read as bytes: it may be long."""
    beginning = json.dumps(asdict(line)).partition(', "attempt"')[0]
    return beginning.encode() in Path(os.environ[VARIABLE]).read_bytes()
