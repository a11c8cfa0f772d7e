"""A process in this one: an engine on a memory store, which dies at a write as a killed process does.

Nothing of it is recorded from there on, and what its bodies do is cut short. The memory outlives it here, as another
process's memory does behind a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from perdure import Engine, MemoryStore
from perdure.errors import StoreUnavailableError
from perdure.records import Query
from tests.crash.host import WRITES, Job, World, begins_rollback, flows_of
from tests.crash.rows import Rows

ALIVE = ("threaded", "lease", "poll", "idle_poll", "clock", "close")
"""What may still be asked of the store of the dead: its engine is taken down in order."""


class MortalStore:
    """One process's way to a memory store. `kill`, `of`: see `tests.crash.host.Job`; it counts as a `Killer` does."""

    url = "memory://"
    inline = False

    def __init__(self, store: MemoryStore, kill: str = "before:1000000", of: str = "any") -> None:
        self._store = store
        self.when, _, at = kill.partition(":")
        self.at = int(at)
        self.begun = of != "rollback"
        self.count = 0
        self.dead = False
        loop = asyncio.get_running_loop()
        self.died: asyncio.Future[None] = loop.create_future()
        self._hanging: asyncio.Future[None] = loop.create_future()

    def __getattr__(self, name: str) -> Any:
        if self.dead and name not in ALIVE:
            raise StoreUnavailableError("this process is dead")
        found = getattr(self._store, name)
        return self._writing(found) if name in WRITES else found

    def _writing(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        async def write(*given: Any, **named: Any) -> Any:
            here = self._here()
            if here and self.when == "before":
                await self.die()
            result = await verb(*given, **named)
            if here:
                await self.die()
            return result

        return write

    def _here(self) -> bool:
        self.count += self.begun
        return self.begun and self.count == self.at

    async def claim(self, *given: Any, **named: Any) -> Any:
        """Only a claim that took something is a boundary; before it is after the one before."""
        self._must_live()
        rows = await self._store.claim(*given, **named)
        if rows and self._here():
            await self.die()
        return rows

    async def commit(self, batch: Any) -> Any:
        self._must_live()
        self.begun = self.begun or begins_rollback(batch)
        here = self._here()
        if here and self.when == "before":
            await self.die()
        verdicts = self._store.commit(batch)
        if here:
            await self.die()
        return verdicts

    def _must_live(self) -> None:
        if self.dead:
            raise StoreUnavailableError("this process is dead")

    async def die(self) -> None:
        if not self.died.done():
            self.died.set_result(None)
        await self._hanging

    def bury(self) -> None:
        self.dead = True
        self._hanging.cancel()


async def live(store: MemoryStore, job: Job, kill: str = "before:1000000") -> tuple[list[dict[str, Any]] | None, int]:
    """One process's life, to its orderly end or to where it is killed: its results (then None), and its writes."""
    workflow, workflows = flows_of(job)
    mortal = MortalStore(store, kill, job.of)
    engine = Engine(mortal, workflows=workflows, queues=[job.queue], poll=job.poll)  # type: ignore[arg-type]

    async def lives() -> list[dict[str, Any]]:
        async with engine:
            world = World(engine, job, workflow)
            return [await world.one(id) for id in job.executions]

    life = asyncio.ensure_future(lives())
    async with asyncio.timeout(job.patience):
        await asyncio.wait([life, mortal.died], return_when=asyncio.FIRST_COMPLETED)
    if not mortal.died.done():
        return await life, mortal.count
    await _killed(engine, mortal, life)
    for worker in await store.workers():
        await store.declare_dead(worker.id, anyway=True)
    return None, mortal.count


async def _killed(engine: Engine, mortal: MortalStore, life: asyncio.Future[Any]) -> None:
    worker = engine.worker
    under_way: list[asyncio.Future[Any]] = []
    if worker is not None:
        worker.draining = worker.committer.dead = True
        worker.registered = False
        for run in list(worker.runs.values()):
            under_way += [call.task for call in run.working if call.task is not None]
            run.abandon()
        worker.runs.clear()
    mortal.bury()
    if under_way:
        await asyncio.wait(under_way)
    life.cancel()
    await asyncio.wait([life])


async def rows_of(store: MemoryStore) -> Rows:
    """What it holds."""
    found = Rows()
    for row in (await store.list(Query(), 1000, None)).items:
        found.executions.append(asdict(row))
        found.entries += [entry._asdict() for entry in await store.history(row.id)]
        dossier = (await store.dossiers([row.id]))[row.id]
        found.actions += [asdict(action) for action in sorted(dossier.actions, key=lambda a: (a.generation, -a.seq))]
        found.requests += [asdict(request) for request in await store.requests(execution_ids=[row.id], status=None)]
    return found
