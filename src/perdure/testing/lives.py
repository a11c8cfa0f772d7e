"""Processes of a simulation: they share one event loop and one virtual clock, and may be stopped or killed.

Whatever a process does runs in callbacks whose context names its `Life`. A frozen life's callbacks are kept
until it is thawed (as by SIGSTOP and SIGCONT), those of a dead one for ever: no `finally` of it runs, and
what it had already sent to the store arrives nevertheless.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from perdure.testing.clock import START, Clock

T = TypeVar("T")

LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("perdure_life", default=None)


SPINS = 20_000
"""Turns of the loop in which time must pass."""


class StuckError(Exception):
    """Nothing is left that could ever happen."""


class KilledError(BaseException):
    """Leaves the callback in which a process was killed."""


class Life:
    """One process."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.loop = loop
        self.frozen = False
        self.dead = False
        self.ended: asyncio.Future[None] = loop.create_future()
        self.held: list[asyncio.Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(LIFE.set, self)

    def freeze(self) -> None:
        """Stop it: nothing of it runs until it is thawed."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on where it was stopped."""
        self.frozen = False
        if not self.dead:
            self.release()

    def kill(self) -> None:
        """It is gone at once."""
        self.dead = True
        if not self.ended.done():
            self.ended.set_result(None)

    def release(self) -> None:
        """Run what was kept."""
        held, self.held = self.held, []
        self.loop._ready.extend(held)  # type: ignore[attr-defined]

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process."""
        return self.loop.create_task(work, context=self.context.copy())

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Have this process do something. Raises `KilledError` if it dies meanwhile."""
        task = self.spawn(work)
        task.add_done_callback(_retrieve)
        either: list[asyncio.Future[Any]] = [task, self.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise KilledError(self.name)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # who asked may have gone


def _keeps(handle: Any) -> bool:
    life: Life | None = handle._context.get(LIFE)
    if life is None or not (life.frozen or life.dead):
        return False
    life.held.append(handle)
    return True


class _Handle(asyncio.Handle):
    def _run(self) -> None:
        if not _keeps(self):
            super()._run()


class _TimerHandle(asyncio.TimerHandle):
    def _run(self) -> None:
        if not _keeps(self):
            super()._run()


class _Alarm:
    """An alarm that rings in the life that set it; cancelled it is silent, even if it is just ringing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self.loop = loop
        self.callback: Callable[[], None] | None = callback
        self.context = contextvars.copy_context()
        self.inner: Any = None

    def cancel(self) -> None:
        self.callback = None
        self.inner.cancel()

    def ring(self) -> None:
        self.loop.call_soon(self._run, context=self.context)

    def _run(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class LoopClock(Clock):
    """The clock of a `VirtualLoop`: it moves when nothing is ready."""

    loop: asyncio.AbstractEventLoop
    spins = SPINS

    def call_at(self, when: int, callback: Callable[[], None], *, lazily: bool = False) -> Any:
        alarm = _Alarm(self.loop, callback)
        alarm.inner = super().call_at(when, alarm.ring, lazily=lazily)
        return alarm

    def move(self, timeout: float | None) -> None:
        """Go to the next alarm, at most `timeout` seconds ahead."""
        when = self.next_alarm()
        limit = None if timeout is None else self._now + max(1, math.ceil(timeout * 1_000_000))
        if when is not None and (limit is None or when <= limit):
            self.step()
        elif limit is not None:
            self._now = limit
        else:
            raise StuckError("nothing is left that could happen")


class _Selector(selectors.SelectSelector):
    def __init__(self, clock: LoopClock) -> None:
        super().__init__()
        self.clock = clock
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if self.turns > self.clock.spins:
            self.turns = 0
            raise StuckError("it spins: it is always busy, and time does not pass")
        if timeout is None or timeout > 0:
            before = self.clock.now()
            self.clock.move(timeout)
            if self.clock.now() > before:
                self.turns = 0
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time: `asyncio.sleep` and timeouts take none. It knows neither sockets nor threads."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        clock.loop = self
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return (self.clock.now() - START) / 1_000_000

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer
