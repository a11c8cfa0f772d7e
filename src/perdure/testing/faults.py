"""A store that fails as networks and servers do: late, before, after, and without saying which."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from perdure.deliveries import Delivery, Receipt
from perdure.errors import CommitUnknownError, StoreUnavailableError
from perdure.records import (
    Batch,
    Counts,
    Dossier,
    Entry,
    Execution,
    Folded,
    Glance,
    Inbox,
    Limit,
    Message,
    Outgoing,
    Page,
    Query,
    Request,
    Schedule,
    Tally,
    Verdicts,
    WorkerRecord,
)
from perdure.store import Same, Store, Transaction
from perdure.testing.history import Buried, Claimed, Delivered, History, Left, Recorded, Told
from perdure.testing.lives import KilledError, Life, VirtualLoop

SERVER = contextvars.Context()
"""The context of what the store's server does: it belongs to no process."""


@dataclass(slots=True, frozen=True)
class Faults:
    """How often what goes wrong. All shares are from 0 to 1 of the calls, times in seconds.

    `unavailable`: the store cannot be reached, nothing was done. `unknown`: a commit, claim or delivery breaks,
    before or after it was done, or is still on its way. `slow`: a message takes up to `longest`. `deaf`: a hint is
    lost. `killed`: the process dies at a commit, just before or just after it. `stops`: processes are killed, leave,
    are frozen, cut off from heartbeats, or cut off altogether now and then.
    """

    unavailable: float = 0.02
    unknown: float = 0.03
    slow: float = 0.04
    longest: float = 1.5
    deaf: float = 0.5
    killed: float = 0.002
    stops: bool = True

    @classmethod
    def none(cls) -> Faults:
        return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False)


class FaultyStore:
    """One process's way to a shared store. What the server does is recorded in the order it was done."""

    url = "memory://"
    threaded = False
    own_transactions = False
    lease: float | None = None

    def __init__(
        self,
        store: Any,
        life: Life,
        loop: VirtualLoop,
        history: History,
        rng: random.Random,
        faults: Faults,
        *,
        inline: bool,
        poll: float,
    ) -> None:
        self.store: Store = store
        self.life = life
        self.loop = loop
        self.log = history
        self.rng = rng
        self.faults = faults
        self.inline = inline
        self.poll = poll
        self.idle_poll = poll
        self.mute = False
        self.away = False
        self.closed = False
        self._under_way: dict[str, asyncio.Future[None]] = {}

    # The way there and back -----------------------------------------------------------------------------

    def _delay(self) -> float:
        if self.rng.random() < self.faults.slow:
            return self.rng.random() * self.faults.longest
        return self.rng.random() * 0.003

    def _is_away(self) -> bool:
        return self.closed or self.away or self.rng.random() < self.faults.unavailable

    async def _ask(self, act: Callable[[], Any], *, loses: bool = False, token: str = "") -> Any:
        """Have the server do something. `loses`: the answer may get lost."""
        if self._is_away():
            await asyncio.sleep(self._delay())
            raise StoreUnavailableError("the simulated store is away")
        unknown = loses and self.rng.random() < self.faults.unknown
        reply: asyncio.Future[Any] = self.loop.create_future()
        if unknown and self.rng.random() < 0.3:  # it never arrives
            await asyncio.sleep(self._delay())
            raise CommitUnknownError("the simulated connection broke before")
        done = self._under_way[token] = self.loop.create_future()
        back = self._delay()

        def arrive() -> None:
            self._under_way.pop(token, None)
            done.set_result(None)
            try:
                result, error = _at_once(act()), None
            except Exception as raised:
                result, error = None, raised
            self.loop.call_later(back, answer, result, error, context=SERVER)

        def answer(result: Any, error: Exception | None) -> None:
            if not reply.done():
                if error is not None:
                    reply.set_exception(error)
                else:
                    reply.set_result(result)

        self.loop.call_later(self._delay(), arrive, context=SERVER)
        if unknown:
            if self.rng.random() < 0.5:
                await asyncio.wait([done])  # else it is still under way
            reply.cancel()
            raise CommitUnknownError("the simulated connection broke at the commit")
        return await reply

    # The owner's verbs ----------------------------------------------------------------------------------

    async def open(self) -> None:
        return None

    async def close(self) -> None:
        self.closed = True

    async def migrate(self) -> list[tuple[str, bool]]:
        return []

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        found: WorkerRecord = await self._ask(lambda: self.store.register(worker, lease))
        return found

    async def release(self, worker: int, epoch: int) -> None:
        def act() -> None:
            _at_once(self.store.release(worker, epoch))
            self.log.events.append(Left(self.loop.clock.now(), worker))

        await self._ask(act)

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        if self.mute:
            return True, self.loop.clock.now()  # the beat is lost, and nobody notices
        alive, now = await self._ask(lambda: self.store.heartbeat(worker, epoch, lease))
        self._tell(alive, worker)
        return alive, now

    def _tell(self, alive: bool, worker: int) -> None:
        if not alive:
            self.log.events.append(Told(self.loop.clock.now(), worker))

    async def suspects(self, worker: int) -> list[int]:
        found: list[int] = await self._ask(lambda: self.store.suspects(worker))
        return found

    async def attend(self, worker: int, epoch: int, **told: Callable[[], None]) -> None:
        told["settled"]()

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        found: Glance = await self._ask(lambda: self.store.glance(worker, epoch, workflows, queues, build=build))
        return found

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        def act() -> bool:
            dead = bool(_at_once(self.store.declare_dead(worker, anyway=anyway)))
            if dead:
                self.log.events.append(Buried(self.loop.clock.now(), worker))
            return dead

        return bool(await self._ask(act, loses=True))

    def commit(self, batch: Batch) -> Any:
        batch = deepcopy(batch)
        dies = self.rng.random() < self.faults.killed
        if not self.inline:
            return self._commit(batch, dies)
        if self._is_away():
            raise StoreUnavailableError("the simulated store is away")
        if dies and self.rng.random() < 0.5:
            self.life.kill()
            raise KilledError
        unknown = self.rng.random() < self.faults.unknown
        if unknown and self.rng.random() < 0.5:
            raise CommitUnknownError("the simulated connection broke before the commit")
        verdicts = self._record(batch)
        if dies:
            self.life.kill()
            raise KilledError
        if unknown:
            raise CommitUnknownError("the simulated connection broke after the commit")
        self._tell(verdicts.alive, batch.worker)
        return verdicts

    async def _commit(self, batch: Batch, dies: bool) -> Verdicts:
        if dies:
            self.loop.call_later(self._delay(), self.life.kill, context=SERVER)
        verdicts: Verdicts = await self._ask(lambda: self._record(batch), loses=True, token=batch.token)
        self._tell(verdicts.alive, batch.worker)
        return verdicts

    def _record(self, batch: Batch) -> Verdicts:
        verdicts = self.store.commit(batch)
        assert isinstance(verdicts, Verdicts)
        self.log.events.append(Recorded(self.loop.clock.now(), batch, verdicts))
        return verdicts

    async def settle(self, batch: Batch) -> Verdicts | None:
        under_way = self._under_way.get(batch.token)
        if under_way is not None:  # what is still running holds the lock of the worker's row
            await asyncio.wait([under_way])
        verdicts: Verdicts | None = await self._ask(lambda: self.store.settle(deepcopy(batch)))
        return verdicts

    async def claim(
        self,
        worker: int,
        epoch: int,
        limit: int,
        workflows: Sequence[tuple[str, int]],
        queues: Sequence[str],
        now: int,
        *,
        limits: Sequence[Limit] = (),
        build: str = "",
        crashed: bool = False,
    ) -> list[Execution]:
        def act() -> list[Execution]:
            here = self.loop.clock.now()
            rows: list[Execution] = _at_once(
                self.store.claim(
                    worker, epoch, limit, workflows, queues, here, limits=limits, build=build, crashed=crashed
                )
            )
            if rows:
                self.log.events.append(Claimed(self.loop.clock.now(), worker, deepcopy(rows)))
            return rows

        found: list[Execution] = await self._ask(act, loses=True)
        return found

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = await self._ask(lambda: self.store.load(ids))
        return found

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        found: dict[str, Inbox] = await self._ask(lambda: self.store.inbox(ids))
        return found

    async def nudged(self, worker: int) -> dict[str, int]:
        found: dict[str, int] = await self._ask(lambda: self.store.nudged(worker))
        return found

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        def act() -> Receipt:
            receipt: Receipt = _at_once(self.store.deliver(delivery, self.loop.clock.now()))
            self.log.events.append(Delivered(self.loop.clock.now(), delivery, deepcopy(receipt)))
            return receipt

        receipt: Receipt = await self._ask(act, loses=True)
        return receipt

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        return self.store.outgoing(item, any_input=any_input)

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        folded: list[Folded] = await self._ask(lambda: self.store.fold(limit, same), loses=True)
        return folded

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        found: list[Outgoing] = await self._ask(lambda: self.store.outbox(limit))
        return found

    async def begin(self, seconds: float) -> Transaction:
        return await self.store.begin(seconds)

    async def dismiss(self, ids: Sequence[int]) -> int:
        number: int = await self._ask(lambda: self.store.dismiss(ids), loses=True)
        return number

    async def prune(self, ids: Sequence[str]) -> list[str]:
        removed: list[str] = await self._ask(lambda: self.store.prune(ids), loses=True)
        return removed

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._ask(lambda: self.store.put_schedule(schedule), loses=True)

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        moved: bool = await self._ask(lambda: self.store.move_schedule(schedule, expected), loses=True)
        return moved

    async def remove_schedule(self, name: str) -> bool:
        removed: bool = await self._ask(lambda: self.store.remove_schedule(name), loses=True)
        return removed

    async def next_wake(self) -> int | None:
        wake: int | None = await self._ask(self.store.next_wake)
        return wake

    async def changed(self, timeout: float) -> bool:
        if self.rng.random() < self.faults.deaf:
            await self.loop.clock.sleep(timeout)
            return False
        told: bool = await self.store.changed(timeout)
        return told

    # Reads ----------------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        found: dict[str, Execution] = await self._ask(lambda: self.store.get(sorted(ids)))
        return found

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        found: Counts = await self._ask(lambda: self.store.count(query, at_most))
        return found

    async def history(self, execution_id: str) -> list[Entry]:
        found: list[Entry] = await self._ask(lambda: self.store.history(execution_id))
        return found

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        found: list[Entry] = await self._ask(lambda: self.store.tail(execution_id, after, kinds, limit))
        return found

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        found: Entry | None = await self._ask(lambda: self.store.latest(execution_id, key))
        return found

    async def tallies(self) -> list[Tally]:
        found: list[Tally] = await self._ask(self.store.tallies)
        return found

    async def schedules(self) -> list[Schedule]:
        found: list[Schedule] = await self._ask(self.store.schedules)
        return found

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        found: list[Request] = await self._ask(
            lambda: self.store.requests(ids=ids, execution_ids=execution_ids, status=status, limit=limit)
        )
        return found

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        found: dict[str, Dossier] = await self._ask(lambda: self.store.dossiers(ids, snapshots=snapshots))
        return found

    async def tree(self, execution_id: str) -> list[Execution]:
        found: list[Execution] = await self._ask(lambda: self.store.tree(execution_id))
        return found

    async def workers(self) -> list[WorkerRecord]:
        found: list[WorkerRecord] = await self._ask(self.store.workers)
        return found

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        page: Page = await self._ask(lambda: self.store.list(query, limit, cursor))
        return page


def _at_once(act: Any) -> Any:
    """Run a verb of a store that never awaits: it is one transaction."""
    if not isinstance(act, Coroutine):
        return act
    try:
        act.send(None)
    except StopIteration as end:
        return end.value
    act.close()
    raise TypeError("the simulated server needs a store whose verbs never await")
