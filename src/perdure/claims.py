"""How a worker takes executions over and brings them into its memory.

An execution whose owner died again while it ran, without any progress of it, is a *suspect*: it may be what kills its
workers. Suspects are claimed one by one; who claims one whose owners died three times in a row gives back everything
else, and runs it alone until it has recorded something; after five times it is blocked.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from perdure import beginnings
from perdure.committer import SOON
from perdure.endings import CRASHES, crash_loop
from perdure.errors import DecodeError, PerdureError, StoreUnavailableError
from perdure.executor import Run
from perdure.records import Entry, Execution, Glance, Inbox, Status

if TYPE_CHECKING:
    from perdure.worker import Worker

logger = logging.getLogger("perdure")

BATCH = 1000
"""Executions whose journals are read together."""

TURN = 0.002
"""Seconds for which beginning executions keeps the event loop."""

ALONE = 3
"""After so many deaths in a row an execution runs alone. Twice in a row a machine may die, with all that was on it."""

DOUBT = 40_000_000
"""Microseconds for which a claim without an answer may still be carried out by the server."""

OWN = 30_000_000
"""Microseconds after which a worker with nothing to run compares all the same what the store says is its own."""

SUSPECT = 1_000_000
"""Microseconds between two looks for suspects."""


class Claims:
    """What one worker has claimed and not begun yet."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.loading: set[str] = set()
        self._orphans: set[str] = set()  # ours by the store's word, and unknown here, when last compared
        self._doubt_until = 0  # microseconds
        self._compared_at = 0
        self._suspect: str | None = None
        self._held: Execution | None = None  # the suspect, until everything else has left
        self._suspected_at = 0  # microseconds: when suspects were last looked for
        self.took = False  # something, since this was last set to False

    # Claiming -----------------------------------------------------------------------------------------

    async def take_over(self, sight: Glance | None = None) -> None:
        """Claim what there is room for. `sight`: what was seen just now, so that nothing is looked for in vain."""
        worker = self.worker
        self.someone_left()  # a hint that was missed
        if sight is None or sight.claimable:
            await self.take_ready()
        else:
            worker.backlog = False
        now = worker.clock.now()
        if (sight is None or sight.crashed) and worker.free() > 0 and now - self._suspected_at >= SUSPECT:
            self._suspected_at = now
            await self._take_suspects()

    async def take_ready(self) -> None:
        """Claim what is ready, due, or left by the dead, except for suspects."""
        worker = self.worker
        while (free := worker.free()) > 0:
            limit = min(free, BATCH)
            rows = await self._claim(limit, crashed=False)
            worker.backlog = len(rows) == limit
            if rows:
                await self._take(rows)
            if not worker.backlog:
                break

    async def _take_suspects(self) -> None:
        while self.worker.free() > 0:
            rows = await self._claim(1, crashed=True)
            for row in rows:
                if ALONE <= row.crashes < CRASHES:
                    return self._isolate(row)
                await self._take([row])
            if not rows:
                return None
        return None

    async def _claim(self, limit: int, *, crashed: bool) -> list[Execution]:
        worker = self.worker
        try:
            return await worker.store.claim(
                worker.record.id,
                worker.record.epoch,
                limit,
                list(worker.workflows),
                worker.queues,
                worker.clock.now(),
                limits=worker.limits,
                build=worker.build,
                crashed=crashed,
            )
        except StoreUnavailableError:
            self._doubt()  # the claim may have happened, or happen later
            raise

    def _doubt(self) -> None:
        """Something may be ours without our knowing it."""
        self._doubt_until = self.worker.clock.now() + DOUBT

    def is_in_doubt(self) -> bool:
        """Is it time to compare what the store says is ours with what is here, even if nothing runs?"""
        now = self.worker.clock.now()
        return bool(self._orphans) or now < self._doubt_until or now - self._compared_at >= OWN

    async def look_at_own(self) -> None:
        """Read what came for the executions that run here, and find those that are ours without our knowing it."""
        worker = self.worker
        owned = await worker.store.nudged(worker.record.id)
        self._compared_at = worker.clock.now()
        for execution_id, run in list(worker.runs.items()):
            nudges = owned.get(execution_id)
            if nudges is not None and nudges != run.nudges and not run.ended:
                worker.refreshing.wants(run)
        # Owned here by the store's word, and in nobody's memory: a claim whose answer was lost.
        busy = worker.runs.keys() | worker.creating | self.loading | {self._suspect}
        orphans = {i for i in owned if i not in busy}
        sure = [i for i in orphans if i in self._orphans]
        self._orphans = orphans
        if sure:
            rows = await worker.store.get(sure)
            ours = [r for r in rows.values() if r.owner == worker.record.id]
            mine = [r for r in ours if r.status in (Status.RUNNING, Status.ROLLING_BACK)]
            await self._take(mine)

    def look_for_suspects(self) -> None:
        """A worker was found dead: what it ran may be what killed it."""
        self._suspected_at = 0

    # Suspects -----------------------------------------------------------------------------------------

    def is_alone(self) -> bool:
        """Is a suspect to run here, and nothing else?"""
        if self._suspect is None:
            return False
        if self._held is None and self._suspect not in self.loading:
            run = self.worker.runs.get(self._suspect)
            if run is None or run.seq - run.flying > run.execution.crash_seq:
                # It has left, or recorded something: that clears it. There may be more of its kind.
                self._suspect = None
                self.look_for_suspects()
        return self._suspect is not None

    def forget_suspect(self) -> None:
        self._suspect = self._held = None

    def _isolate(self, row: Execution) -> None:
        worker = self.worker
        self._suspect, self._held = row.id, row
        logger.warning("%s: its worker died %d times while it ran; it runs alone now", row.id, row.crashes)
        for run in list(worker.runs.values()):
            run.release()
        self.someone_left()

    def someone_left(self) -> None:
        """An execution has left the worker's memory: a suspect that waited for it may begin."""
        worker = self.worker
        if self._held is not None:
            if not worker.runs and not self.loading:
                row, self._held = self._held, None
                self.loading.add(row.id)
                worker.spawn(self._take([row]), lambda result, error: None)
        elif self._suspect is not None and not self.is_alone():
            worker.poke()

    # Beginning ----------------------------------------------------------------------------------------

    async def _take(self, rows: Sequence[Execution]) -> None:
        """Bring claimed executions into memory."""
        worker = self.worker
        self.took = self.took or bool(rows)
        ids = [row.id for row in rows]
        self.loading.update(ids)
        worker.submitted.difference_update(ids)
        fresh = [row for row in rows if row.fence == 1 and row.nudges == 0]
        if fresh:
            worker.loop.call_soon(self._begin_all, fresh, {}, {})
        known = [row for row in rows if row.fence != 1 or row.nudges != 0]
        if known:
            ids = [row.id for row in known]
            inboxes: dict[str, Inbox] = await worker.insist(lambda: worker.store.inbox(ids))
            try:
                journals = await worker.insist(lambda: worker.store.load(ids))
            except DecodeError:
                journals = await self._load_each(known)
            known = await self._still_ours(known, journals)
            worker.loop.call_soon(self._begin_all, known, journals, inboxes)

    async def _load_each(self, rows: Sequence[Execution]) -> dict[str, list[Entry] | PerdureError]:
        """A journal among these cannot be read: find it, so that it alone is blocked."""
        journals: dict[str, list[Entry] | PerdureError] = {}
        for row in rows:
            try:
                one = await self.worker.insist(functools.partial(self.worker.store.load, [row.id]))
                journals[row.id] = one.get(row.id, [])
            except DecodeError as error:
                journals[row.id] = error
        return journals

    async def _still_ours(self, rows: list[Execution], journals: dict[str, Any]) -> list[Execution]:
        """Without those that, by their journals, others have claimed since: this process was stopped meanwhile."""
        worker, lost = self.worker, set[str]()
        doubtful = [row for row in rows if _is_overtaken(row, journals.get(row.id))]
        if doubtful:
            found = await worker.insist(lambda: worker.store.get([row.id for row in doubtful]))
            for row in doubtful:
                now = found.get(row.id)
                if now is not None and (now.owner, now.fence) == (row.owner, row.fence):
                    words = (
                        f"the journal of {row.id} is damaged: its last entry has the fence {journals[row.id][-1].fence}"
                    )
                    journals[row.id] = DecodeError(
                        f"{words}, and {row.fence} is that of its owner", execution_id=row.id
                    )
                else:
                    lost.add(row.id)
            self.loading -= lost
        return [row for row in rows if row.id not in lost]

    def _begin_all(self, rows: Iterable[Execution], journals: dict[str, Any], inboxes: dict[str, Inbox]) -> None:
        """Begin claimed executions, and leave the loop to others every now and then: replays may be long."""
        worker = self.worker
        pending = iter(rows)

        def begin_some() -> None:
            end = perf_counter() + TURN
            if worker.is_late() and worker.registered:  # stopped since they were read, perhaps, and overtaken
                worker.loop.call_later(SOON, begin_some)
                return
            for row in pending:
                self.loading.discard(row.id)
                if worker.registered and row.owner == worker.record.id:
                    if row.id in worker.runs:  # it is about to leave, and was claimed again: take it up after that
                        self._doubt()
                    else:
                        self._begin(row, journals.get(row.id, []), inboxes.get(row.id))
                if perf_counter() > end:
                    worker.loop.call_soon(begin_some)
                    return
            if self._held is not None:
                self.someone_left()

        begin_some()

    def _begin(self, row: Execution, journal: list[Entry] | PerdureError, inbox: Inbox | None) -> None:
        worker = self.worker
        workflow = worker.workflows[row.workflow, row.version]
        if row.crashes >= 3 * CRASHES and row.status is not Status.ROLLING_BACK:
            journal = crash_loop(row)  # else it is blocked before it enters a body, see `Run.rest`
        if isinstance(journal, PerdureError):
            run = Run(worker, row, workflow)
            worker.runs[row.id] = run
            beginnings.block_unread(run, journal)
            return
        worker.adopt(row, workflow, journal, inbox)


def _is_overtaken(row: Execution, journal: list[Entry] | PerdureError | None) -> bool:
    return isinstance(journal, list) and bool(journal) and journal[-1].fence > row.fence
