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

    def __post_init__(self) -> None:
        try:
            cost = None if self.cost is None else Decimal(str(self.cost))
        except ArithmeticError:
            raise ValueError(f"cost= is a number, not {self.cost!r}") from None
        for name, value in (("tokens", self.tokens), ("steps", self.steps)):
            if value is not None and (type(value) is not int or value < 0):
                raise ValueError(f"{name}= is a whole number and not negative, not {value!r}")
        if (cost is not None and not cost >= 0) or (self.time is not None and micros(self.time) < 0):
            raise ValueError("a budget is not negative")

    def tree(self) -> dict[str, Any]:
        """As it is recorded: cost as text, time in seconds."""
        return {
            "cost": None if self.cost is None else str(Decimal(str(self.cost))),
            "tokens": self.tokens,
            "steps": self.steps,
            "time": None if self.time is None else micros(self.time) / SECOND,
        }


def check_budget(given: Any) -> Budget | None:
    """What `budget=` was given. Raises `TypeError`."""
    if given is not None and not isinstance(given, Budget):
        raise TypeError(f"budget= is a Budget(...), not {given!r:.100}")
    return given
