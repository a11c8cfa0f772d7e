"""Was a batch recorded? Judged by the traces that it leaves, pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from perdure.clock import from_datetime
from perdure.records import Batch, Change, Execution, Status, Verdict, Verdicts


def judge_batch(batch: Batch, rows: Mapping[str, Any], stands: bool, written: Set[str]) -> Verdicts | None:
    """The verdicts of the batch, or None if it was not recorded.

    A batch leaves traces: its entries, and its token in the rows that it created or changed. What leaves none may be
    committed again without harm, even if it was recorded.

    `rows`: fence, token and created_at of the executions that it created or changed, by id. `stands`: whether its
    worker does. `written`: the executions of which an entry stands as this batch wrote it. All are read under the lock
    of the worker's row.
    """
    creates = [
        Verdict.OK if _is_created(create, rows.get(create.id), batch.token) else Verdict.EXISTS
        for create in batch.creates
    ]
    changes = [_judge(change, rows.get(change.execution_id), batch, stands, written) for change in batch.changes]
    recorded = bool(written) if _speaks(batch) else bool(written) or Verdict.OK in (*creates, *changes)
    return Verdicts(True, creates, changes) if recorded else None


def _speaks(batch: Batch) -> bool:
    """It holds an entry that cannot have been refused: of an execution that it does not change."""
    changed = {change.execution_id for change in batch.changes}
    return any(entry.execution_id not in changed for entry in batch.entries)


def _is_created(create: Execution, row: Any, token: str) -> bool:
    if row is None:
        return False
    # Another worker may have claimed it since, and written its own token.
    claimed = row["fence"] > create.fence and from_datetime(row["created_at"]) == create.created_at
    return row["token"] == token or claimed


def _judge(change: Change, row: Any, batch: Batch, stands: bool, written: Set[str]) -> Verdict:
    if row is None:
        return Verdict.GONE
    if row["token"] == batch.token:
        return Verdict.OK
    if row["fence"] == change.fence:
        return Verdict.NUDGED if change.status is Status.WAITING else Verdict.FENCED
    # It changed hands since. Nothing is taken from a worker that stands, so it let go, and that was this change; unless
    # the change came with entries, which then stand, too.
    if any(entry.execution_id == change.execution_id for entry in batch.entries):
        return Verdict.OK if change.execution_id in written else Verdict.FENCED
    return Verdict.OK if stands and row["fence"] > change.fence else Verdict.FENCED
