"""Many processes that do one thing at the same moment: python -m tests.crash.herd URL EXECUTION COUNT answer|start

Each opens an engine and says that it is ready; when all are, the starting gun is the end of a pipe that all of them
read. Prints one JSON object a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from typing import Any

from perdure import AlreadyDecidedError, AlreadyExistsError, Engine
from tests.crash.flows import FLOWS, asks

LEASE = 60.0


async def answer(engine: Engine, id: str, n: int) -> dict[str, Any]:
    """Give the request an answer of one's own; then say again what was accepted."""
    request = f"{id}:interrupt#1"
    try:
        await engine.answer(request, n, by=f"rival {n}")
        first = "accepted"
    except AlreadyDecidedError:
        first = "decided"
    value = await engine.get(id).result()
    again = await engine.answer(request, value)
    return {"n": n, "first": first, "value": value, "again": again.answer, "by": again.answered_by}


async def start(engine: Engine, id: str, n: int) -> dict[str, Any]:
    """Start one execution; the even ones with another input than the odd ones."""
    try:
        handle = await engine.start(asks.options(execution_id=id), n % 2)
    except AlreadyExistsError:
        return {"n": n, "first": "exists"}
    return {"n": n, "first": "started", "id": handle.id}


async def rival(act: Any, url: str, id: str, n: int, ready: int, gun: int) -> dict[str, Any]:
    async with asyncio.timeout(60), Engine(url, workflows=FLOWS, lease=LEASE, poll=0.05) as engine:
        os.write(ready, b".")
        await asyncio.to_thread(os.read, gun, 1)
        found: dict[str, Any] = await act(engine, id, n)
        return found


def main(url: str, id: str, count: int, act: Any) -> int:
    ready, is_ready = os.pipe()
    gun, trigger = os.pipe()
    told, tell = os.pipe()
    pids = []
    for n in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(trigger)
                found = asyncio.run(rival(act, url, id, n, is_ready, gun))
                os.write(tell, json.dumps(found).encode() + b"\n")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    os.close(is_ready)
    waiting = count
    while waiting and (said := os.read(ready, waiting)):
        waiting -= len(said)
    os.close(trigger)
    os.close(tell)
    with os.fdopen(told) as lines:
        sys.stdout.write(lines.read())
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), {"answer": answer, "start": start}[sys.argv[4]]))
