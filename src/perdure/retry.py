"""When to try again. Pure: the policy, the attempt and the error say when, or never."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Retry:
    """How often a step is tried, and how long it waits in between.

    attempts: how many tries in all, the first one included.
    initial, max_interval: the first wait and the longest one, in seconds or as a timedelta.
    factor: each wait is this many times the one before.
    jitter: up to this share (0 to 1) is taken off each wait at random, so that not all come back at once.
    retry_on, give_up_on: types of errors; one that is in both is not tried again. A timeout is a `TimeoutError`.

        Retry(attempts=5, initial=0.5, retry_on=(OSError,), give_up_on=(PermissionError,))

    Raises `TypeError` or `ValueError` that says which argument is wrong.
    """

    attempts: int = 3
    initial: timedelta | float = 1.0
    factor: float = 2.0
    max_interval: timedelta | float = 60.0
    jitter: float = 0.1
    retry_on: ErrorTypes = (Exception,)
    give_up_on: ErrorTypes = ()

    def __post_init__(self) -> None:
        if type(self.attempts) is not int:
            raise TypeError(f"Retry(attempts=) counts the tries, the first one included: not {self.attempts!r}")
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts=) counts the first try, so it is at least 1, not {self.attempts}")
        for name in ("initial", "max_interval"):
            object.__setattr__(self, name, _seconds(name, getattr(self, name)))
        if _number("factor", self.factor) < 1:
            raise ValueError(f"Retry(factor=) must be at least 1, or the waits would shrink, not {self.factor}")
        if not 0 <= _number("jitter", self.jitter) <= 1:
            raise ValueError(f"Retry(jitter=) is a share of the wait, from 0 to 1, not {self.jitter}")
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _types(name, getattr(self, name)))


def delay(policy: Retry | None, attempt: int, error: BaseException, random: float) -> float | None:
    """Seconds until the next attempt, or None for never.

    `attempt` is the one that just failed with `error`, from 1; `random` is in [0, 1). Without a policy: never.
    """
    if policy is None or attempt >= policy.attempts:
        return None
    if isinstance(error, policy.give_up_on) or not isinstance(error, policy.retry_on):
        return None
    longest = cast(float, policy.max_interval)
    try:
        wait = min(cast(float, policy.initial) * policy.factor ** (attempt - 1), longest)
    except OverflowError:
        wait = longest if policy.initial else 0.0
    return wait * (1.0 - policy.jitter * random)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"Retry({name}=) is a finite number, not {value!r}")
    return float(value)


def _seconds(name: str, value: object) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else _number(name, value)
    if seconds < 0:
        raise ValueError(f"Retry({name}=) is a time to wait in seconds, not {value!r}")
    return seconds


def _types(name: str, value: object) -> tuple[type[BaseException], ...]:
    items = value if isinstance(value, tuple) else (value,)
    for item in items:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise TypeError(f"Retry({name}=) is a tuple of exception classes; {item!r} is none")
    return items
