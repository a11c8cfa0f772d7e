"""Does a workflow come to the same end, wherever its process dies?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perdure import nested, rolling
from perdure.engine import Engine
from perdure.errors import PerdureError, StoreUnavailableError
from perdure.options import Signal
from perdure.outcome import (
    Blocked,
    Completed,
    Failed,
    OpenRequest,
    Outcome,
    RollbackFailed,
    RolledBack,
    User,
    Waiting,
)
from perdure.records import Batch, Verdicts
from perdure.stores.memory import MemoryStore
from perdure.testing.clock import Clock
from perdure.workflow import REGISTRY, Workflow

ID = "crashed-everywhere"
PATIENCE = 2.0
"""Real seconds that a body may take before virtual time passes meanwhile."""


@dataclass(slots=True)
class CrashReport:
    """What came of it. Falsy parts are good: `assert not report.differences`.

    `end`: of the undisturbed run. `commits` of it, each a boundary; `crashes`: twice as many, before and after each.
    `differences`: a line in words for each crash after which the end was another one. `repeated`: by the key of a step,
    or of an undo (`undo:pack#1`), how often its body entered more often than undisturbed, at the worst crash: what it
    does must bear that, or be `once=True`.
    """

    end: Outcome
    commits: int
    crashes: int = 0
    differences: list[str] = field(default_factory=list)
    repeated: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{self.crashes} crashes at {self.commits} commits; undisturbed: {_words(self.end)}",
            *self.differences,
        ]
        return "\n".join([*lines, *(f"{key} entered {n} times more" for key, n in self.repeated.items())])


async def crash_everywhere(
    workflow: Workflow[..., Any],
    *args: Any,
    answers: Mapping[str, Any] | None = None,
    signals: Sequence[Signal] = (),
    resources: Mapping[Any, Any] | None = None,
    workflows: Sequence[Workflow[..., Any]] | None = None,
) -> CrashReport:
    """Kill and resume a workflow just before and just after each of its commits, and compare each end with the
    undisturbed one.

    Runs in memory, on virtual time. The bodies of steps run for real, once undisturbed and then in each of the runs; a
    kill cancels those that are under way. `answers`: by message, what its interrupts are answered with, and how its
    approvals are decided, by whoever may (a list: one after the other). `signals`: messages that are sent at the start.
    `workflows`: those that run (None: all imported). An end that holds times or random values differs from run to run.

        report = await crash_everywhere(fulfil, order, answers={"Where to?": "Berlin"})
        assert not report.differences
        assert not report.repeated.keys() & {"charge#1"}
    """
    table, told = dict(answers or {}), tuple(signals)
    if workflows is None:
        workflows = [known[-1] for known in REGISTRY.values()]
    runs = [workflow, *(w for w in workflows if w.identity != workflow.identity)]
    trial = _Trial(workflow, args, table, told, dict(resources or {}), runs)
    with _counted() as entered:
        end, commits = await trial.run(None)
        report = CrashReport(end, commits)
        usual = Counter(entered)
        for commit in range(1, commits + 1):
            for after in (False, True):
                entered.clear()
                other, _ = await trial.run((commit, after))
                report.crashes += 1
                if _compared(other) != _compared(end):
                    where = "after" if after else "before"
                    report.differences.append(f"killed {where} commit {commit}: {_words(other)}, not {_words(end)}")
                for key, times in (Counter(entered) - usual).items():
                    report.repeated[key] = max(times, report.repeated.get(key, 0))
    return report


def _compared(end: Outcome) -> object:
    match end:
        case Failed(error) | Blocked(_, error):
            return type(end), type(error), str(error)
        case RolledBack(error, undone):
            return RolledBack, type(error), str(error), list(undone)
        case RollbackFailed(error, undo_errors):
            stuck = {key: (type(each), str(each)) for key, each in undo_errors.items()}
            return RollbackFailed, type(error), str(error), stuck
        case Waiting(requests):
            return Waiting, sorted(request.id for request in requests)
        case _:
            return end


def _words(end: Outcome) -> str:
    match end:
        case Completed(value):
            return f"it gave {value!r:.200}"
        case Failed(error) | Blocked(_, error):
            return f"it {'failed' if isinstance(end, Failed) else 'is blocked'}: {type(error).__name__}: {error}"
        case Waiting(requests):
            return f"it waits for {[request.message for request in requests] or 'a message'}"
        case _:
            return repr(end)


@contextmanager
def _counted() -> Iterator[list[str]]:
    """The keys of the bodies that are entered, also inside of others, and of the undos."""
    entered: list[str] = []
    before, before_undo = nested._attempt, rolling._Rollback._attempt

    async def attempt(run: Any, call: Any) -> Any:
        entered.append(call.key)
        return await before(run, call)

    async def undo(self: Any, call: Any, args: Any, kwargs: Any) -> Any:
        entered.append(call.key)
        return await before_undo(self, call, args, kwargs)

    _Carriers.entered = entered
    nested._attempt = attempt
    rolling._Rollback._attempt = undo  # type: ignore[method-assign]
    try:
        yield entered
    finally:
        nested._attempt = before
        rolling._Rollback._attempt = before_undo  # type: ignore[method-assign]


class _Carriers:
    """Notes which bodies a worker enters."""

    entered: list[str]

    def __init__(self, carriers: Any) -> None:
        self._carriers = carriers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._carriers, name)

    def start(self, coroutine: Any, call: Any = None) -> Any:
        if call is not None and coroutine.__name__ != "_guarded":  # that one asks a once-only step's verify=
            self.entered.append(call.key)
        return self._carriers.start(coroutine, call)


class _MortalStore:
    """One process's way to the store: at a given commit the process dies, before or after it is recorded."""

    url = "memory://"
    inline = False

    def __init__(self, store: MemoryStore, dies: tuple[int, bool] | None) -> None:
        self._store = store
        self._dies = dies
        self.commits = 0
        self.dead = False
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hanging: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __getattr__(self, name: str) -> Any:
        if self.dead and name not in ("threaded", "lease", "poll", "clock", "close"):
            raise StoreUnavailableError("this process is dead")
        return getattr(self._store, name)

    async def commit(self, batch: Batch) -> Verdicts:
        self.commits += 1
        number, after = self._dies or (0, False)
        if self.commits == number and not after:
            await self._die()
        verdicts = self._store.commit(batch)
        if self.commits == number:
            await self._die()
        return verdicts

    async def _die(self) -> None:
        self.died.set_result(None)
        await self.hanging


class _Trial:
    """One workflow with its input and all that it is given."""

    def __init__(
        self,
        workflow: Workflow[..., Any],
        args: tuple[Any, ...],
        answers: dict[str, Any],
        signals: tuple[Signal, ...],
        resources: dict[Any, Any],
        workflows: Sequence[Workflow[..., Any]],
    ) -> None:
        self.workflow = workflow
        self.args = args
        self.answers = answers
        self.signals = signals
        self.resources = resources
        self.workflows = workflows

    async def run(self, dies: tuple[int, bool] | None) -> tuple[Outcome, int]:
        """Run it to its end, with one crash at the most. Gives the end, and how many commits there were."""
        clock = Clock()
        store = MemoryStore(clock=clock)
        given: dict[str, Any] = {}
        mortal = _MortalStore(store, dies)
        end = await self._live(mortal, clock, given)
        if end is None:  # it was killed: another process takes over
            end = await self._live(_MortalStore(store, None), clock, given)
        assert end is not None
        return end, mortal.commits

    async def _live(self, store: _MortalStore, clock: Clock, given: dict[str, Any]) -> Outcome | None:
        engine = Engine(
            store,
            clock=clock,
            workflows=self.workflows,
            resources=self.resources,
            build="crashed",
        )
        await engine.__aenter__()
        assert engine.worker is not None
        engine.worker.carriers = _Carriers(engine.worker.carriers)  # type: ignore[assignment]
        acting = asyncio.ensure_future(self._act(engine, clock, given))
        try:
            await _let_pass(clock, engine, acting, store.died)
            if not store.died.done():
                commits = store.commits
                end = await acting
                await engine.__aexit__(None, None, None)
                store.commits = commits
                return end
        except BaseException:
            acting.cancel()
            await engine.__aexit__(None, None, None)
            raise
        acting.cancel()
        await _kill(engine, store)
        await asyncio.wait([acting])
        return None

    async def _act(self, engine: Engine, clock: Clock, given: dict[str, Any]) -> Outcome:
        """Start it, send it what it needs, answer what it asks, and wait for its end."""
        handle = await engine.start(self.workflow.options(execution_id=ID), *self.args)
        for n, signal in enumerate(self.signals):
            await handle.signal(signal.name, signal.value, id=signal.id or f"signal-{n}")
        while True:
            outcome: Outcome = await handle.outcome()
            if not isinstance(outcome, Waiting):
                return outcome
            answered = False
            for request in outcome.requests:
                if request.id in given or request.message in self.answers:
                    value = given[request.id] if request.id in given else self._answer(request.message, given)
                    given[request.id] = value
                    await self._settle(engine, request, value)
                    answered = True
            if not answered:
                if outcome.wake_at is None:
                    return outcome
                await clock.sleep(max(0.0, outcome.wake_at.timestamp() - clock.now() / 1_000_000) + 0.001)

    async def _settle(self, engine: Engine, request: OpenRequest, value: Any) -> None:
        if request.kind == "approval":
            approver = next((name for name in request.approvers if not name.startswith("role:")), None)
            roles = [name.removeprefix("role:") for name in request.approvers if name.startswith("role:")]
            who = User(approver or "somebody", roles) if request.approvers else None
            decision = ("approve" if value else "reject") if isinstance(value, bool) else value
            await engine.decide(request.id, decision, by=who)
        else:
            await engine.answer(request.id, value)

    def _answer(self, message: str, given: dict[str, Any]) -> Any:
        value = self.answers[message]
        if not isinstance(value, list):
            return value
        used = given.setdefault(f"\0{message}", 0)
        if used >= len(value):
            raise PerdureError(f"answers= has no further answer for {message!r}")
        given[f"\0{message}"] += 1
        return value[used]


async def _let_pass(clock: Clock, engine: Engine, acting: asyncio.Future[Any], died: asyncio.Future[None]) -> None:
    """Let time pass, whenever no body is at work, until one of these is done."""
    loop = asyncio.get_running_loop()
    seen, since = -1, loop.time()
    while not (acting.done() or died.done()):
        await clock.settle()
        worker = engine.worker
        assert worker is not None
        if any(run.bodies for run in worker.runs.values()):
            state = worker.committer.batches
            if state != seen:
                seen, since = state, loop.time()
            if loop.time() - since < PATIENCE:
                await asyncio.sleep(0.0005)
                continue
        if not acting.done() and not died.done() and not clock.leap():
            raise TimeoutError(f"nothing more happens, and {ID} has not ended")


async def _kill(engine: Engine, store: _MortalStore) -> None:
    """Nothing of the process is recorded any more; what its bodies do is cut short."""
    worker = engine.worker
    assert worker is not None
    number = worker.record.id
    store.dead = worker.draining = worker.committer.dead = True
    worker.registered = False
    under_way = [call.task for run in worker.runs.values() for call in run.working if call.task is not None]
    for run in list(worker.runs.values()):
        run.abandon()
    worker.runs.clear()
    store.hanging.cancel()
    if under_way:
        await asyncio.wait(under_way)
    await engine.__aexit__(None, None, None)
    await store._store.declare_dead(number, anyway=True)
