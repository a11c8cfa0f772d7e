"""Queues with limits, as users write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perdure.clock import Duration, micros
from perdure.keys import NAMESPACE_MARK
from perdure.records import Limit


def check_queue(name: Any) -> Any:
    """The name, if it is one for a queue (None: no queue was given). Raises `ValueError`."""
    if name is not None and (not isinstance(name, str) or not 1 <= len(name.encode("utf-8", "replace")) <= 200):
        raise ValueError(f"queue= is a queue's name, 1 to 200 bytes, not {name!r:.100}")
    if name is not None and (name.startswith(NAMESPACE_MARK) or "\0" in name):
        raise ValueError(f"a queue's name holds no NUL and does not begin with {NAMESPACE_MARK}: {name!r}")
    return name


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
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError("concurrency= must be at least 1")
        if self.rate is not None and (self.rate[0] < 1 or micros(self.rate[1]) < 1):
            raise ValueError("rate= is (starts, time), both positive")

    def limit(self) -> Limit:
        """The queue's limit, as stores know it."""
        starts, window = (None, 0) if self.rate is None else (self.rate[0], micros(self.rate[1]))
        return Limit(self.name, self.concurrency, starts, window, self.per)
