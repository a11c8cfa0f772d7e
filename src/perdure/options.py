"""How a workflow is run: what its decorator was told, and what is said for one execution of it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perdure.budget import Budget
from perdure.redaction import Redact


@dataclass(slots=True, frozen=True)
class Signal:
    """A message that comes with a start: `options(signal=Signal("paid", 5, id="payment-1"))`.

    The execution is started if there is none of its id, whatever input it has, and the message is delivered, once for
    each `id`: both in one transaction.
    """

    name: str
    value: Any = None
    id: str | None = None


@dataclass(slots=True, frozen=True)
class WorkflowOptions:
    """What `@workflow` was told, and what `options(...)` adds for one execution."""

    name: str
    version: int = 1
    on_change: str = "strict"
    queue: str | None = None
    execution_id: str | None = None
    priority: int = 0
    wake_at: int | None = None
    delay: int | None = None
    by: str | None = None
    attributes: Mapping[str, Any] | None = None
    timeout: int | None = None
    signal: Signal | None = None
    budget: Budget | None = None
    redact: Redact | None = None
    connection: Any = None
    rollback_on_failure: bool = False
    capture: str | None = None
