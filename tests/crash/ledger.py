"""What happened, told by a file outside the database: one JSON line each, on the disk when `write` returns.

The order of the lines is an order in which it happened: a line is written before what follows it begins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from perdure import Current, current
from perdure.context import idempotency_key

VARIABLE = "PERDURE_CRASH_LEDGER"


@dataclass(frozen=True, slots=True)
class Line:
    """`what`: enter, leave (a step's body); effect (a once-only one took place); heard (workflow code was handed the
    outcome of `key`, or got a `value` it may rely on); unwound (workflow code ran while its frames were being
    closed); ack (the API returned: `key` says of what)."""

    what: str
    execution: str
    key: str
    value: str = ""
    attempt: int = 0
    fence: int = 0
    idempotency: str = ""
    pid: int = 0


def path() -> Path:
    return Path(os.environ[VARIABLE])


def write(what: str, execution: str, key: str, value: str = "", attempt: int = 0, fence: int = 0) -> None:
    """Append a line. One `write` each: the lines of two processes do not mix."""
    own = idempotency_key(execution, key, 0) if what == "expected" else ""
    _append(Line(what, execution, key, value, attempt, fence, own, os.getpid()))


def _append(line: Line) -> None:
    descriptor = os.open(path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(asdict(line)).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
