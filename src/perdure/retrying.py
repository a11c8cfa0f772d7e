"""Retrying a failed execution: its journal is cut before what failed last, and it goes on (U11)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from perdure.clock import Clock
from perdure.codec import checksum
from perdure.deliveries import Cut
from perdure.errors import NotFoundError, PerdureError
from perdure.journal import CUT, is_outcome, live
from perdure.keys import child_id
from perdure.outcome import User
from perdure.records import Entry, Execution, Status, Verdict
from perdure.store import Store, room

TRIES = 5


async def retry(store: Store, clock: Clock, execution_id: str, by: User | None, build: str) -> None:
    """Make a failed execution pending again, its last failed step to be tried anew. See `Handle.retry`."""
    for _ in range(TRIES):
        row = (await store.get([execution_id])).get(execution_id)
        if row is None:
            raise NotFoundError(f"there is no execution {execution_id}", execution_id=execution_id)
        if row.status != Status.FAILED:
            raise PerdureError(
                f"{execution_id} is {row.status}: only a failed execution is retried", execution_id=execution_id
            )
        entries = [entry for entry in await store.history(execution_id) if entry.seq > row.base_seq]
        failed = failed_last(entries, row.error)
        if failed is not None and failed.kind == "child":
            child = child_id(execution_id, failed.key, row.generation, room(store))
            below = (await store.get([child])).get(child)
            if below is not None and below.status == Status.FAILED:
                await retry(store, clock, child, by, build)
        cut = _cut(row, entries, failed, by, build, clock.now())
        receipt = await store.deliver(cut, clock.now())
        if receipt.verdict == Verdict.OK:
            return
    raise PerdureError(f"{execution_id} changes all the time: try again", execution_id=execution_id)


def failed_last(entries: Sequence[Entry], error: str | None) -> Entry | None:
    """The outcome of the step, child or wait that the execution died of; else the one that failed last.

    `error`: the execution's recorded error. Of several branches the one whose error came through is meant.
    """
    failed = [e for e in live(entries) if is_outcome(e) and e.status == "failed" and e.parent_key is None]
    guilty = [e for e in failed if _face(e.error) == _face(error)]
    wanted = guilty or failed
    return wanted[-1] if wanted else None


def _face(error: str | None) -> tuple[str, str] | None:
    if error is None:
        return None
    try:
        tree = json.loads(error)
        return str(tree.get("type", "")), str(tree.get("message", ""))
    except (ValueError, AttributeError, RecursionError):
        return None


def _cut(row: Execution, entries: Sequence[Entry], failed: Entry | None, by: User | None, build: str, now: int) -> Cut:
    last = entries[-1].seq if entries else row.base_seq
    start = failed.seq if failed is not None else last + 1
    name, via = (by.id, by.via) if by is not None else (None, None)
    what: dict[str, object] = {"from_seq": start, "reason": "retry", "by": name, "via": via}
    if failed is not None and failed.kind in ("step", "checkpoint"):
        what |= {"retry": failed.key, "attempts": failed.attempt}
    text = msgspec.json.encode(what).decode()
    entry = Entry(
        row.id,
        last + 1,
        row.generation,
        f"{CUT}:{last + 1}",
        CUT,
        "completed",
        1,
        row.fence + 1,
        None,
        None,
        text,
        None,
        "json",
        checksum(None, text, None),
        build,
        now,
        now,
    )
    return Cut(row.id, row.fence, entry, start, checksum(row.input, None, None))
