"""Run a workflow on virtual time from any prefix of a journal, or today's code on what is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from perdure.codec import checksum
from perdure.engine import Engine
from perdure.errors import PerdureError
from perdure.outcome import Outcome
from perdure.records import Entry, Execution, Status
from perdure.stores.memory import MemoryStore
from perdure.testing.clock import Clock
from perdure.verifying import Verified
from perdure.views import History
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


async def replay(history: History | Mapping[str, Any], workflow: Workflow[..., Any]) -> Verified:
    """Replay what was recorded on today's code; nothing runs and nothing is recorded.

    `history`: what `await handle.history()` gave, or the document of `handle.export()` and `perdure export ID`, kept in
    a file beside the tests. Raises what would block the execution: `JournalMismatchError`, `DecodeError`.

        async def test_the_orders_of_last_year_still_fit():
            await replay(json.loads(Path("order-42.json").read_text()), fulfil)
    """
    row, journal = _recorded(history)
    if (row.workflow, row.version) != workflow.identity:
        raise ValueError(f"this is the history of {row.workflow!r} version {row.version}, not of {workflow!r}")
    row.status, row.owner, row.wish = Status.PENDING, None, None
    row.output = row.error = None
    row.checksum = checksum(row.input, None, None)
    store = MemoryStore()
    store.put(row, journal)
    async with Engine(store, workflows=[workflow], worker=False) as engine:
        (found,) = [verified async for verified in engine.verify()]
    if found.error is not None:
        raise found.error
    return found


def _recorded(history: History | Mapping[str, Any]) -> tuple[Execution, list[Entry]]:
    if isinstance(history, History):
        return replace(history.execution), list(history.journal)
    try:
        row = msgspec.convert(history["execution"], Execution)
        return row, [Entry(**entry) for entry in history["journal"]]
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise PerdureError(f"this is no export of an execution: {error!r}") from error
