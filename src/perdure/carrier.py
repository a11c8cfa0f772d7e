"""Coroutines of the real loop, started at once, without a task for those that never suspend.

A *carrier* is a real task of the real loop that waits at a gate. A body's first segment runs in the
carrier's context, with the carrier as the current task. If the body ends there, the carrier is used again
for the next one; if it suspends, the carrier becomes the body's task. So `current_task`, timeouts,
cancelling and context variables are those of an ordinary task, and most bodies cost none.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from asyncio import tasks as _tasks
from collections.abc import Coroutine, Generator
from typing import Any

from perdure.scope import CURRENT, Call

_enter_task = _tasks._enter_task
_leave_task = _tasks._leave_task


@types.coroutine
def _relay(coroutine: Coroutine[Any, Any, Any], got: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that already yielded `got`."""
    while True:
        try:
            value = yield got
        except BaseException as error:
            try:
                got = coroutine.throw(error)
            except StopIteration as end:
                return end.value
        else:
            try:
                got = coroutine.send(value)
            except StopIteration as end:
                return end.value


class Carrier:
    """One waiting task."""

    __slots__ = ("context", "coroutine", "gate", "got", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, base: contextvars.Context) -> None:
        self.context = base.copy()
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        self.got: Any = None
        self.gate = loop.create_future()
        self.task: asyncio.Task[Any] = asyncio.Task(self._drive(), loop=loop, context=self.context)

    async def _drive(self) -> Any:
        if self.coroutine is None:
            await self.gate
        assert self.coroutine is not None
        return await _relay(self.coroutine, self.got)


Outcome = tuple[bool, Any]


class Carriers:
    """The carriers of one engine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.base = contextvars.copy_context()
        self.idle: list[Carrier] = []

    def start(self, coroutine: Coroutine[Any, Any, Any], call: Call | None = None) -> Outcome | asyncio.Task[Any]:
        """Run a coroutine's first segment now, in the scope of a call. No task may be current.

        Gives (True, result) or (False, error) if it ended there, else its task.
        """
        carrier = self.idle.pop() if self.idle else Carrier(self.loop, self.base)
        task = carrier.task
        if call is not None:
            call.owner = task
        _enter_task(self.loop, task)
        try:
            outcome = carrier.context.run(_first, carrier, coroutine, call)
        finally:
            _leave_task(self.loop, task)
        if outcome is None:
            if not carrier.gate.done():
                carrier.gate.set_result(None)
            return task
        if not task.cancelling() and carrier.context == self.base:
            self.idle.append(carrier)
        else:
            task.cancel()  # the body left something in the context, or asked for its own cancelling
        return outcome

    def close(self) -> None:
        """Cancel the waiting tasks. They end with the loop's next iteration."""
        for carrier in self.idle:
            carrier.task.cancel()
        self.idle.clear()


def _first(carrier: Carrier, coroutine: Any, call: Call | None) -> Outcome | None:
    token = CURRENT.set(call)
    try:
        carrier.got = coroutine.send(None)
    except StopIteration as end:
        CURRENT.reset(token)
        return True, end.value
    except BaseException as error:
        CURRENT.reset(token)
        return False, error
    carrier.coroutine = coroutine
    return None
