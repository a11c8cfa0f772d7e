"""A worker whose step emits, and a follower that listens in another process.

    python -m tests.proofs.speaker URL work HEARD
    python -m tests.proofs.speaker URL follow HEARD

The follower appends what it hears to HEARD, and, begun anew, goes on behind the last offset there. The step emits in
groups, and goes on when the last of a group was heard: who kills its worker by what was heard kills it in its middle.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from perdure import Engine, Event, Progress, Restarted, current, emit, progress, step, workflow
from tests.proofs.programs import append, read

ID = "talk"
GROUP, LAST = 5, 60
LOOK = 0.005
HEARD = Path(os.devnull)


@step
async def speak() -> int:
    fence = current().fence
    for n in range(LAST):
        await emit({"fence": fence, "n": n})
        if n % GROUP == GROUP - 1:
            progress(n + 1, LAST)
            while {"fence": fence, "n": n} not in [line.get("value") for line in read(HEARD)]:
                await asyncio.sleep(LOOK)
    return fence


@step
async def tick() -> None:
    await asyncio.sleep(LOOK)


@workflow
async def talk(beside: bool) -> int:
    """`beside`: small steps come and go meanwhile, so that what is emitted stands between other entries."""
    await emit("hello")
    speaking = asyncio.create_task(speak())
    while beside and not speaking.done():
        await tick()
    fence = await speaking
    await emit("bye")
    return fence


def line_of(item: Event | Restarted | Progress) -> dict[str, Any]:
    """An item as the follower writes it down."""
    line: dict[str, Any] = {
        "what": type(item).__name__,
        "offset": item.offset,
        "key": item.key,
        "attempt": item.attempt,
    }
    if isinstance(item, Event):
        line["value"] = item.value
    elif isinstance(item, Progress):
        line["done"] = item.done
    return line


async def work(url: str) -> None:
    async with Engine(url, workflows=[talk], lease=4.0, poll=0.05) as engine:
        await engine.get(ID).result()


async def follow(url: str) -> None:
    async with Engine(url, worker=False, workflows=[]) as engine:
        after = max((line["offset"] for line in read(HEARD)), default=0)
        async for item in engine.get(ID).events(after):
            append(HEARD, **line_of(item))


if __name__ == "__main__":
    # As a module of this name, so that the workflow's module is the one that others import.
    from tests.proofs import speaker

    speaker.HEARD = Path(sys.argv[3])
    asyncio.run({"work": speaker.work, "follow": speaker.follow}[sys.argv[2]](sys.argv[1]))
