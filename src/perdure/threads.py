"""Workflows that are plain functions: each runs in a thread of its own, and only while the private loop waits for it.

The thread and the private loop hand a baton to one another: the loop resumes the thread and waits until it makes its
next durable call or ends; so the code runs at the same points, in the same order, as that of an async workflow. The
threads are a pool of their own: steps never wait for one of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from perdure.errors import NoExecutionError, WrongFaceError
from perdure.scope import ANSWERS, CURRENT, Scope
from perdure.sequencer import REFUSALS, Unwind


class _Here(threading.local):
    thread: WorkflowThread | None = None


_HERE = _Here()
P = ParamSpec("P")
R = TypeVar("R")

_numbers = itertools.count(1)

Message = tuple[str, Any]


MADE: list[int] = []
"""One number for each workflow thread there ever was: while it is empty, nothing runs in one."""


class WorkflowThread:
    """One thread, and the baton between it and the private loop."""

    def __init__(self) -> None:
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._in: Any = None
        self._out: Message = ("", None)
        number = next(_numbers)
        MADE.append(number)
        self.thread = threading.Thread(target=self._live, name=f"perdure-workflow-{number}", daemon=True)
        self.thread.start()

    def switch(self, message: Any) -> Message:
        """Called by the loop: let the thread go on; gives its next durable call, or how it ended."""
        self._in = message
        self._go.release()
        self._back.acquire()
        return self._out

    def ask(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Called in the thread: have the loop await something; gives what came of it."""
        self._out = "await", coroutine
        self._back.release()
        self._go.acquire()
        kind, value = self._in
        if kind == "throw":
            raise value
        return value

    def _live(self) -> None:
        _HERE.thread = self
        while True:
            self._go.acquire()
            if self._in is None:
                return
            kind, (context, function, args, kwargs) = self._in
            del kind
            try:
                self._out = "returned", context.run(function, *args, **kwargs)
            except BaseException as error:
                self._out = "raised", error
            del context, function, args, kwargs
            self._in = None
            self._back.release()

    def end(self) -> None:
        """Let the thread end; it must be idle."""
        self._in = None
        self._go.release()


_idle: list[WorkflowThread] = []
"""Threads that wait for a workflow. They hold nothing of any engine."""

KEPT = 64


async def drive(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a plain function as workflow code. The coroutine that the private loop sees."""
    thread = _idle.pop() if _idle else WorkflowThread()
    message: Any = ("run", (contextvars.copy_context(), function, args, kwargs))
    while True:
        kind, value = thread.switch(message)
        if kind != "await":
            break
        try:
            message = "send", await value
        except GeneratorExit:
            if _unwind(thread):
                raise
            while True:  # the thread below does not end, so this frame cannot be closed either
                try:
                    await asyncio.Future()
                except GeneratorExit:
                    continue
        except BaseException as error:
            message = "throw", error
        value = None
    _give_back(thread)
    if kind == "raised":
        try:
            raise value
        finally:
            value = None
    return value


def _unwind(thread: WorkflowThread) -> bool:
    """The frames are being closed: run the thread's `finally` code. False if it does not end."""
    for _ in range(REFUSALS):
        kind, value = thread.switch(("throw", Unwind()))
        if kind != "await":
            _give_back(thread)
            return True
        value.close()
    return False


def _give_back(thread: WorkflowThread) -> None:
    if len(_idle) < KEPT:
        _idle.append(thread)
    else:
        thread.end()


def here() -> WorkflowThread | None:
    """The workflow thread that is running this code."""
    thread = _HERE.thread
    return thread if thread is not None and isinstance(CURRENT.get(), Scope) else None


def only_async(function: Callable[P, R]) -> Callable[P, R]:
    """Make a durable call of async code say so at the call when a plain workflow function makes it."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if _HERE.thread is not None and here() is not None:
            name = function.__name__
            raise WrongFaceError(f"{name} is async: call perdure.sync.{name} in a plain function")
        return function(*args, **kwargs)

    return wrapper


def wait_for(coroutine: Coroutine[Any, Any, Any], what: str) -> Any:
    """Make a durable call from a plain workflow function, and wait for its outcome."""
    thread = here()
    if thread is None and CURRENT.get() is None and ANSWERS.get() is not None:
        return _at_once(coroutine)
    if thread is None:
        coroutine.close()
        if CURRENT.get() is None:
            raise NoExecutionError(f"{what} has a meaning inside an execution only: start the workflow with an Engine")
        raise WrongFaceError(f"{what}: perdure.sync is for the code of workflows that are plain functions")
    return thread.ask(coroutine)


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """A call that a unit test answers: it never waits for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise NoExecutionError("outside of an execution this cannot wait: start the workflow with an Engine")
