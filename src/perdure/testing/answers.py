"""Durable calls outside of an execution, answered from a table: unit tests of workflows without an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from perdure.errors import NoExecutionError
from perdure.scope import ANSWERS


class Answers:
    """What durable calls get, and what they were asked with.

    `asked`: (kind, name, details) of each call, in order.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = {name: list(value) if isinstance(value, list) else value for name, value in table.items()}
        self.asked: list[tuple[str, str, Any]] = []

    def take(self, kind: str, name: str, details: Any) -> Any:
        """The answer to a call. A list holds the answers to one call after the other; an exception is raised."""
        self.asked.append((kind, name, details))
        if kind in ("sleep", "send", "restart"):
            return None
        if name not in self._table:
            raise NoExecutionError(f"answers() has nothing for the {kind} {name!r}; it knows {sorted(self._table)}")
        value = self._table[name]
        if isinstance(value, list):
            if not value:
                raise NoExecutionError(f"answers() has no further answer for the {kind} {name!r}")
            value = value.pop(0)
        if isinstance(value, BaseException):
            raise value
        return value


@contextmanager
def answers(table: Mapping[str, Any]) -> Iterator[Answers]:
    """Within the block, durable calls outside of an execution are answered from a table.

    The keys are the message of an interrupt or an approval (decided by True, "reject", `{"action": Edit({...})}`, ...),
    and a message's name. Sleeps return at once; steps and child workflows just run.

        with answers({"Where to?": Address("Berlin"), "paid": [1, 2]}) as given:
            assert await fulfil(order) == "sent"
        assert given.asked[0] == ("interrupt", "Where to?", None)
    """
    given = Answers(table)
    token = ANSWERS.set(given)
    try:
        yield given
    finally:
        ANSWERS.reset(token)
