"""Perdure's lane: `python -m bench.on_perdure URL`. All run at once, as in `bench.steps` and as DBOS does."""

from __future__ import annotations

import asyncio
import sys

from bench import lane
from bench.flows import many
from bench.steps import CROWD
from perdure import Engine


async def main(url: str) -> None:
    loop = asyncio.get_running_loop()
    async with Engine(url, build="bench", concurrency=CROWD) as engine:

        async def crowd(n: int) -> None:
            results = await asyncio.gather(*[engine.run(many, lane.STEPS) for _ in range(n)])
            assert results == [lane.STEPS] * n

        def race() -> None:
            lane.race(lambda n: asyncio.run_coroutine_threadsafe(crowd(n), loop).result())

        await asyncio.to_thread(race)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
