"""The private event loop: on it, and only on it, workflow code runs.

It has no clock, no selector and no threads: it runs callbacks until none is ready (*at rest*), and
everything that comes from outside is handed over by the sequencer, one thing at a time. So the same
journal always leads to the same interleaving, whatever asyncio code the workflow consists of.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import logging
import sys
import zlib
from asyncio import events
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from perdure.clock import SECOND, bounded
from perdure.errors import NotInWorkflowError
from perdure.scope import CURRENT, Scope

if TYPE_CHECKING:
    from perdure.sequencer import Sequencer

logger = logging.getLogger("perdure")

_set_running_loop = events._set_running_loop


class Handle(list[Any]):
    """A scheduled callback: [callback, args, context]. A list, since it is made for each wake-up."""

    __slots__ = ()

    def cancel(self) -> None:
        self[0] = None

    def cancelled(self) -> bool:
        return self[0] is None


class Timer:
    """A durable timer. `deadline` (microseconds of the store's clock) is None until it is recorded."""

    __slots__ = (
        "_scheduled",
        "args",
        "callback",
        "context",
        "deadline",
        "fired",
        "key",
        "loop",
        "ordinal",
        "requested",
        "set_at",
    )

    def __init__(
        self, loop: WorkflowLoop, key: str, when: float, callback: Callable[..., object], args: Any, context: Any
    ):
        self.loop = loop
        self.key = key
        self.requested = when
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.deadline: int | None = None
        self.set_at = 0
        self.fired = False  # its firing is on its way into the journal
        loop.timers += 1
        self.ordinal = loop.timers

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self.loop.sequencer.drop_timer(self)

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.requested


class WorkflowTask(asyncio.Task[Any]):
    """A task of the private loop. Hashes by ordinal, so that sets of tasks iterate alike in every replay."""

    def __init__(self, coro: Any, loop: WorkflowLoop, context: contextvars.Context, ordinal: int, name: str) -> None:
        self.ordinal = ordinal
        self.own_context = context
        super().__init__(coro, loop=loop, context=context, name=name)

    def __hash__(self) -> int:
        return self.ordinal


def _code(name: str) -> CodeType | None:
    function = getattr(asyncio.tasks, name, None)
    return function.__code__ if function is not None else None


# `wait_for` makes a task on 3.11 and none from 3.12 on; that task must not count as a scope of its own.
_WAIT_FOR = _code("wait_for")
_ENSURE = frozenset(c for c in (_code("ensure_future"), _code("_ensure_future")) if c is not None)


def _asked_by(frame: Any) -> Any:
    """The frame that asked for a task: behind asyncio's own ensure_future."""
    while frame is not None and frame.f_code in _ENSURE:
        frame = frame.f_back
    return frame


def _is_as_completed(frame: Any) -> bool:
    for _ in range(3):
        if frame is None or not frame.f_code.co_filename.endswith("tasks.py"):
            return False
        if frame.f_code.co_name == "as_completed" or "_AsCompletedIterator" in getattr(frame.f_code, "co_qualname", ""):
            return True
        frame = frame.f_back
    return False


class WorkflowLoop(asyncio.AbstractEventLoop):
    """The private loop of one execution."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.sequencer = sequencer
        self.ready: collections.deque[Handle] = collections.deque()
        self.tasks: dict[int, WorkflowTask] = {}
        self.generators: list[Any] = []
        self.salt = zlib.crc32(sequencer.origin.encode("utf-8", "surrogatepass"))
        self.ordinal = 0
        self.shadows = 0
        self.timers = 0

    # What asyncio asks of a loop ---------------------------------------------------------------------

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def time(self) -> float:
        return self.sequencer.time / SECOND

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        handle = Handle((callback, args, context))
        self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        scope = CURRENT.get()
        if not isinstance(scope, Scope):
            scope = self.sequencer.root
        timer = Timer(self, scope.key("timer"), bounded(when), callback, args, context)
        self.sequencer.timers[timer.key] = timer
        return timer

    def create_task(self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None) -> Any:
        asker = sys._getframe(1)
        scope = CURRENT.get()
        if not isinstance(scope, Scope):
            scope = self.sequencer.root
        shadow = False
        if asker.f_code in _ENSURE:
            asker = _asked_by(asker)
            shadow = asker is not None and asker.f_code is _WAIT_FOR
            if _is_as_completed(asker):
                coro.close()
                raise NotInWorkflowError(
                    "asyncio.as_completed over bare coroutines starts them in an arbitrary order, which cannot be"
                    " replayed: pass it tasks (asyncio.create_task), or use perdure.gather",
                    execution_id=self.sequencer.id,
                )
        if context is None:
            context = contextvars.copy_context()
        if shadow:
            self.shadows += 1
            ordinal = self.salt - self.shadows
            child = scope
        else:
            self.ordinal += 1
            ordinal = self.salt + self.ordinal
            child = scope.child()
        context.run(CURRENT.set, child)
        task = WorkflowTask(coro, self, context, ordinal, name or f"{self.sequencer.id}:{child.path or 'main'}")
        self.tasks[ordinal] = task
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: WorkflowTask) -> None:
        self.tasks.pop(task.ordinal, None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.sequencer.closing:
            return
        exception = context.get("exception")
        logger.error("%s: %s", self.sequencer.id, context.get("message", "unhandled error"), exc_info=exception)

    async def shutdown_asyncgens(self) -> None:
        return None

    # Running -----------------------------------------------------------------------------------------

    def run(self, outer: asyncio.AbstractEventLoop | None) -> None:
        """Run until nothing is ready. `outer` is the running loop to return to; no task of it may be current."""
        ready = self.ready
        _set_running_loop(self)
        try:
            while ready:
                callback, args, context = ready.popleft()
                if callback is None:
                    continue
                try:
                    if context is not None:
                        context.run(callback, *args)
                    else:
                        callback(*args)
                except Exception as error:
                    self.call_exception_handler({"message": f"a callback raised {error!r}", "exception": error})
                except (KeyboardInterrupt, SystemExit) as error:
                    self.sequencer.fatal = error  # a task that raises these raises them here too
        finally:
            _set_running_loop(outer)


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(self: WorkflowLoop, *_: Any, **__: Any) -> Any:
        raise NotInWorkflowError(
            f"workflow code called the event loop's {name}: threads, sockets and processes cannot be replayed;"
            " do this in a step",
            execution_id=self.sequencer.id,
        )

    refuse.__name__ = name
    return refuse


for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in WorkflowLoop.__dict__:
        setattr(WorkflowLoop, _name, _refuse(_name))


_HOOKS: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, Any]] = WeakKeyDictionary()
"""How many engines share the hooks of a loop, and what was there before: the last one puts it back."""


def install_generator_hooks() -> Callable[[], None]:
    """Send async generators of workflow code to their private loop; gives the function that undoes it.

    Async-generator hooks belong to the thread, not to a loop. A generator that workflow code abandons is kept
    and closed at the end of the execution, in order of creation: whenever the collector finds it would be
    a moment that no replay can repeat.
    """
    outer = asyncio.get_running_loop()
    count, before = _HOOKS.get(outer, (0, None))
    if not count:
        before = _hook()
    _HOOKS[outer] = count + 1, before

    def undo() -> None:
        count, before = _HOOKS.pop(outer)
        if count > 1:
            _HOOKS[outer] = count - 1, before
        else:
            sys.set_asyncgen_hooks(*before)

    return undo


def _hook() -> Any:
    before = sys.get_asyncgen_hooks()
    private: set[int] = set()  # by id: a weak reference is gone before the finalizer is called

    def first(generator: Any) -> None:
        loop = events._get_running_loop()
        if isinstance(loop, WorkflowLoop):
            kept = loop.generators
            if len(kept) >= 64:
                kept[:] = [g for g in kept if g.ag_frame is not None]
            kept.append(generator)
            private.add(id(generator))
            return
        private.discard(id(generator))
        if before.firstiter is not None:
            before.firstiter(generator)

    def finalize(generator: Any) -> None:
        if id(generator) in private:
            private.discard(id(generator))  # its execution has left memory: none of its code may run
        elif before.finalizer is not None:
            before.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter=first, finalizer=finalize)
    return before
