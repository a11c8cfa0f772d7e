"""A finding, and the rules that findings go by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """`ERROR`: it breaks, or differs in a replay. `WARNING`: it may. `INFO`: good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(slots=True, frozen=True)
class Rule:
    severity: Severity
    title: str


RULES = {
    "P000": Rule(Severity.ERROR, "a file that cannot be read"),
    "P001": Rule(Severity.ERROR, "the clock"),
    "P002": Rule(Severity.ERROR, "randomness"),
    "P003": Rule(Severity.ERROR, "input and output"),
    "P004": Rule(Severity.ERROR, "threads, processes, executors, sockets"),
    "P005": Rule(Severity.WARNING, "the order of a set"),
    "P006": Rule(Severity.WARNING, "hash() and id()"),
    "P007": Rule(Severity.WARNING, "state outside of the workflow"),
    "P008": Rule(Severity.ERROR, "a durable call that is never awaited"),
    "P009": Rule(Severity.ERROR, "an except that catches everything around an await"),
    "P010": Rule(Severity.ERROR, "a loop that never awaits"),
    "P011": Rule(Severity.ERROR, "a plain step that is called without .aio"),
    "P012": Rule(Severity.ERROR, "as_completed over bare calls"),
    "P013": Rule(Severity.INFO, "print and logging"),
}
"""By code. A code keeps its meaning for good: it stands in people's comments."""


@dataclass(slots=True, frozen=True, order=True)
class Finding:
    """One thing to look at. `line` and `column` begin at 1; `function`: the workflow code that it stands in."""

    file: str
    line: int
    column: int
    code: str
    message: str
    function: str = ""

    @property
    def severity(self) -> Severity:
        return RULES[self.code].severity
