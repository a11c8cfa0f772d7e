"""The process that is killed: python -m tests.chaos.worker URL LEASE FIRST LAST STEP

It runs whatever there is, and starts executions of its own, those of whose start it finds no acknowledgement.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from perdure import Engine, StoreUnavailableError
from tests.chaos.flows import FLOWS, chaotic
from tests.crash import ledger

CONCURRENCY = 60
PACE = 0.2
"""Seconds between two starts."""


async def serve(url: str, lease: float, numbers: range) -> None:
    started = {line.execution for line in ledger.here() if (line.what, line.key) == (ledger.ACK, "start")}
    async with Engine(url, workflows=FLOWS, lease=lease, poll=0.25, concurrency=CONCURRENCY) as engine:
        ledger.write("serves", "", "")
        for n in numbers:
            id = f"own-{n}"
            while id not in started:
                try:
                    await engine.start(chaotic.options(execution_id=id), n)
                except StoreUnavailableError:
                    await asyncio.sleep(PACE)
                    continue
                ledger.write(ledger.ACK, id, "start", json.dumps(n))
                started.add(id)
            await asyncio.sleep(PACE)
        await asyncio.Event().wait()


async def open_again(url: str, lease: float, numbers: range) -> None:
    """A supervisor would start the process again; so does this one where the server is away at its beginning."""
    while True:
        try:
            return await serve(url, lease, numbers)
        except StoreUnavailableError as error:
            print(f"cannot begin: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(PACE)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    url, lease, first, last, stride = sys.argv[1:]
    asyncio.run(open_again(url, float(lease), range(int(first), int(last), int(stride))))
