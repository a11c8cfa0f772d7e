"""Where a durable call comes from: the scopes that allot keys, and the calls themselves.

The one context variable of Perdure lives here. In workflow code it holds a `Scope` (one for each
task of the private loop); in a step's body it holds that step's `Call`.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from perdure.sequencer import Sequencer


class Scope:
    """A branch of workflow code: allots the keys of the durable calls made in it, in code order."""

    __slots__ = ("counts", "path", "sequencer", "tasks")

    def __init__(self, sequencer: Sequencer, path: str) -> None:
        self.sequencer = sequencer
        self.path = path
        self.counts: dict[str, int] = {}
        self.tasks = 0

    def key(self, name: str) -> str:
        """The key of the next call of this name: `path/name#occurrence`."""
        n = self.counts.get(name, 0) + 1
        self.counts[name] = n
        return f"{self.path}{name}#{n}"

    def child(self) -> Scope:
        """The scope of a task that is being created."""
        self.tasks += 1
        return Scope(self.sequencer, f"{self.path}t{self.tasks}/")


# Where a call stands. Plain integers, which compare fastest.
OPEN = 0  # asked for, nothing begun
STARTED = 1  # its body, its wait or its commit is under way
BACKOFF = 2  # an attempt failed, the next one waits for its time
GONE = 3  # handed over, or withdrawn


class Spec(Protocol):
    """What the sequencer and the executor must know of the thing called."""

    kind: str
    name: str
    on_change: str

    def decode(self, text: str) -> Any:
        """The outcome's value from its text."""
        ...

    def normalize(self, text: str) -> str:
        """A recorded input, decoded with today's types and encoded again."""
        ...


class Call:
    """One durable call, from the moment its coroutine first runs until its outcome is handed over.

    While its body runs, the call is the scope of the durable calls made in it.
    """

    __slots__ = (
        "args",
        "attempt",
        "branches",
        "counts",
        "extra",
        "future",
        "input",
        "intent",
        "key",
        "outermost",
        "owner",
        "run",
        "sequencer",
        "spec",
        "started_at",
        "state",
        "stopped",
        "task",
        "value",
        "wake",
    )

    future: asyncio.Future[Any]
    extra: Any  # of a wait: what it was asked with
    value: Any  # the outcome's copy, once recorded
    wake: int  # microseconds: when a backoff ends
    run: Any  # of a body: the executor that runs it
    owner: Any  # of a body: the task or thread it runs in

    def __init__(self, sequencer: Sequencer, spec: Any, key: str, args: tuple[Any, ...] | None, text: str) -> None:
        self.sequencer = sequencer
        self.spec = spec
        self.key = key
        self.args = args  # None: decode `input` for the body
        self.input = text
        self.state = OPEN
        self.attempt = 1
        self.intent = False
        self.task: Any = None
        self.stopped: str | None = None  # why the body was told to stop: "timeout", "cancel"
        self.counts: dict[str, int] | None = None
        self.branches = 0
        self.outermost: str | None = None  # of an inner call: the key of the workflow-level body around it
        self.started_at = 0

    @property
    def body(self) -> Call:
        return self

    def inner_key(self, name: str) -> str:
        """The key of the next durable call of this name made in this body."""
        if self.counts is None:
            self.counts = {}
        n = self.counts.get(name, 0) + 1
        self.counts[name] = n
        return f"{self.key}/{name}#{n}"

    def branch(self) -> Branch:
        """The scope of a task that gather, map or race makes in this body."""
        self.branches += 1
        return Branch(self, f"{self.key}/t{self.branches}")


class Branch:
    """A task made by gather, map or race inside a step's body."""

    __slots__ = ("body", "branches", "counts", "owner", "path")

    def __init__(self, body: Call, path: str) -> None:
        self.body = body
        self.path = path
        self.counts: dict[str, int] = {}
        self.branches = 0
        self.owner: Any = None

    def inner_key(self, name: str) -> str:
        n = self.counts.get(name, 0) + 1
        self.counts[name] = n
        return f"{self.path}/{name}#{n}"

    def branch(self) -> Branch:
        self.branches += 1
        return Branch(self.body, f"{self.path}/t{self.branches}")


class OutsideExecution(UserWarning):
    """A step ran plainly, in a thread that belongs to no execution, while an engine is open in another."""


ENGINE_THREADS: Counter[int] = Counter()
"""How many engines are open in which thread: only to warn who calls a step from a thread of his own."""


def warn_outside(name: str) -> None:
    """Warn if a step is called outside of an execution from a thread that no engine runs in."""
    if +ENGINE_THREADS and not ENGINE_THREADS[threading.get_ident()]:
        warnings.warn(
            f"{name} was called from a thread of its own: it runs, and nothing of it is recorded. Steps are recorded"
            " when they are called from the workflow, or from the body of a step in that body's thread",
            OutsideExecution,
            stacklevel=3,
        )


ANSWERS: ContextVar[Any] = ContextVar("perdure_answers", default=None)
"""What `perdure.testing.answers` gives to durable calls outside of an execution."""


async def answered(kind: str, name: str, details: Any = None) -> Any:
    """The outcome that a unit test has for a durable call."""
    return ANSWERS.get().take(kind, name, details)


CURRENT: ContextVar[Scope | Call | Branch | None] = ContextVar("perdure_current", default=None)
