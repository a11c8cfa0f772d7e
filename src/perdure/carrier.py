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


DONE: Any = object()
"""What a driver yields when a body has ended."""


@types.coroutine
def _drive(carrier: Carrier) -> Generator[Any, Any, None]:
    """Runs one body after the other: is sent a coroutine and its scope, yields what that yields, then `DONE`."""
    coroutine, call = yield
    while True:
        token = CURRENT.set(call)
        try:
            carrier.value = yield from coroutine
            carrier.ok = True
        except GeneratorExit:
            raise
        except BaseException as error:
            carrier.value = error
            carrier.ok = False
        CURRENT.reset(token)
        del coroutine, call, token
        coroutine, call = yield DONE


class Carrier:
    """One waiting task."""

    __slots__ = ("context", "driver", "gate", "got", "ok", "task", "value")

    def __init__(self, loop: asyncio.AbstractEventLoop, base: contextvars.Context) -> None:
        self.context = base.copy()
        self.got: Any = DONE
        self.ok = False
        self.value: Any = None
        self.driver: Any = _drive(self)
        self.driver.send(None)
        self.gate = loop.create_future()
        self.task: asyncio.Task[Any] = asyncio.Task(self._wait(), loop=loop, context=self.context)

    async def _wait(self) -> Any:
        if self.got is DONE:
            await self.gate
        await self._relay()
        value, self.value = self.value, None
        if self.ok:
            return value
        raise value

    @types.coroutine
    def _relay(self) -> Generator[Any, Any, None]:
        """Go on with the body, which has yielded `got`."""
        driver, got = self.driver, self.got
        while got is not DONE:
            try:
                value = yield got
            except BaseException as error:
                got = driver.throw(error)
            else:
                got = driver.send(value)


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
            got = carrier.context.run(carrier.driver.send, (coroutine, call))
        except BaseException as error:  # a body that raises GeneratorExit by itself ends its driver too
            task.cancel()
            return False, error
        finally:
            _leave_task(self.loop, task)
        if got is not DONE:
            carrier.got = got
            if not carrier.gate.done():
                carrier.gate.set_result(None)
            return task
        outcome = carrier.ok, carrier.value
        carrier.value = None
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
