"""The effect ledger and the world outside, as simulated workflows meet them."""

from __future__ import annotations

from perdure.clock import Clock
from perdure.context import current
from perdure.testing.history import Body, Heard, History
from perdure.testing.lives import LIFE


class Ledger:
    """Writes into the history what bodies and workflow code do."""

    def __init__(self, history: History, clock: Clock) -> None:
        self.history = history
        self.clock = clock
        self.receipts: dict[str, int] = {}
        self.failed: dict[str, int] = {}

    def body(self, what: str) -> None:
        here = current()
        life = LIFE.get()
        self.history.events.append(
            Body(
                self.clock.now(),
                what,
                here.execution_id,
                here.key or "",
                here.attempt,
                here.fence,
                here.idempotency_key,
                life.name if life is not None else "",
            )
        )

    def heard(self, kind: str, number: int, value: object) -> None:
        here = current()
        self.history.events.append(
            Heard(self.clock.now(), here.execution_id, here.fence, kind, number, value, here.unwinding)
        )

    def pay(self, place: str) -> int | None:
        return self.receipts.setdefault(place, 1 + len(self.receipts))

    def paid(self, place: str) -> int | None:
        return self.receipts.get(place)

    def fails(self, place: str, times: int) -> bool:
        self.failed[place] = self.failed.get(place, 0) + 1
        return self.failed[place] <= times

    def entered(self) -> list[str]:
        """The keys of the bodies that began."""
        return [event.key for event in self.history.events if isinstance(event, Body) and event.what == "enter"]

    def heards(self) -> list[Heard]:
        """What workflow code heard."""
        return [event for event in self.history.events if isinstance(event, Heard)]
