"""Bugs that a host takes on when told to: the promises must convict each of them.

Nothing of the kernel is changed on the disk; a plant lives in the process that asked for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perdure import Engine, rolling
from perdure.deliveries import Answer, Receipt
from perdure.journal import is_outcome
from perdure.records import Verdict as V
from perdure.records import Verdicts
from perdure.rolling import _Rollback
from tests.crash import flows


def ack_before_commit(engine: Engine) -> None:
    """Entries are acknowledged at once, and recorded together with what comes next."""
    store: Any = engine.store
    real = store.commit
    held: list[Any] = []

    def commit(batch: Any) -> Verdicts:
        waiting, held[:] = list(held), []
        for earlier in waiting:
            real(earlier)
        if batch.changes or batch.creates or batch.requests or batch.takes:
            verdicts: Verdicts = real(batch)
            return verdicts
        held.append(batch)
        return Verdicts(True)

    store.commit = commit


def enter_twice(engine: Engine) -> None:
    """A body enters again after it has come to its end."""
    work: Any = flows.work
    real = work.function

    async def twice(x: str) -> Any:
        await real(x)
        return await real(x)

    work.spec.function = twice


def forget_outcome(engine: Engine) -> None:
    """Who takes over overlooks the last outcome, and records it anew."""
    store: Any = engine.store
    real = store.load

    async def load(ids: Any) -> Any:
        journals = await real(ids)
        for id, entries in journals.items():
            if entries and is_outcome(entries[-1]) and entries[-1].kind == "step":
                last = entries.pop()
                with sqlite3.connect(store.path, timeout=20) as connection:
                    connection.execute("delete from step_executions where execution_id = ? and seq = ?", (id, last.seq))
        return journals

    store.load = load


def keep_fence(engine: Engine) -> None:
    """A claim does not raise the fence."""
    store: Any = engine.store
    real = store.claim

    async def claim(*given: Any, **named: Any) -> Any:
        rows = await real(*given, **named)
        for row in rows:
            if row.fence > 1:
                row.fence -= 1
                with sqlite3.connect(store.path, timeout=20) as connection:
                    connection.execute("update workflow_executions set fence = fence - 1 where id = ?", (row.id,))
        return rows

    store.claim = claim


def answer_in_memory(engine: Engine) -> None:
    """An answer is acknowledged and kept for later, and there is no later."""
    store: Any = engine.store
    real = store.deliver

    async def deliver(delivery: Any, now: int) -> Receipt:
        if isinstance(delivery, Answer):
            found = await store.requests(ids=[delivery.request_id], status=None)
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)
            return Receipt(V.OK, found[0].execution_id, found[0])
        receipt: Receipt = await real(delivery, now)
        return receipt

    store.deliver = deliver


def forget_undone(engine: Engine) -> None:
    """Who takes a rollback over overlooks which undos have run."""
    known: Any = _Rollback._note

    def note(self: Any, entry: Any) -> None:
        if entry.kind != "undo" or entry.fence == self.run.fence:
            known(self, entry)

    _Rollback._note = note  # type: ignore[method-assign]


def undo_forwards(engine: Engine) -> None:
    """The first step is undone first."""
    real = rolling.plan

    def plan(*given: Any) -> Any:
        found = real(*given)
        return replace(found, tasks=found.tasks[::-1])

    rolling.plan = plan


PLANTS: dict[str, Callable[[Engine], None]] = {
    plant.__name__: plant
    for plant in (
        *(ack_before_commit, enter_twice, forget_outcome, keep_fence, answer_in_memory),
        *(forget_undone, undo_forwards),
    )
}
