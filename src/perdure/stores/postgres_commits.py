"""Which statement records a batch on PostgreSQL, and what its answer says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.errors import BadBatchError
from perdure.records import Batch, Verdicts
from perdure.stores.postgres_columns import (
    pack_batch,
    pack_changes,
    pack_creates,
    pack_entries,
    pack_plain,
    read_verdicts,
)


def statement_of(batch: Batch) -> tuple[str | None, Sequence[Any]]:
    """The narrowest statement that records this batch, and its parameters; no name if it takes two."""
    waits = batch.requests or batch.closes or batch.takes or batch.untakes or batch.actions or batch.snapshots
    if not (batch.creates or batch.changes or waits):
        if len(batch.entries) == 1:
            return "commit_entry", (batch.worker, batch.epoch, *batch.entries[0])
        if (plain := pack_plain(batch.entries)) is not None:
            return "commit_plain", (batch.worker, batch.epoch, *plain)
        return "commit_entries", (batch.worker, batch.epoch, *pack_entries(batch.entries, batch.token))
    changed = {change.execution_id for change in batch.changes}
    if len(changed) < len(batch.changes):
        raise BadBatchError("a batch changes an execution twice; nothing of it was recorded")
    if waits or (batch.creates and (batch.changes or batch.entries)):
        if any(create.id in changed for create in batch.creates):
            return None, ()
        return "commit_batch", pack_batch(batch)
    return ("commit_creates", pack_creates(batch)) if batch.creates else ("commit_changes", pack_changes(batch))


def verdicts_of(batch: Batch, row: Any) -> Verdicts:
    """The verdicts, by the row that the statement gave."""
    if row is None or not row[0]:
        return Verdicts(alive=False)
    if len(row) == 1:
        return Verdicts(alive=True)
    return Verdicts(True, *read_verdicts(batch, *row[1:]))
