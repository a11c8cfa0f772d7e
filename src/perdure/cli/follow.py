"""Follow an execution, wherever it runs, until it ends or needs somebody."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from perdure.cli.progress import Progress, State, counts
from perdure.cli.words import readable
from perdure.engine import Engine
from perdure.errors import DecodeError, StoreUnavailableError
from perdure.handle import Handle
from perdure.journal import live
from perdure.outcome import Completed, Outcome, Waiting
from perdure.records import Status

SHORTEST = 0.02
SHARE = 20
"""Looking takes at most one part in so many of the time."""


class Follower:
    """Looks at the journal of one execution again and again, and tells what is new."""

    def __init__(self, engine: Engine, handle: Handle[Any], progress: Progress) -> None:
        self._engine = engine
        self._handle = handle
        self._progress = progress
        self._last = 0

    async def outcome(self) -> Outcome:
        """How it ends, or what it needs of somebody; what waits for time alone is waited for."""
        while True:
            outcome = await self._settled()
            match outcome:
                case Waiting(requests=[], wake_at=when) if when is not None:
                    self._progress.waits_until(when)
                    await self._moved()
                case _:
                    return outcome

    async def _settled(self) -> Outcome:
        """Its outcome, telling meanwhile what is recorded."""
        waiting = asyncio.ensure_future(_outcome(self._handle))
        pause = SHORTEST
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=pause)
                self._check_worker()
                pause = max(min(pause * 2, self._progress.pause), SHARE * await self._look())
            return waiting.result()
        finally:
            waiting.cancel()

    async def _look(self) -> float:
        """Tell what is new; gives the seconds that it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            entries = await self._engine.store.history(self._handle.id)
        except StoreUnavailableError:
            return 0.0  # only told later: what runs here goes on as soon as the store is back
        fresh = [entry for entry in entries if entry.seq > self._last]
        if fresh:
            self._last = fresh[-1].seq
        self._progress.tell(State(sum(map(counts, live(entries))), fresh, self._running()))
        return loop.time() - began

    def _running(self) -> list[str]:
        """The keys of the bodies that run in this process."""
        worker = self._engine.worker
        run = worker.runs.get(self._handle.id) if worker is not None else None
        return sorted(call.key for call in run.working) if run is not None else []

    async def _moved(self) -> None:
        """Wait until it is no more as it was when it waited for time."""
        before = await self._handle.row()
        while (row := await self._handle.row()).status in (Status.WAITING, Status.PENDING):
            if (row.status, row.nudges, row.wake_at) != (before.status, before.nudges, before.wake_at):
                return
            self._check_worker()
            await self._engine.store.changed(self._progress.pause)

    def _check_worker(self) -> None:
        worker = self._engine.worker
        if worker is not None and worker.fatal is not None:
            raise click.ClickException(
                f"{type(worker.fatal).__name__} in a step ended the worker of this process; what ran is not recorded"
                f" and runs again. {self._handle.id} is kept"
            )


async def _outcome(handle: Handle[Any]) -> Outcome:
    try:
        return await handle.outcome()
    except DecodeError:
        # The result is of a class that this process does not know.
        row = await handle.row()
        if row.status is not Status.COMPLETED:
            raise
        return Completed(readable(row.output))
