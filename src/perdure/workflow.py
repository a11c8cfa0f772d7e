"""`@workflow`, `@step`, `@checkpoint` and their options: describe and register; no I/O.

A step or workflow called outside of an execution is an ordinary function. Called by workflow code, the
plain `def` wrapper allots the key and encodes the arguments at the call, in code order, and gives a
coroutine; the call *opens* when that coroutine first runs.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, overload
from weakref import WeakValueDictionary

from perdure.approvals import Approval
from perdure.arguments import Arguments
from perdure.asking import check_guard, guarded, tested_arguments
from perdure.budget import Budget, check_budget
from perdure.capturing import check_capture
from perdure.checking import Named, check_settings, check_version, start_options
from perdure.clock import SECOND, Duration, micros
from perdure.codec import CODEC
from perdure.errors import EncodeError, NoExecutionError, TooLargeError, WrongFaceError
from perdure.joins import gather
from perdure.options import Signal, WorkflowOptions
from perdure.queues import check_queue
from perdure.redaction import Redact, check_redact
from perdure.resources import wanted
from perdure.retry import Retry
from perdure.scope import ANSWERS, CURRENT, Branch, Call, Scope, warn_outside
from perdure.sequencer import durable_call
from perdure.steps import (
    TRANSACTION,
    StepOptions,
    StepSpec,
    check_name,
    check_options,
    check_transaction,
    place_of_code,
)
from perdure.threads import MADE, drive, here, wait_for
from perdure.undoing import check_undo

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V")
T_in = TypeVar("T_in", contravariant=True)
V_out = TypeVar("V_out", covariant=True)


class _Step(Generic[P, R]):
    """What `@step` on an `async def` and on a plain `def` have in common."""

    def __init__(self, function: Callable[P, Any], options: StepOptions) -> None:
        self.function = function
        self.options_ = options
        self.__name__ = getattr(function, "__name__", options.name)
        self.__qualname__ = getattr(function, "__qualname__", options.name)
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._resources = wanted(function)
        check_transaction(options.name, self._resources, options.transactional)
        check_guard(options.name, function, self._resources, options.approval)
        self._spec: StepSpec | None = None

    @property
    def name(self) -> str:
        return self.options_.name

    @property
    def spec(self) -> StepSpec:
        # Made at the first call: annotations may name what is defined further down.
        spec = self._spec
        if spec is None:
            spec = self._spec = StepSpec(self.function, self.options_)
        return spec

    def _call(self, scope: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The durable call: a coroutine."""
        spec = self._spec or self.spec
        if self.options_.approval is not None:
            return guarded(spec, scope, args, kwargs)
        if scope.__class__ is Scope:
            name = spec.name
            counts = scope.counts
            n = counts.get(name, 0) + 1
            counts[name] = n
            key = f"{scope.path}{name}#{n}"
            sequencer = scope.sequencer
            try:
                text, plain = spec.arguments.bind(args, kwargs)
                if len(text) > sequencer.capacity.sure:
                    sequencer.capacity.check(text, f"the input of {key}")
            except (EncodeError, TooLargeError) as error:
                error.execution_id, error.key = sequencer.id, key
                raise
            return durable_call(Call(sequencer, spec, key, args if plain and not kwargs else None, text))
        assert isinstance(scope, (Call, Branch))
        return scope.body.run.nested(scope, spec, args, kwargs)

    def _outside(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Outside of an execution the step is an ordinary function; only unit tests have an answer to its guard."""
        warn_outside(self.options_.name)
        tested = self.options_.approval is not None and ANSWERS.get() is not None
        return tested_arguments(self.spec, args, kwargs) if tested else (args, kwargs)

    def _plainly(self, kwargs: Mapping[str, Any]) -> None:
        """Outside of an execution nobody fills resources."""
        for name in self._resources:
            if name not in kwargs:
                raise NoExecutionError(f"{self.name}: outside of an execution give {name}=, a resource, yourself")

    def options(
        self,
        *,
        name: str = ...,  # type: ignore[assignment]
        retry: Retry | None = ...,  # type: ignore[assignment]
        timeout: Duration | None = ...,  # type: ignore[assignment]
        once: bool = ...,  # type: ignore[assignment]
        verify: Callable[..., Any] | None = ...,  # type: ignore[assignment]
        on_change: str = ...,  # type: ignore[assignment]
        undo_unknown: bool = ...,  # type: ignore[assignment]
        undo_on_error: bool = ...,  # type: ignore[assignment]
        pivot: bool = ...,  # type: ignore[assignment]
        approval: Approval | None = ...,  # type: ignore[assignment]
    ) -> Self:
        """A copy with other settings and the same signature.

        `undo=` and `transactional=` belong to the definition: there a rollback finds them, in whatever process.
        """
        changes = {k: v for k, v in locals().items() if k != "self" and v is not ...}
        if changes.get("timeout") is not None:
            changes["timeout"] = micros(changes["timeout"])
        options = replace(self.options_, **changes)
        check_options(options)
        return type(self)(self.function, options)

    def __repr__(self) -> str:
        return f"<step {self.options_.name}>"


class Step(_Step[P, R]):
    """An `async def` step."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        scope = CURRENT.get()
        if scope is None:
            if self._resources:
                self._plainly(kwargs)
            args, kwargs = self._outside(args, kwargs)
            return self.function(*args, **kwargs)  # type: ignore[no-any-return]
        if MADE and here() is not None:
            raise WrongFaceError(f"{self.name} is async: call sync.call({self.__name__}, ...) in a plain function")
        return self._call(scope, args, kwargs)  # type: ignore[no-any-return]

    async def map(self: Callable[[T], Coroutine[Any, Any, V]], items: Iterable[T], limit: int | None = None) -> list[V]:
        """Call the step on each item, at most `limit` at a time; the results in the items' order."""
        return await gather(*[self(item) for item in items], limit=limit)


class _Aio(Protocol[T_in, V_out]):
    def aio(self, item: T_in, /) -> Coroutine[Any, Any, V_out]: ...


class SyncStep(_Step[P, R]):
    """A plain `def` step: its body runs in a thread. Async workflows call it with `await s.aio(...)`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = CURRENT.get()
        if scope is None:
            if self._resources:
                self._plainly(kwargs)
            args, kwargs = self._outside(args, kwargs)
            return self.function(*args, **kwargs)  # type: ignore[no-any-return]
        if here() is not None:
            return wait_for(self._call(scope, args, kwargs), self.name)  # type: ignore[no-any-return]
        if isinstance(scope, Scope) or scope.body.owner != threading.get_ident():
            raise WrongFaceError(
                f"{self.options_.name} is a plain function: call `await {self.__name__}.aio(...)` here"
            )
        loop = scope.body.run.worker.loop
        return asyncio.run_coroutine_threadsafe(self._call(scope, args, kwargs), loop).result()  # type: ignore[no-any-return]

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The durable call, for async code."""
        scope = CURRENT.get()
        if scope is None:
            self._plainly(kwargs)
            return asyncio.to_thread(self.function, *args, **kwargs)
        return self._call(scope, args, kwargs)  # type: ignore[no-any-return]

    async def map(self: _Aio[T, V], items: Iterable[T], limit: int | None = None) -> list[V]:
        """Call the step on each item, at most `limit` at a time; the results in the items' order."""
        return await gather(*[self.aio(item) for item in items], limit=limit)


UNDOABLE: WeakValueDictionary[str, _Step[..., Any]] = WeakValueDictionary()
"""Steps that have an undo, by where they are found: for those whose body was not entered by this process."""

STEP_SETTINGS = frozenset({f.name for f in fields(StepOptions)} - {"kind"})
WORKFLOW_SETTINGS = (
    *("name", "version", "on_change", "queue", "timeout", "budget", "redact", "rollback_on_failure", "capture"),
)


def _make_step(function: Callable[..., Any], kind: str, settings: Mapping[str, Any]) -> Any:
    check_settings(settings, STEP_SETTINGS, f"@{kind}", function)
    timeout, transactional = settings.get("timeout"), settings.get("transactional", False)
    if timeout is None and transactional:
        timeout = TRANSACTION / SECOND
    options = StepOptions(
        name=settings.get("name") or function.__qualname__,
        kind=kind,
        retry=settings.get("retry"),
        timeout=None if timeout is None else micros(timeout),
        once=settings.get("once", False),
        verify=settings.get("verify"),
        on_change=settings.get("on_change", "strict"),
        transactional=transactional,
        undo=settings.get("undo"),
        undo_unknown=settings.get("undo_unknown", False),
        undo_on_error=settings.get("undo_on_error", False),
        pivot=settings.get("pivot", False),
        approval=settings.get("approval"),
    )
    check_options(options)
    if options.undo is not None:
        check_undo(options.undo, function)
        undo: Any = options.undo
        if isinstance(undo, _Step) and undo.options_.transactional:
            raise TypeError(f"undo={undo.name} is transactional: an undo runs outside of transactions")
    made: Any = (Step if inspect.iscoroutinefunction(function) else SyncStep)(function, options)
    if options.undo is not None:
        UNDOABLE[place_of_code(function)] = made
    return made


class _StepDecorator:
    def __init__(self, kind: str, settings: Mapping[str, Any]) -> None:
        self.kind = kind
        self.settings = settings

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncStep[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return _make_step(function, self.kind, self.settings)


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...  # type: ignore[overload-overlap]
@overload
def step(function: Callable[P, R], /) -> SyncStep[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    once: bool = False,
    verify: Callable[..., Any] | None = None,
    on_change: str = "strict",
    transactional: bool = False,
    undo: Callable[..., Any] | None = None,
    undo_unknown: bool = False,
    undo_on_error: bool = False,
    pivot: bool = False,
    approval: Approval | None = None,
) -> _StepDecorator: ...
def step(function: Any = None, /, **settings: Any) -> Any:
    """Mark a function as a step: a unit of work with side effects, whose outcome is recorded once.

    The body runs at least once, anywhere (sockets, threads, files), and is never run again once its
    outcome is recorded. `retry`: none unless asked for. `timeout`: seconds or a timedelta for each
    attempt, then `TimeoutError`. `once`: the intent is recorded before the body runs; after a crash in
    between, `verify(*args)` tells the result (or None: it did not happen), and without it the execution
    is blocked until a person knows. `on_change="exact"`: other arguments in a replay are a mismatch.
    `transactional`: the body gets a connection (see `transaction`), and what it writes there is committed together
    with the step's outcome, or not at all; `timeout` is 30 seconds unless given.
    `undo`: what takes the step back in a rollback: a function (or step) that is given its result, then its arguments.
    It is tried 5 times, or as its own `retry=` says. `undo_unknown`: it also runs, with `Unknown` for a result, where
    nobody knows whether the step happened; else a person decides. `undo_on_error`: it also runs where the step failed.
    `pivot`: the point of no return; once it is completed, only `force=True` undoes what came before.
    `approval`: people are asked first; arguments that they edit are what runs; `ApprovalRejectedError` if they refuse.

    >>> @step(retry=Retry(attempts=5), timeout=30.0)
    ... async def reserve(order: Order) -> str: ...
    """
    return _StepDecorator("step", settings) if function is None else _make_step(function, "step", settings)


async def _mark() -> None:
    return None


@overload
def checkpoint(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...  # type: ignore[overload-overlap]
@overload
def checkpoint(function: str, /) -> Coroutine[Any, Any, None]: ...
@overload
def checkpoint(function: Callable[P, R], /) -> SyncStep[P, R]: ...
@overload
def checkpoint(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    once: bool = False,
    verify: Callable[..., Any] | None = None,
    on_change: str = "strict",
    transactional: bool = False,
    undo: Callable[..., Any] | None = None,
    undo_unknown: bool = False,
    undo_on_error: bool = False,
    pivot: bool = False,
    approval: Approval | None = None,
) -> _StepDecorator: ...
def checkpoint(function: Any = None, /, **settings: Any) -> Any:
    """A step whose completion is a named point to return to; `await checkpoint("name")` marks one without work."""
    if isinstance(function, str):
        if CURRENT.get() is None:
            raise NoExecutionError("a checkpoint has a meaning inside a workflow only")
        if MADE and here() is not None:
            raise WrongFaceError(f'in a plain function call sync.checkpoint("{function}")')
        return _make_step(_mark, "checkpoint", {"name": function})()
    return _StepDecorator("checkpoint", settings) if function is None else _make_step(function, "checkpoint", settings)


# Workflows ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ChildSpec:
    """A child execution as sequencer and executor see it."""

    workflow: Workflow[..., Any]
    kind: str = "child"
    on_change: str = "strict"
    intent: bool = True
    detached: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.workflow.options_.name

    def decode(self, text: str) -> Any:
        return CODEC.decode(text) if self.detached else self.workflow.arguments.returns.decode(text)

    def normalize(self, text: str) -> str:
        return self.workflow.arguments.normalize(text)


class Workflow(Generic[P, R]):
    """A durable workflow: a function whose every step is recorded, and which goes on after any crash."""

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], options: WorkflowOptions) -> None:
        self.function = function
        self.options_ = options
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._arguments: Arguments | None = None

    @property
    def name(self) -> str:
        return self.options_.name

    @property
    def version(self) -> int:
        return self.options_.version

    @property
    def identity(self) -> tuple[str, int]:
        return self.options_.name, self.options_.version

    @property
    def arguments(self) -> Arguments:
        arguments = self._arguments
        if arguments is None:
            arguments = self._arguments = Arguments(self.function, CODEC)
        return arguments

    @property
    def source(self) -> str:
        """`file:line` of the function."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "an unknown file"

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, R]:
        """The main coroutine of an execution."""
        return self.function(*args, **kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        scope = CURRENT.get()
        if scope is None:
            return self.function(*args, **kwargs)
        if here() is not None:
            raise WrongFaceError(f"{self.name} is async: call sync.call({self.__name__}, ...) in a plain function")
        return self.call_child(scope, args, kwargs, detached=False)  # type: ignore[no-any-return]

    def call_child(self, scope: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, detached: bool) -> Any:
        """The durable call that runs this workflow as a child execution."""
        if not isinstance(scope, Scope):
            raise NoExecutionError(
                f"{self.name}: a step's body cannot run child executions; call it from workflow code"
            )
        key = scope.key(self.options_.name)
        try:
            text, _ = self.arguments.bind(args, kwargs)
            # Sent with the intent, and with the child's row.
            scope.sequencer.capacity.check(text, f"the input of {key}", packs=False, copies=2)
        except (EncodeError, TooLargeError) as error:
            error.execution_id, error.key = scope.sequencer.id, key
            raise
        spec = ChildSpec(self, kind="start_child" if detached else "child", detached=detached)
        return durable_call(Call(scope.sequencer, spec, key, None, text))

    def options(
        self,
        *,
        execution_id: str = ...,  # type: ignore[assignment]
        queue: str = ...,  # type: ignore[assignment]
        priority: int = ...,  # type: ignore[assignment]
        delay: Duration = ...,  # type: ignore[assignment]
        at: datetime = ...,  # type: ignore[assignment]
        by: str | Named = ...,  # type: ignore[assignment]
        attributes: Mapping[str, Any] = ...,  # type: ignore[assignment]
        signal: Signal = ...,  # type: ignore[assignment]
        budget: Budget = ...,  # type: ignore[assignment]
        connection: Any = ...,
    ) -> Workflow[P, R]:
        """A copy with settings for one execution and the same signature.

        `execution_id`: at most 255 bytes; the same id, workflow and input is the same execution.
        `delay` (seconds or timedelta) or `at` (a datetime), not both: not before then. `priority`: high first.
        `signal`: a message for it, also if it is there already. `budget`: another one than the workflow's.
        `connection`: yours, to the engine's database (of asyncpg, psycopg, SQLAlchemy, sqlite3, aiosqlite, asyncmy,
        aiomysql, pymysql, Django). The start is part of the transaction that is open there: it happens once you have
        committed, or never. That a connection is to another database, where no worker looks, nobody can tell. A sync
        connection blocks the event loop for as long as one insert takes.
        """
        given = {k: v for k, v in locals().items() if k != "self" and v is not ...}
        check_budget(given.get("budget"))
        given = start_options(given, Signal)
        copy = type(self)(self.function, replace(self.options_, **given))
        copy._arguments = self._arguments
        return copy

    def __repr__(self) -> str:
        return f"<workflow {self.name} version {self.version}>"


class SyncWorkflow(Workflow[P, R]):
    """A durable workflow that is a plain function: it has a thread of its own, and calls what is in `perdure.sync`."""

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, R]:
        return drive(self.function, args, kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        scope = CURRENT.get()
        if scope is None:
            return self.function(*args, **kwargs)  # type: ignore[return-value]
        if here() is None:
            raise WrongFaceError(f"{self.name} is a plain function: call `await {self.__name__}.aio(...)` here")
        return wait_for(self.call_child(scope, args, kwargs, detached=False), self.name)  # type: ignore[no-any-return]

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The child execution, for async workflow code."""
        scope = CURRENT.get()
        if scope is None:
            return asyncio.to_thread(self.function, *args, **kwargs)  # type: ignore[arg-type]
        return self.call_child(scope, args, kwargs, detached=False)  # type: ignore[no-any-return]


REGISTRY: dict[tuple[str, int], list[Workflow[..., Any]]] = {}
"""Every `@workflow` that was imported, by name and version; read only by `Engine(workflows=None)`."""


def _register(made: Workflow[..., Any]) -> None:
    known = REGISTRY.setdefault(made.identity, [])
    place = made.source.rsplit(":", 1)[0], made.__qualname__
    # The same file imported again, or run as a script and imported, is the same workflow.
    known[:] = [w for w in known if (w.source.rsplit(":", 1)[0], w.__qualname__) != place]
    known.append(made)


class _WorkflowDecorator:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncWorkflow[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return _make_workflow(function, self.settings)


def _make_workflow(function: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function) or not callable(function):
        raise TypeError(f"{function!r}: a workflow is a function that returns its result")
    check_settings(settings, WORKFLOW_SETTINGS, "@workflow")
    options = WorkflowOptions(
        name=settings.get("name") or function.__qualname__,
        version=check_version(settings.get("version", 1)),
        on_change=settings.get("on_change", "strict"),
        queue=check_queue(settings.get("queue")),
        timeout=None if settings.get("timeout") is None else micros(settings["timeout"]),
        budget=check_budget(settings.get("budget")),
        redact=check_redact(settings.get("redact")),
        rollback_on_failure=settings.get("rollback_on_failure", False),
        capture=check_capture(settings.get("capture")),
    )
    check_name(options.name)
    if options.on_change not in ("strict", "exact"):
        raise ValueError(f"on_change is 'strict' or 'exact', not {options.on_change!r}")
    kind = Workflow if inspect.iscoroutinefunction(function) else SyncWorkflow
    made: Workflow[..., Any] = kind(function, options)
    _register(made)
    return made


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...  # type: ignore[overload-overlap]
@overload
def workflow(function: Callable[P, R], /) -> SyncWorkflow[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: int = 1,
    on_change: str = "strict",
    queue: str | None = None,
    timeout: Duration | None = None,
    budget: Budget | None = None,
    redact: Redact | None = None,
    rollback_on_failure: bool = False,
    capture: str | None = None,
) -> _WorkflowDecorator: ...
def workflow(function: Any = None, /, **settings: Any) -> Any:
    """Mark a function as a durable workflow: an `async def`, or a plain one that calls what is in `perdure.sync`.

    It may await steps, other durable calls and pure asyncio (tasks, groups, queues, locks, timeouts); it is
    run again from its top after a crash, and then meets the same outcomes in the same order. Everything
    else (clocks, randomness, sockets, files) belongs in a step.

    `name` (default: the function's qualified name) and `version` identify it in the database.
    `on_change="exact"`: any call with other arguments in a replay is a mismatch.
    `timeout`: seconds or a timedelta from its start, over all crashes and waits, then it fails with `TimeoutError`.
    `budget`: what its steps may use before somebody is asked. `redact`: names of arguments and members (besides
    password, token, key and their kin), or a function `redact(name, value)` that gives what is shown: so are the inputs
    of its steps, the errors of attempts that did not count, tracebacks and its log recorded. What replay needs (its own
    input, outcomes, answers) is never hidden. `rollback_on_failure`: where it fails, the undos of what it did run, last
    first, and it ends `rolled_back`; it is never `failed`. `capture`: what is recorded of its variables, to be looked
    at: "all", "names" (and types), "off"; None: as the engine says.
    """
    return _WorkflowDecorator(settings) if function is None else _make_workflow(function, settings)
