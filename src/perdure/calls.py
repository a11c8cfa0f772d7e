"""The durable calls that are not steps: waits, messages, children, and values made once."""

from __future__ import annotations

import asyncio
import random as _random
import uuid as _uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, ParamSpec, TypeVar, overload

from msgspec.structs import replace

from perdure.checking import check_message_name
from perdure.clock import SECOND, Duration, micros, to_datetime
from perdure.codec import ANY, CODEC
from perdure.errors import EncodeError, NoExecutionError
from perdure.journal import RANDOM, RECEIVE, RESTART, ROLLBACK, UUID4
from perdure.rollback import Order
from perdure.schema import schema_of
from perdure.scope import ANSWERS, CURRENT, Call, Scope, answered
from perdure.sequencer import NOTHING, durable_call
from perdure.threads import only_async
from perdure.workflow import Workflow

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class WaitSpec:
    """A wait as sequencer and executor see it; decodes its outcome to a type."""

    __slots__ = ("coder", "kind", "name", "on_change")
    intent = False

    def __init__(self, kind: str, hint: Any = ANY) -> None:
        self.kind = kind
        self.name = kind
        self.on_change = "strict"
        self.coder = CODEC.coder(hint)

    def decode(self, text: str) -> Any:
        return self.coder.decode(text)

    def normalize(self, text: str) -> str:
        return text


@dataclass(slots=True, frozen=True)
class Asked:
    """What an interrupt was asked with. `expires_after`: microseconds; `default`: text of the answer then."""

    message: str
    details: str | None
    schema: str | None
    assignee: str | None
    expires_after: int | None
    default: str | None


def _is_tested() -> bool:
    return CURRENT.get() is None and ANSWERS.get() is not None


def _workflow_scope(what: str) -> Scope:
    scope = CURRENT.get()
    if scope is None:
        raise NoExecutionError(f"{what} has a meaning inside an execution only: start the workflow with an Engine")
    if not isinstance(scope, Scope):
        raise NoExecutionError(f"{what} belongs in workflow code: a step's body waits for nothing durable")
    return scope


# Waits ----------------------------------------------------------------------------------------------------


@only_async
async def sleep(duration: Duration) -> None:
    """Wait for a time (seconds or a timedelta), however long: the process may end meanwhile.

    Raises `NoExecutionError` outside of workflow code.
    """
    if _is_tested():
        return await answered("sleep", "sleep", duration)  # type: ignore[no-any-return]
    _workflow_scope("sleep")
    micros(duration)  # raises for what is none
    await asyncio.sleep(duration.total_seconds() if isinstance(duration, timedelta) else duration)


_interrupts: dict[Any, tuple[WaitSpec, str | None]] = {}


def _interrupt_spec(schema: Any) -> tuple[WaitSpec, str | None]:
    try:
        known = _interrupts.get(schema)
    except TypeError:
        return WaitSpec("interrupt", schema), schema_of(schema)
    if known is None:
        known = _interrupts[schema] = WaitSpec("interrupt", schema), schema_of(schema)
    return known


@overload
def interrupt(
    message: str,
    *,
    schema: type[T],
    details: Any = ...,
    assignee: str | None = ...,
    expires: Duration | None = ...,
    default: T = ...,
) -> Coroutine[Any, Any, T]: ...
@overload
def interrupt(
    message: str,
    *,
    schema: Any = ...,
    details: Any = ...,
    assignee: str | None = ...,
    expires: Duration | None = ...,
    default: Any = ...,
) -> Coroutine[Any, Any, Any]: ...
@only_async
def interrupt(
    message: str,
    *,
    schema: Any = ANY,
    details: Any = None,
    assignee: str | None = None,
    expires: Duration | None = None,
    default: Any = NOTHING,
) -> Coroutine[Any, Any, Any]:
    """Ask something of the world outside and wait for the answer, however long.

    `schema`: the answer's type; what does not fit it is refused where it is given, and changes nothing.
    `details`: anything recordable, shown with the question. `expires` (seconds or timedelta): then the answer
    is `default`, or `TimeoutError` is raised. Any number of interrupts may stand in loops and branches.

    >>> address = await interrupt("Where to?", schema=Address)
    """
    if _is_tested():
        return answered("interrupt", message, details)
    scope = _workflow_scope("interrupt")
    key = scope.key("interrupt")
    if "\0" in message or any("\ud800" <= c <= "\udfff" for c in message):
        raise EncodeError("the message of an interrupt is text for people: no NUL and no lone surrogates", key=key)
    spec, schema_text = _interrupt_spec(schema)
    asked = Asked(
        message=message,
        details=None if details is None else CODEC.encode(details, path="details"),
        schema=schema_text,
        assignee=assignee,
        expires_after=None if expires is None else micros(expires),
        default=None if default is NOTHING else spec.coder.encode(default, "default"),
    )
    call = Call(scope.sequencer, spec, key, None, CODEC.encode({"message": message}))
    call.extra = asked
    return durable_call(call)


_RECEIVE: dict[Any, WaitSpec] = {}


@only_async
async def receive(name: str, timeout: Duration | None = None, *, schema: Any = ANY) -> Any:
    """Take the next message of this name, waiting for one if need be. Raises `TimeoutError` after `timeout`."""
    if _is_tested():
        return await answered("receive", name, timeout)
    scope = _workflow_scope("receive")
    check_message_name(name)
    spec = _RECEIVE.get(schema) or _RECEIVE.setdefault(schema, WaitSpec(RECEIVE, schema))
    call = Call(scope.sequencer, spec, scope.key(RECEIVE), None, CODEC.encode({"name": name}))
    call.extra = name
    if timeout is None:
        return await durable_call(call)
    async with asyncio.timeout(micros(timeout) / SECOND):
        return await durable_call(call)


# Messages and children ------------------------------------------------------------------------------------


class ActSpec:
    """An act of the engine's own, recorded like a step."""

    __slots__ = ("kind", "name", "on_change")
    intent = False

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = kind
        self.on_change = "strict"

    def decode(self, text: str) -> Any:
        return CODEC.decode(text)

    def normalize(self, text: str) -> str:
        return text


_SEND = ActSpec("send")


@only_async
def send(execution_id: str, name: str, value: Any = None) -> Coroutine[Any, Any, None]:
    """Send a message to another execution: kept until it is received, delivered once.

    Raises `NotFoundError` if there is no such execution, `PerdureError` if it has ended, `TooLargeError` if 10,000
    messages wait there to be received.
    """
    if _is_tested():
        return answered("send", name, (execution_id, value))
    scope = _workflow_scope("send")
    key = scope.key("send")
    text = CODEC.encode({"to": execution_id, "name": name, "value": value})
    call = Call(scope.sequencer, _SEND, key, None, text)
    call.extra = (execution_id, name, CODEC.encode(value))
    return durable_call(call)


@dataclass(slots=True, frozen=True)
class Child(Generic[R]):
    """A child execution that was started and not awaited."""

    id: str

    async def signal(self, name: str, value: Any = None) -> None:
        """Send it a message."""
        await send(self.id, name, value)


@only_async
async def start_child(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Child[R]:
    """Start a child execution and go on at once; gives its handle.

    The child is cancelled when this execution fails or is cancelled, and goes on when it completes.
    """
    scope = _workflow_scope("start_child")
    child_id = await workflow.call_child(scope, args, kwargs, detached=True)
    return Child(child_id)


@only_async
async def restart(*args: Any, **kwargs: Any) -> None:
    """Go on under the same id with a fresh journal, the workflow called with these arguments. Never returns.

    For what runs for ever: nothing of the journal so far is read again. Running bodies and children are cancelled, open
    requests are withdrawn; messages that were not received wait on. Raises `EncodeError`, `TypeError`.
    """
    scope = _workflow_scope("restart")
    sequencer = scope.sequencer
    if sequencer.closing:
        await sequencer.refuse()
    text, _ = sequencer.arguments.bind(args, kwargs)
    sequencer.capacity.check(text, f"the input of {sequencer.id}", packs=False)
    key = scope.key(RESTART)
    await durable_call(Call(sequencer, _Restart(text), key, None, "null"))


@only_async
async def rollback(to: str | int | None = None, *, reason: str | None = None) -> None:
    """Undo what was done behind a checkpoint, and go on from there. Never returns.

    `to`: a checkpoint's name (its latest), a key (`pack#2`) or an entry's number; None: everything is undone, and the
    execution ends `rolled_back`. What comes after it is called anew, with other idempotency keys;
    `current().generation` and `current().rollback_reason` tell that code why. After 20 of them a person is asked.
    """
    scope = _workflow_scope("rollback")
    sequencer = scope.sequencer
    if sequencer.closing:
        await sequencer.refuse()
    key = scope.key(ROLLBACK)
    order = Order(id=f"{key}@{sequencer.info.generation}", cause="code", reason=reason)
    if to is not None:
        order = replace(order, name=str(to)) if not isinstance(to, int) else replace(order, to=to)
    await durable_call(Call(sequencer, _RollBack(order), key, None, "null"))


class _RollBack(ActSpec):
    """The end of one generation."""

    def __init__(self, order: Order) -> None:
        super().__init__(ROLLBACK)
        self.order = order


class _Restart(ActSpec):
    """The end of one life; `text`: the input of the next."""

    def __init__(self, text: str) -> None:
        super().__init__(RESTART)
        self.text = text


# Values made once -----------------------------------------------------------------------------------------


def now() -> datetime:
    """The time (UTC) of the last recorded outcome: the same in every replay. Outside of workflow code: now."""
    scope = CURRENT.get()
    return to_datetime(scope.sequencer.time) if isinstance(scope, Scope) else datetime.now(UTC)


def uuid4() -> _uuid.UUID:
    """A random UUID, recorded: the same in every replay.

    It is durable with the execution's next outcome; a step that is killed before may meet another one when it is
    entered again. What must be the same in all attempts of a step is its `current().idempotency_key`.
    """
    scope = CURRENT.get()
    if not isinstance(scope, Scope):
        return _uuid.uuid4()
    text = scope.sequencer.make_local(UUID4, scope.key(UUID4), lambda: f'"{_uuid.uuid4()}"')
    return _uuid.UUID(text.strip('"'))


def random() -> _random.Random:
    """A source of random numbers whose seed is recorded: the same numbers in every replay."""
    scope = CURRENT.get()
    if not isinstance(scope, Scope):
        return _random.Random()
    seed = scope.sequencer.make_local(RANDOM, scope.key(RANDOM), lambda: str(_random.SystemRandom().getrandbits(62)))
    return _random.Random(int(seed))


def patched(name: str) -> bool:
    """Is this execution new enough for a changed piece of code?

    True, and recorded, if the execution gets here for the first time; True in later replays of it;
    False where the execution came by before the change was made. One answer for one name and execution.

    >>> if patched("send-sms-too"):
    ...     await send_sms(order)
    """
    scope = _workflow_scope("patched")
    return scope.sequencer.patched(name)
