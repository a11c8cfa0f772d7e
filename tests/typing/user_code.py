"""User code as mypy --strict sees it in `make check`: the decorators keep the signatures. It is never run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_type

from perdure import (
    Completed,
    Decision,
    Engine,
    Retry,
    Waiting,
    approval,
    checkpoint,
    current,
    gather,
    interrupt,
    sleep,
    step,
    workflow,
)


@dataclass
class Address:
    street: str


@dataclass
class Order:
    id: str
    total: int


@step(retry=Retry(attempts=5, retry_on=(OSError,)), timeout=30.0)
async def reserve(order: Order, *, warehouse: str = "main") -> str:
    return current().idempotency_key


@step
async def label(order: Order) -> bytes:
    return order.id.encode()


@step
def weigh(order: Order) -> float:
    return float(order.total)


@checkpoint
async def pack(order: Order) -> list[str]:
    return [order.id]


@workflow(name="fulfil", version=2)
async def fulfil(order: Order, rush: bool = False) -> int:
    assert_type(await reserve(order, warehouse="east"), str)
    assert_type(await reserve.options(timeout=timedelta(seconds=5))(order), str)
    assert_type(await label.map([order, order], limit=2), list[bytes])
    assert_type(await weigh.aio(order), float)
    assert_type(await pack(order), list[str])
    assert_type(await gather(label(order), label(order)), list[bytes])
    assert_type(await interrupt("Where to?", schema=Address), Address)
    assert_type(await approval("Go?", approvers=["ana"], quorum=1), Decision)
    await sleep(timedelta(days=30))
    await checkpoint("packed")
    return 1


@workflow
async def mistakes(order: Order) -> None:
    await reserve(order, warehouse=3)  # type: ignore[arg-type]
    await reserve()  # type: ignore[call-arg]
    await label.map([1, 2])  # type: ignore[list-item]
    await fulfil("order")  # type: ignore[arg-type]


async def run() -> None:
    async with Engine("memory://") as engine:
        handle = await engine.start(fulfil.options(execution_id="order-42"), Order("a", 1), rush=True)
        outcome = await handle.outcome()
        match outcome:
            case Completed(value):
                print(value)
            case Waiting(requests=[request, *_]):
                assert_type(request.id, str)
        assert_type(await handle.result(), int)
        assert_type(await engine.run(fulfil, Order("a", 1)), int)
        await engine.start(fulfil, 3)  # type: ignore[arg-type]
