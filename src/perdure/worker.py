"""A worker: claims executions, keeps its lease, notices what comes for them, and leaves in order.

Polling is the truth, hints only make it sooner. One look (`_tick`) at the store does, in this order: bury
the workers whose death shows, read what came for the executions that run here, claim what can be claimed.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from perdure import endings, waits
from perdure.capacity import Capacity
from perdure.carrier import Carriers
from perdure.claims import Claims
from perdure.clock import Clock
from perdure.committer import Committer
from perdure.deliveries import Delivery, Receipt
from perdure.errors import LeaseLostError, MovedError, PerdureError, StoreUnavailableError
from perdure.executor import Run
from perdure.gathering import Created
from perdure.heartbeat import Heartbeat
from perdure.outbox import Outbox
from perdure.protection import Protection
from perdure.queues import Queue
from perdure.records import ENDED, Change, Entry, Execution, Glance, Inbox, Request, Status, Verdict, WorkerRecord
from perdure.refreshing import Refreshing
from perdure.resources import Resources
from perdure.store import Store
from perdure.streams import Live
from perdure.telemetry import EXECUTION_BEGAN, EXECUTION_LEFT, WORKER_LOST, WORKER_REGISTERED, Happening, Listener, tell
from perdure.wakeups import Wakeups
from perdure.workflow import Workflow

logger = logging.getLogger("perdure")

PROCESS = uuid.uuid4().hex
"""Tells this process from all others, also from one that has its pid later."""

FOREVER = 1e9
"""Seconds: the lease of who only submits, owns nothing, and so need not be taken over."""

SLOWER = 1.3
"""How much longer each pause of an idle worker is than the one before."""

QUESTIONS = 1000
"""Requests of which it is remembered what type their answer is, at most."""

DRAIN = 10.0
"""Seconds that running bodies get when a worker leaves."""


class Worker:
    """One worker of an engine. All its methods run in the engine's event loop."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        workflows: dict[tuple[str, int], Workflow[..., Any]],
        *,
        queues: Sequence[str | Queue],
        concurrency: int,
        lease: float,
        poll: float,
        idle_poll: float | None = None,
        build: str,
        left: Callable[[str, Change | None], None],
        live: Live,
        protection: Protection | None = None,
        capture: str = "all",
        resources: Resources | None = None,
        listeners: Sequence[Listener] = (),
        outbox: Outbox | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.workflows = workflows
        self.queues = tuple(q if isinstance(q, str) else q.name for q in queues)
        self.limits = tuple(q.limit() for q in queues if isinstance(q, Queue))
        self.limited = frozenset(limit.queue for limit in self.limits)
        self.concurrency = concurrency
        self.lease = lease
        self.poll = poll
        self.idle_poll = max(poll, idle_poll if idle_poll is not None else poll)
        self._pause = poll
        self._saw_work = False  # at the last look: what may not be claimed now may be soon
        self.build = build
        self.loop = asyncio.get_running_loop()
        self.carriers = Carriers(self.loop)
        self.committer = Committer(store, clock, self.carriers, self._lost, self.is_late)
        self.threads = ThreadPoolExecutor(max_workers=min(64, max(4, concurrency)), thread_name_prefix="perdure-step")
        self.runs: dict[str, Run] = {}
        self.creating: set[str] = set()
        self.submitted: set[str] = set()  # recorded as pending from here, not seen claimed yet
        self.tasks: set[asyncio.Task[Any]] = set()
        self.draining = False
        self.registered = False
        self.reaches_store = True  # at the last look
        self.fatal: BaseException | None = None
        self.lost_leases = 0
        self._back: asyncio.Future[None] = self.loop.create_future()
        self.record = WorkerRecord(id=0)
        self.claims = Claims(self)
        self.heartbeat: Heartbeat | None = None
        self.wakeups = Wakeups(clock, self._due)
        self.notify_left = left
        self.live = live
        self.protection = protection or Protection(hides=False)
        self.secrets = self.protection.encryption is not None
        self.capture = capture
        self.capacity = Capacity(getattr(store, "most_bytes", None), sealed=self.secrets)
        self.listeners = tuple(listeners)
        self.namespace: str = getattr(store, "prefix", "")
        self.resources = resources or Resources({})
        self.outbox = outbox
        self.expect_tick: Callable[[int | None], None] = _nobody
        self.tell_people: Callable[[Sequence[Request], str], None] = _nobody
        self.committer.asked = self.announce
        self.thread = threading.get_ident()
        self.asked: dict[str, Any] = {}  # by request: what reads its answer
        self.refreshing = Refreshing(self)
        self._poke = asyncio.Event()
        self.backlog = True
        self._look_around = True
        self._told = False
        self._poller: asyncio.Task[None] | None = None

    # Coming and going -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register and begin to look for work."""
        await self._register()
        self._poller = self.loop.create_task(self._poll())

    async def _register(self) -> None:
        record = WorkerRecord(
            id=0,
            host=socket.gethostname(),
            pid=os.getpid(),
            process=PROCESS,
            build=self.build,
            workflows=json.dumps(sorted(self.workflows)),
            queues=json.dumps(self.queues),
        )
        since = monotonic()
        self.record = await self.store.register(record, self.lease)
        self.committer.belong_to(self.record.id, self.record.epoch)
        self.registered = True
        if not self._back.done():
            self._back.set_result(None)
        self.tell(WORKER_REGISTERED)
        if not self.store.inline:
            self.clock.sync(self.record.started_at)
        if self.store.threaded and self.poll < FOREVER:
            self.heartbeat = Heartbeat(
                self.store,
                self.record.id,
                self.record.epoch,
                self.lease,
                since=since,
                beaten=self.clock.sync if not self.store.inline else _nobody,
                dead=functools.partial(self._declared_dead, self.record.id),
                seen=self._look,
            )
            self.heartbeat.start()
            if not self.store.inline:  # else `register` has done what is to be done
                await self.heartbeat.settle()

    async def leave(self) -> None:
        """Claim no more, give running bodies their time, release the rest, sign off."""
        self.draining = True
        if self._poller is not None:
            while not self._poller.done():  # a driver may turn a cancelling into an error of its own, once
                self._poller.cancel()
                await asyncio.wait([self._poller], timeout=1.0)
        for run in list(self.runs.values()):
            run.release()
        await self._drained(DRAIN)
        for run in list(self.runs.values()):
            run.stop_bodies()
        await self._drained(1.0)
        for run in list(self.runs.values()):
            run.abandon()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.wakeups.close()
        if self.heartbeat is not None:
            self.heartbeat.hush()
        if self.registered:
            try:
                if self.fatal is None:
                    await self.store.release(self.record.id, self.record.epoch)
                else:  # what brought the process down counts as a crash of its execution, which so stays its own
                    await self.store.declare_dead(self.record.id, anyway=True)
            except PerdureError as error:
                logger.warning("worker %s could not sign off: %s; its lease will run out", self.record.id, error)
        if self.heartbeat is not None:  # last, as what shows that it lives goes with it
            await asyncio.to_thread(self.heartbeat.stop)
        self.carriers.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.sleep(0)

    async def _drained(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self.loop.call_later(seconds, over.set)
        while (self.runs or self.creating or self.claims.loading or self.committer.busy) and not over.is_set():
            if self.committer.dead:
                break
            await asyncio.sleep(0.002)
        timer.cancel()

    def give_up(self, run: Run, error: BaseException, *, onward: bool = False) -> None:
        """The process is going down (Ctrl-C, exit, no memory): record nothing more of what runs, claim no more.

        `onward`: nobody else has seen the error yet; it leaves through the event loop.
        """
        if run.suspect:  # now it is known what kills them
            return run.block(endings.crash_loop(run.execution))
        self.fatal = error
        self.draining = True
        logger.critical("worker %s stops: %s raised %r; it counts as a crash of it", self.record.id, run.id, error)
        run.abandon()
        self.forget(run)
        self.notify_left(run.id, None)
        if onward:
            self.loop.call_soon(_raise, error)
        return None

    def is_going_down(self) -> bool:
        """Is this worker leaving, or its event loop being shut down?"""
        return self.draining or self._poller is None or self._poller.done() or self._poller.cancelling() > 0

    def is_late(self) -> bool:
        """May others have taken over what runs here, this process having been stopped or cut off?"""
        return not self.registered or (self.heartbeat is not None and self.heartbeat.is_late())

    def _declared_dead(self, worker: int) -> None:
        if worker == self.record.id:
            self._lost()

    async def stand(self, fallen: int) -> None:
        """Return once this worker is another than the one that was declared dead. Raises `MovedError`."""
        self._declared_dead(fallen)
        await asyncio.shield(self._back)

    def _lost(self) -> None:
        """This worker was declared dead: drop everything it ran, come back as a new worker."""
        if not self.registered:
            return
        self.registered = False
        self._back = self.loop.create_future()
        self.committer.dead = True
        self.lost_leases += 1
        error = LeaseLostError(
            f"worker {self.record.id} was declared dead (it was stopped or cut off for longer than its lease of"
            f" {self.lease:g} s); what it ran goes on elsewhere, nothing it did since was recorded"
        )
        logger.error("%s", error)
        self.tell(WORKER_LOST)
        dropped = list(self.runs.values())
        for run in dropped:
            run.abandon()
        self.runs.clear()
        self.claims.forget_suspect()
        self.refreshing.forget()
        for run in dropped:
            self.notify_left(run.id, None)
        if self.heartbeat is not None:
            self.heartbeat.quit()
            self.heartbeat = None
        if not self.draining:
            self.spawn(self._come_back(), lambda result, error: None)

    async def _come_back(self) -> None:
        starts = []
        while True:
            starts += [c for c in self.committer.work.creates if c[0].parent_id is None]
            self.committer._gather_into(type(self.committer.work)())
            try:
                await self._register()
                break
            except StoreUnavailableError:
                pass
            except MovedError as error:
                if not self._back.done():
                    self._back.set_exception(error)
                    self._back.exception()  # whoever waits hears of it; else it is in the log
                for _, created in starts:
                    created(Verdict.GONE, error)
                starts = []
            await self.clock.sleep(0.25)
        for execution, created in starts:
            if execution.owner is not None:
                execution.owner = self.record.id
            self.committer.create(execution, created)
        self.committer.kick()  # what came back from a batch under the old name waits there
        self.poke()

    # Tasks of the worker's own ---------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """Run a coroutine of the engine's own; `done(result, error)` is called from a callback, never in a task."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(functools.partial(self._spawned, done))

    def _spawned(self, done: Callable[[Any, BaseException | None], None], task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        done(None if error is not None else task.result(), error)

    async def insist(self, act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Do something with the store, however long it is away."""
        pause = 0.01
        while True:
            try:
                return await act()
            except StoreUnavailableError as error:
                logger.debug("worker %s: %s; trying again", self.record.id, error)
                await self.clock.sleep(pause * (0.5 + self.clock.jitter()))
                pause = min(0.25, pause * 2)

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Deliver something, however long the store is away (deliveries are idempotent by their ids)."""
        receipt: Receipt = await self.insist(lambda: self.store.deliver(delivery, self.clock.now()))
        self.hint(receipt.execution_id)
        return receipt

    # Starting -------------------------------------------------------------------------------------------

    def free(self) -> int:
        """How many more executions may run here now."""
        if self.draining or not self.registered or self.claims.is_alone() or getattr(self.store, "standing_by", False):
            return 0
        return self.concurrency - len(self.runs) - len(self.creating) - len(self.claims.loading)

    def create(self, execution: Execution, created: Created) -> None:
        """Have a new execution recorded; with a free slot it is this worker's at once, and begins when durable."""
        known = self.workflows.get((execution.workflow, execution.version))
        takes = (
            known is not None
            and execution.wake_at is None
            and execution.queue in self.queues
            and execution.queue not in self.limited
            and self.free() > 0
        )
        if takes:
            execution.status = Status.RUNNING
            execution.owner = self.record.id
            execution.started_at = self.clock.now()
            execution.fence = 1
            self.creating.add(execution.id)
        else:
            self.backlog = True
            self.note_wake(execution.wake_at)
        self.committer.create(execution, functools.partial(self._created, execution, known, takes, created))

    def _created(
        self,
        execution: Execution,
        workflow: Workflow[..., Any] | None,
        takes: bool,
        created: Created,
        verdict: Verdict,
        error: BaseException | None,
    ) -> None:
        self.creating.discard(execution.id)
        created(verdict, error)
        if verdict != Verdict.OK or error is not None:
            return
        if takes and not (self.registered and execution.owner == self.record.id):
            return  # recorded under the name of one who was declared dead: whoever takes that over runs it
        if takes and workflow is not None:
            self.adopt(execution, workflow, [], None)
            if self.claims.is_alone() and execution.id in self.runs:
                self.runs[execution.id].release()
        elif execution.wake_at is None:
            if workflow is not None:
                self.submitted.add(execution.id)
            self.poke()

    def adopt(
        self, execution: Execution, workflow: Workflow[..., Any], entries: list[Entry], inbox: Inbox | None
    ) -> None:
        if self.draining and self.fatal is None and not self.registered:
            return
        run = self.runs[execution.id] = Run(self, execution, workflow)
        if self.listeners:
            self.tell(EXECUTION_BEGAN, execution)
        try:
            run.begin(entries, inbox)
        except Exception as error:
            run.broken(error)
        if self.draining:
            run.release()

    # Looking for work -----------------------------------------------------------------------------------

    def poke(self) -> None:
        """There may be something to do: look soon."""
        self._poke.set()

    def _look(self) -> None:
        """Something came from elsewhere, or may have: look at everything."""
        self._look_around = True
        self._poke.set()

    def note_wake(self, when: int | None) -> None:
        """Something will be due then: look at that time."""
        self.wakeups.add(when)

    def _due(self) -> None:
        self.backlog = True
        self.poke()

    async def _poll(self) -> None:
        while True:
            self._poke.clear()
            try:
                await self._tick()
                self.reaches_store = True
                pause = self._next_pause()
            except StoreUnavailableError as error:
                if self.reaches_store:
                    logger.warning("worker %s: %s; trying again", self.record.id, error)
                self.reaches_store, pause = False, 0.25
            except Exception:  # a worker that no longer looks would hold up everything, without a word
                logger.exception("worker %s could not look for work; trying again", self.record.id)
                pause = 0.25
            if not self._poke.is_set():
                await self._wait(pause)

    def _next_pause(self) -> float:
        """Seconds until the next regular look: longer and longer while there is nothing to do."""
        if self._saw_work or self.runs or self.claims.loading or self.creating or self.claims.took:
            self._pause = self.poll
        else:
            self._pause = min(self.idle_poll, self._pause * SLOWER)
        self.claims.took = self._saw_work = False
        return self._pause

    async def _wait(self, pause: float) -> None:
        alarm = self.clock.call_at(self.clock.now() + round(pause * 1_000_000), self._look, lazily=True)
        hint = self.loop.create_task(self._listen(pause))
        try:
            await self._poke.wait()
        finally:
            alarm.cancel()
            hint.cancel()
            await asyncio.wait([hint])

    async def _listen(self, seconds: float) -> None:
        try:
            self._told |= await self.store.changed(seconds)
        except StoreUnavailableError:
            return  # nothing is heard for now: the next regular look says so
        self._look()

    async def _tick(self) -> None:
        if not self.registered:
            return
        worker, epoch = self.record.id, self.record.epoch
        if not self.store.threaded:
            alive, _ = await self.store.heartbeat(worker, epoch, self.lease)
            if not alive:
                self.loop.call_soon(self._declared_dead, worker)
                return
        sight: Glance | None = None
        if self._look_around:
            self._look_around = False
            if self._told:  # what is there to be claimed need not wait for the look
                self._told = False
                await self.claims.take_ready()
                await asyncio.sleep(0)  # and what was claimed begins before the next question is written
            sight = await self.store.glance(worker, epoch, list(self.workflows), self.queues, build=self.build)
            self._saw_work, outgoing = sight.claimable, sight.outgoing
            if sight.knows_ticks:
                self.expect_tick(sight.tick_at)
            for suspect in sight.suspects:
                if await self.store.declare_dead(suspect):
                    sight = None  # there is more to claim now
                    self.claims.look_for_suspects()
                    logger.warning("worker %s was declared dead by worker %s: taking over what it ran", suspect, worker)
            if self.runs or self.claims.is_in_doubt():
                await self.claims.look_at_own()
            if self.outbox is not None and outgoing:
                sight = None
                await self.outbox.look()
        await self.claims.take_over(sight)

    def asks(self, request_id: str, coder: Any) -> None:
        """A question was asked here, and the answer's type is known."""
        self.asked.pop(request_id, None)
        self.asked[request_id] = coder
        if len(self.asked) > QUESTIONS:
            del self.asked[next(iter(self.asked))]

    def announce(self, requests: Sequence[Request], what: str = "asked") -> None:
        """Something is asked of people, durably: notifiers may hear of it."""
        self.tell_people(waits.recorded(self.runs, requests) if what == "asked" else requests, what)

    # What executions ask of their worker ------------------------------------------------------------------

    def hint(self, execution_id: str | None) -> None:
        """Something was delivered to this execution."""
        run = self.runs.get(execution_id or "")
        if run is not None:
            self.refreshing.wants(run)
        else:
            self.poke()

    def is_local_any(self, ids: Iterable[str]) -> bool:
        """Is any of these executions in this worker's memory (or about to be)?"""
        return any(i in self.runs or i in self.creating for i in ids)

    def left(self, run: Run, change: Change) -> None:
        """An execution has left this worker's memory, and its row says how."""
        self.forget(run)
        self.claims.someone_left()
        if self.listeners:
            self.tell(EXECUTION_LEFT, run.execution, change.status.value)
        self.note_wake(change.wake_at)
        if change.status is Status.PENDING or self.backlog:
            self.poke()
        parent = self.runs.get(run.execution.parent_id or "")
        if parent is not None:
            if change.status in ENDED:
                self.refreshing.wants(parent)
            else:
                self.loop.call_soon(parent.rest)
        elif run.execution.parent_id is not None and change.status in ENDED:
            self.poke()
        self.notify_left(run.id, change)

    def tell(self, name: str, execution: Execution | None = None, status: str | None = None) -> None:
        """Tell the listeners, if there are any."""
        if self.listeners:
            now, id = self.clock.now(), execution.id if execution is not None else None
            workflow = execution.workflow if execution is not None else None
            tell(self.listeners, Happening(name, self.record.id, now, id, workflow, status))

    def dropped(self, run: Run, error: LeaseLostError) -> None:
        """An execution turned out to be another's."""
        logger.error("%s", error)
        self.forget(run)
        self.claims.someone_left()
        self.notify_left(run.id, None)

    def forget(self, run: Run) -> None:
        """An execution is in memory no more."""
        if self.runs.get(run.id) is run:
            del self.runs[run.id]


def _raise(error: BaseException) -> None:
    raise error


def _nobody(*news: object) -> None:
    """Nobody wants to hear of it."""
