"""A worker of the demo: a process that takes the execution up, wherever it stands, and ends with it."""

from __future__ import annotations

import asyncio
import sys

from perdure import Engine
from perdure.demo.flow import audit_licences


async def work(url: str, execution_id: str) -> None:
    async with Engine(url, workflows=[audit_licences]) as engine:
        await engine.get(execution_id).result()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
