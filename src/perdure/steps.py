"""What a step was told, and how sequencer and executor see it: no I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from perdure.approvals import Approval
from perdure.arguments import Arguments
from perdure.clock import SECOND
from perdure.codec import CODEC, Coder
from perdure.resources import Transaction, wanted
from perdure.retry import Retry
from perdure.rollback import Means

FORBIDDEN = frozenset("/#@\0")

TRANSACTION = 30 * SECOND
"""Microseconds that a transactional step may take, where nobody says otherwise."""


@dataclass(slots=True, frozen=True)
class StepOptions:
    """What `@step` was told. `timeout`: microseconds an attempt may take."""

    name: str
    kind: str = "step"
    retry: Retry | None = None
    timeout: int | None = None
    once: bool = False
    verify: Callable[..., Any] | None = None
    on_change: str = "strict"
    transactional: bool = False
    undo: Callable[..., Any] | None = None
    undo_unknown: bool = False
    undo_on_error: bool = False
    pivot: bool = False
    approval: Approval | None = None

    @property
    def has_intent(self) -> bool:
        """Is it recorded that it begins, before it does?"""
        return self.once or self.transactional or self.pivot or self.undo is not None


class StepSpec:
    """A step as sequencer and executor see it."""

    __slots__ = (
        "arguments",
        "function",
        "intent",
        "is_async",
        "kind",
        "means",
        "name",
        "on_change",
        "options",
        "resources",
        "returns",
    )

    def __init__(self, function: Callable[..., Any], options: StepOptions) -> None:
        self.function = function
        self.options = options
        self.name = options.name
        self.kind = options.kind
        self.on_change = options.on_change
        self.intent = options.has_intent
        self.means = means_text(function, options)
        self.is_async = inspect.iscoroutinefunction(function)
        self.resources = wanted(function)
        self.arguments = Arguments(function, CODEC, self.resources)
        self.returns: Coder = self.arguments.returns

    def decode(self, text: str) -> Any:
        return self.returns.decode(text)

    def normalize(self, text: str) -> str:
        return self.arguments.normalize(text)


def means_text(function: Callable[..., Any], options: StepOptions) -> str:
    """What the intent of a step says."""
    if options.undo is None and not options.pivot:
        return f'"{options.kind}"'
    undo = None if options.undo is None else place_of_code(options.undo)
    return Means(
        kind=options.kind,
        undo=undo,
        step=place_of_code(function),
        pivot=options.pivot,
        verify=options.verify is not None,
        on_unknown=options.undo_unknown,
        on_error=options.undo_on_error,
    ).text()


def place_of_code(function: Any) -> str:
    """Where a function is found: "module:name"."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or ''}:{name}"


def check_name(name: str) -> None:
    """Raises `ValueError` for what is no name."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > 200 or FORBIDDEN & set(name):
        raise ValueError(f"{name!r} is no name for a workflow or step: 1 to 200 bytes, without / # @ and NUL")


def check_options(options: StepOptions) -> None:
    """Raises `ValueError` for what does not go together."""
    check_name(options.name)
    if options.on_change not in ("strict", "exact"):
        raise ValueError(f"on_change is 'strict' or 'exact', not {options.on_change!r}")
    if options.retry is not None and not isinstance(options.retry, Retry):
        raise TypeError(f"retry= is a Retry(...), not {options.retry!r}")
    if options.verify is not None and not options.once:
        raise ValueError("verify= tells what became of a once-only step: it needs once=True")
    if options.timeout is not None and options.timeout <= 0:
        raise ValueError("timeout= must be positive")
    if options.transactional and options.once:
        raise ValueError("once= and transactional= do not go together: the database knows what a transaction wrote")
    if options.undo is not None and not callable(options.undo):
        raise TypeError(f"undo= is a function, not {options.undo!r:.100}")
    if (options.undo_unknown or options.undo_on_error) and options.undo is None:
        raise ValueError("undo_unknown= and undo_on_error= say when undo= runs: it is missing")
    if options.approval is not None and not isinstance(options.approval, Approval):
        raise TypeError(f"approval= is an Approval(...), not {options.approval!r:.100}")
    if options.transactional and options.timeout is None:
        raise ValueError("a transactional step holds locks while it runs: it needs a timeout=")


def check_transaction(name: str, resources: Mapping[str, Any], transactional: bool) -> None:
    """Raises `TypeError` for a transactional step without a connection, and for a connection of any other step."""
    asks = any(isinstance(kind, Transaction) for kind in resources.values())
    if transactional and not asks:
        raise TypeError(
            f"{name} is transactional and takes no connection: give it a parameter"
            " `connection: asyncpg.Connection = transaction(asyncpg.Connection)`"
        )
    if asks and not transactional:
        raise TypeError(f"{name} asks for transaction() and is not @step(transactional=True)")
