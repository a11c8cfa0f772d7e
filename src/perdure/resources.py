"""Resources: what steps need and nobody records (clients, pools, sessions), one of each kind an engine."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, _GeneratorContextManager
from typing import Any, TypeVar

from perdure.errors import PerdureError

T = TypeVar("T")

logger = logging.getLogger("perdure")


class Resource:
    """The default of a step's parameter that the engine fills. Made by `resource`."""

    __slots__ = ("kind",)

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"resource({getattr(self.kind, '__qualname__', self.kind)})"


class Transaction(Resource):
    """The default of a transactional step's parameter: its connection. Made by `transaction`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"transaction({getattr(self.kind, '__qualname__', self.kind)})"

    def check(self, connection: Any) -> None:
        """Raises `TypeError` if the body wants the connection of another driver."""
        wanted, given = (kind.__module__.partition(".")[0] for kind in (self.kind, type(connection)))
        if wanted != "builtins" and not any(k.__module__.partition(".")[0] == wanted for k in type(connection).__mro__):
            raise TypeError(f"{self!r}: the engine's store has connections of {given}, not of {wanted}")


def transaction(kind: type[T]) -> T:
    """As the default of a transactional step's parameter: the connection of the step's transaction.

    `kind`: the driver's class, which depends on the engine's store: `asyncpg.Connection`, `asyncmy.Connection` or
    `sqlite3.Connection`. The transaction is open; it is committed together with the step's outcome when the body
    returns, and rolled back when it raises or takes too long. Committing it in the body is an error.

    >>> @step(transactional=True)
    ... async def book(seat: str, connection: asyncpg.Connection = transaction(asyncpg.Connection)) -> None: ...
    """
    return Transaction(kind)  # type: ignore[return-value]


def resource(kind: type[T]) -> T:
    """As a step parameter's default: filled from `Engine(resources={kind: factory})`, never recorded.

    >>> @step
    ... async def charge(order: Order, stripe: Stripe = resource(Stripe)) -> str: ...
    """
    return Resource(kind)  # type: ignore[return-value]


def wanted(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a function that are resources, by name, with their kinds.

    Raises `TypeError` if one is followed by a parameter that is given by position.
    """
    found: dict[str, Any] = {}
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return found
    for parameter in parameters:
        if isinstance(parameter.default, Transaction):
            found[parameter.name] = parameter.default
        elif isinstance(parameter.default, Resource):
            found[parameter.name] = parameter.default.kind
        elif found and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            name = getattr(function, "__qualname__", repr(function))
            raise TypeError(f"{name}: parameters that are resources come last, or {parameter.name!r} by keyword only")
    return found


class Resources:
    """The resources of one engine: made when they are first asked for, given back when it closes.

    A factory gives the resource, an awaitable of it, or a context manager made by `contextlib` around it; a resource
    that is an async context manager itself is entered. What has `aclose` or `close` is closed by it.
    """

    def __init__(self, factories: Mapping[Any, Callable[[], Any]]) -> None:
        self._factories = dict(factories)
        self._ready: dict[Any, Any] = {}
        self._making: dict[Any, asyncio.Future[Any]] = {}
        self._stack = AsyncExitStack()

    def ready(self, kinds: Mapping[str, Any]) -> dict[str, Any] | None:
        """The resources by parameter, if all are there already."""
        try:
            return {name: self._ready[kind] for name, kind in kinds.items()}
        except KeyError:
            return None

    async def get(self, kinds: Mapping[str, Any]) -> dict[str, Any]:
        """The resources by parameter. Raises what a factory raises, and `PerdureError` where there is none."""
        return {name: await self._one(kind) for name, kind in kinds.items()}

    async def _one(self, kind: Any) -> Any:
        if kind in self._ready:
            return self._ready[kind]
        if kind not in self._factories:
            name = getattr(kind, "__qualname__", repr(kind))
            raise PerdureError(f"this engine has no resource {name}: Engine(resources={{{name}: factory}})")
        making = self._making.get(kind)
        if making is None:
            making = self._making[kind] = asyncio.ensure_future(self._make(kind))
            making.add_done_callback(lambda done: self._made(kind, done))
        return await asyncio.shield(making)

    def _made(self, kind: Any, making: asyncio.Future[Any]) -> None:
        del self._making[kind]
        if not making.cancelled() and making.exception() is None:
            self._ready[kind] = making.result()

    async def _make(self, kind: Any) -> Any:
        made = self._factories[kind]()
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__"):
            return await self._stack.enter_async_context(made)
        if isinstance(made, _GeneratorContextManager):
            return self._stack.enter_context(made)
        for name in ("aclose", "close"):
            if callable(close := getattr(made, name, None)):
                self._stack.push_async_callback(_close, close)
                break
        return made

    async def close(self) -> None:
        """Give all of them back, the last one first."""
        try:
            await self._stack.aclose()
        except Exception:
            logger.exception("a resource could not be closed")


async def _close(close: Callable[[], Any]) -> None:
    closed = close()
    if inspect.isawaitable(closed):
        await closed
