"""What happened in a simulation, in the order in which it became true."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.deliveries import Delivery, Receipt
from perdure.records import Batch, Entry, Execution, Message, Request, Verdicts


@dataclass(slots=True, frozen=True)
class Recorded:
    """The store took a batch (or refused it, if the verdicts say so)."""

    at: int
    batch: Batch
    verdicts: Verdicts


@dataclass(slots=True, frozen=True)
class Claimed:
    """A worker took executions over; the rows as they were after it."""

    at: int
    worker: int
    rows: Sequence[Execution]


@dataclass(slots=True, frozen=True)
class Delivered:
    """Something was brought to an execution."""

    at: int
    delivery: Delivery
    receipt: Receipt


@dataclass(slots=True, frozen=True)
class Buried:
    """A worker was declared dead."""

    at: int
    worker: int


@dataclass(slots=True, frozen=True)
class Left:
    """A worker signed off; what it owned became pending."""

    at: int
    worker: int


@dataclass(slots=True, frozen=True)
class Told:
    """A worker that was declared dead got to know it."""

    at: int
    worker: int


@dataclass(slots=True, frozen=True)
class Body:
    """The effect ledger: a step's body begins (`enter`), or has had its effect (`leave`)."""

    at: int
    what: str
    execution: str
    key: str
    attempt: int
    fence: int
    idempotency: str
    life: str


@dataclass(slots=True, frozen=True)
class Heard:
    """Workflow code went on after a durable call: the next line ran."""

    at: int
    execution: str
    fence: int
    kind: str
    number: int
    value: Any
    unwinding: bool


@dataclass(slots=True, frozen=True)
class Acknowledged:
    """The public API returned, or raised. `what`: start, taken, answer, conflict, signal, cancel, outcome."""

    at: int
    what: str
    subject: str
    value: Any = None


Event = Recorded | Claimed | Delivered | Buried | Left | Told | Body | Heard | Acknowledged


@dataclass(slots=True)
class Dump:
    """What the store holds at the end."""

    executions: dict[str, Execution] = field(default_factory=dict)
    journals: dict[str, list[Entry]] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)


@dataclass(slots=True)
class Replayed:
    """What came of replaying a final journal: new entries, bodies begun, the status and value, messages received."""

    new: list[Entry]
    entered: list[str]
    status: str
    value: Any
    heard: list[Heard]


@dataclass(slots=True)
class History:
    """All of it."""

    events: list[Event] = field(default_factory=list)
    dump: Dump = field(default_factory=Dump)
    replays: dict[str, Replayed] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What the simulation itself saw: exceptions that were let fall, what waits for ever."""

    def digest(self) -> str:
        """The same for the same history."""
        text = "\n".join(map(repr, (*self.events, self.dump, *sorted(self.replays.items()), *self.faults)))
        return hashlib.sha256(text.encode()).hexdigest()
