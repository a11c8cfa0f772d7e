"""What running code tells the world while it runs: streams, values, progress, usage, attributes.

In workflow code each is a local entry: made once, passed over in replay. In a step's body they gather for a moment and
ride in the execution's next commit, marked with the step's key and attempt; a body that is entered again says
`Restarted` before anything else. Outside of an execution nobody listens, and nothing happens.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.checking import check_message_name
from perdure.codec import CODEC
from perdure.errors import DecodeError, NoExecutionError, TooLargeError
from perdure.journal import ATTRIBUTES, EMIT, PROGRESS, PUBLISH, STREAM, USAGE
from perdure.records import Entry
from perdure.scope import CURRENT, Branch, Call, Scope
from perdure.secrets import allowing_secrets
from perdure.tags import dump
from perdure.threads import only_async

if TYPE_CHECKING:
    from perdure.executor import Run

GATHER = 20_000
"""Microseconds for which what a body tells may gather, unless a commit comes sooner."""

WAITING = 5_000
"""Told things not yet sent at which `emit` makes the body wait."""

BATCH = 1_000
"""Values in one entry, at most; an event's offset is `seq * BATCH + place`."""

VALUE_LIMIT = 1024 * 1024


@dataclass(slots=True, frozen=True)
class Event:
    """A value that was emitted. `key`: of the step (None: by workflow code); `offset`: goes on from here."""

    offset: int
    key: str | None
    attempt: int
    value: Any


@dataclass(slots=True, frozen=True)
class Restarted:
    """The step `key` begins anew: what it emitted before (as an attempt that did not count) is to be forgotten."""

    offset: int
    key: str
    attempt: int


@dataclass(slots=True, frozen=True)
class Progress:
    """How far the step `key` has come."""

    offset: int
    key: str
    attempt: int
    done: float
    total: float | None


StreamItem = Event | Restarted | Progress


# What users call ------------------------------------------------------------------------------------------


@only_async
async def emit(value: Any, *, durable: bool = True) -> None:
    """Send a value to whoever follows `handle.events()`.

    From a step the values are recorded in batches, with the step's key and attempt; a step that is tried again emits
    `Restarted` first. `durable=False`: not recorded, only those hear it who follow live, in this process.
    """
    scope = CURRENT.get()
    if isinstance(scope, (Call, Branch)):
        run: Run = scope.body.run
        while len(run.told) >= WAITING and not run.abandoned:
            await run.worker.clock.sleep(GATHER / 1_000_000)
    emit_now(value, durable)


def emit_now(value: Any, durable: bool) -> None:
    """`emit` without waiting."""
    scope = CURRENT.get()
    if scope is None:
        return
    text = CODEC.encode(value, path="the emitted value")
    if len(text) > VALUE_LIMIT:
        raise TooLargeError(f"an emitted value takes {len(text):,} bytes; the limit is {VALUE_LIMIT:,}")
    if isinstance(scope, Scope):
        sequencer = scope.sequencer
        if durable:
            sequencer.make_local(EMIT, scope.key(EMIT), lambda: f"[{text}]")
        return
    run: Run = scope.body.run
    if durable:
        _tell(run, Told(scope.body, STREAM, scope.body.key, text))
    else:
        passing = Event(0, scope.body.key, scope.body.attempt, CODEC.decode(text))
        run.worker.loop.call_soon_threadsafe(run.worker.live.send, run.id, passing)


@only_async
async def publish(name: str, value: Any) -> None:
    """Set a value of the execution that others read with `handle.value(name)`; the last one counts."""
    publish_now(name, value)


def publish_now(name: str, value: Any) -> None:
    """`publish` for plain functions."""
    scope = CURRENT.get()
    if scope is None:
        return
    check_message_name(name)
    text = CODEC.encode(value, path=name)
    if isinstance(scope, Scope):
        scope.sequencer.repeat_local(PUBLISH, f"{PUBLISH}:{name}", text)
    else:
        _tell(scope.body.run, Told(scope.body, PUBLISH, f"{PUBLISH}:{name}", text))


def progress(done: float, total: float | None = None) -> None:
    """Say how far the running step has come. Only the latest of what gathers is recorded."""
    scope = CURRENT.get()
    if isinstance(scope, (Call, Branch)):
        if not all(isinstance(given, int | float | None) for given in (done, total)):
            raise TypeError(f"progress(done, total) takes numbers, not {done!r}, {total!r}")
        text = CODEC.encode([done, total])
        _tell(scope.body.run, Told(scope.body, PROGRESS, scope.body.key, text))


def usage(
    *,
    model: str | None = None,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cost: Decimal | float | int = 0,
) -> None:
    """Say what the running step has used: recorded with its outcome, summed up by `handle.usage()`."""
    scope = CURRENT.get()
    if not isinstance(scope, (Call, Branch)):
        return
    if input_tokens < 0 or output_tokens < 0 or cost < 0:
        raise ValueError("usage is not negative")
    body = scope.body
    tree = {"model": model, "input": input_tokens, "output": output_tokens, "cost": str(Decimal(str(cost)))}
    _tell(body.run, Told(body, USAGE, body.key, msgspec.json.encode(tree).decode()))


@only_async
async def set_attributes(changes: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """Set attributes of the execution, by which it is found. The others stay; None removes one.

    Raises `NoExecutionError` outside of workflow code.
    """
    set_attributes_now({**(changes or {}), **more})


def set_attributes_now(wanted: Mapping[str, Any]) -> None:
    """`set_attributes` for plain functions."""
    scope = CURRENT.get()
    if not isinstance(scope, Scope):
        raise NoExecutionError("set_attributes belongs in workflow code")
    sequencer = scope.sequencer
    before = dict(sequencer.info.attributes)
    after = {name: value for name, value in {**before, **wanted}.items() if value is not None}
    with allowing_secrets(False):  # the row's attributes are searched, hence never encrypted
        text = CODEC.encode({"before": before, "after": after}, path="attributes")
    sequencer.info.attributes = after
    if sequencer.repeat_local(ATTRIBUTES, ATTRIBUTES, text):
        sequencer.info.changed = CODEC.encode(after)


# What gathers in an execution -----------------------------------------------------------------------------


class Told:
    """Something that a body said."""

    __slots__ = ("attempt", "call", "key", "kind", "text")

    def __init__(self, call: Call, kind: str, key: str, text: str) -> None:
        self.call = call
        self.attempt = call.attempt
        self.kind = kind
        self.key = key
        self.text = text


def _tell(run: Run, told: Told) -> None:
    if threading.get_ident() != run.worker.thread:
        run.worker.loop.call_soon_threadsafe(_gather, run, told)
    else:
        _gather(run, told)


def _gather(run: Run, told: Told) -> None:
    if run.abandoned or run.ended:
        return
    first = not run.told
    if told.kind == STREAM and run.streaming.get(told.call.key) != (told.attempt, told.call.started_at):
        again = told.call.key in run.streaming
        run.streaming[told.call.key] = (told.attempt, told.call.started_at)
        if again:
            run.told.append(Told(told.call, STREAM, told.call.key, ""))
    if first:
        run.worker.clock.call_at(run.now() + GATHER, lambda: _due(run))
    run.told.append(told)


def _due(run: Run) -> None:
    if run.told and not run.abandoned and not run.ended:
        run.flush()
        run.committer.kick()
        run.worker.live.wake(run.id)


def entries(run: Run) -> None:
    """Turn what was told into entries, which ride in the next commit."""
    told, run.told = run.told, []
    last = {t.key: t for t in told if t.kind == PROGRESS}
    batch: list[Told] = []
    for item in told:
        if batch and (item.call is not batch[0].call or item.kind != STREAM or not item.text or len(batch) == BATCH):
            _stream(run, batch)
            batch = []
        if item.kind == STREAM and item.text:
            batch.append(item)
        elif item.kind == STREAM:
            run.tell(item.key, STREAM, "open", item.attempt, "[]")
        elif item.kind != PROGRESS or last[item.key] is item:
            run.tell(item.key, item.kind, "set", item.attempt, item.text)
            if item.kind == USAGE and run.purse is not None:
                run.purse.spent(item.text)
    if batch:
        _stream(run, batch)


def _stream(run: Run, batch: list[Told]) -> None:
    texts = ",".join(item.text for item in batch)
    run.tell(batch[0].key, STREAM, "set", batch[0].attempt, f"[{texts}]")


# Reading --------------------------------------------------------------------------------------------------

KINDS = (EMIT, STREAM, PROGRESS)


def items(entry: Entry) -> list[StreamItem]:
    """The events that an entry of these kinds holds."""
    first = entry.seq * BATCH
    if entry.status == "open":
        return [Restarted(first, entry.key, entry.attempt)]
    try:
        if entry.kind == PROGRESS:
            done, total = CODEC.decode(entry.output or "[0,null]")
            return [Progress(first, entry.key, entry.attempt, done, total)]
        texts = _texts(entry.output or "[]")
    except (ValueError, TypeError, RecursionError) as error:
        words = f"entry {entry.seq} ({entry.key}) of {entry.execution_id} is damaged: {error}"
        raise DecodeError(words, execution_id=entry.execution_id, key=entry.key) from error
    key = None if entry.kind == EMIT else entry.key
    return [Event(first + place, key, entry.attempt, CODEC.decode(text)) for place, text in enumerate(texts)]


def _texts(text: str) -> list[str]:
    """The elements of a JSON list, each as its text."""
    try:
        return [str(bytes(raw), "ascii") for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except msgspec.MsgspecError:
        # It refuses half of a surrogate pair, which Python's strings may hold.
        found = json.loads(text)
        if not isinstance(found, list):
            raise ValueError("it holds no list") from None
        return [dump(item) for item in found]


@dataclass(slots=True, frozen=True)
class Usage:
    """What the steps of an execution have used so far, all attempts together."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    models: Mapping[str, int] | None = None

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def plus(self, text: str) -> Usage:
        """With one more recorded usage (its text). Raises `DecodeError`."""
        try:
            return self._plus(msgspec.json.decode(text))
        except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
            raise DecodeError(f"a recorded usage is damaged: {error!r}") from error

    def _plus(self, tree: Any) -> Usage:
        models = dict(self.models or {})
        if tree["model"] is not None:
            models[tree["model"]] = models.get(tree["model"], 0) + tree["input"] + tree["output"]
        return Usage(
            self.input_tokens + tree["input"],
            self.output_tokens + tree["output"],
            self.cost + Decimal(tree["cost"]),
            models or None,
        )


class Live:
    """Who follows executions in this process, and hears at once what comes."""

    def __init__(self) -> None:
        self._followers: dict[str, set[asyncio.Queue[Event | None]]] = {}

    def follow(self, execution_id: str) -> asyncio.Queue[Event | None]:
        """A queue of passing events; None in it says that there may be new recorded ones."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._followers.setdefault(execution_id, set()).add(queue)
        return queue

    def leave(self, execution_id: str, queue: asyncio.Queue[Event | None]) -> None:
        followers = self._followers.get(execution_id)
        if followers is not None:
            followers.discard(queue)
            if not followers:
                del self._followers[execution_id]

    def send(self, execution_id: str, event: Event) -> None:
        for queue in self._followers.get(execution_id, ()):
            queue.put_nowait(event)

    def wake(self, execution_id: str) -> None:
        for queue in self._followers.get(execution_id, ()):
            if queue.empty():
                queue.put_nowait(None)
