"""Workflows that use every durable call, and tell the ledger what they were handed.

Their results are the same in every run: what depends on the order of branches is sorted, what is random is checked
against what was recorded and left out.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeVar

from perdure import (
    Retry,
    Workflow,
    checkpoint,
    current,
    emit,
    gather,
    interrupt,
    now,
    patched,
    publish,
    race,
    random,
    receive,
    restart,
    send,
    set_attributes,
    sleep,
    start_child,
    step,
    sync,
    uuid4,
    workflow,
)
from perdure.scope import CURRENT, Scope
from tests.crash import ledger

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    id: str
    amount: Decimal
    due: datetime
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    verdict: Literal["yes", "no"]
    limit: int


ORDER = Order("o1", Decimal("12.50"), datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), ("a", "b"))

# What workflow code tells --------------------------------------------------------------------------------------


def _scope() -> Scope:
    scope = CURRENT.get()
    assert isinstance(scope, Scope)
    return scope


def heard(name: str, value: Any, *, back: int = 0) -> None:
    """The outcome of the last call of this name in this scope (or `back` calls before it) was handed over."""
    scope = _scope()
    tell(f"{scope.path}{name}#{scope.counts[name] - back}", value)


def tell(key: str, value: Any) -> None:
    running = current()
    what = ledger.UNWOUND if running.unwinding else ledger.HEARD
    ledger.write(what, running.execution_id, key, repr(value), fence=running.fence)


async def hear(name: str, call: Awaitable[T]) -> T:
    value = await call
    heard(name, value)
    return value


# Steps ---------------------------------------------------------------------------------------------------------


@step(name="quick")
async def quick(x: str) -> str:
    """Never suspends."""
    with ledger.visit():
        return x.upper()


@step(name="work")
async def work(x: str) -> str:
    with ledger.visit():
        await asyncio.sleep(0.001)
        return f"{x}!"


@step(name="threaded")
def threaded(x: str) -> str:
    with ledger.visit():
        assert threading.current_thread() is not threading.main_thread()
        return f"{x}~"


@step(name="typed")
async def typed(order: Order) -> Order:
    with ledger.visit():
        assert type(order.due) is datetime and type(order.tags) is tuple
        return Order(order.id, order.amount * 2, order.due + timedelta(days=1), (*order.tags, "c"))


@step(name="flaky", retry=Retry(attempts=4, initial=0.002, jitter=0.0))
async def flaky(x: str) -> str:
    with ledger.visit():
        if current().attempt < 3:
            raise OSError(f"attempt {current().attempt} fails")
        return x


@step(name="tardy", timeout=0.03, retry=Retry(attempts=2, initial=0.002, jitter=0.0))
async def tardy(x: str) -> str:
    with ledger.visit():
        if current().attempt == 1:
            await asyncio.sleep(3600)
        return x


@step(name="broken", retry=Retry(attempts=2, initial=0.002, jitter=0.0, give_up_on=(LookupError,)))
async def broken(x: str) -> str:
    with ledger.visit():
        raise ValueError(f"{x} cannot be")


def was_charged(account: str, amount: int) -> str | None:
    """Asks the world, here the ledger."""
    mine = current()
    paid = [e for e in ledger.here() if (e.what, e.execution, e.key) == (ledger.EFFECT, mine.execution_id, mine.key)]
    return f"{account}:{amount}" if paid else None


@step(name="charge", once=True, verify=was_charged)
async def charge(account: str, amount: int) -> str:
    with ledger.visit():
        ledger.of_body(ledger.EFFECT)
        await asyncio.sleep(0)
        return f"{account}:{amount}"


@step(name="inner")
async def inner(x: str) -> str:
    with ledger.visit():
        await asyncio.sleep(0)
        return f"<{x}>"


@step(name="inner_flaky", retry=Retry(attempts=3, initial=0.002, jitter=0.0))
async def inner_flaky(x: str) -> str:
    with ledger.visit():
        if current().attempt < 2:
            raise OSError("the first attempt fails")
        return x


@step(name="outer")
async def outer(x: str) -> list[str]:
    with ledger.visit():
        first = await inner(x)
        both = await gather(inner(f"{x}1"), inner_flaky(f"{x}2"))
        return [first, *both, *await inner.map(["p", "q"], limit=1)]


@step(name="inner_threaded")
def inner_threaded(x: str) -> str:
    with ledger.visit():
        return f"({x})"


@step(name="outer_threaded")
def outer_threaded(x: str) -> str:
    with ledger.visit():
        return inner_threaded(x) + inner_threaded(f"{x}'")


@checkpoint(name="stamp")
async def stamp(x: list[str]) -> int:
    with ledger.visit():
        return len(x)


# Children ------------------------------------------------------------------------------------------------------


@workflow(name="listener")
async def listener(parent: str) -> str:
    """Answers two messages with one."""
    first = await hear("receive", receive("ping", schema=int))
    second = await hear("receive", receive("ping", schema=int))
    await send(parent, "pong", [first, second])
    return await hear("quick", quick("listened"))


@workflow(name="helper")
async def helper(n: int) -> int:
    if n < 0:
        raise ValueError(f"{n} is negative")
    total = 0
    for i in range(n):
        total += len(await hear("work", work(str(i))))
    return total + await hear("interrupt", interrupt("helper: how many?", schema=int))


# Everything ----------------------------------------------------------------------------------------------------


@workflow(name="everything")
async def everything(n: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    out["steps"] = await _steps()
    out["joins"] = await _joins()
    out["asyncio"] = await _asyncio_shapes()
    await _made_once()
    out["waits"] = await _waits()
    out["messages"] = await _messages()
    out["children"] = await _children()
    out["last"] = await hear("quick", quick(f"end {n}"))
    return out


async def _steps() -> list[Any]:
    order = await hear("typed", typed(ORDER))
    assert type(order) is Order and type(order.amount) is Decimal
    out: list[Any] = [str(order.amount), list(order.tags)]
    out.append(await hear("quick", quick("q")))
    out.append(await hear("threaded", threaded.aio("t")))
    out.append(await hear("flaky", flaky("f")))
    out.append(await hear("tardy", tardy("y")))
    out.append(await hear("charge", charge("acme", 7)))
    out.append(await hear("outer", outer("o")))
    out.append(await hear("outer_threaded", outer_threaded.aio("o")))
    out.append(await hear("stamp", stamp(["a", "b"])))
    await hear("half-way", checkpoint("half-way"))
    try:
        await broken("it")
    except ValueError as error:
        heard("broken", error)
        out.append(str(error))
    return out


async def _joins() -> list[Any]:
    async def branch(name: str) -> str:
        first = await hear("work", work(name))
        return await hear("threaded", threaded.aio(first))

    out: list[Any] = await gather(*[branch(name) for name in "abc"], limit=2)
    mapped = await work.map(["x", "y", "z"], limit=2)
    for back, value in enumerate(reversed(mapped)):
        heard("work", value, back=back)
    won = await race(fast=work("fast"), never=receive("never"), nobody=interrupt("nobody: left open"))
    out += [*mapped, won.name, won.value]
    results = await asyncio.gather(branch("r"), broken("that"), return_exceptions=True)
    return [*out, *[str(r) for r in results]]


async def _asyncio_shapes() -> list[Any]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    for i in range(4):
        queue.put_nowait(f"i{i}")
    out: list[str] = []

    async def drain() -> None:
        while not queue.empty():
            out.append(await hear("work", work(queue.get_nowait())))

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(drain())
    try:
        async with asyncio.timeout(0.005):
            await receive("never")
    except TimeoutError:
        out.append("timed out")
    out.append(await asyncio.wait_for(hear("quick", quick("w")), 60))
    with suppress(TimeoutError):
        await asyncio.wait_for(interrupt("nobody: in time?"), 0.005)
        tell("=answered by nobody", True)
    return sorted(out)


async def _made_once() -> None:
    made = uuid4(), random().random(), patched("new"), now()
    assert made[2] is True
    await hear("quick", quick("after local values"))
    tell("=made once", made[:2])
    tell("=now", now())


async def _waits() -> list[Any]:
    await sleep(0.005)
    heard("timer", None)
    decision = await hear("interrupt", interrupt("typed?", schema=Decision, details={"n": 1}))
    assert type(decision) is Decision
    out: list[Any] = [decision.verdict, decision.limit]
    for i in range(3):
        out.append(await hear("interrupt", interrupt(f"loop {i}?", schema=int)))

    async def branch(name: str) -> str:
        before = await hear("quick", quick(name))
        answer = await hear("interrupt", interrupt(f"branch {name}?", schema=str))
        return await hear("work", work(before + answer))

    out += await asyncio.gather(branch("l"), branch("m"), return_exceptions=True)
    with suppress(Exception):
        out.append(await hear("interrupt", interrupt("suppressed?", schema=list[int])))
    expired = interrupt("nobody: expires", schema=str, expires=0.005, default="by default")
    out.append(await hear("interrupt", expired))
    return out


async def _messages() -> list[Any]:
    out = [await hear("receive", receive("note", timeout=60)) for _ in range(2)]
    out.append(await hear("receive", receive("note", schema=int)))
    return out


async def _children() -> list[Any]:
    mine = current().execution_id
    child = await start_child(listener, mine)
    heard("listener", child.id)
    for n in (1, 2):
        await send(child.id, "ping", n)
        heard("send", None)
    out: list[Any] = [await hear("receive", receive("pong", schema=list[int]))]
    out.append(await hear("helper", helper(2)))
    try:
        await helper(-1)
    except ValueError as error:
        heard("helper", error)
        out.append(str(error))
    out += await asyncio.gather(helper(1), helper(0))
    won = await race(fast=_after_a_while(), never=raced(current().execution_id))
    return [*out, won.value]


async def _after_a_while() -> str:
    # Not before the child works: one whose worker died twice may come late, and would be given up before it began.
    await receive("begun")
    for i in range(3):
        await hear("work", work(f"while {i}"))
    return "won"


# Little of everything -------------------------------------------------------------------------------------------


@workflow(name="compact")
async def compact(n: int) -> list[Any]:
    """Small enough to be killed at every write and every flush of its store."""
    out: list[Any] = [await hear("quick", quick("q")), await hear("flaky", flaky("f"))]
    out.append(await hear("charge", charge("acme", n)))
    await sleep(0.005)
    heard("timer", None)
    out.append(await hear("interrupt", interrupt("which?", schema=int)))
    out.append(await hear("receive", receive("note", schema=int)))
    out.append(await hear("helper", helper(1)))
    return [*out, await hear("quick", quick(f"end {n}"))]


@workflow(name="plainly")
def plainly(n: int) -> int:
    """A plain function: a step, a timer, an async step."""
    first = plain_step(n)
    sync.sleep(0.002)
    return first + len(sync.call(quick, "from a thread"))


@step(name="plain_step")
def plain_step(n: int) -> int:
    with ledger.visit():
        return n


@workflow(name="renews")
async def renews(n: int, so_far: list[int] | None = None) -> list[int]:
    """Three lives under one id."""
    so_far = [*(so_far or []), await hear("pulse", pulse(n))]
    if n < 2:
        await restart(n + 1, so_far)
    return so_far


@workflow(name="teller")
async def teller(n: int) -> list[Any]:
    """Tells while it works: events, values, attributes; has a child that is a plain function."""
    await emit({"round": n})
    await publish("mood", "fresh")
    out: list[Any] = [await hear("quick", quick("a"))]
    await set_attributes(stage="middle")
    out.append(await hear("grows", grows([f"{k}" * 700 for k in range(5)])))
    await publish("mood", "tired")
    out.append(await plainly(n))
    await emit("end")
    out.append(current().attributes["stage"])
    return out


@step(name="grows")
async def grows(pages: list[str]) -> list[str]:
    """Large enough to be packed."""
    with ledger.visit():
        return [*pages, "x" * 700]


# Those that come to a bad end ----------------------------------------------------------------------------------


@step(name="pulse")
async def pulse(n: int) -> int:
    with ledger.visit():
        await asyncio.sleep(0.001)
        return n


@workflow(name="patient")
async def patient(name: str) -> str:
    """Waits for ever, unless cancelled."""
    await hear("pulse", pulse(0))
    await interrupt("nobody: left waiting")
    tell("=after for ever", name)
    return name


@workflow(name="raced")
async def raced(parent: str) -> str:
    """Says that it has begun, then waits for ever, unless cancelled."""
    await hear("pulse", pulse(0))
    await send(parent, "begun")
    await interrupt("nobody: left waiting")
    return parent


@workflow(name="pulsing")
async def pulsing(name: str) -> int:
    """Works for ever, and has children all the while."""
    n = 0
    while True:
        n += 1
        await hear("pulse", pulse(n))
        if n % 3 == 0 and n < 16:
            await start_child(patient, f"{name}{n}")


@workflow(name="doomed")
async def doomed(how: str) -> str:
    """Cancelled from outside (`how` "cancel"), or fails by itself, with children in every state."""
    await hear("pulse", pulse(0))
    detached = await start_child(patient, "detached")
    heard("patient", detached.id)
    waiting = asyncio.create_task(patient("awaited"))
    working = asyncio.create_task(pulsing("p"))
    n = 0
    while how == "cancel" or n < 8:
        n += 1
        await hear("pulse", pulse(n))
    heard("pulse", n)
    assert not waiting.done() and not working.done()
    raise ValueError(f"failed after {n}")


FLOWS: list[Workflow[..., Any]] = [
    everything, compact, listener, helper, patient, raced, pulsing, doomed, teller, renews, plainly,
]  # fmt: skip


# Small ones ----------------------------------------------------------------------------------------------------


@step(name="gate")
async def gate(x: str) -> str:
    """Waits until somebody opens the gate of its fence."""
    with ledger.visit():
        opened = ledger.folder() / f"gate-{current().fence}"
        while not await asyncio.to_thread(opened.exists):
            await asyncio.sleep(0.005)
        return x


@workflow(name="gated")
async def gated(x: str) -> list[str]:
    return [await hear("quick", quick(x)), await hear("gate", gate(x)), await hear("work", work(x))]


@workflow(name="asks")
async def asks(x: int) -> int:
    answer = await hear("interrupt", interrupt("nobody: which?", schema=int))
    await hear("work", work(f"{x} {answer}"))
    return answer


FLOWS += [gated, asks]
