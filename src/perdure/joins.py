"""Joins: several durable calls at once, and which of them counts."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from perdure.checking import check_positive
from perdure.errors import NoExecutionError
from perdure.journal import RACE
from perdure.scope import CURRENT, Branch, Call, Scope

T = TypeVar("T")


async def gather(*calls: Awaitable[T], limit: int | None = None) -> list[T]:
    """Run durable calls (or coroutines of one's own) at once; their results in order.

    At most `limit` at a time. The first that fails cancels the others, and its error is raised once they
    have ended.
    """
    if limit is not None:
        check_positive("limit", limit)
    gate = asyncio.Semaphore(limit) if limit is not None and limit < len(calls) else None
    tasks = [_task(_gated(gate, call)) for call in calls]
    if not tasks:
        return []
    try:
        return list(await asyncio.gather(*tasks))
    except GeneratorExit:
        raise  # the frames are being closed: nothing is awaited any more
    except BaseException:
        rest = [task for task in tasks if not task.done()]
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        raise
    finally:
        _close(calls)


def _close(calls: Iterable[Awaitable[Any]]) -> None:
    """Calls that were given up before they began were not forgotten: no warning."""
    for call in calls:
        if inspect.iscoroutine(call) and inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
            call.close()


async def _gated(gate: asyncio.Semaphore | None, call: Awaitable[T]) -> T:
    try:
        if gate is None:
            return await call
        async with gate:
            return await call
    finally:
        _close([call])


def _task(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that may make durable calls: in a step's body, with a scope of its own."""
    loop = asyncio.get_running_loop()
    scope = CURRENT.get()
    if not isinstance(scope, (Call, Branch)):
        return loop.create_task(coroutine)
    context = contextvars.copy_context()
    branch = scope.branch()
    context.run(CURRENT.set, branch)
    task = loop.create_task(coroutine, context=context)
    branch.owner = task
    return task


@dataclass(slots=True, frozen=True)
class Won:
    """The result of a race: the winner's name, and what it gave."""

    name: str
    value: Any


async def race(**calls: Awaitable[Any]) -> Won:
    """The first of several durable calls to end wins; the others are cancelled, their requests withdrawn.

    If the winner raised, its error is raised.

    >>> won = await race(paid=receive("payment"), late=sleep(timedelta(days=2)))
    """
    if not calls:
        raise ValueError("race needs at least one call")
    scope = CURRENT.get()
    if isinstance(scope, Scope):
        key = scope.key(RACE)
    elif scope is not None:
        raise NoExecutionError("race belongs in workflow code; in a step's body use asyncio")
    tasks = {name: _task(_gated(None, call)) for name, call in calls.items()}
    try:
        await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        winner = next((name for name, task in tasks.items() if task.done()), None)
        losers = [task for task in tasks.values() if not task.done()]
        for task in losers:
            task.cancel()
        _close(calls.values())
    assert winner is not None
    if isinstance(scope, Scope):
        scope.sequencer.check_local(RACE, key, f'"{winner}"')
    if losers:
        await asyncio.wait(losers)
    return Won(winner, await tasks[winner])
