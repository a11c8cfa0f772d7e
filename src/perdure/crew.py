"""The live workers, and whether one of them would run an execution."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.records import ENDED, Execution, WorkerRecord, listed
from perdure.store import Store


async def live_workers(store: Store) -> list[WorkerRecord]:
    """Workers that run something, without those whose death shows."""
    dead = set(await store.suspects(0))
    rows = await store.workers()
    return [row for row in rows if row.state == "live" and row.id not in dead and listed(row.workflows)]


def nobody_runs(workers: Sequence[WorkerRecord], execution: Execution) -> str | None:
    """Why the execution does not go on, in words; None if a worker would run it, or it has ended."""
    if execution.status in ENDED:
        return None
    wanted = [execution.workflow, execution.version]
    knowing = [worker for worker in workers if wanted in listed(worker.workflows)]
    name = f"{execution.workflow} (version {execution.version})"
    if not knowing:
        others = f" ({len(workers)} live, none with it)" if workers else ""
        return f"no live worker knows {name}{others}"
    if not any(execution.queue in listed(worker.queues) for worker in knowing):
        return f"live workers know {name}, but none of them serves its queue {execution.queue!r}"
    return None
