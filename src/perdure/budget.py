"""A budget, as users write it; `budgets` holds executions to it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from perdure.clock import SECOND, Duration, micros

ATTRIBUTE = "perdure.budget"
"""The attribute that holds the budget which an execution was started with."""


@dataclass(slots=True, frozen=True)
class Budget:
    """What the steps of an execution may use, all attempts together; None: without a limit.

    `cost` and `tokens` as steps report them (`perdure.usage`), `steps` entered, `time` since the start (seconds or a
    timedelta). At the limit the execution waits for a raise: answer its request with the new limits, for example
    `{"cost": 10}`, or with None, and the step fails with `BudgetExceededError`.
    """

    cost: Decimal | float | int | str | None = None
    tokens: int | None = None
    steps: int | None = None
    time: Duration | None = None

    def tree(self) -> dict[str, Any]:
        """As it is recorded: cost as text, time in seconds."""
        return {
            "cost": None if self.cost is None else str(Decimal(str(self.cost))),
            "tokens": self.tokens,
            "steps": self.steps,
            "time": None if self.time is None else micros(self.time) / SECOND,
        }
