"""Run a workflow on virtual time from any prefix of a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perdure.codec import checksum
from perdure.engine import Engine
from perdure.outcome import Outcome
from perdure.records import Entry, Execution, Status
from perdure.stores.memory import MemoryStore
from perdure.testing.clock import Clock
from perdure.workflow import Workflow


@dataclass(slots=True)
class Played:
    """What came of a run: the outcome, and the whole journal after it."""

    outcome: Outcome
    journal: list[Entry]


async def play(
    workflow: Workflow[..., Any],
    args: Sequence[Any] = (),
    *,
    journal: Sequence[Entry] = (),
    clock: Clock | None = None,
    execution_id: str = "played",
) -> Played:
    """Run an execution whose first entries are recorded already, to its next outcome, on virtual time."""
    clock = clock or Clock()
    store = MemoryStore(clock=clock)
    text, _ = workflow.arguments.bind(tuple(args), {})
    started = journal[0].started_at if journal else clock.now()
    row = Execution(
        id=execution_id,
        workflow=workflow.name,
        version=workflow.version,
        status=Status.PENDING,
        fence=max((entry.fence for entry in journal), default=0),
        input=text,
        checksum=checksum(text, None, None),
        created_at=started,
        updated_at=started,
    )
    store.put(row, journal)
    async with Engine(store, workflows=[workflow], clock=clock, build="played") as engine:
        waiter = asyncio.ensure_future(engine.get(execution_id).outcome())
        try:
            await clock.run_until(waiter)
        except TimeoutError:
            waiter.cancel()
            raise
        return Played(waiter.result(), await store.history(execution_id))
