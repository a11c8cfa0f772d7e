"""How an execution stands, as values to be matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(slots=True, frozen=True)
class User:
    """Who does something. `via`: how that is known (a login, "cli": unverified)."""

    id: str
    roles: Sequence[str] = ()
    via: str | None = None


@dataclass(slots=True, frozen=True)
class Voice:
    """What somebody said of a request. `action`: None for the whole. `decision`: approved, rejected, edited."""

    by: str | None
    via: str | None
    action: str | None
    decision: str
    arguments: Any
    comment: str | None
    digest: str | None
    at: datetime


@dataclass(slots=True, frozen=True)
class OpenRequest:
    """Something that an execution asks of the world.

    `status`: open, decided, expired, withdrawn. `schema`: the JSON Schema (as text) that an answer must fit. Of an
    approval: `actions` with the arguments as they stand, `approvers` of the stage that is decided now, the `decisions`
    so far, and the `digest` that binds them to what is asked. `split`: who says what now, in words, where the people of
    a quorum say different things; else empty.
    """

    id: str
    execution_id: str
    key: str
    kind: str
    message: str
    details: Any
    status: str
    schema: str | None
    assignee: str | None
    answer: Any
    answered_by: str | None
    created_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None
    actions: Sequence[Any] = ()
    approvers: Sequence[str] = ()
    decisions: Sequence[Voice] = ()
    digest: str | None = None
    split: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Completed:
    """It ended with a value."""

    value: Any


@dataclass(slots=True, frozen=True)
class Failed:
    """It ended with an error."""

    error: BaseException


@dataclass(slots=True, frozen=True)
class Waiting:
    """Nothing can go on without an answer, a message or time (in the children it waits for neither)."""

    requests: Sequence[OpenRequest] = field(default_factory=tuple)
    wake_at: datetime | None = None


@dataclass(slots=True, frozen=True)
class Paused:
    """Somebody paused it."""

    by: str | None
    reason: str | None


@dataclass(slots=True, frozen=True)
class Cancelled:
    """Somebody cancelled it."""

    by: str | None
    reason: str | None


@dataclass(slots=True, frozen=True)
class Blocked:
    """It needs a person; `error` is the typed cause."""

    reason: str
    error: BaseException


@dataclass(slots=True, frozen=True)
class RolledBack:
    """What it did was undone. `error`: what it failed of, if it did; `undone`: the keys, in the order of the undos."""

    error: BaseException | None
    undone: Sequence[str] = ()


@dataclass(slots=True, frozen=True)
class RollbackFailed:
    """Some undos failed and wait for a person; `undo_errors`: by key. `error`: what the execution failed of."""

    error: BaseException | None
    undo_errors: Mapping[str, BaseException] = field(default_factory=dict)


Outcome = Completed | Failed | Waiting | Paused | Cancelled | Blocked | RolledBack | RollbackFailed
