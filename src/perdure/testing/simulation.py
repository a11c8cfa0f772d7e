"""A fleet of workers on virtual time, with everything that goes wrong in years within seconds.

`simulate(seed)` runs random workflows on a shared store: processes crash, stop and go on, lose their leases; the
store is slow, away, or silent about a commit; hints get lost; people answer twice, cancel, send the same message
again. Then the faults end, time passes, and everything must have come to its end. `perdure.testing.invariants`
reads what happened and says what was broken. The same seed is the same history.

>>> assert not simulate(7).violations
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar
from zlib import crc32

from perdure import calls, claims, committer, executor, scope, watch
from perdure.clock import SECOND
from perdure.codec import checksum
from perdure.engine import Engine
from perdure.errors import AlreadyDecidedError, AlreadyExistsError, PerdureError
from perdure.outcome import Blocked, Cancelled, Completed, Failed, Outcome, Waiting
from perdure.records import ENDED, Execution, Query, Status
from perdure.stores.memory import MemoryStore
from perdure.testing.clock import Clock
from perdure.testing.faults import Faults, FaultyStore
from perdure.testing.history import Acknowledged, Dump, History, Replayed
from perdure.testing.invariants import violations
from perdure.testing.lives import KilledError, Life, LoopClock, StuckError, VirtualLoop
from perdure.testing.programs import SCENE, Plan, Planner, receives, simulated
from perdure.testing.scene import Ledger
from perdure.workflow import Workflow

T = TypeVar("T")

_EXTRA = re.compile(r"\(.*")

LEASE = 3.0
POLL = 0.5
CHAOS = 20.0
"""Virtual seconds for which things go wrong."""

PATIENCE = 400.0
"""Virtual seconds in which everything must end after that."""


MANY = 20_000
"""Events of a simulation, of which no sound one has a fifth: it goes round and round."""


@dataclass(slots=True)
class Report:
    """What came of a simulation. `violations`: a line in words for each, empty if all is well."""

    seed: int
    violations: list[str]
    history: History

    @property
    def digest(self) -> str:
        return self.history.digest()


def simulate(
    seed: int,
    *,
    workers: int = 3,
    executions: int = 6,
    faults: Faults | None = None,
    store_factory: Callable[[LoopClock], Any] | None = None,
) -> Report:
    """Run one simulation to its end and check what happened. Must not be called from a running event loop.

    `store_factory` makes the shared store (a `MemoryStore` or a subclass of it) on the simulation's clock.
    """
    history = play(Simulation, seed, workers, executions, faults or Faults(), store_factory or _memory)
    return Report(seed, violations(history), history)


def play(
    kind: type[Simulation],
    seed: int,
    workers: int,
    executions: int,
    faults: Faults,
    store_factory: Callable[[LoopClock], Any],
) -> History:
    """Run a simulation of this kind to its end. Gives what happened."""
    clock = LoopClock(seed=seed)
    loop = VirtualLoop(clock)
    hooks = sys.get_asyncgen_hooks()
    simulation = kind(seed, loop, workers, executions, faults, store_factory)
    with _steady(seed):
        try:
            loop.run_until_complete(simulation.run())
        except StuckError as error:
            simulation.history.faults.append(f"I21 {error}")
        finally:
            with suppress(StuckError):
                simulation.clean_up()
            loop.close()
            sys.set_asyncgen_hooks(*hooks)
    return simulation.history


def _memory(clock: LoopClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@contextmanager
def _steady(seed: int) -> Iterator[None]:
    """Take the process's own time, randomness and addresses out of the kernel, and its log off the screen."""
    rng = random.Random(f"{seed}:values")
    made = SimpleNamespace(uuid4=lambda: uuid.UUID(int=rng.getrandbits(128), version=4), UUID=uuid.UUID)
    source = SimpleNamespace(SystemRandom=lambda: rng, Random=random.Random)
    changes: list[tuple[Any, str, Any]] = [
        (committer, "perf_counter", lambda: 0.0),
        (claims, "perf_counter", lambda: 0.0),
        (watch, "perf_counter", lambda: 0.0),
        (calls, "_uuid", made),
        (calls, "_random", source),
        (executor.Run, "__hash__", lambda run: crc32(run.id.encode())),
        (scope.Call, "__hash__", lambda call: crc32(call.key.encode())),
        (logging.getLogger("perdure"), "disabled", True),
        (logging.getLogger("asyncio"), "disabled", True),
    ]
    before = [(thing, name, getattr(thing, name)) for thing, name, _ in changes]
    for thing, name, value in changes:
        setattr(thing, name, value)
    try:
        yield
    finally:
        for thing, name, value in before:
            setattr(thing, name, value)


@dataclass(slots=True, eq=False)
class Process:
    """An engine in a life of its own."""

    life: Life
    store: FaultyStore
    engine: Engine
    ready: bool = False

    @property
    def serves(self) -> bool:
        return self.ready and not self.life.dead


class Simulation:
    """One simulation."""

    def __init__(
        self,
        seed: int,
        loop: VirtualLoop,
        workers: int,
        executions: int,
        faults: Faults,
        store_factory: Callable[[LoopClock], Any],
    ) -> None:
        self.rng = random.Random(f"{seed}:actors")
        self.loop = loop
        self.clock = loop.clock
        self.slots = workers
        self.faults = faults
        self.store = store_factory(self.clock)
        self.inline = self.rng.random() < 0.3
        self.history = History()
        self.scene = Ledger(self.history, self.clock)
        self.processes: list[Process] = []
        self.calm = False
        self.answers = 0
        self.workflows: list[Workflow[..., Any]] = [simulated]
        planner = Planner(random.Random(f"{seed}:plans"), executions)
        self.plans: dict[str, Plan] = {f"e{n}": planner.plan() for n in range(executions)}
        self.fault_rng = random.Random(f"{seed}:faults")
        loop.set_exception_handler(self._let_fall)

    def _let_fall(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = str(context.get("message"))
        if not isinstance(error, KilledError) and "was destroyed but it is pending" not in message:
            where = [f"{f.name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]] if error else []
            self.history.faults.append(f"let fall: {_EXTRA.sub('', message)}: {error!r} {' '.join(where)}")

    # The course of things -------------------------------------------------------------------------------

    async def run(self) -> None:
        client = await self._launch("client", worker=False)
        slots = [self.loop.create_task(self._slot(n)) for n in range(self.slots)]
        actors = [self.loop.create_task(self._actor(execution)) for execution in self.plans]
        actors.append(self.loop.create_task(self._answerer()))
        await asyncio.sleep(CHAOS)
        self._calm_down()
        for slot in slots:
            slot.cancel()
        await asyncio.wait(slots)
        if not any(p.serves and p is not client for p in self.processes):
            await self._launch("last")
        await self._everything_ends(actors)
        for actor in actors:
            actor.cancel()
        await asyncio.wait(actors)
        for actor in actors:
            if not actor.cancelled() and actor.exception() is not None:
                self.history.faults.append(f"an actor failed: {actor.exception()!r}")
        await self._all_leave()
        self.history.dump = await self._dump()
        await self._replay_all()

    def _calm_down(self) -> None:
        self.calm = True
        for process in self.processes:
            process.store.faults = Faults.none()
            process.store.mute = process.store.away = False
            process.life.thaw()

    async def _everything_ends(self, actors: list[asyncio.Task[None]]) -> None:
        until = self.clock.now() + round(PATIENCE * SECOND)
        while self.clock.now() < until:
            page = await self.store.list(Query(), 10_000, None)
            acting = [a for a in actors[:-1] if not a.done()]
            if not acting and all(row.status in ENDED for row in page.items):
                return
            if len(self.history.events) > MANY:
                self.history.faults.append("I21 it goes round and round, and comes to no end")
                break
            await asyncio.sleep(1.0)
        for row in page.items:
            if row.status not in ENDED:
                self.history.faults.append(
                    f"I21 {row.id} never ended: it is {row.status}, owner {row.owner}, wakes {row.wake_at}"
                )
        for execution, actor in zip(self.plans, actors, strict=False):
            if not actor.done():
                self.history.faults.append(f"I21 a client of {execution} waits for ever")

    async def _all_leave(self) -> None:
        leaving = [p for p in self.processes if p.serves]
        tasks = [p.life.spawn(p.engine.__aexit__(None, None, None)) for p in leaving]
        done, late = await asyncio.wait(tasks, timeout=60.0)
        self.history.faults += [f"an engine did not leave: {task.exception()!r}" for task in done if task.exception()]
        self.history.faults += ["an engine did not leave within a minute" for _ in late]
        for process in leaving:
            process.ready = False

    # Processes ------------------------------------------------------------------------------------------

    async def _launch(self, name: str, *, worker: bool = True) -> Process:
        while True:
            life = Life(f"{name}.{len(self.processes)}", self.loop)
            life.context.run(SCENE.set, self.scene)
            faults = Faults.none() if self.calm else self.faults
            store = FaultyStore(
                self.store, life, self.loop, self.history, self.fault_rng, faults, inline=self.inline, poll=POLL
            )
            engine = Engine(
                store,
                worker=worker,
                workflows=self.workflows,
                clock=self.clock,
                lease=LEASE,
                concurrency=self.rng.choice([2, 100]),
                build="simulated",
            )
            process = Process(life, store, engine)
            self.processes.append(process)
            with suppress(PerdureError, KilledError):
                await life.call(engine.__aenter__())
                process.ready = True
                return process
            await asyncio.sleep(0.1)

    async def _slot(self, number: int) -> None:
        """A place in the fleet: one process after the other."""
        rng = self.rng
        while True:
            process = await self._launch(f"w{number}")
            while not process.life.dead and process.ready:
                await asyncio.wait({process.life.ended}, timeout=rng.uniform(0.3, 6.0))
                if self.faults.stops and not process.life.dead:
                    await self._befall(process)
            await asyncio.sleep(rng.uniform(0.0, 2.0))

    async def _befall(self, process: Process) -> None:
        rng = self.rng
        match rng.choice(["crash", "leave", "freeze", "freeze", "mute", "away", "nothing"]):
            case "crash":
                process.life.kill()
            case "leave":
                process.ready = False
                with suppress(KilledError):
                    await process.life.call(process.engine.__aexit__(None, None, None))
            case "freeze":
                process.life.freeze()
                await asyncio.sleep(rng.uniform(0.5, 9.0))
                process.life.thaw()
            case "mute":
                process.store.mute = True
                await asyncio.sleep(rng.uniform(1.0, 9.0))
                process.store.mute = False
            case "away":
                process.store.away = True
                await asyncio.sleep(rng.uniform(0.2, 6.0))
                process.store.away = False
            case _:
                pass

    # Clients --------------------------------------------------------------------------------------------

    def _note(self, what: str, subject: str, value: Any = None) -> None:
        self.history.events.append(Acknowledged(self.clock.now(), what, subject, value))

    async def _through(self, ask: Callable[[Engine], Coroutine[Any, Any, T]], seconds: float = 30.0) -> T:
        """Ask through one of the engines. Raises `TimeoutError` if it does not answer, `KilledError` if it dies."""
        process = self.rng.choice([p for p in self.processes if p.serves])
        async with asyncio.timeout(seconds):
            return await process.life.call(ask(process.engine))

    async def _actor(self, execution: str) -> None:
        """Starts an execution, sends it what it needs, perhaps cancels it, and waits for its end."""
        rng = self.rng
        await asyncio.sleep(rng.uniform(0.0, CHAOS * 0.6))
        done = False
        while not done:
            done = any(await asyncio.gather(*[self._start(execution) for _ in range(rng.choice([1, 1, 2, 3]))]))
            await asyncio.sleep(0.2)
        if rng.random() < 0.2:
            await self._start(execution, ["seq", ["other", 0]])
        parts = [self._watcher(execution)]
        names = receives(self.plans[execution])
        if names:
            parts.append(self._signaller(execution, names))
        if rng.random() < 0.15:
            parts.append(self._canceller(execution))
        await asyncio.gather(*parts)

    async def _start(self, execution: str, plan: Plan | None = None) -> bool:
        chosen = self.plans[execution] if plan is None else plan
        try:
            handle = await self._through(lambda e: e.start(simulated.options(execution_id=execution), chosen))
        except AlreadyExistsError:
            self._note("taken", execution, chosen)
            return True
        except (PerdureError, TimeoutError, KilledError):
            return False
        self._note("start", handle.id, chosen)
        return True

    async def _watcher(self, execution: str) -> None:
        while True:
            try:
                outcome = await self._through(lambda e: e.get(execution).outcome(), 15.0)
            except (PerdureError, TimeoutError, KilledError):
                continue
            finally:
                await asyncio.sleep(0.3)
            if not isinstance(outcome, Waiting):
                return self._note("outcome", execution, described(outcome))

    async def _signaller(self, execution: str, names: list[str]) -> None:
        for n, name in enumerate(names):
            await asyncio.sleep(self.rng.uniform(0.0, 3.0))
            value = f"signal:{execution}:{name}:{n}"
            done = False
            while not done:
                tries = [self._signal(execution, name, value, f"s{n}") for _ in range(self.rng.choice([1, 1, 2]))]
                done = any(await asyncio.gather(*tries))
                await asyncio.sleep(0.1)

    async def _signal(self, execution: str, name: str, value: str, id: str) -> bool:
        try:
            await self._through(lambda e: e.get(execution).signal(name, value, id=id))
        except PerdureError as error:
            return "has ended" in str(error)
        except (TimeoutError, KilledError):
            return False
        self._note("signal", f"{execution}:{id}", value)
        return True

    async def _canceller(self, execution: str) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, 8.0))
        while True:
            with suppress(PerdureError, TimeoutError, KilledError):
                outcome = await self._through(lambda e: e.get(execution).cancel(reason="enough"))
                return self._note("cancel", execution, described(outcome)[0])
            await asyncio.sleep(0.2)

    async def _answerer(self) -> None:
        while True:
            await asyncio.sleep(0.5 if self.calm else self.rng.uniform(0.1, 2.0))
            with suppress(PerdureError, TimeoutError, KilledError):
                found = await self._through(lambda e: e.requests())
                for request in found:
                    if self.calm or self.rng.random() < 0.5:
                        await self._answer(request.id)

    async def _answer(self, request: str) -> None:
        self.answers += 1
        times = self.rng.choice([1, 1, 2, 3])
        same = self.rng.random() < 0.3
        values = [1000 * self.answers + (0 if same else n) for n in range(times)]
        await asyncio.gather(*[self._answer_with(request, value) for value in values])

    async def _answer_with(self, request: str, value: int) -> None:
        try:
            await self._through(lambda e: e.answer(request, value))
        except AlreadyDecidedError as error:
            self._note("conflict", request, (value, str(error)))
        except (PerdureError, TimeoutError, KilledError):
            return
        else:
            self._note("answer", request, value)

    # Afterwards -----------------------------------------------------------------------------------------

    async def _dump(self) -> Dump:
        rows = (await self.store.list(Query(), 10_000, None)).items
        return Dump(
            {row.id: row for row in rows},
            {row.id: await self.store.history(row.id) for row in rows},
            {request.id: request for request in await self.store.requests(status=None, limit=100_000)},
            dict(self.store._messages),
        )

    async def _replay_all(self) -> None:
        """Each journal that came to an end, once more: it must ask for nothing new."""
        self.clock.spins = 1_000_000  # time stands still here, while the replay's own clock moves
        for row in self.history.dump.executions.values():
            if row.status in (Status.COMPLETED, Status.FAILED):
                scene = Ledger(History(), self.clock)
                SCENE.set(scene)
                self.history.replays[row.id] = await self._replay(row, scene)

    async def _replay(self, row: Execution, scene: Ledger) -> Replayed:
        """Replay a journal to its end, on a store and a clock of its own."""
        clock = Clock(start=self.clock.now())
        store = MemoryStore(clock=clock)
        journal = self.history.dump.journals[row.id]
        again = replace(row, status=Status.PENDING, output=None, error=None, checksum=checksum(row.input, None, None))
        again.wish = again.ended_at = again.parent_id = None
        store.put(again, journal)
        async with Engine(store, workflows=[simulated], clock=clock, build="replayed") as engine:
            waiter = asyncio.ensure_future(engine.get(row.id).outcome())
            try:
                await clock.run_until(waiter, alarms=50)
            except Exception as error:
                waiter.cancel()
                return Replayed([], scene.entered(), "stuck", repr(error), scene.heards())
        status, value = described(waiter.result())
        return Replayed((await store.history(row.id))[len(journal) :], scene.entered(), status, value, scene.heards())

    def clean_up(self) -> None:
        """Take all processes apart, the dead ones too, so that the collector finds nothing to run."""
        for process in self.processes:
            process.store.closed = True
            if process.engine.worker is not None:
                process.engine.worker.committer.dead = True
                process.engine.worker.registered = False
                for run in list(process.engine.worker.runs.values()):
                    run.abandon()
        for process in self.processes:
            process.life.dead = process.life.frozen = False
            process.life.release()
        for _ in range(5):  # so that each body that began is in its task, and hears of its end
            self.loop.run_until_complete(asyncio.sleep(0))
        for _ in range(10):
            tasks = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            if not tasks:
                return
            for task in sorted(tasks, key=lambda task: task.get_name()):
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))


def described(outcome: Outcome) -> tuple[str, Any]:
    """An outcome as a status and a value that can be compared."""
    match outcome:
        case Completed(value):
            return "completed", value
        case Failed(error):
            return "failed", f"{type(error).__name__}: {error}"
        case Cancelled():
            return "cancelled", None
        case Blocked(reason, _):
            return "blocked", reason
        case _:
            return type(outcome).__name__.lower(), None


__all__ = ["Faults", "Report", "simulate"]
