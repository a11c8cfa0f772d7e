"""More user code as mypy --strict sees it in `make check`: streams, resources, plain functions. It is never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import assert_type

from perdure import (
    Budget,
    Done,
    Encryption,
    Engine,
    Event,
    Handle,
    Page,
    Progress,
    Query,
    Queue,
    Restarted,
    ScheduleView,
    Secret,
    Signal,
    Stats,
    Usage,
    emit,
    generate_key,
    progress,
    publish,
    resource,
    restart,
    set_attributes,
    step,
    sync,
    usage,
    workflow,
)


class Stripe:
    async def charge(self, amount: int) -> str:
        return f"{amount}"


@step
async def charge(amount: int, stripe: Stripe = resource(Stripe)) -> str:
    usage(model="m", input_tokens=1, cost=Decimal("0.1"))
    progress(1, 2)
    await emit({"amount": amount})
    return await stripe.charge(amount)


@step
def weigh(name: str) -> float:
    return float(len(name))


@workflow(timeout=timedelta(hours=1), budget=Budget(cost=5, steps=100))
async def pay(amount: int, password: Secret[str]) -> str:
    await publish("at", "start")
    await set_attributes(amount=amount)
    if amount > 100:
        await restart(amount - 1, password)
    assert_type(password.reveal(), str)
    return await charge(amount)


@workflow
def plainly(name: str) -> float:
    sync.sleep(5)
    assert_type(sync.call(charge, 5), str)
    assert_type(sync.call(pay, 5, Secret("x")), str)
    return weigh(name)


@workflow
async def calls_plainly() -> float:
    assert_type(await weigh.aio("x"), float)
    return await plainly.aio("x")


@asynccontextmanager
async def stripe() -> AsyncIterator[Stripe]:
    yield Stripe()


async def program() -> None:
    queues = ("default", Queue("cards", concurrency=3, rate=(100, 60.0), per="customer"))
    encryption = Encryption.from_text(f"k1:{generate_key()}")
    async with Engine(
        "sqlite:///x.db", queues=queues, resources={Stripe: stripe}, codec=encryption, retention=timedelta(days=30)
    ) as engine:
        handle = await engine.start(
            pay.options(execution_id="p", signal=Signal("go", 1), budget=Budget(tokens=10), attributes={"customer": 7}),
            5,
            Secret("x"),
        )
        assert_type(handle, Handle[str])
        assert_type(await handle.result(), str)
        assert_type(await engine.run(plainly, "x"), float)
        async for item in handle.events():
            match item:
                case Event(value=value):
                    print(value)
                case Restarted(key=key):
                    assert_type(key, str)
                case Progress(done=done):
                    assert_type(done, float)
        assert_type(await handle.usage(), Usage)
        assert_type(await engine.list(Query(status="failed", attributes={"customer": 7})), Page)
        assert_type(await engine.cancel(Query(workflow="pay"), dry_run=True), Done)
        assert_type(await engine.stats(), Stats)
        view = await engine.schedule("nightly", pay, cron="0 2 * * *", timezone="Europe/Berlin", args=(5, Secret("x")))
        assert_type(view, ScheduleView)
        assert_type(await engine.schedules(), Sequence[ScheduleView])


def plain_program() -> None:
    with sync.Engine("sqlite:///x.db") as engine:
        assert_type(engine.run(plainly, "x"), float)
        handle = engine.start(pay, 5, Secret("x"))
        assert_type(handle.result(timeout=5), str)


async def mistakes() -> None:
    await charge("5")  # type: ignore[arg-type]
    plainly(5)  # type: ignore[arg-type]
    sync.call(charge, "5")  # type: ignore[arg-type]
    engine = Engine()
    await engine.start(pay, 5)  # type: ignore[call-arg]
    await engine.run(plainly, 5)  # type: ignore[arg-type]
