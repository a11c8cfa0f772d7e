"""What running code may ask about itself: `current()`."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, MutableMapping, Set
from dataclasses import dataclass
from typing import Any

from perdure.errors import NoExecutionError
from perdure.records import Execution
from perdure.scope import CURRENT, Branch, Call, Scope


@dataclass(slots=True)
class Info:
    """What is the same for the whole of one execution, as long as one worker owns it."""

    execution_id: str
    workflow: str
    version: int
    by: str | None
    attributes: Mapping[str, Any]
    fence: int
    generation: int
    started_at: int
    changed: str | None = None  # the attributes as they are to be recorded in the row
    namespace: str = ""  # what its names are stored with
    rollback_reason: str | None = None
    orders: Set[str] = frozenset()  # the rollbacks that were carried out

    @classmethod
    def of(cls, row: Execution, attributes: Mapping[str, Any], namespace: str = "") -> Info:
        """That of a claimed execution."""
        return cls(
            execution_id=row.id,
            workflow=row.workflow,
            version=row.version,
            by=row.started_by,
            attributes=attributes,
            fence=row.fence,
            generation=row.generation,
            started_at=row.created_at,
            namespace=namespace,
        )


def idempotency_key(execution_id: str, key: str, generation: int) -> str:
    """The same in all attempts of a step, another one in every other step, execution, fork and generation."""
    return hashlib.sha256(f"{generation}:{key}:{execution_id}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Silent while workflow code is being replayed."""

    def __init__(self, current: Current) -> None:
        super().__init__(logging.getLogger(f"perdure.{current.workflow}"))
        self.current = current

    def isEnabledFor(self, level: int) -> bool:
        return not self.current.replaying and super().isEnabledFor(level)

    def log(self, level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
        redaction = self.current._sequencer.redaction
        if redaction is not None and self.isEnabledFor(level):
            words = str(msg)
            msg, args = redaction.words(words % args if args else words), ()
        super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"{self.current.execution_id} {self.current.key or 'workflow'}: {msg}", kwargs


class Current:
    """The execution, and the step or workflow code that runs just now."""

    __slots__ = ("_body", "_info", "_sequencer")

    def __init__(self, scope: Scope | Call | Branch) -> None:
        self._body = None if isinstance(scope, Scope) else scope.body
        self._sequencer = scope.sequencer if isinstance(scope, Scope) else scope.body.sequencer
        self._info: Info = self._sequencer.info

    @property
    def execution_id(self) -> str:
        return self._info.execution_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._info.workflow

    @property
    def key(self) -> str | None:
        """The key of the running step; None in workflow code."""
        return self._body.key if self._body is not None else None

    @property
    def attempt(self) -> int:
        """1 for the first attempt of the running step."""
        return self._body.attempt if self._body is not None else 1

    @property
    def fence(self) -> int:
        """Rises with each change of the execution's owner."""
        return self._info.fence

    @property
    def generation(self) -> int:
        """How often it has gone back or begun anew so far: by a rollback, a retry, a restart."""
        return self._info.generation

    @property
    def rollback_reason(self) -> str | None:
        """Why the execution was last rolled back; None if it never was, or not since a restart, or without a reason."""
        return self._info.rollback_reason

    @property
    def idempotency_key(self) -> str:
        """Hand this to the outside world: the same for every attempt of this step, and for this step only."""
        info = self._info
        return idempotency_key(info.namespace + info.execution_id, self.key or "", info.generation)

    @property
    def by(self) -> str | None:
        """Who started the execution."""
        return self._info.by

    @property
    def attributes(self) -> Mapping[str, Any]:
        return self._info.attributes

    @property
    def cancelled(self) -> bool:
        """Has the running body been told to stop? A body in a thread should look now and then."""
        if self._body is None:
            return False
        if self._body.stopped is not None:
            return True
        task = self._body.task
        return isinstance(task, asyncio.Task) and task.cancelling() > 0

    @property
    def unwinding(self) -> bool:
        """Are the frames of workflow code being closed (parking, cancelling)? Then this is not the end."""
        return self._body is None and self._sequencer.closing

    @property
    def replaying(self) -> bool:
        """Is workflow code going over what is recorded?"""
        return self._body is None and not self._sequencer.at_end()

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the execution and step, and says nothing during replay."""
        return _Log(self)


def current() -> Current:
    """The running execution and step. Raises `NoExecutionError` outside of one."""
    scope = CURRENT.get()
    if scope is None:
        raise NoExecutionError("current() has a meaning inside a workflow or a step only")
    return Current(scope)
