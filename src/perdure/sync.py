"""Perdure for plain functions: the durable calls of plain workflows, and an engine to call from plain programs.

In a workflow that is a plain `def`, use the names of this module instead of awaiting those of `perdure`:

    from perdure import step, workflow, sync

    @workflow
    def fulfil(order: Order) -> str:
        receipt = charge(order)                 # a plain step is simply called
        sync.sleep(timedelta(days=1))
        address = sync.interrupt("Where to?", schema=Address)
        return sync.call(deliver, receipt, address)     # an async step or workflow

`current`, `now`, `uuid4`, `random` and `patched` are the same in both worlds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast

from perdure import asking, bulk, calls, joins, streams
from perdure.approvals import Decision
from perdure.clock import Duration
from perdure.codec import ANY
from perdure.context import current
from perdure.engine import Engine as AsyncEngine
from perdure.errors import PerdureError
from perdure.handle import Handle as AsyncHandle
from perdure.outcome import OpenRequest, Outcome, User
from perdure.records import Counts, Outgoing, Page, Status
from perdure.rewinding import RollbackPlan
from perdure.schedules import ScheduleView
from perdure.search import Query
from perdure.sequencer import NOTHING
from perdure.streams import StreamItem, Usage
from perdure.threads import wait_for
from perdure.views import HistoryEntry
from perdure.workflow import Step, SyncStep, SyncWorkflow, Workflow
from perdure.workflow import checkpoint as mark

__all__ = [
    "Engine",
    "Handle",
    "approval",
    "call",
    "checkpoint",
    "current",
    "emit",
    "interrupt",
    "map",
    "progress",
    "publish",
    "receive",
    "restart",
    "rollback",
    "send",
    "set_attributes",
    "sleep",
    "start_child",
    "usage",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V")

progress = streams.progress
usage = streams.usage


# In workflows -----------------------------------------------------------------------------------------------


def sleep(duration: Duration) -> None:
    """`perdure.sleep` for plain workflow functions."""
    wait_for(calls.sleep.__wrapped__(duration), "sleep")  # type: ignore[attr-defined]


def interrupt(
    message: str,
    *,
    schema: Any = ANY,
    details: Any = None,
    assignee: str | None = None,
    expires: Duration | None = None,
    default: Any = NOTHING,
) -> Any:
    """`perdure.interrupt` for plain workflow functions."""
    ask = calls.interrupt.__wrapped__  # type: ignore[attr-defined]
    asked = ask(message, schema=schema, details=details, assignee=assignee, expires=expires, default=default)
    return wait_for(asked, "interrupt")


def approval(message: str, **settings: Any) -> Decision:
    """`perdure.approval` for plain workflow functions."""
    ask = asking.approval.__wrapped__  # type: ignore[attr-defined]
    return cast(Decision, wait_for(ask(message, **settings), "approval"))


def receive(name: str, timeout: Duration | None = None, *, schema: Any = ANY) -> Any:
    """`perdure.receive` for plain workflow functions."""
    return wait_for(calls.receive.__wrapped__(name, timeout, schema=schema), "receive")  # type: ignore[attr-defined]


def send(execution_id: str, name: str, value: Any = None) -> None:
    """`perdure.send` for plain workflow functions."""
    wait_for(calls.send.__wrapped__(execution_id, name, value), "send")  # type: ignore[attr-defined]


def start_child(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> str:
    """`perdure.start_child` for plain workflow functions; gives the child's id."""
    start = calls.start_child.__wrapped__  # type: ignore[attr-defined]
    return cast(str, wait_for(start(workflow, *args, **kwargs), "start_child").id)


def restart(*args: Any, **kwargs: Any) -> None:
    """`perdure.restart` for plain workflow functions."""
    wait_for(calls.restart.__wrapped__(*args, **kwargs), "restart")  # type: ignore[attr-defined]


def rollback(to: str | int | None = None, *, reason: str | None = None) -> None:
    """`perdure.rollback` for plain workflow functions."""
    wait_for(calls.rollback.__wrapped__(to, reason=reason), "rollback")  # type: ignore[attr-defined]


def checkpoint(name: str) -> None:
    """`await perdure.checkpoint(name)` for plain workflow functions; `@perdure.checkpoint` marks plain steps."""
    wait_for(_marked(name), "checkpoint")


async def _marked(name: str) -> None:
    await mark(name)


def call(function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an async step, or an async workflow as a child, from a plain workflow function; gives its result."""
    return cast(R, wait_for(_called(function, args, kwargs), "call"))


async def _called(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(function, (SyncStep, SyncWorkflow)):
        return await function.aio(*args, **kwargs)
    if not isinstance(function, (Step, Workflow)):
        raise TypeError(f"{function!r} is no step and no workflow")
    return await function(*args, **kwargs)


def map(step: Callable[[T], Any], items: Iterable[T], limit: int | None = None) -> list[Any]:
    """Call a step on each item, at most `limit` at a time, from a plain workflow function; results in order."""
    return cast(list[Any], wait_for(_mapped(step, list(items), limit), "map"))


async def _mapped(step: Any, items: Sequence[Any], limit: int | None) -> list[Any]:
    return await joins.gather(*[_called(step, (item,), {}) for item in items], limit=limit)


def emit(value: Any, *, durable: bool = True) -> None:
    """`perdure.emit` for plain workflows and steps."""
    streams.emit_now(value, durable)


def publish(name: str, value: Any) -> None:
    """`perdure.publish` for plain workflows and steps."""
    streams.publish_now(name, value)


def set_attributes(changes: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """`perdure.set_attributes` for plain workflow functions."""
    streams.set_attributes_now({**(changes or {}), **more})


# In programs ------------------------------------------------------------------------------------------------


class Engine:
    """`perdure.Engine` for plain programs: the same arguments, `with` instead of `async with`.

    The engine runs on an event loop in a thread of its own; its methods may be called from any thread but that one.

        with sync.Engine("sqlite:///perdure.db") as engine:
            print(engine.run(fulfil, order))
    """

    def __init__(self, url: Any = None, **settings: Any) -> None:
        self.engine = AsyncEngine(url, **settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Engine:
        if self._loop is not None:
            raise PerdureError("this engine is open already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-engine", daemon=True)
        self._thread.start()
        try:
            self.wait(self.engine.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait(self.engine.__aexit__(kind, error, traceback))
        finally:
            self._stop()

    def _stop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self._loop = self._thread = None

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and wait for it."""
        if self._loop is None or self._thread is threading.current_thread():
            coroutine.close()
            raise PerdureError(
                "the engine is not open: use `with engine:`"
                if self._loop is None
                else "this is the engine's own thread: it cannot wait for itself"
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """See `perdure.Engine.start`. With `options(connection=)` your thread writes, on a sync connection."""
        if workflow.options_.connection is not None:
            return self._start_in_transaction(workflow, args, kwargs)
        return Handle(self, self.wait(self.engine.start(workflow, *args, **kwargs)))

    def _start_in_transaction(self, workflow: Workflow[..., Any], args: Any, kwargs: Any) -> Handle[Any]:
        execution = self.engine._execution(workflow, args, kwargs)
        self._put(workflow.options_.connection, self.wait(self.engine._outgoing(workflow, execution)))
        return Handle(self, AsyncHandle(self.engine, execution.id, workflow))

    def _put(self, connection: Any, rows: Sequence[Outgoing]) -> None:
        assert self._loop is not None
        self.engine._outbox.put_now(connection, rows)
        self._loop.call_soon_threadsafe(self.engine._outbox.wrote, rows)

    def outbox(self, *, limit: int = 1000) -> Sequence[Outgoing]:
        """See `perdure.Engine.outbox`."""
        return self.wait(self.engine.outbox(limit=limit))

    def dismiss(self, *rows: Outgoing) -> int:
        """See `perdure.Engine.dismiss`."""
        return self.wait(self.engine.dismiss(*rows))

    def run(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Start an execution and wait for its result."""
        return self.wait(self.engine.run(workflow, *args, **kwargs))

    def get(self, execution_id: str) -> Handle[Any]:
        """A handle; asks nobody."""
        return Handle(self, self.engine.get(execution_id))

    def list(self, query: Query | None = None, *, limit: int = 100, cursor: str | None = None) -> Page:
        """See `perdure.Engine.list`."""
        return self.wait(self.engine.list(query, limit=limit, cursor=cursor))

    def count(self, query: Query | None = None, *, at_most: int | None = 10_000) -> Counts:
        """See `perdure.Engine.count`."""
        return self.wait(self.engine.count(query, at_most=at_most))

    def requests(self, execution_id: str | None = None) -> Sequence[OpenRequest]:
        """What waits for somebody, oldest first."""
        return self.wait(self.engine.requests(execution_id))

    def answer(self, request_id: str, value: Any, *, by: str | User | None = None) -> OpenRequest:
        """See `perdure.Engine.answer`."""
        return self.wait(self.engine.answer(request_id, value, by=by))

    def decide(self, request_id: str, decision: Any, **options: Any) -> OpenRequest:
        """See `perdure.Engine.decide`."""
        return self.wait(self.engine.decide(request_id, decision, **options))

    def approve(self, request_id: str, **options: Any) -> OpenRequest:
        """See `perdure.Engine.approve`."""
        return self.wait(self.engine.approve(request_id, **options))

    def reject(self, request_id: str, **options: Any) -> OpenRequest:
        """See `perdure.Engine.reject`."""
        return self.wait(self.engine.reject(request_id, **options))

    def comment(self, request_id: str, text: str, **options: Any) -> OpenRequest:
        """See `perdure.Engine.comment`."""
        return self.wait(self.engine.comment(request_id, text, **options))

    def claim(self, request_id: str, *, by: str | User) -> OpenRequest:
        """See `perdure.Engine.claim`."""
        return self.wait(self.engine.claim(request_id, by=by))

    def reassign(self, request_id: str, *, to: str | User, by: str | User | None = None) -> OpenRequest:
        """See `perdure.Engine.reassign`."""
        return self.wait(self.engine.reassign(request_id, to=to, by=by))

    def see(self, request_id: str, *, by: str | User) -> OpenRequest:
        """See `perdure.Engine.see`."""
        return self.wait(self.engine.see(request_id, by=by))

    def resolve(self, request_id: str, how: str, **options: Any) -> OpenRequest:
        """See `perdure.Engine.resolve`."""
        return self.wait(self.engine.resolve(request_id, how, **options))

    def cancel(self, query: Query, **options: Any) -> bulk.Done:
        """See `perdure.Engine.cancel`."""
        return self.wait(self.engine.cancel(query, **options))

    def pause(self, query: Query, **options: Any) -> bulk.Done:
        """See `perdure.Engine.pause`."""
        return self.wait(self.engine.pause(query, **options))

    def resume(self, query: Query, **options: Any) -> bulk.Done:
        """See `perdure.Engine.resume`."""
        return self.wait(self.engine.resume(query, **options))

    def retry(self, query: Query, **options: Any) -> bulk.Done:
        """See `perdure.Engine.retry`."""
        return self.wait(self.engine.retry(query, **options))

    def prune(self, query: Query | None = None, **options: Any) -> bulk.Done:
        """See `perdure.Engine.prune`."""
        return self.wait(self.engine.prune(query, **options))

    def stats(self) -> bulk.Stats:
        """See `perdure.Engine.stats`."""
        return self.wait(self.engine.stats())

    def schedule(self, name: str, workflow: Workflow[..., Any], **options: Any) -> ScheduleView:
        """See `perdure.Engine.schedule`."""
        return self.wait(self.engine.schedule(name, workflow, **options))

    def pause_schedule(self, name: str) -> None:
        """See `perdure.Engine.pause_schedule`."""
        self.wait(self.engine.pause_schedule(name))

    def resume_schedule(self, name: str) -> None:
        """See `perdure.Engine.resume_schedule`."""
        self.wait(self.engine.resume_schedule(name))

    def remove_schedule(self, name: str) -> None:
        """See `perdure.Engine.remove_schedule`."""
        self.wait(self.engine.remove_schedule(name))

    def schedules(self) -> Sequence[ScheduleView]:
        """All schedules, by name."""
        return self.wait(self.engine.schedules())


class Handle(Generic[R]):
    """`perdure.Handle` for plain programs."""

    def __init__(self, engine: Engine, handle: AsyncHandle[R]) -> None:
        self._engine = engine
        self.handle = handle
        self.id = handle.id

    def __repr__(self) -> str:
        return f"<execution {self.id}>"

    def status(self) -> Status:
        """How its row stands now."""
        return self._engine.wait(self.handle.status())

    def outcome(self, timeout: Duration | None = None) -> Outcome:
        """See `perdure.Handle.outcome`."""
        return self._engine.wait(self.handle.outcome(timeout))

    def result(self, timeout: Duration | None = None) -> R:
        """See `perdure.Handle.result`."""
        return self._engine.wait(self.handle.result(timeout))

    def requests(self) -> Sequence[OpenRequest]:
        """What it asks of the world now."""
        return self._engine.wait(self.handle.requests())

    def history(self) -> list[HistoryEntry]:
        """See `perdure.Handle.history`."""
        return self._engine.wait(self.handle.history())

    def events(self, after: int = 0, *, follow: bool = True) -> Iterator[StreamItem]:
        """See `perdure.Handle.events`."""
        events = self.handle.events(after, follow=follow)
        try:
            while True:
                try:
                    yield self._engine.wait(_next(events))
                except StopAsyncIteration:
                    return
        finally:
            self._engine.wait(events.aclose())  # type: ignore[attr-defined]

    def value(self, name: str, default: Any = None) -> Any:
        """See `perdure.Handle.value`."""
        return self._engine.wait(self.handle.value(name, default))

    def usage(self) -> Usage:
        """See `perdure.Handle.usage`."""
        return self._engine.wait(self.handle.usage())

    def signal(self, name: str, value: Any = None, *, connection: Any = None, **options: Any) -> None:
        """See `perdure.Handle.signal`. With `connection=` your thread writes, on a sync connection."""
        if connection is not None:
            return self._signal_in_transaction(connection, name, value, **options)
        self._engine.wait(self.handle.signal(name, value, **options))

    def _signal_in_transaction(
        self, connection: Any, name: str, value: Any, id: str | None = None, by: str | User | None = None
    ) -> None:
        engine = self._engine.engine
        engine._check_open()
        self._engine._put(connection, [engine.store.outgoing(self.handle._message(name, value, id, by))])

    def cancel(self, **options: Any) -> Outcome:
        """See `perdure.Handle.cancel`."""
        return self._engine.wait(self.handle.cancel(**options))

    def rollback(self, to: str | int | None = None, **options: Any) -> RollbackPlan:
        """See `perdure.Handle.rollback`."""
        return self._engine.wait(self.handle.rollback(to, **options))

    def pause(self, **options: Any) -> None:
        """See `perdure.Handle.pause`."""
        self._engine.wait(self.handle.pause(**options))

    def resume(self, **options: Any) -> None:
        """See `perdure.Handle.resume`."""
        self._engine.wait(self.handle.resume(**options))

    def retry(self, **options: Any) -> None:
        """See `perdure.Handle.retry`."""
        self._engine.wait(self.handle.retry(**options))

    def export(self) -> dict[str, Any]:
        """See `perdure.Handle.export`."""
        return self._engine.wait(self.handle.export())


async def _next(events: Any) -> StreamItem:
    return cast(StreamItem, await anext(events))
