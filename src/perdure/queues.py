"""Queues with limits, as users write them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from perdure.clock import Duration, micros
from perdure.keys import NAMESPACE_MARK
from perdure.records import Limit


def check_queue(name: Any) -> Any:
    """The name, if it is one for a queue (None: no queue was given). Raises `ValueError`."""
    if name is not None and (not isinstance(name, str) or not 1 <= len(name.encode("utf-8", "replace")) <= 200):
        raise ValueError(f"a queue's name is a text of 1 to 200 bytes, not {name!r:.100}")
    if name is not None and (name.startswith(NAMESPACE_MARK) or "\0" in name):
        raise ValueError(f"a queue's name holds no NUL and does not begin with {NAMESPACE_MARK}: {name!r}")
    return name


def _is_rate(rate: Any) -> bool:
    match rate:
        case (int(starts), timedelta() | int() | float() as time) if not isinstance(time, bool):
            return type(starts) is int and starts > 0 and time == time and micros(time) > 0
        case _:
            return False


@dataclass(slots=True, frozen=True)
class Queue:
    """A queue whose limits hold over all workers and across crashes.

    `concurrency`: executions of it in workers' memories at once (one that is parked does not count). `rate`: at most so
    many starts in so long a time (seconds or a timedelta). `per`: an attribute; the limits then hold for each of its
    values. Every worker that serves the queue must be told of it alike.

    >>> Engine(url, queues=("default", Queue("emails", concurrency=10, rate=(100, 60.0), per="customer")))
    """

    name: str
    concurrency: int | None = None
    rate: tuple[int, Duration] | None = None
    per: str | None = None

    def __post_init__(self) -> None:
        check_queue(self.name)
        if self.concurrency is not None and (type(self.concurrency) is not int or self.concurrency < 1):
            raise ValueError(f"concurrency= is a whole number of 1 or more, not {self.concurrency!r}")
        if self.rate is not None and not _is_rate(self.rate):
            raise ValueError(f"rate= is (starts, time), both positive, as in (100, 60.0), not {self.rate!r:.100}")
        per: Any = self.per
        if per is not None and not (isinstance(per, str) and per):
            raise ValueError(f"per= is the name of an attribute, not {per!r:.100}")
        if per is not None and self.concurrency is None and self.rate is None:
            raise ValueError("per= says for what a limit holds: give the limit, concurrency= or rate=, too")

    def limit(self) -> Limit:
        """The queue's limit, as stores know it."""
        starts, window = (None, 0) if self.rate is None else (self.rate[0], micros(self.rate[1]))
        return Limit(self.name, self.concurrency, starts, window, self.per)
