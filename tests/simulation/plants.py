"""Bugs, planted one at a time: what the simulation must be able to see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest

from perdure import alarms, beginnings, bodies, errands, handle, worker
from perdure.clock import SECOND
from perdure.committer import Committer
from perdure.deliveries import Answer, Delivery, Expiry, Receipt, Wish
from perdure.executor import Run
from perdure.records import ENDED, Batch, Change, Execution, Status, Verdict, Verdicts
from perdure.scope import GONE, OPEN
from perdure.sequencer import Sequencer
from perdure.stores.memory import MemoryStore

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], type[MemoryStore] | None]


class NoEpoch(MemoryStore):
    """A commit does not check that its worker is alive."""

    def commit(self, batch: Batch) -> Verdicts:
        row = self._workers[batch.worker]
        kept = row.state, row.epoch
        row.state, row.epoch = "live", batch.epoch
        try:
            return super().commit(batch)
        finally:
            row.state, row.epoch = kept


class StaleLook(MemoryStore):
    """A commit looks at the worker's row without a lock: what it sees is half a second old."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._died: dict[int, int] = {}

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        dead = await super().declare_dead(worker, anyway=anyway)
        if dead:
            self._died.setdefault(worker, self.clock.now())
        return dead

    def commit(self, batch: Batch) -> Verdicts:
        row = self._workers[batch.worker]
        kept = row.state, row.epoch
        if batch.worker in self._died and self.clock.now() < self._died[batch.worker] + SECOND // 2:
            row.state, row.epoch = "live", batch.epoch
        try:
            return super().commit(batch)
        finally:
            row.state, row.epoch = kept


class SameFence(MemoryStore):
    """A claim does not raise the fence."""

    async def claim(self, *arguments: Any, **named: Any) -> list[Execution]:
        rows = await super().claim(*arguments, **named)
        for row in rows:
            row.fence -= 1
            self._executions[row.id].fence -= 1
        return rows


class NoFence(NoEpoch):
    """A change does not check its fence; the dead are not checked either."""

    def _judge_change(self, change: Change, created: dict[str, Execution]) -> Verdict:
        row = self._executions.get(change.execution_id)
        if row is not None and row.status is Status.RUNNING:
            return Verdict.OK
        return super()._judge_change(change, created)


class DeafPark(MemoryStore):
    """A park does not look at the nudges."""

    def _judge_change(self, change: Change, created: dict[str, Execution]) -> Verdict:
        verdict = super()._judge_change(change, created)
        return Verdict.OK if verdict is Verdict.NUDGED else verdict


class LeaseAlone(MemoryStore):
    """A lease that is over is enough to take executions: nobody is declared dead before."""

    def _is_dead(self, worker: int | None) -> bool:
        return super()._is_dead(worker) or self._workers[worker or 0].lease_until < self.clock.now()

    async def suspects(self, worker: int) -> list[int]:
        return []


class LoadsFirst(MemoryStore):
    """A takeover claims and loads, and declares dead only then."""

    async def suspects(self, worker: int) -> list[int]:
        return []

    def _is_dead(self, worker: int | None) -> bool:
        return super()._is_dead(worker) or self._workers[worker or 0].lease_until < self.clock.now()

    async def nudged(self, worker: int) -> dict[str, int]:
        for suspect in await super().suspects(worker):
            await self.declare_dead(suspect)
        return await super().nudged(worker)


class WrongDeath(NoEpoch):
    """Live workers are declared dead, and their commits are accepted all the same."""

    async def suspects(self, worker: int) -> list[int]:
        started = [row for row in self._workers.values() if row.id != worker and row.state == "live"]
        return [row.id for row in started if row.started_at + 2 * SECOND < self.clock.now()]

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        return await super().declare_dead(worker, anyway=True)


class LastAnswer(MemoryStore):
    """A second answer overwrites the first."""

    def _decide(self, delivery: Answer | Expiry, now: int) -> Receipt:
        request = self._requests.get(delivery.request_id)
        if isinstance(delivery, Answer) and request is not None and request.status == "decided":
            request.status = "open"
        return super()._decide(delivery, now)


class TakenTwice(MemoryStore):
    """That a message was taken is not recorded."""

    def _take(self, batch: Batch, refused: set[str]) -> None:
        less = copy(batch)
        less.takes = []
        super()._take(less, refused)


class LostMessage(MemoryStore):
    """A message for an execution that waits is acknowledged and dropped."""

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        receipt = await super().deliver(delivery, now)
        message = getattr(delivery, "message", None)
        if message is not None and receipt.verdict is Verdict.OK and message.id.endswith("s1"):
            del self._messages[message.id]
        return receipt


class HalfBatch(MemoryStore):
    """A batch is not recorded as a whole: its last entry is left out."""

    def commit(self, batch: Batch) -> Verdicts:
        less = copy(batch)
        less.entries = batch.entries[:-1] if len(batch.entries) > 3 else batch.entries
        return super().commit(less)


def acknowledges_first(patch: Patch) -> None:
    """The committer acknowledges a batch, and then sends it."""
    take = Committer._take

    def taking(self: Committer) -> Any:
        work, batch = take(self)
        items, work.items = work.items, []
        for run, subject, entry in items:
            work.items.append((None, None, entry))
            if run is not None:
                run.acknowledged(subject, entry)
        return work, batch

    patch.setattr(Committer, "_take", taking)


def starts_while_replaying(patch: Patch) -> None:
    """Bodies start at each rest of a replay."""
    make, replay_entry = beginnings.make, Sequencer._replay_entry
    runs: dict[Sequencer, Run] = {}

    def making(self: Run, journal: Any, attributes: Any) -> None:
        make(self, journal, attributes)
        runs[self.sequencer] = self

    def entry_of(self: Sequencer, entry: Any) -> bool:
        for call in [c for c in self.new if c.state == OPEN and c.spec.kind == "step" and c.args is not None]:
            copied = bodies.Call(self, call.spec, call.key, call.args, call.input)
            copied.state = GONE
            coroutine = call.spec.function(*call.args)
            runs[self].worker.spawn(_in_scope(runs[self], copied, coroutine), lambda result, error: None)
        self.new = [c for c in self.new if c.state == OPEN and not (c.spec.kind == "step" and c.args is not None)]
        return replay_entry(self, entry)

    patch.setattr(beginnings, "make", making)
    patch.setattr(Sequencer, "_replay_entry", entry_of)


async def _in_scope(run: Run, call: Any, coroutine: Any) -> Any:
    call.run = run
    bodies.CURRENT.set(call)
    return await coroutine


def forgets_withdrawn(patch: Patch) -> None:
    """A call that the code withdrew is not known any more in replay."""
    withdraw = Sequencer.withdraw

    def withdrawing(self: Sequencer, call: Any) -> None:
        withdraw(self, call)
        if not self.live:
            self.gone.pop(call.key, None)

    patch.setattr(Sequencer, "withdraw", withdrawing)


def fires_early(patch: Patch) -> None:
    """Timers fire up to half a second before their time."""
    due = alarms._due

    def early(run: Run) -> None:
        now = run.now
        run.now = lambda: now() + SECOND // 2
        try:
            due(run)
        finally:
            run.now = now

    patch.setattr(alarms, "_due", early)


def retries_blindly(patch: Patch) -> None:
    """What is unknown is sent again."""

    async def settle(self: Committer, work: Any) -> None:
        await asyncio.sleep(0)

    patch.setattr(Committer, "settle", settle)


def gives_up_blindly(patch: Patch) -> None:
    """What is unknown is taken for recorded."""

    async def settle(self: Committer, work: Any) -> Verdicts:
        await asyncio.sleep(0)
        return Verdicts(True, [Verdict.OK] * len(work.creates), [Verdict.OK] * len(work.changes))

    patch.setattr(Committer, "settle", settle)


def cancels_too_soon(patch: Patch) -> None:
    """Cancelling is acknowledged once it is wished."""

    async def cancel(store: Any, clock: Any, id: str, by: str | None, reason: str | None) -> Execution:
        await store.deliver(Wish(id, "cancel", by, reason), clock.now())
        row: Execution = (await store.get([id]))[id]
        if row.status not in ENDED:
            row.status = Status.CANCELLED
        return row

    patch.setattr(handle, "cancel", cancel)


def leaves_children(patch: Patch) -> None:
    """The end of a parent does not wait for its children."""

    def end_children(servant: worker.Worker, run: Run, then: Callable[[], None]) -> None:
        then()

    patch.setattr(errands, "end_children", end_children)


def runs_again(patch: Patch) -> None:
    """A retried attempt has the number of the one before."""
    recorded = bodies.attempt_recorded

    def again(run: Run, call: Any) -> None:
        recorded(run, call)
        call.attempt -= 1

    patch.setattr(bodies, "attempt_recorded", again)


def goes_on_when_dead(patch: Patch) -> None:
    """A worker that was declared dead comes back and keeps what it ran."""
    lost = worker.Worker._lost

    def keeping(self: worker.Worker) -> None:
        runs = dict(self.runs)
        self.runs.clear()
        lost(self)
        self.runs.update(runs)

    patch.setattr(worker.Worker, "_lost", keeping)


def _store(kind: type[MemoryStore]) -> Plant:
    return lambda patch: kind


STORES = (
    NoEpoch, StaleLook, SameFence, NoFence, DeafPark, LeaseAlone, LoadsFirst, WrongDeath, LastAnswer, TakenTwice,
    LostMessage, HalfBatch,
)  # fmt: skip

KERNEL: tuple[Plant, ...] = (
    acknowledges_first, starts_while_replaying, forgets_withdrawn, fires_early, retries_blindly, gives_up_blindly,
    cancels_too_soon, leaves_children, runs_again, goes_on_when_dead,
)  # fmt: skip

PLANTS: dict[str, Plant] = {
    **{store.__name__: _store(store) for store in STORES},
    **{getattr(plant, "__name__", ""): plant for plant in KERNEL},
}
