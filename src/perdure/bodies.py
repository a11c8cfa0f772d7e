"""The bodies of steps: on the real loop or in threads, with their timeouts, retries and intents."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perdure import veiling
from perdure.checking import VALUE_LIMIT
from perdure.clock import SECOND
from perdure.codec import CODEC, encode_error
from perdure.committer import SOON
from perdure.errors import EncodeError, PerdureError, TooLargeError, UnknownOutcomeError
from perdure.journal import ATTEMPT, INTENT
from perdure.keys import request_id
from perdure.records import Request
from perdure.redaction import Redaction
from perdure.retry import delay
from perdure.scope import BACKOFF, CURRENT, GONE, STARTED, Call
from perdure.secrets import allowing_secrets

if TYPE_CHECKING:
    from perdure.executor import Run

_HIDING = ("step", "checkpoint")

FATAL = (KeyboardInterrupt, SystemExit)
"""What a body may raise that says nothing about the step: nothing is recorded, it counts as a crash."""


def enter(run: Run, call: Call) -> None:
    """A step is to begin, all before it being recorded."""
    spec = call.spec
    call.state = STARTED
    if run.sequencer.pending:
        pending = run.sequencer.pending.pop(call.key, None)
        if pending is not None:
            call.attempt = pending.failures + 1
            call.intent = pending.intent
            if pending.not_before > run.now():
                return back_off(run, call, pending.not_before)
            if call.intent and spec.options.once:
                return _verify(run, call)
    if spec.intent and not call.intent:
        call.intent = True
        call.started_at = run.now()
        return run.put(call, INTENT, "open", spec.means, None)
    start(run, call)


def start(run: Run, call: Call) -> None:
    """Run an attempt of a step's body. Most end here, without having suspended."""
    spec = call.spec
    call.state = STARTED
    call.run = run
    call.started_at = run.now()
    try:
        if call.args is not None:
            args, kwargs = call.args, _NO_KWARGS
        else:
            args, kwargs = spec.arguments.unbind(call.input)
        if spec.resources and spec.options.transactional:
            return run.transact(call, args, kwargs)
        if run.worker.is_late():
            coroutine = in_time(run, call, args, kwargs)
        elif spec.resources:
            coroutine = filled(run, call, args, kwargs)
        else:
            coroutine = spec.function(*args, **kwargs) if spec.is_async else in_thread(run, call, args, kwargs)
    except Exception as error:
        return failed(run, call, error)
    outcome = run.carriers.start(coroutine, call)
    if outcome.__class__ is not tuple:
        return _suspended(run, call, outcome, finished)
    ok, value = outcome
    return _succeeded(run, call, value) if ok else failed(run, call, value)


_NO_KWARGS: dict[str, Any] = {}


async def filled(run: Run, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run a body that wants resources, once they are there."""
    spec, resources = call.spec, run.worker.resources
    found = resources.ready(spec.resources)
    if found is None:
        found = await resources.get(spec.resources)
    if spec.is_async:
        return await spec.function(*args, **kwargs, **found)
    return await in_thread(run, call, args, {**kwargs, **found})


async def in_time(run: Run, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run a body once the lease is renewed. If it is not, this is dropped before the body enters."""
    while run.worker.is_late():  # noqa: ASYNC110 (the heart beats in another thread)
        await asyncio.sleep(SOON)
    return await filled(run, call, args, kwargs)


def _launch(run: Run, call: Call, coroutine: Any, done: Any) -> None:
    outcome = run.carriers.start(coroutine, call)
    if outcome.__class__ is not tuple:
        return _suspended(run, call, outcome, done)
    ok, value = outcome
    if ok:
        done(run, call, None, value)
    else:
        failed(run, call, value)


def _suspended(run: Run, call: Call, task: Any, done: Any) -> None:
    """The body goes on as a task."""
    run.bodies += 1
    run.working[call] = None
    call.task = task
    timer = None
    timeout = call.spec.options.timeout
    if timeout is not None:
        timer = run.worker.clock.call_at(run.now() + timeout, functools.partial(_time_out, call))
    task.add_done_callback(functools.partial(ended, run, call, timer, done))


def _time_out(call: Call) -> None:
    if call.stopped is None:
        call.stopped = "timeout"
    if call.spec.is_async:
        call.task.cancel()


def ended(run: Run, call: Call, timer: Any, done: Any, task: asyncio.Task[Any]) -> None:
    try:
        _sort_out(run, call, timer, done, task)
    except Exception as error:
        run.broken(error)


def _sort_out(run: Run, call: Call, timer: Any, done: Any, task: asyncio.Task[Any]) -> None:
    run.bodies -= 1
    run.working.pop(call, None)
    call.task = None
    if timer is not None:
        timer.cancel()
    if run.abandoned:
        if not task.cancelled():
            task.exception()
        return
    if task.cancelled():
        if call.stopped is None and run.worker.is_going_down():
            return run.release()  # everything is being cancelled: that says nothing about the step
        if call.stopped is None:
            return failed(run, call, asyncio.CancelledError())  # the body raised it by itself
        error: BaseException | None = None
    else:
        error = task.exception()
    if isinstance(error, FATAL):
        return run.worker.give_up(run, error)
    if call.stopped == "timeout" and (error is not None or task.cancelled() or not call.spec.is_async):
        # A thread cannot be stopped: whatever it came to after its time, the attempt timed out.
        seconds = call.spec.options.timeout / SECOND
        return failed(run, call, TimeoutError(f"{call.key} took longer than {seconds:g} s"))
    if task.cancelled():
        return stopped(run, call)
    if error is not None:
        return failed(run, call, error)
    if done is finished:
        return _succeeded(run, call, task.result())
    done(run, call, task, task.result())


def finished(run: Run, call: Call, task: Any, value: Any) -> None:
    """The body gave a value."""
    _succeeded(run, call, value)


def _succeeded(run: Run, call: Call, value: Any) -> None:
    try:
        if run.secrets:
            with allowing_secrets():
                text, call.value = call.spec.returns.record(value, "result")
        else:
            text, call.value = call.spec.returns.record(value, "result")
        if len(text) > VALUE_LIMIT:
            raise TooLargeError(f"the result of {call.key} takes {len(text):,} bytes; the limit is {VALUE_LIMIT:,}")
    except PerdureError as error:
        error.execution_id, error.key = run.id, call.key
        return give_error(run, call, error)
    run.put(call, call.spec.kind, "completed", text, None)


def failed(run: Run, call: Call, error: BaseException) -> None:
    """An attempt failed: tried again later, or the step's outcome."""
    if isinstance(error, FATAL):
        return run.worker.give_up(run, error, onward=True)
    wait = None
    if call.state != GONE and call.stopped != "cancel" and not run.rolls and not isinstance(error, EncodeError):
        tried = call.attempt - run.forgiven.get(call.key, 0)
        wait = delay(call.spec.options.retry, tried, error, run.worker.clock.jitter())
    if wait is None:
        return give_error(run, call, error)
    call.wake = run.now() + round(wait * SECOND)
    run.put(call, ATTEMPT, "failed", str(call.wake), told(run, call, error, counts=False))


def give_error(run: Run, call: Call, error: BaseException) -> None:
    """The step's outcome is an error."""
    run.put(call, call.spec.kind, "failed", None, told(run, call, error, counts=True))


def told(run: Run, call: Call, error: BaseException, *, counts: bool) -> str:
    """The error of a call as it is recorded. `counts`: it is the outcome."""
    redaction = run.sequencer.redaction
    if redaction is None or call.spec.kind not in _HIDING:
        return encode_error(error)
    return veiling.told(redaction, error, call.spec.function, call.input, counts=counts)


def hide(
    redaction: Redaction, call: Call, kind: str, text: str | None, error: str | None
) -> tuple[str | None, str | None]:
    """A step's input and error as they are recorded where something is hidden."""
    if call.spec.kind not in _HIDING:
        return text, error
    text = None if text is None else redaction.text(text)
    return text, None if error is None else redaction.error(error, counts=kind != ATTEMPT)


def stopped(run: Run, call: Call) -> None:
    """A body ended because it was told to: nothing is recorded."""
    run.sequencer.gone.pop(call.key, None)
    run.rest()


def back_off(run: Run, call: Call, until: int) -> None:
    """The next attempt waits for its time; the execution may park meanwhile."""
    call.state = BACKOFF
    call.stopped = None
    call.wake = until
    run.backoffs[call.key] = call
    run.arm()


def attempt_recorded(run: Run, call: Call) -> None:
    """A failed attempt is in the journal."""
    call.attempt += 1
    if call.counts is not None:
        call.counts = None
        call.branches = 0
    if run.inner:
        run.forget_failures(call.key)
    if call.state != GONE:
        back_off(run, call, call.wake)


def _verify(run: Run, call: Call) -> None:
    """A once-only step began before a crash: did it happen?"""
    verify = call.spec.options.verify
    told = run.requests.get(call.key)
    if told is not None and told.kind == "unknown" and told.status == "decided":
        return _told(run, call, told)
    if verify is None:
        run.committer.ask(_unknown(run, call))
        return run.block(
            UnknownOutcomeError(
                f"{call.key} was begun once and only once, and the worker died before its outcome was recorded:"
                " nobody knows whether it happened. Give the step a verify=, or cancel the execution",
                execution_id=run.id,
                key=call.key,
            )
        )
    call.started_at = run.now()
    call.run = run
    try:
        args, kwargs = call.spec.arguments.unbind(call.input)
        if asyncio.iscoroutinefunction(verify):
            coroutine = verify(*args, **kwargs)
        else:
            coroutine = in_thread(run, call, args, kwargs, verify)
    except Exception as error:
        return _verify_failed(run, call, error)
    _launch(run, call, _guarded(coroutine), _verified)


def _unknown(run: Run, call: Call) -> Request:
    """What a person is asked about a once-only step."""
    rounds = sum(1 for request in run.requests.values() if request.kind == "unknown" and request.key == call.key)
    id = request_id(run.id, call.key, run.generation) + (f"~{run.fence}" if rounds else "")
    words = f"{call.key} was begun once and only once: did it happen?"
    return Request(id, run.id, call.key, run.generation, "unknown", words, call.input, created_at=run.now())


def _told(run: Run, call: Call, request: Request) -> None:
    """Somebody knows whether the step happened."""
    said = CODEC.decode(request.answer or "{}")
    if not said.get("happened"):
        return start(run, call)
    call.started_at = request.created_at
    text = said.get("result") or "null"
    try:
        call.value = call.spec.decode(text)
    except PerdureError as error:
        error.execution_id, error.key = run.id, call.key
        return run.block(error)
    return run.put(call, call.spec.kind, "completed", text, None)


async def _guarded(coroutine: Any) -> tuple[Any, Exception | None]:
    try:
        return await coroutine, None
    except Exception as error:
        return None, error


def _verified(run: Run, call: Call, task: Any, outcome: tuple[Any, Exception | None]) -> None:
    value, error = outcome
    if error is not None:
        return _verify_failed(run, call, error)
    if value is not None:
        return _succeeded(run, call, value)
    if call.state == GONE:
        return stopped(run, call)
    start(run, call)


def _verify_failed(run: Run, call: Call, error: Exception) -> None:
    run.block(
        UnknownOutcomeError(
            f"verify= of {call.key} raised {type(error).__name__}: {error}; whether the step happened is unknown."
            " Resume the execution to ask it again",
            execution_id=run.id,
            key=call.key,
        )
    )


async def in_thread(run: Run, call: Call, args: Any, kwargs: Any, function: Any = None) -> Any:
    """Run a plain function in one of the worker's threads, in the scope of a call."""
    context = contextvars.copy_context()

    def body() -> Any:
        CURRENT.set(call)
        call.owner = threading.get_ident()
        return (function or call.spec.function)(*args, **kwargs)

    future = asyncio.get_running_loop().run_in_executor(run.worker.threads, context.run, body)
    while True:
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # A thread cannot be cancelled. It sees `current().cancelled`, and is waited for.
            if future.done():
                raise
            if call.stopped is None:
                call.stopped = "cancel"
