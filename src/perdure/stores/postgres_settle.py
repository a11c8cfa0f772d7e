"""After a commit whose answer is missing: was it recorded?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.records import Batch, Verdicts
from perdure.stores.settling import judge_batch


async def read_back(connection: Any, sql: Mapping[str, str], batch: Batch) -> Verdicts | None:
    """The verdicts of the batch, or None if it was not recorded. Inside a transaction of the caller."""
    # The lock first: without it, a commit that is still running reads as absent.
    worker = await connection.fetchrow(sql["lock_worker"], batch.worker)
    stands = worker is not None and worker["state"] == "live" and worker["epoch"] == batch.epoch
    ids = list({create.id for create in batch.creates} | {change.execution_id for change in batch.changes})
    rows = {row["id"]: row for row in await connection.fetch(sql["settle_executions"], ids)} if ids else {}
    written = await _written(connection, sql, batch)
    return judge_batch(batch, rows, stands, written)


async def _written(connection: Any, sql: Mapping[str, str], batch: Batch) -> set[str]:
    """The executions of which an entry stands as this batch wrote it."""
    if not batch.entries:
        return set()
    columns = zip(*((entry.execution_id, entry.seq, entry.fence, entry.key) for entry in batch.entries), strict=True)
    rows = await connection.fetch(sql["settle_entries"], *map(list, columns))
    return {row["execution_id"] for row in rows}
