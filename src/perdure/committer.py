"""Group commit: one batch is on its way, and while it is, the next one gathers. No timer, no added wait.

Everything that the executions of one worker want recorded comes here and goes to the store in batches.
Nothing is acknowledged before it is durable; the acknowledgements of a batch are handed over one by one.

What can go wrong, and what follows:
- the store is busy or away: the same batch again, a little later; nobody notices but the log;
- it is unknown whether a batch was recorded: `settle` tells, then go on or try again, never blindly;
- the store refuses the batch for what is in it: it is halved until the culprit stands alone, and only
  that execution hears of it;
- the worker was declared dead: nothing was recorded, and everything it runs is dropped.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from perdure.carrier import Carriers
from perdure.clock import Clock
from perdure.errors import BadBatchError, CommitUnknownError, StoreUnavailableError
from perdure.gathering import GATHERED, Created, Work
from perdure.records import Batch, Change, Execution, Request, RollbackAction, Snapshot, Verdict, Verdicts
from perdure.store import Store
from perdure.stores.patience import PATIENCE, Busy

if TYPE_CHECKING:
    from perdure.executor import Run

logger = logging.getLogger("perdure")

STAY = 0.0005
"""Seconds that commits made on the event loop may keep it."""

OVERLAP = 48, 128
"""While acknowledgements are handed over, half as many entries are worth a batch of their own, within these."""

PAUSES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between tries; the last one goes on, at most 5 tries a second."""

BUSY_PAUSE = 0.01
"""The longest of them where another process holds the store's lock, for milliseconds."""

SOON = 0.02
"""Seconds between two looks whether a late lease is renewed."""

WORTH_SAYING = 1.0
"""Seconds of a lock held by others after which the log says so."""


def _nobody(requests: Sequence[Request]) -> None:
    """Nobody wants to hear of it."""


class Committer:
    """The one writer of a worker's batches."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        carriers: Carriers,
        lost: Callable[[], None],
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store = store
        self.clock = clock
        self.carriers = carriers
        self.loop = asyncio.get_running_loop()
        self.lost = lost
        self.is_late = is_late
        self.asked: Callable[[Sequence[Request]], None] = _nobody  # is told of requests that are durable
        self.worker = 0
        self.epoch = 0
        self.dead = False
        self.inline = store.inline
        self.tokens = 0
        self.prefix = ""
        self.work = Work()
        self.items = self.work.items
        self.busy = False  # a batch is on its way, or its acknowledgements are being handed over, or a commit is due
        self.flight: Work | None = None  # sent while acknowledgements were handed over
        self.tries = 0
        self.failing_since = 0.0
        self.complained = False
        self.batches = 0
        self.idle_waiters: list[asyncio.Future[None]] = []
        self.holders: list[asyncio.Future[None]] = []  # who wait until nothing is on its way
        self.held: list[Callable[[], None]] = []  # what follows from answers, in their order, once the lease is sure

    def belong_to(self, worker: int, epoch: int) -> None:
        """Commit for this worker from now on."""
        self.worker, self.epoch, self.dead = worker, epoch, False
        self.prefix = f"{worker}.{epoch}.{self.clock.random_bytes(4).hex()}."
        for execution, _ in self.work.creates:
            self._rename(execution)

    # Gathering ----------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        self.work.requests.append(request)
        self.kick()

    def close_request(self, request_id: str, execution_id: str) -> None:
        self.work.closes.append((execution_id, request_id))
        self.kick()

    def take_message(self, execution_id: str, message_id: str, seq: int) -> None:
        self.work.takes.append((execution_id, message_id, seq))

    def free_message(self, execution_id: str, seq: int) -> None:
        self.work.untakes.append((execution_id, seq))
        self.kick()

    def act(self, action: RollbackAction) -> None:
        """How an undo stands; it rides in the next commit."""
        self.work.actions.append(action)

    def picture(self, snapshot: Snapshot) -> None:
        """A state; it rides in the next commit."""
        self.work.snapshots.append(snapshot)

    def create(self, execution: Execution, created: Created) -> None:
        self.work.creates.append((execution, created))
        self.kick()

    def _start_again(self, creates: list[tuple[Execution, Created]]) -> None:
        """Not recorded under the earlier name: these are to be started under the next one."""
        self.work.creates[:0] = creates

    def change(self, run: Run, change: Change) -> None:
        self.work.changes.append((run, change))
        self.kick()

    def forget(self, execution_id: str) -> None:
        """Drop what an execution wanted recorded and has not been sent."""
        keep = self.work.part(lambda other: other != execution_id)
        self._gather_into(keep)

    def _gather_into(self, work: Work) -> None:
        self.work = work
        self.items = work.items

    def _anything(self) -> bool:
        w = self.work
        plain = w.items or w.changes or w.creates or w.requests or w.closes or w.takes or w.untakes
        return bool(plain or w.actions or w.snapshots)

    def kick(self) -> None:
        """There is something to commit."""
        if self.busy or self.dead:
            return
        self.busy = True
        self.loop.call_soon(self._pump if self.inline else self._send_next)

    async def hold(self) -> None:
        """Wait until no batch is on its way, and let none go until `let_go`."""
        if not self.busy:
            self.busy = True
            return
        waiter: asyncio.Future[None] = self.loop.create_future()
        self.holders.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self.holders:
                self.holders.remove(waiter)
            else:
                self.let_go()  # it was granted just now
            raise

    def let_go(self) -> None:
        """What has gathered may go."""
        if self.flight is None:
            self._rest()

    def take_of(self, execution_id: str) -> tuple[Work, Batch]:
        """Take what one execution wants recorded, while nothing is on its way."""
        work = self.work.part(lambda other: other == execution_id)
        self.forget(execution_id)
        self.tokens += 1
        work.token = f"{self.prefix}{self.tokens}"
        self.batches += 1
        return work, self._batch(work)

    async def idle(self) -> None:
        """Wait until nothing is on its way."""
        while self.busy and not self.dead:
            waiter: asyncio.Future[None] = self.loop.create_future()
            self.idle_waiters.append(waiter)
            await waiter

    def _rest(self) -> None:
        if self.holders:
            self.busy = True
            return self.holders.pop(0).set_result(None)
        self.busy = False
        if self._anything() and not self.dead:
            return self.kick()
        waiters, self.idle_waiters = self.idle_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _take(self) -> tuple[Work, Batch]:
        work = self.work
        self._gather_into(Work())
        if len(work.changes) > 1:
            self._postpone(work)
        if len(work.creates) > 1:
            self._postpone_repeats(work)
        self.tokens += 1
        work.token = f"{self.prefix}{self.tokens}"
        self.batches += 1
        return work, self._batch(work)

    def _postpone(self, work: Work) -> None:
        """A child's end and a change of its parent go into different batches: both touch the parent's row."""
        parents = {change.parent_id for _, change in work.changes if change.parent_id is not None}
        if parents:
            later = [c for c in work.changes if c[1].execution_id in parents]
            if later:
                work.changes = [c for c in work.changes if c[1].execution_id not in parents]
                self.work.changes.extend(later)

    def _postpone_repeats(self, work: Work) -> None:
        """Of several creates of one id, all but the first go into the next batch: there they meet a recorded row."""
        seen: set[str] = set()
        first: list[tuple[Execution, Created]] = []
        for create in work.creates:
            (self.work.creates if create[0].id in seen else first).append(create)
            seen.add(create[0].id)
        work.creates = first

    def _batch(self, work: Work) -> Batch:
        return Batch(
            self.worker,
            self.epoch,
            work.token,
            self.clock.now(),
            [c[0] for c in work.creates],
            [i[2] for i in work.items],
            [c[1] for c in work.changes],
            work.requests,
            [c[1] for c in work.closes],
            [(t[1], t[2]) for t in work.takes],
            work.untakes,
            work.actions,
            work.snapshots,
        )

    # Commits made on the loop ---------------------------------------------------------------------------

    def _pump(self) -> None:
        end = perf_counter() + STAY
        while self._anything() and not self.dead and not self.holders:
            work, batch = self._take()
            try:
                verdicts = self.store.commit(batch)
            except Exception as error:
                return self._failed(work, error)
            self._tell(work, verdicts)  # type: ignore[arg-type]
            if perf_counter() > end:
                if self._anything():
                    self.loop.call_soon(self._pump)
                    return None
                break
        return self._rest()

    # Commits made by a server ---------------------------------------------------------------------------

    def _send_next(self) -> None:
        if self.dead or self.holders or not self._anything():
            return self._rest()
        work, batch = self._take()
        self._send(work, batch)

    def _send(self, work: Work, batch: Batch) -> None:
        self.flight = work
        outcome = self.carriers.start(self.store.commit(batch))  # type: ignore[arg-type]
        if isinstance(outcome, tuple):
            self.loop.call_soon(self._came, work, *outcome)
        else:
            outcome.add_done_callback(functools.partial(self._done, work))

    def _done(self, work: Work, task: asyncio.Task[Verdicts]) -> None:
        if task.cancelled():
            return self._came(work, False, StoreUnavailableError("the commit was cancelled"))
        error = task.exception()
        if error is not None:
            return self._came(work, False, error)
        return self._came(work, True, task.result())

    def _came(self, work: Work, ok: bool, result: Any) -> None:
        if ok:
            return self._when_sure(functools.partial(self._landed, work, result))
        self.flight = None
        return self._failed(work, result)

    def _landed(self, work: Work, verdicts: Verdicts) -> None:
        self.flight = None
        self._tell(work, verdicts)
        self._go_on_after()

    def _go_on_after(self) -> None:
        """Go on, behind what is held back: until then a batch counts as under way."""
        if self.held:
            self.held.append(self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self.flight is None:
            return self._rest() if self.inline else self._send_next()
        return None

    # Answers --------------------------------------------------------------------------------------------

    def _when_sure(self, act: Callable[[], None]) -> None:
        """Now, or once the lease is sure: stopped since, perhaps, and others have ended what this goes on with."""
        if not self.inline and (self.held or self.is_late()):
            self._hold(act)
        else:
            act()

    def _hold(self, act: Callable[[], None]) -> None:
        if not self.held:
            self.loop.call_later(SOON, self._let_on)
        self.held.append(act)

    def _let_on(self) -> None:
        if self.is_late():  # its heart will know
            self.loop.call_later(SOON, self._let_on)
            return
        acts, self.held = self.held, []
        for done, act in enumerate(acts):
            if self.held:  # stopped again
                self.held += acts[done:]
                return
            act()

    def _must_stop(self) -> bool:
        return self.dead or bool(self.holders)

    def _is_stale(self, work: Work) -> bool:
        """Was it sent under an earlier name? Its runs are dropped; what is to be started goes on under the new one."""
        if not work.token or work.token.startswith(self.prefix):
            return False
        again = [create for create in work.creates if create[0].parent_id is None]
        for execution, _ in again:
            self._rename(execution)
        self._start_again(again)
        return True

    def _rename(self, execution: Execution) -> None:
        if execution.owner is not None:
            execution.owner = self.worker

    def answered(self, work: Work, verdicts: Verdicts) -> None:
        """The store has answered: whoever waits for it is told."""
        self._when_sure(functools.partial(self._tell, work, verdicts))

    def _tell(self, work: Work, verdicts: Verdicts) -> None:
        if self._is_stale(work):
            return None
        self.tries = 0
        if self.complained:
            self.complained = False
            logger.warning("the store %s works again", self.store.url)
        if not verdicts.alive:
            self.dead = True
            self._start_again(work.creates)
            self._rest()
            return self.lost()
        for (execution, created), verdict in zip(work.creates, verdicts.creates, strict=True):
            try:
                created(verdict, None)
            except Exception:
                logger.exception("%s: a defect of Perdure", execution.id)
        least, most = OVERLAP
        enough = most if self.inline else min(most, max(least, len(work.items) // 2))
        for told, (run, subject, entry) in enumerate(work.items):
            if run is not None:
                if not self.inline and self.is_late():
                    rest = Verdicts(alive=True, changes=verdicts.changes)
                    return self._hold(functools.partial(self._tell, work.rest(told), rest))
                try:
                    run.acknowledged(subject, entry)
                except Exception as error:
                    run.broken(error)
                if len(self.items) >= enough and not self.inline and self.flight is None and not self._must_stop():
                    self._send(*self._take())
        for (run, change), verdict in zip(work.changes, verdicts.changes, strict=True):
            try:
                run.changed(change, verdict)
            except Exception as error:
                run.broken(error)
        if work.requests:
            self.asked(work.requests)
        return None

    def _failed(self, work: Work, error: BaseException) -> None:
        if self._is_stale(work):
            return self._rest()
        if isinstance(error, CommitUnknownError):
            self._complain(error)
            task = self.loop.create_task(self.settle(work))
            task.add_done_callback(functools.partial(self._done_again, work))
            return
        if isinstance(error, StoreUnavailableError):
            self._complain(error)
            self._refuse_creates(work, error)
            most = PAUSES.index(BUSY_PAUSE) if isinstance(error, Busy) else len(PAUSES) - 1
            pause = PAUSES[min(self.tries, most)] * (0.5 + self.clock.jitter())
            self.tries += 1
            self.loop.call_later(pause, self._again, work)
            return
        if not isinstance(error, BadBatchError):
            logger.error("the store %s refused a batch", self.store.url, exc_info=error)
        self._halve(work, error)

    def _complain(self, error: BaseException) -> None:
        if self.tries == 0:
            self.failing_since = perf_counter()
        if self._is_lasting(error, WORTH_SAYING) and not self.complained:
            self.complained = True
            logger.warning("the store %s does not take commits (%s); nothing is lost, trying on", self.store.url, error)

    def _is_lasting(self, error: BaseException, patience: float) -> bool:
        """Was there time enough to go on? Where others only hold the store's lock, so many seconds are not."""
        if isinstance(error, Busy):
            return perf_counter() - self.failing_since >= patience
        return self.tries >= len(PAUSES) - 1

    def _refuse_creates(self, work: Work, error: StoreUnavailableError) -> None:
        """Nothing of the batch was done: who starts an execution is told, rather than left waiting."""
        if not self._is_lasting(error, PATIENCE):
            return
        refused, work.creates = (
            [c for c in work.creates if c[0].parent_id is None],
            [c for c in work.creates if c[0].parent_id],
        )
        for _, created in refused:
            created(Verdict.GONE, error)

    def _again(self, work: Work) -> None:
        if self.dead:
            self._start_again([c for c in work.creates if c[0].parent_id is None])
            return self._rest()
        if self._is_stale(work):
            return self._rest()
        self.merge(work)
        if self.inline:
            return self._pump()
        return self._send_next()

    def merge(self, work: Work) -> None:
        """Put what was not recorded back in front of what has gathered since."""
        later = self.work
        for name in GATHERED:
            getattr(work, name).extend(getattr(later, name))
        self._gather_into(work)

    async def settle(self, work: Work) -> Verdicts | None:
        batch = self._batch(work)
        while True:
            try:
                return await self.store.settle(batch)
            except StoreUnavailableError as error:
                self._complain(error)
                await self.clock.sleep(PAUSES[min(self.tries, len(PAUSES) - 1)] * (0.5 + self.clock.jitter()))
                self.tries += 1

    def _done_again(self, work: Work, task: asyncio.Task[Verdicts | None]) -> None:
        if task.cancelled():
            return self._rest()
        if task.exception() is not None:
            return self._failed(work, task.exception() or StoreUnavailableError())
        verdicts = task.result()
        if verdicts is None:
            return self._again(work)
        return self._when_sure(functools.partial(self._landed, work, verdicts))

    def _halve(self, work: Work, error: BaseException) -> None:
        """Find the execution that the store refuses. The others are committed in parts."""
        task = self.loop.create_task(self._commit_parts(work, error))
        task.add_done_callback(self._parts_done)

    async def _commit_parts(self, work: Work, error: BaseException) -> list[tuple[Work, Verdicts | BaseException]]:
        parts = self._parts(work, error)
        done: list[tuple[Work, Verdicts | BaseException]] = []
        if parts is None:
            return [(work, error)]
        alone = len(work.executions()) == 1
        for part in parts:
            if alone and any(isinstance(result, BaseException) for _, result in done):
                part.items, part.changes = [], []  # of these the execution has heard: what comes before was refused
                done.append((part, error))
                break
            self.tokens += 1
            part.token = f"{self.prefix}{self.tokens}"
            while True:
                try:
                    answer = self.store.commit(self._batch(part))
                    verdicts = answer if isinstance(answer, Verdicts) else await answer
                    done.append((part, verdicts))
                except CommitUnknownError:
                    settled = await self.settle(part)
                    if settled is None:
                        continue
                    done.append((part, settled))
                except StoreUnavailableError as trouble:
                    self._complain(trouble)
                    await self.clock.sleep(PAUSES[min(self.tries, len(PAUSES) - 1)])
                    self.tries += 1
                    continue
                except Exception as refusal:
                    done.extend(await self._commit_parts(part, refusal))
                break
        return done

    def _parts(self, work: Work, error: BaseException) -> tuple[Work, Work] | None:
        """What to try instead of all at once."""
        ids = work.executions()
        if len(ids) > 1:
            half = set(ids[: len(ids) // 2])
            return work.part(lambda i: i in half), work.part(lambda i: i not in half)
        return work.split() if isinstance(error, BadBatchError) else None

    def _parts_done(self, task: asyncio.Task[list[tuple[Work, Verdicts | BaseException]]]) -> None:
        if task.cancelled():
            return self._rest()
        for part, result in task.result():
            if isinstance(result, Verdicts):
                self.answered(part, result)
            else:
                self._when_sure(functools.partial(self._expel, part, result))
        return self._go_on_after()

    def _expel(self, work: Work, error: BaseException) -> None:
        """One execution's part of a batch is refused: it alone hears of it."""
        for _, created in work.creates:
            created(Verdict.GONE, error)
        runs = {id(r): r for r in (*[i[0] for i in work.items], *[c[0] for c in work.changes]) if r is not None}
        for run in runs.values():
            run.refused(error)
