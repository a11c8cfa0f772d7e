"""Each durable call, by itself, over the memory store."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    AlreadyDecidedError,
    AlreadyExistsError,
    Blocked,
    Cancelled,
    Completed,
    ConcurrentCallError,
    EncodeError,
    Engine,
    ExecutionCancelledError,
    Failed,
    InvalidAnswerError,
    NoExecutionError,
    NotFoundError,
    NotInWorkflowError,
    PerdureError,
    Retry,
    StepFailedError,
    UnknownOutcomeError,
    Waiting,
    WrongFaceError,
    checkpoint,
    current,
    gather,
    interrupt,
    now,
    patched,
    race,
    random,
    receive,
    send,
    sleep,
    start_child,
    step,
    uuid4,
    workflow,
)
from perdure.scope import OutsideExecution
from perdure.testing.clock import Clock


@asynccontextmanager
async def virtual(*workflows: Any, **settings: Any) -> AsyncIterator[tuple[Engine, Clock]]:
    clock = Clock()
    async with Engine("memory://", clock=clock, workflows=workflows, **settings) as engine:
        yield engine, clock


async def over(clock: Clock, awaited: Any) -> Any:
    """Let virtual time pass until something is done."""
    task = asyncio.ensure_future(awaited)
    await clock.run_until(task)
    return task.result()


ENTERED: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ENTERED.clear()


# Steps ----------------------------------------------------------------------------------------------------


@step(retry=Retry(attempts=3, initial=10.0, jitter=0.0), name="flaky")
async def flaky(fail: int) -> str:
    me = current()
    ENTERED.append((me.key, me.attempt, me.idempotency_key))
    if me.attempt <= fail:
        raise OSError(f"attempt {me.attempt}")
    return f"attempt {me.attempt}"


@workflow(name="retries")
async def retries(fail: int) -> str:
    return await flaky(fail)


async def test_a_failing_step_is_tried_again_with_the_same_idempotency_key() -> None:
    async with virtual(retries) as (engine, clock):
        start = clock.now()
        handle = await engine.start(retries, 2)
        assert await over(clock, handle.result()) == "attempt 3"
        assert [(key, attempt) for key, attempt, _ in ENTERED] == [("flaky#1", 1), ("flaky#1", 2), ("flaky#1", 3)]
        assert len({idempotency for _, _, idempotency in ENTERED}) == 1
        assert clock.now() - start >= 30_000_000, "10 s, then 20 s"
        (entry,) = await handle.history()
        assert (entry.status, entry.attempt, len(entry.attempts)) == ("completed", 3, 2)
        assert "OSError: attempt 1" in str(entry.attempts[0].error)


async def test_the_last_failed_attempt_is_the_outcome() -> None:
    async with virtual(retries) as (engine, clock):
        handle = await engine.start(retries, 9)
        with pytest.raises(OSError, match="attempt 3"):
            await over(clock, handle.result())
        assert isinstance(await handle.outcome(), Failed)


async def test_a_backoff_parks_the_execution() -> None:
    async with virtual(retries) as (engine, clock):
        handle = await engine.start(retries, 1)
        outcome = await over(clock, handle.outcome())
        assert isinstance(outcome, Waiting)
        assert outcome.wake_at is not None
        assert not engine.worker.runs  # type: ignore[union-attr]
        assert await over(clock, handle.result()) == "attempt 2"


@step(timeout=5.0, name="endless")
async def endless() -> None:
    await asyncio.get_running_loop().create_future()


@step(name="after")
async def after(what: str) -> str:
    ENTERED.append(what)
    return what


@workflow(name="timed_out")
async def timed_out() -> str:
    try:
        await endless()
    except TimeoutError as error:
        return await after(str(error))
    return "never"


async def test_an_attempt_that_takes_too_long_raises_timeout_error() -> None:
    async with virtual(timed_out) as (engine, clock):
        assert await over(clock, engine.run(timed_out)) == "endless#1 took longer than 5 s"


class OddError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


@step(name="odd")
async def odd() -> None:
    ENTERED.append("odd")
    raise OddError(7, "seven")


@workflow(name="catches")
async def catches() -> list[Any]:
    try:
        await odd()
    except OddError as error:
        answer = await interrupt("go on?", schema=bool)
        return [answer, error.code, str(error)]
    return []


async def test_a_recorded_error_is_raised_alike_in_replay_and_its_body_not_run_again() -> None:
    async with virtual(catches) as (engine, clock):
        handle = await engine.start(catches)
        outcome = await over(clock, handle.outcome())
        await engine.answer(outcome.requests[0].id, True)
        assert await over(clock, handle.result()) == [True, 7, "(7, 'seven')"]
        assert ENTERED == ["odd"]


@step(name="in_thread")
def in_thread(x: int) -> list[Any]:
    return [x * 2, threading.current_thread().name.startswith("perdure-step"), current().key]


@workflow(name="uses_threads")
async def uses_threads() -> Any:
    with pytest.raises(WrongFaceError, match=r"in_thread.aio"):
        in_thread(1)
    return [await in_thread.aio(2), await in_thread.map([3, 4])]


async def test_a_plain_function_runs_in_a_thread() -> None:
    async with Engine("memory://", workflows=[uses_threads]) as engine:
        assert await engine.run(uses_threads) == [
            [4, True, "in_thread#1"],
            [[6, True, "in_thread#2"], [8, True, "in_thread#3"]],
        ]


@step(name="inner", retry=Retry(attempts=2, initial=0.0, jitter=0.0))
async def inner(x: int) -> int:
    ENTERED.append((current().key, current().attempt))
    if x == 13 and current().attempt == 1:
        raise ValueError("unlucky")
    return x + 1


@step(name="inner_sync")
def inner_sync(x: int) -> int:
    ENTERED.append(current().key)
    return x * 10


@step(name="outer_sync")
def outer_sync(x: int) -> int:
    return inner_sync(x) + inner_sync(x + 1)


@step(name="outer", retry=Retry(attempts=2, initial=0.0, jitter=0.0))
async def outer(fail: bool) -> list[Any]:
    ENTERED.append((current().key, current().attempt))
    one = await inner(1)
    more = await gather(inner(12), inner(13))
    mapped = await inner.map([5, 6], limit=1)
    if fail and current().attempt == 1:
        raise RuntimeError("outer failed")
    return [one, more, mapped]


@workflow(name="nests")
async def nests(fail: bool) -> Any:
    return [await outer(fail), await outer_sync.aio(4)]


async def test_steps_inside_a_step_are_recorded_once_and_folded() -> None:
    async with Engine("memory://", workflows=[nests]) as engine:
        handle = await engine.start(nests, True)
        assert await handle.result() == [[2, [13, 14], [6, 7]], 90]
        attempts = [e for e in ENTERED if e[0] == "outer#1"]
        assert attempts == [("outer#1", 1), ("outer#1", 2)]
        inside = [e for e in ENTERED if e[0].startswith("outer#1/inner")]
        assert len(inside) == len(set(inside)) == 6, "five calls, one of them twice; none again in the second attempt"
        loaded = await engine.store.load([handle.id])
        assert {e.key for e in loaded[handle.id]} == {"outer#1", "outer_sync#1"}


@step(name="concurrent")
async def concurrent() -> str:
    task = asyncio.create_task(_stray())
    with pytest.raises(ConcurrentCallError, match=r"perdure\.gather"):
        await task
    return "refused"


async def _stray() -> None:
    await inner(1)


@workflow(name="strays")
async def strays() -> str:
    return await concurrent()


async def test_another_task_of_a_body_makes_no_durable_calls() -> None:
    async with Engine("memory://", workflows=[strays]) as engine:
        assert await engine.run(strays) == "refused"


@dataclass
class Order:
    total: int
    items: list[str]


@step(name="mutates")
async def mutates(order: Order) -> Order:
    order.items.append("added")
    return order


@workflow(name="copies")
async def copies(order: Order) -> list[Any]:
    given = Order(order.total, list(order.items))
    changed = await mutates(given)
    changed.items.append("by the workflow")
    return [given, changed, await mutates(given)]


async def test_bodies_and_callers_get_copies() -> None:
    async with Engine("memory://", workflows=[copies]) as engine:
        given, changed, again = await engine.run(copies, Order(5, ["a"]))
        assert given == Order(5, ["a"])
        assert changed == Order(5, ["a", "added", "by the workflow"])
        assert again == Order(5, ["a", "added"])


async def test_steps_called_outside_of_an_execution_just_run() -> None:
    assert await after("plain") == "plain"
    assert await in_thread_plain() == 6
    with pytest.raises(NoExecutionError):
        current()
    with pytest.raises(NoExecutionError):
        await sleep(1)
    with pytest.raises(NoExecutionError):
        await interrupt("?")


async def test_a_step_called_in_a_thread_of_ones_own_warns_while_an_engine_is_open() -> None:
    async with Engine("memory://", workflows=[copies]):
        with pytest.warns(OutsideExecution, match="double"):
            assert await asyncio.to_thread(double, 2) == 4


async def in_thread_plain() -> int:
    return await double.aio(3)


@step
def double(x: int) -> int:
    return x * 2


# Once-only steps ------------------------------------------------------------------------------------------

HAPPENED: list[str] = []


async def find(what: str) -> str | None:
    ENTERED.append("verify")
    return f"found {what}" if what in HAPPENED else None


@step(name="charge", once=True, verify=find)
async def charge(what: str) -> str:
    ENTERED.append(("charge", current().attempt))
    return f"charged {what}"


@step(name="blind", once=True)
async def blind(what: str) -> str:
    ENTERED.append("blind")
    return what


@workflow(name="charges")
async def charges(what: str) -> str:
    return await charge(what)


@workflow(name="blinds")
async def blinds(what: str) -> str:
    return await blind(what)


async def _after_intent(workflow: Any, what: str) -> Any:
    from perdure.testing.replaying import play

    whole = await play(workflow, [what])
    assert [e.kind for e in whole.journal] == ["intent", "step"]
    ENTERED.clear()
    return await play(workflow, [what], journal=whole.journal[:1])


async def test_a_once_only_step_records_its_intent_and_asks_verify_after_a_crash() -> None:
    HAPPENED[:] = ["yes"]
    assert (await _after_intent(charges, "yes")).outcome == Completed("found yes")
    assert ENTERED == ["verify"]
    assert (await _after_intent(charges, "no")).outcome == Completed("charged no")
    assert ENTERED == ["verify", ("charge", 1)]


async def test_a_once_only_step_without_verify_blocks_after_a_crash() -> None:
    outcome = (await _after_intent(blinds, "x")).outcome
    assert isinstance(outcome, Blocked)
    assert isinstance(outcome.error, UnknownOutcomeError)
    assert ENTERED == []


# Interrupts -----------------------------------------------------------------------------------------------


@workflow(name="asks")
async def asks() -> list[Any]:
    got: list[Any] = []
    for i in range(2):
        got.append(await interrupt(f"number {i}?", schema=int))

    async def branch(n: int) -> None:
        got.append([n, await interrupt(f"branch {n}?", schema=Order, details={"n": n})])

    await gather(*[branch(n) for n in range(3)])
    return got


async def test_interrupts_in_loops_and_branches_take_typed_answers_in_any_order() -> None:
    async with virtual(asks) as (engine, clock):
        handle = await engine.start(asks)
        for i in range(2):
            outcome = await over(clock, handle.outcome())
            (request,) = outcome.requests
            assert request.message == f"number {i}?"
            with pytest.raises(InvalidAnswerError, match="expected"):
                await engine.answer(request.id, "not a number")
            assert [r.status for r in await engine.requests()] == ["open"], "nothing was changed"
            await engine.answer(request.id, i, by="ana")
            await engine.answer(request.id, i, by="ana")
            with pytest.raises(AlreadyDecidedError, match="by ana"):
                await engine.answer(request.id, 99)
        outcome = await over(clock, handle.outcome())
        assert [r.details for r in outcome.requests] == [{"n": 0}, {"n": 1}, {"n": 2}]
        for request in reversed(outcome.requests):
            await engine.answer(request.id, Order(request.details["n"], ["x"]))
            await over(clock, handle.outcome())
        result = await over(clock, handle.result())
        assert result == [0, 1, [2, Order(2, ["x"])], [1, Order(1, ["x"])], [0, Order(0, ["x"])]] or sorted(
            result[2:], key=lambda r: r[0]
        ) == [[n, {"total": n, "items": ["x"]}] for n in range(3)]
        assert await engine.requests() == []
        with pytest.raises(NotFoundError):
            await engine.answer("nothing", 1)


@workflow(name="expires")
async def expires(default: bool) -> Any:
    if default:
        return await interrupt("?", schema=str, expires=timedelta(days=2), default="nobody")
    try:
        return await interrupt("?", schema=str, expires=timedelta(days=2))
    except TimeoutError:
        return "too late"


async def test_an_interrupt_expires() -> None:
    async with virtual(expires) as (engine, clock):
        for default, expected in ((True, "nobody"), (False, "too late")):
            handle = await engine.start(expires, default)
            outcome = await over(clock, handle.outcome())
            assert outcome.requests[0].expires_at is not None
            await clock.advance(timedelta(days=2, seconds=2))
            assert await over(clock, handle.result()) == expected
            with pytest.raises(AlreadyDecidedError, match="expired"):
                await engine.answer(outcome.requests[0].id, "x")


@workflow(name="races_requests")
async def races_requests() -> Any:
    won = await race(card=interrupt("card?", schema=int), cash=interrupt("cash?", schema=int), late=sleep(3600))
    return [won.name, won.value]


async def test_the_losers_of_a_race_are_withdrawn() -> None:
    async with virtual(races_requests) as (engine, clock):
        handle = await engine.start(races_requests)
        outcome = await over(clock, handle.outcome())
        card, cash = outcome.requests
        await engine.answer(cash.id, 5)
        assert await over(clock, handle.result()) == ["cash", 5]
        with pytest.raises(AlreadyDecidedError, match="withdrawn"):
            await engine.answer(card.id, 5)
        late = await engine.start(races_requests)
        await over(clock, late.outcome())
        await clock.advance(3700)
        assert await over(clock, late.result()) == ["late", None]


# Messages, time, children ---------------------------------------------------------------------------------


@workflow(name="receives")
async def receives(n: int) -> list[Any]:
    got = [await receive("word") for _ in range(n)]
    try:
        got.append(await receive("other", timeout=60))
    except TimeoutError:
        got.append("timeout")
    return got


@workflow(name="sends")
async def sends(to: str) -> Any:
    await send(to, "word", "from a workflow")
    try:
        await send("nobody", "word", 1)
    except NotFoundError as error:
        return str(error)


async def test_messages_are_kept_and_received_once_in_order() -> None:
    async with virtual(receives, sends) as (engine, clock):
        handle = await engine.start(receives, 4)
        await handle.signal("word", "a", id="1")
        await handle.signal("word", "a", id="1")
        await over(clock, handle.outcome())
        await handle.signal("word", "b", id="2")
        assert "there is no execution nobody" in await over(clock, engine.run(sends, handle.id))
        await handle.signal("word", "c")
        assert await over(clock, handle.result()) == ["a", "b", "from a workflow", "c", "timeout"]
        with pytest.raises(PerdureError, match="has ended"):
            await handle.signal("word", "late")
        with pytest.raises(NotFoundError):
            await engine.get("nobody").signal("word", 1)


@workflow(name="gives_up_receiving")
async def gives_up_receiving() -> list[Any]:
    got: list[Any] = []
    for _ in range(3):
        won = await race(message=receive("m"), tick=sleep(10))
        got.append(won.value if won.name == "message" else "tick")
    got.append(await receive("m"))
    got.append(await receive("m"))
    return got


async def test_a_withdrawn_receive_loses_no_message() -> None:
    async with virtual(gives_up_receiving) as (engine, clock):
        handle = await engine.start(gives_up_receiving)
        await clock.advance(12)
        await handle.signal("m", 1)
        await clock.advance(30)
        for n in (2, 3):
            await handle.signal("m", n)
        assert await over(clock, handle.result()) == ["tick", 1, "tick", 2, 3]


@workflow(name="sleeps")
async def sleeps() -> list[float]:
    before = now()
    await sleep(timedelta(days=30))
    await asyncio.sleep(0.5)
    return [(now() - before).total_seconds()]


async def test_a_long_sleep_is_a_row() -> None:
    async with virtual(sleeps) as (engine, clock):
        handle = await engine.start(sleeps)
        outcome = await over(clock, handle.outcome())
        assert outcome == Waiting([], outcome.wake_at)
        assert not engine.worker.runs  # type: ignore[union-attr]
        await clock.advance(timedelta(days=29, hours=23))
        assert await handle.status() == "waiting"
        await clock.advance(timedelta(hours=2))
        (elapsed,) = await over(clock, handle.result())
        assert 30 * 86400 <= elapsed < 30 * 86400 + 7200


@workflow(name="child")
async def child(x: int) -> int:
    if x == 0:
        raise ValueError("zero")
    if x < 0:
        return int(await interrupt("how much?", schema=int))
    return x * 2


@workflow(name="parent")
async def parent() -> list[Any]:
    got: list[Any] = [await child(1), *await gather(child(2), child(3))]
    try:
        await child(0)
    except ValueError as error:
        got.append(str(error))
    handle = await start_child(child, -5)
    got.append(handle.id)
    got.append(await child(-1))
    return got


async def test_children_run_fail_ask_and_detach() -> None:
    async with virtual(parent, child) as (engine, clock):
        handle = await engine.start(parent.options(execution_id="p", by="ana"))
        outcome = await over(clock, handle.outcome())
        ids = sorted(r.execution_id for r in outcome.requests)
        assert ids == ["p/child#5", "p/child#6"]
        for request in outcome.requests:
            await engine.answer(request.id, 7)
        assert await over(clock, handle.result()) == [2, 4, 6, "zero", "p/child#5", 7]
        row = await engine.get("p/child#1").row()
        assert (row.parent_id, row.started_by) == ("p", "ana")


@workflow(name="family")
async def family(fail: bool) -> Any:
    await start_child(child, -1)
    if fail:
        await after("x")
        raise RuntimeError("the parent failed")
    return await gather(child(-2), interrupt("me?"))


async def test_cancel_and_failure_reach_every_child() -> None:
    async with virtual(family, child) as (engine, clock):
        handle = await engine.start(family.options(execution_id="f"), False)
        outcome = await over(clock, handle.outcome())
        assert len(outcome.requests) == 3
        assert await over(clock, handle.cancel(reason="enough", by="bob")) == Cancelled("bob", "enough")
        with pytest.raises(ExecutionCancelledError, match="by bob: enough"):
            await handle.result()
        for key in ("child#1", "child#2"):
            assert isinstance(await over(clock, engine.get(f"f/{key}").outcome()), Cancelled)
        assert await engine.requests() == []
        failed = await engine.start(family.options(execution_id="g"), True)
        with pytest.raises(RuntimeError, match="the parent failed"):
            await over(clock, failed.result())
        assert await engine.get("g/child#1").status() == "cancelled"


# Cancelling -----------------------------------------------------------------------------------------------


@step(name="hangs")
async def hangs() -> None:
    ENTERED.append("hangs")
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ENTERED.append("body was stopped")


@workflow(name="runs_long")
async def runs_long() -> None:
    try:
        await hangs()
    except BaseException:
        await after("NEVER")
        raise
    finally:
        ENTERED.append("finally")
    await after("NEVER")


async def test_cancel_stops_the_body_and_runs_no_more_of_the_workflow() -> None:
    async with virtual(runs_long) as (engine, clock):
        handle = await engine.start(runs_long)
        await clock.settle()
        assert ENTERED == ["hangs"]
        assert await over(clock, handle.cancel(by="ana")) == Cancelled("ana", None)
        assert sorted(ENTERED) == ["body was stopped", "finally", "hangs"]
        assert [e.key for e in await handle.history()] == []
        assert await over(clock, handle.cancel()) == Cancelled("ana", None), "terminal is terminal"


# Values ---------------------------------------------------------------------------------------------------


@workflow(name="values")
async def values() -> list[Any]:
    made = [str(uuid4()), random().random(), str(uuid4()), patched("new")]
    await checkpoint("here")
    answer = await interrupt("?", schema=int)
    return [*made, answer, str(uuid4()), now().isoformat()]


async def test_values_made_once_are_the_same_after_parking() -> None:
    async with virtual(values) as (engine, clock):
        handle = await engine.start(values)
        outcome = await over(clock, handle.outcome())
        recorded = {e.key: e.output for e in await handle.history()}
        await engine.answer(outcome.requests[0].id, 1)
        result = await over(clock, handle.result())
        assert result[0] == recorded["uuid4#1"]
        assert result[2] == recorded["uuid4#2"] != result[0]
        assert result[3:5] == [True, 1]
        assert "here#1" in recorded


# Bad input ------------------------------------------------------------------------------------------------


@step(name="unencodable")
async def unencodable() -> Any:
    return {"items": [1, {"lock": threading.Lock()}]}


@workflow(name="bad_result")
async def bad_result(how: str) -> Any:
    if how == "result":
        return threading.Lock()
    if how == "argument":
        return await after(threading.Lock())  # type: ignore[arg-type]
    return await unencodable()


async def test_what_cannot_be_recorded_fails_with_its_path() -> None:
    async with virtual(bad_result) as (engine, clock):
        for how, path in (
            ("step", r"items\[1\]\.lock"),
            ("result", "result"),
            ("argument", "what"),
        ):
            with pytest.raises(EncodeError, match=path):
                await over(clock, engine.run(bad_result, how))
        assert ENTERED == [], "the body was not entered"


async def test_wrong_arguments_and_ids_are_refused_before_anything_is_recorded() -> None:
    async with virtual(retries, asks) as (engine, clock):
        with pytest.raises(TypeError, match="fail"):
            await engine.start(retries)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="is no workflow"):
            await engine.start(after, "x")  # type: ignore[arg-type]
        for verb in (engine.start, engine.run):
            with pytest.raises(TypeError, match="is no workflow"):
                await verb("retries", 0)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"retries\(\.\.\.\) was called here already"):
                await verb(retries(0))  # type: ignore[arg-type]
        for bad in ("", "a\0b", "x" * 256, "\ud800"):
            with pytest.raises(ValueError, match="id"):
                await engine.start(retries.options(execution_id=bad), 0)
        assert (await engine.list()).items == []
        first = await engine.start(retries.options(execution_id="same"), 0)
        again = await engine.start(retries.options(execution_id="same"), 0)
        assert first.id == again.id
        with pytest.raises(AlreadyExistsError, match="another input"):
            await engine.start(retries.options(execution_id="same"), 1)
        with pytest.raises(AlreadyExistsError, match="it is a retries"):
            await engine.start(asks.options(execution_id="same"))
        with pytest.raises(NotFoundError):
            await engine.get("nobody").outcome()
        await over(clock, first.result())


@workflow(name="does_io")
async def does_io(how: str) -> None:
    loop = asyncio.get_running_loop()
    match how:
        case "thread":
            await loop.run_in_executor(None, print)
        case "socket":
            await asyncio.open_connection("127.0.0.1", 1)
        case "process":
            await asyncio.create_subprocess_exec("true")
        case "stuck":
            await loop.create_future()
        case "as_completed":
            for done in asyncio.as_completed([after("a"), after("b")]):
                await done


async def test_io_in_workflow_code_is_refused_in_words() -> None:
    async with virtual(does_io) as (engine, clock):
        for how in ("thread", "socket", "process", "stuck"):
            with pytest.raises(NotInWorkflowError, match="step"):
                await over(clock, engine.run(does_io, how))
        with pytest.raises(NotInWorkflowError, match=r"test_calls\.py:\d+"):
            await over(clock, engine.run(does_io, "stuck"))


async def test_as_completed_over_bare_coroutines_is_refused() -> None:
    async with virtual(does_io) as (engine, clock):
        with pytest.warns(RuntimeWarning, match="never awaited"):
            with pytest.raises(NotInWorkflowError, match=r"perdure\.gather"):
                await over(clock, engine.run(does_io, "as_completed"))
            import gc

            gc.collect()


async def test_an_error_class_that_is_not_known_becomes_step_failed_error() -> None:
    def make() -> type[Exception]:
        class Local(Exception):
            pass

        return Local

    local = make()

    @step(name="raises_local")
    async def raises_local() -> None:
        raise local("inside")

    @workflow(name="raises_locally")
    async def raises_locally() -> None:
        await raises_local()

    async with virtual(raises_locally) as (engine, clock):
        with pytest.raises(StepFailedError, match="Local: inside"):
            await over(clock, engine.run(raises_locally))


@workflow(name="abandons_a_generator")
async def abandons_a_generator() -> list[Any]:
    async def numbers() -> AsyncIterator[int]:
        try:
            for n in range(3):
                yield await inner(n)
        finally:
            ENTERED.append("closed")

    got: list[Any] = []
    async for n in numbers():
        got.append(n)
        break
    await after("goes on")
    return got


async def test_two_engines_of_one_loop_share_the_generator_hooks() -> None:
    before = sys.get_asyncgen_hooks()
    first = Engine("memory://", workflows=[abandons_a_generator])
    second = Engine("memory://", workflows=[abandons_a_generator])
    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    assert await second.run(abandons_a_generator) == [1]
    assert ENTERED[1:] == ["goes on", "closed"], "closed at the end of the execution, not when it was abandoned"
    await second.__aexit__(None, None, None)
    assert sys.get_asyncgen_hooks() == before


async def test_many_starts_of_one_id_at_the_same_moment_are_one_execution() -> None:
    async with Engine("memory://", workflows=[retries]) as engine:
        same = retries.options(execution_id="one")
        started = await asyncio.gather(*[engine.start(same, n % 2) for n in range(8)], return_exceptions=True)
        refused = [one for one in started if isinstance(one, AlreadyExistsError)]
        assert len(refused) == 4, "those with the other input"
        assert [row.id for row in (await engine.list()).items] == ["one"]
        assert await engine.get("one").result() == "attempt 1"
        assert len(ENTERED) == 1
