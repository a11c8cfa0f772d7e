"""From the ledger and the journal: how often each step entered, and how often it was recorded. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from perdure.demo.ledger import Line


@dataclass
class Row:
    """One step. `pids`: the processes in which it entered, in order."""

    key: str
    about: str
    entered: int = 0
    left: int = 0
    recorded: int = 0
    in_flight: bool = False
    pids: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Proof:
    """`broken` lists the promises that did not hold, in words; empty if all did."""

    rows: list[Row]
    broken: list[str]

    @property
    def entered(self) -> int:
        return sum(row.entered for row in self.rows)

    @property
    def recorded(self) -> int:
        return sum(row.recorded for row in self.rows)

    @property
    def twice(self) -> list[Row]:
        return [row for row in self.rows if row.entered > 1]


def in_flight(lines: Iterable[Line]) -> dict[str, str]:
    """Key and subject of the steps that entered and have not left, in the order of their entering."""
    open_keys: dict[str, str] = {}
    for line in lines:
        if line.what == "enter":
            open_keys[line.key] = line.about
        else:
            open_keys.pop(line.key, None)
    return open_keys


def prove(lines: Iterable[Line], recorded: Iterable[str], before_kill: Collection[str], killed: int) -> Proof:
    """Compare the ledger with the keys of the recorded outcomes (each as often as it is recorded).

    `before_kill`: the keys that were recorded already when process `killed` was killed.
    """
    rows: dict[str, Row] = {}
    lines = list(lines)
    for line in lines:
        row = rows.setdefault(line.key, Row(line.key, line.about))
        if line.what == "enter":
            row.entered += 1
            row.pids.append(line.pid)
        else:
            row.left += 1
    for key, times in Counter(recorded).items():
        rows.setdefault(key, Row(key, "?")).recorded = times
    for key in in_flight(line for line in lines if line.pid == killed):
        rows[key].in_flight = True
    broken = []
    for row in rows.values():
        if row.recorded != 1:
            broken.append(f"{row.key} ({row.about}) was recorded {row.recorded} times instead of once")
        if row.entered == 0:
            broken.append(f"{row.key} was recorded without ever having run")
        if row.key in before_kill and any(pid != killed for pid in row.pids):
            broken.append(f"{row.key} ({row.about}) entered again after its outcome was recorded")
    return Proof(list(rows.values()), broken)
