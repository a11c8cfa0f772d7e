"""What a look at a database finds, line by line, and which rights a worker needs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perdure.clock import SystemClock

Result = Literal["ok", "warning", "failed"]

SKEW = 1.0
"""Seconds that this machine's clock may be off before it is worth a warning."""

READ, WRITE, ALL = ("select",), ("select", "insert", "delete"), ("select", "insert", "update", "delete")
RIGHTS = {
    "workflow_definitions": ("select", "insert", "update"),
    "workflow_executions": ALL,
    "step_executions": WRITE,
    "state_snapshots": ALL,
    "approval_requests": ALL,
    "rollback_actions": ALL,
    "approval_decisions": WRITE,
    "audit_events": WRITE,
    "messages": ALL,
    "workers": ALL,
    "payload_chunks": WRITE,
    "schema_versions": READ,
    "schedules": ALL,
    "queues": ("select", "insert", "update"),
    "outbox": ALL,
    "execution_tallies": READ,
}
"""The least that workers need, by table. To lock a row is an update; the journal is only written and pruned."""

COUNTING_RIGHTS = RIGHTS | {"execution_tallies": WRITE}
"""The same on a server where they count what has ended themselves: elsewhere triggers do, with their owner's rights."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, and how it stands."""

    check: str
    result: Result
    words: str


def clock_finding(now: int) -> Finding:
    """How the server's time, in microseconds, compares with this machine's."""
    off = (now - SystemClock().now()) / 1_000_000
    words = f"the server's is {abs(off):.3f} s {'ahead of' if off > 0 else 'behind'} this machine's"
    if abs(off) > SKEW:
        return Finding("clock", "warning", f"{words}; the server's counts. Set this machine's right")
    return Finding("clock", "ok", words)
