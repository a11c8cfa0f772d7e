"""Simulated executions that are rolled back: by failing, by their code, from outside, while workers come and go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from perdure import Unknown, checkpoint, current, gather, rollback, sleep, step, workflow
from perdure.errors import AlreadyRollingBackError, PerdureError
from perdure.retry import Retry
from perdure.stores.memory import MemoryStore
from perdure.testing.faults import Faults, KilledError
from perdure.testing.history import Acknowledged, History
from perdure.testing.simulation import Simulation, described, play
from perdure.timeline import faults

DID, UNDID = "did", "undid"


class Doomed(Exception):
    pass


WORLD: list[tuple[str, str, int, str, int]] = []
"""(what, execution, generation, value, fence), in the order in which it happened."""


def tell(what: str, value: str) -> None:
    here = current()
    WORLD.append((what, here.execution_id, here.generation, value, here.fence))


@step(retry=Retry(attempts=9, initial=0.1))
async def unbook(result: Any, value: str, seconds: float) -> None:
    assert result is Unknown or result == f"booked {value}"
    await asyncio.sleep(seconds)
    tell(UNDID, value)


@step(name="book", undo=unbook, undo_unknown=True)
async def book(value: str, seconds: float) -> str:
    tell(DID, value)
    await asyncio.sleep(seconds)
    return f"booked {value}"


@workflow(name="below_simulated")
async def below(value: str, seconds: float) -> None:
    await book(f"{value} 1", seconds)
    await sleep(seconds * 3)
    await book(f"{value} 2", seconds)


@workflow(name="rolls", rollback_on_failure=True)
async def rolls(seconds: float, backs: int, fails: bool) -> str:
    await book("first", seconds)
    await checkpoint("mark")
    await gather(book("left", seconds), below("child", seconds), book("right", 2 * seconds))
    await sleep(1.0)
    await book("last", seconds)
    if current().generation < backs:
        await rollback("mark", reason="again")
    if fails:
        raise Doomed("in the end")
    return "done"


class Rollbacks(Simulation):
    """Each execution is started, perhaps rolled back from outside, and watched to its end."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.workflows = [rolls, below]

    async def _actor(self, execution: str) -> None:
        rng = self.rng
        await asyncio.sleep(rng.uniform(0.0, 10.0))
        given = rng.choice([0.0, 0.01, 0.3]), rng.choice([0, 0, 1, 2]), rng.random() < 0.5
        started = False
        while not started:
            with suppress(PerdureError, TimeoutError, KilledError):
                await self._through(lambda e: e.start(rolls.options(execution_id=execution), *given))
                started = True
            await asyncio.sleep(0.2)
        if rng.random() < 0.6:
            await asyncio.sleep(rng.uniform(0.0, 12.0))
            await self._roll_back(execution)
        await self._watcher(execution)

    async def _roll_back(self, execution: str) -> None:
        while True:
            try:
                await self._through(lambda e: e.get(execution).rollback(reason="asked", by="ana"), 60.0)
            except AlreadyRollingBackError:
                pass
            except (TimeoutError, KilledError):
                continue
            except PerdureError as error:
                if "nothing is left to undo" in str(error):
                    return
            else:
                self._note("rolled back", execution)
                return
            await asyncio.sleep(0.5)

    async def _watcher(self, execution: str) -> None:
        while True:
            with suppress(PerdureError, TimeoutError, KilledError):
                outcome = await self._through(lambda e: e.get(execution).outcome(), 15.0)
                status = described(outcome)[0]
                if status != "waiting":
                    return self._note("outcome", execution, status)
            await asyncio.sleep(0.3)

    async def _answerer(self) -> None:
        await asyncio.Event().wait()

    async def _replay_all(self) -> None:
        """The audit of each finds no fault."""
        store, dump = self.store, self.history.dump
        for id, dossier in (await store.dossiers(list(dump.executions))).items():
            requests = [request for request in dump.requests.values() if request.execution_id == id]
            for fault in faults(dump.executions[id], requests, dossier, dump.journals[id]):
                self.history.faults.append(f"audit of {id}: {fault}")


def run(seed: int, planned: Faults | None = None) -> list[str]:
    """One simulation: what does not hold, in words."""
    WORLD.clear()
    history = play(Rollbacks, seed, 3, 5, planned or Faults(), lambda clock: MemoryStore(clock=clock))
    return [*history.faults, *broken(history)]


def broken(history: History) -> Iterator[str]:
    done: dict[str, Counter[str]] = {}
    over: dict[tuple[str, str, int], int] = {}
    for what, id, generation, value, fence in WORLD:
        balance, place = done.setdefault(id, Counter()), (id, value, generation)
        if what == UNDID:
            over[place] = max(fence, over.get(place, 0))
            balance[value] = 0
        elif fence >= over.get(
            place, 0
        ):  # else it is of a worker that was stopped, and does not know yet that it is dead
            if place in over:
                yield f"I30 {value} of {id} was done after it was undone, in generation {generation}"
            balance[value] += 1
    for id, row in history.dump.executions.items():
        journal = history.dump.journals[id]
        if [entry.seq for entry in journal] != list(range(1, len(journal) + 1)):
            yield f"I33 the journal of {id} has gaps"
        fences = [entry.fence for entry in journal]
        if fences != sorted(fences):
            yield f"I9 the fences of {id} decrease: {fences}"
        undos = Counter((entry.key, entry.generation) for entry in journal if entry.kind == "undo")
        yield from (f"I28 {key} of {id} was undone {n} times" for key, n in undos.items() if n > 1)
        left = [value for value, n in done.get(id, Counter()).items() if n]
        if row.status == "rolled_back" and left:
            yield f"I29 {id} is rolled back, and {left} was done and not undone"
        if row.status == "completed" and row.parent_id is None and not left:
            yield f"{id} is completed, and nothing of it stands"
        if row.status not in ("completed", "rolled_back"):
            yield f"{id} is {row.status}: {row.reason} {row.error}"
    for event in history.events:
        if isinstance(event, Acknowledged) and event.what == "rolled back":
            row = history.dump.executions[event.subject]
            if row.status != "rolled_back":
                yield f"{event.subject} was said to be rolled back; it is {row.status}"
