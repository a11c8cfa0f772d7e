"""Steps called inside a step's body.

The body makes them one after another (or through gather and map), so their keys repeat when it is entered
again; what has an outcome is not run again. They run in the body's own task; each outcome is committed
before it is handed over. When the body itself has an outcome, they are folded away.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from perdure.bodies import FATAL, filled, in_thread, told
from perdure.checking import VALUE_LIMIT
from perdure.clock import SECOND
from perdure.codec import decode_error
from perdure.errors import ConcurrentCallError, EncodeError, PerdureError, TooLargeError
from perdure.journal import ATTEMPT, INTENT
from perdure.packing import same
from perdure.retry import delay
from perdure.scope import CURRENT, Branch, Call

if TYPE_CHECKING:
    from perdure.executor import Run


def nested(
    run: Run, scope: Call | Branch, spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[Any, Any, Any]:
    """A durable call made by a step's body: allots its key now, runs when it is awaited."""
    body = scope.body
    try:
        here: Any = asyncio.current_task()
    except RuntimeError:
        here = threading.get_ident()
    if here != scope.owner:
        raise ConcurrentCallError(
            f"{spec.name} was called by another task than the body of {body.key}: use perdure.gather or map",
            execution_id=run.id,
            key=body.key,
        )
    if body.spec.options.transactional:
        raise PerdureError(
            f"{spec.name} was called inside the body of {body.key}, which is transactional: call it from workflow code",
            execution_id=run.id,
            key=body.key,
        )
    if spec.options.once or spec.options.transactional or spec.options.pivot:
        how = "transactional" if spec.options.transactional else "once=True" if spec.options.once else "a pivot"
        raise PerdureError(
            f"{spec.name} is {how} and was called inside the body of {body.key}: call it from workflow code",
            execution_id=run.id,
            key=body.key,
        )
    key = scope.inner_key(spec.name)
    try:
        text, plain = spec.arguments.bind(args, kwargs)
        body.sequencer.capacity.check(text, f"the input of {key}")
    except (EncodeError, TooLargeError) as error:
        error.execution_id, error.key = run.id, key
        raise
    call = Call(body.sequencer, spec, key, args if plain and not kwargs else None, text)
    call.run = run
    call.outermost = body.outermost or body.key
    return _run(run, body, call)


async def _run(run: Run, body: Call, call: Call) -> Any:
    if not isinstance(body.owner, int):
        return await _go(run, body, call)
    # A thread waits for this task: it ends with the execution, or the thread would wait for ever.
    call.task = asyncio.current_task()
    run.working[call] = None
    try:
        return await _go(run, body, call)
    finally:
        call.task = None
        run.working.pop(call, None)


async def _go(run: Run, body: Call, call: Call) -> Any:
    if run.abandoned:  # what is recorded is forgotten here already
        raise asyncio.CancelledError
    recorded = run.inner.get(call.key)
    if recorded is not None and same(recorded.input, run.sequencer.shown(call)):
        if recorded.status == "completed":
            return call.spec.decode(recorded.output)
        raise decode_error(recorded.error or "{}")
    pending = run.sequencer.pending.get(call.key)
    if pending is not None:
        call.attempt = pending.failures + 1
    if not body.intent:
        body.intent = True
        await run.put_inner(body, INTENT, "open", body.spec.means, None)
    options = call.spec.options
    if call.spec.intent and not (pending is not None and pending.intent):
        call.started_at = run.now()
        await run.put_inner(call, INTENT, "open", call.spec.means, None)
    while True:
        call.started_at = run.now()
        try:
            value = await _attempt(run, call)
            text, copy = call.spec.returns.record(value, "result")
            if len(text) > VALUE_LIMIT:
                raise TooLargeError(f"the result of {call.key} takes {len(text):,} bytes; the limit is {VALUE_LIMIT:,}")
        except FATAL:
            raise
        except Exception as error:
            if isinstance(error, PerdureError) and error.key is None:
                error.execution_id, error.key = run.id, call.key
            wait = None
            if not isinstance(error, EncodeError):
                wait = delay(options.retry, call.attempt, error, run.worker.clock.jitter())
            failure = told(run, call, error, counts=wait is None)
            if wait is None:
                run.inner[call.key] = await run.put_inner(call, call.spec.kind, "failed", None, failure)
                raise decode_error(failure) from None
            until = run.now() + round(wait * SECOND)
            await run.put_inner(call, ATTEMPT, "failed", str(until), failure)
            call.attempt += 1
            call.counts = None
            await run.worker.clock.sleep(wait)
            continue
        entry = await run.put_inner(call, call.spec.kind, "completed", text, None)
        if entry.status == "failed":  # too large for the database
            run.inner[call.key] = entry
            raise decode_error(entry.error or "{}")
        run.inner[call.key] = entry._replace(output=text)
        return copy


async def _attempt(run: Run, call: Call) -> Any:
    spec = call.spec
    args, kwargs = (call.args, {}) if call.args is not None else spec.arguments.unbind(call.input)
    call.owner = asyncio.current_task()
    if spec.resources:
        coroutine = filled(run, call, args, kwargs)
    else:
        coroutine = spec.function(*args, **kwargs) if spec.is_async else in_thread(run, call, args, kwargs)
    token = CURRENT.set(call)
    try:
        timeout = spec.options.timeout
        if timeout is None:
            return await coroutine
        async with asyncio.timeout(timeout / SECOND):
            return await coroutine
    finally:
        CURRENT.reset(token)
