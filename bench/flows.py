"""The workflows that are measured. `python -m bench.flows URL ID` runs one execution and says when it went on."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from perdure import Engine, interrupt, step, workflow


@step(name="trivial")
async def trivial(i: int) -> dict[str, Any]:
    return {"i": i, "ok": True}


@workflow(name="many")
async def many(n: int) -> int:
    for i in range(n):
        await trivial(i)
    return n


@workflow(name="ask")
async def ask(n: int) -> list[Any]:
    before = await trivial(n)
    return [before["i"], await interrupt("go on?", schema=str)]


@step(name="beacon")
async def beacon(i: int) -> int:
    """Says when it ran, in a file outside the database; waits at the place where it is to be killed."""
    with open(os.environ["BEACON"], "a") as file:
        file.write(f"{i} {os.getpid()} {time.time()}\n")
    if i == int(os.environ.get("HOLD", "-1")):
        await asyncio.get_running_loop().create_future()
    return i


@workflow(name="resumes")
async def resumes(n: int) -> int:
    for i in range(n):
        await trivial(i)
    await beacon(n)
    return await beacon(n + 1)


async def main(url: str, execution_id: str, n: int) -> None:
    async with Engine(url, lease=float(os.environ.get("LEASE", "15")), build="bench") as engine:
        if n >= 0:
            handle: Any = await engine.start(resumes.options(execution_id=execution_id), n)
        else:
            handle = engine.get(execution_id)
        print(await handle.result(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
