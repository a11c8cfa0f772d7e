"""After a commit whose answer is missing: was it recorded?"""

from __future__ import annotations

from typing import Any

from perdure.clock import from_datetime
from perdure.records import Batch, Change, Execution, Status, Verdict, Verdicts
from perdure.stores.postgres_sessions import SQL


async def read_back(connection: Any, batch: Batch) -> Verdicts | None:
    """The verdicts of the batch, or None if it was not recorded. Inside a transaction of the caller.

    A batch leaves traces: its entries, its token in the rows it created or changed, its requests, its takes. What
    leaves none may be committed again without harm, also where it was recorded.
    """
    # The lock first: without it, a commit that is still running reads as absent.
    worker = await connection.fetchrow(SQL["lock_worker"], batch.worker)
    stands = worker is not None and worker["state"] == "live" and worker["epoch"] == batch.epoch
    ids = list({create.id for create in batch.creates} | {change.execution_id for change in batch.changes})
    rows = {row["id"]: row for row in await connection.fetch(SQL["settle_executions"], ids)} if ids else {}
    written = await _written(connection, batch)
    created = [_is_created(create, rows.get(create.id), batch.token) for create in batch.creates]
    changes = [_judge(change, rows.get(change.execution_id), batch, written) for change in batch.changes]
    # Of a worker that stands nothing is taken: where a fence is higher, the change that let go was recorded.
    done = any(v is Verdict.OK and (stands or _bears(rows[c.execution_id], batch)) for c, v in zip(batch.changes, changes, strict=True))
    if not (written or any(created) or done or await _left_others(connection, batch)):
        return None
    return Verdicts(True, [Verdict.OK if ours else Verdict.EXISTS for ours in created], changes)
