"""Shapes of asyncio code that everyday workflows have. Each must replay from every prefix of its journal."""

import asyncio
import random
from typing import Any

from perdure import current, gather, patched, race, sleep, step, uuid4, workflow
from perdure import random as durable_random
from perdure.testing.clock import Clock


class World:
    """What bodies meet: a seeded source of delays on a virtual clock, and a record of what ran."""

    rng = random.Random(0)
    clock = Clock()
    entered: list[str] = []

    @classmethod
    def reset(cls, seed: int, clock: Clock) -> None:
        cls.rng = random.Random(seed)
        cls.clock = clock
        cls.entered = []

    @classmethod
    async def work(cls) -> None:
        cls.entered.append(current().key or "")
        match cls.rng.randrange(4):
            case 0:
                pass
            case 1:
                for _ in range(cls.rng.randrange(5)):
                    await asyncio.sleep(0)
            case _:
                await cls.clock.sleep(cls.rng.random() * 0.002)


@step(name="a")
async def a(x: Any) -> Any:
    await World.work()
    return f"a{x}"


@step(name="b")
async def b(x: Any) -> Any:
    await World.work()
    return f"b{x}"


@step(name="c")
async def c(x: Any) -> Any:
    return x


@workflow(name="append_after_gather")
async def append_after_gather() -> Any:
    out: list[Any] = []

    async def branch(x: int) -> None:
        out.append(await a(x))
        await b(x)

    await asyncio.gather(*[branch(i) for i in range(4)])
    return await c(out)


@workflow(name="queue_workers")
async def queue_workers() -> Any:
    queue: asyncio.Queue[int] = asyncio.Queue()
    out: list[Any] = []
    for i in range(8):
        queue.put_nowait(i)

    async def worker(n: int) -> None:
        while not queue.empty():
            item = queue.get_nowait()
            out.append(await a(f"{n}{item}"))

    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(worker(n))
    return await c(out)


@workflow(name="as_completed_over_tasks")
async def as_completed_over_tasks() -> Any:
    out: list[Any] = []
    for done in asyncio.as_completed([asyncio.create_task(a(i)) for i in range(5)]):
        out.append(await done)
        await b(out[-1])
    return await c(out)


@workflow(name="wait_first_completed")
async def wait_first_completed() -> Any:
    tasks = {asyncio.create_task(a(i)) for i in range(5)}
    out: list[Any] = []
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            out.append(await b(task.result()))
    return out


@workflow(name="set_of_tasks")
async def set_of_tasks() -> Any:
    tasks = {asyncio.create_task(a(i)) for i in range(6)}
    out: list[Any] = []
    await asyncio.wait(tasks)
    for task in tasks:
        out.append(await b(task.result()))
    return out


@workflow(name="semaphore_and_wait_for")
async def semaphore_and_wait_for() -> Any:
    gate = asyncio.Semaphore(2)
    out: list[Any] = []

    async def branch(x: int) -> None:
        async with gate:
            r = await a(x)
            out.append(r)
            await asyncio.gather(b(r), b(r + "'"))
        await asyncio.wait_for(c(len(out)), 9)

    await asyncio.gather(*[branch(i) for i in range(5)])
    return await c(out)


@workflow(name="nested_wait_for")
async def nested_wait_for() -> Any:
    await asyncio.wait_for(a(0), 9)

    async def branch(x: int) -> Any:
        return await asyncio.wait_for(middle(x), 9)

    async def middle(x: int) -> Any:
        return [await b(x), *await asyncio.gather(a(x), a(-x))]

    return await c(await asyncio.gather(*[branch(i) for i in range(3)]))


@workflow(name="timeouts")
async def timeouts() -> Any:
    out: list[Any] = []
    for i in range(6):
        try:
            async with asyncio.timeout(0.001):
                out.append(await a(i))
        except TimeoutError:
            out.append(await b(f"late{i}"))
    return await c(out)


@workflow(name="parallel_timeouts")
async def parallel_timeouts() -> Any:
    out: list[Any] = []

    async def branch(i: int) -> None:
        try:
            out.append(await asyncio.wait_for(a(i), 0.001))
        except TimeoutError:
            out.append(f"late{i}")

    await asyncio.gather(*[branch(i) for i in range(6)])
    return await c(out)


@workflow(name="task_group_that_fails")
async def task_group_that_fails() -> Any:
    out: list[Any] = []

    async def branch(i: int) -> None:
        out.append(await a(i))
        if i == 2:
            raise ValueError(i)
        out.append(await b(i))

    try:
        async with asyncio.TaskGroup() as group:
            for i in range(4):
                group.create_task(branch(i))
    except* ValueError:
        out.append("failed")
    return await c(out)


@workflow(name="races")
async def races() -> Any:
    out: list[Any] = []
    for i in range(4):
        won = await race(a=a(i), b=b(i))
        out.append([won.name, won.value])
    return await c(out)


@workflow(name="async_generator")
async def async_generator() -> Any:
    async def numbers() -> Any:
        for i in range(4):
            yield await a(i)

    out: list[Any] = []
    async for x in numbers():
        out.append(x)
        await sleep(0.0005)
    async for x in numbers():
        out.append(x)
        break
    return await c(out)


@workflow(name="created_lazily")
async def created_lazily() -> Any:
    calls = [a(i) for i in range(4)]
    out: list[Any] = []
    for call in reversed(calls):
        out.append(await call)
    return await c(out)


@workflow(name="local_values")
async def local_values() -> Any:
    out: list[Any] = []

    async def branch(x: int) -> None:
        out.append(str(uuid4()))
        out.append(await a(x))
        out.append(durable_random().random())
        if patched("more"):
            out.append(await b(x))

    await asyncio.gather(*[branch(i) for i in range(3)])
    out.append(str(uuid4()))
    return await c(out)


@workflow(name="limited_gather")
async def limited_gather() -> Any:
    return await c(await gather(*[a(i) for i in range(7)], limit=3) + await b.map(range(4), limit=2))


@workflow(name="condition_and_event")
async def condition_and_event() -> Any:
    ready = asyncio.Event()
    lock = asyncio.Lock()
    out: list[Any] = []

    async def producer() -> None:
        await a("p")
        ready.set()

    async def consumer(n: int) -> None:
        await ready.wait()
        async with lock:
            out.append(await b(n))

    await asyncio.gather(producer(), *[consumer(n) for n in range(3)])
    return await c(out)


@workflow(name="cancelled_task_cleans_up")
async def cancelled_task_cleans_up() -> Any:
    out: list[Any] = []

    async def branch() -> None:
        try:
            await a("long")
            await a("longer")
            await a("longest")
        except asyncio.CancelledError:
            out.append(await b("cleaned up"))
            raise

    task = asyncio.create_task(branch())
    out.append(await b("first"))
    task.cancel()
    out.append(await c("second"))
    await asyncio.wait([task])
    return await c(out)


SHAPES = [
    append_after_gather,
    queue_workers,
    as_completed_over_tasks,
    wait_first_completed,
    set_of_tasks,
    semaphore_and_wait_for,
    nested_wait_for,
    timeouts,
    parallel_timeouts,
    task_group_that_fails,
    races,
    async_generator,
    created_lazily,
    local_values,
    limited_gather,
    condition_and_event,
    cancelled_task_cleans_up,
]
