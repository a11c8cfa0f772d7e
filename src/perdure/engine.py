"""The face: start executions, see how they stand, answer, signal, cancel."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from perdure import views
from perdure.cancelling import cancel
from perdure.clock import Clock, Duration, SystemClock, micros, new_id, to_datetime
from perdure.codec import CODEC, checksum
from perdure.errors import (
    AlreadyDecidedError,
    AlreadyExistsError,
    InvalidAnswerError,
    NotFoundError,
    PerdureError,
    StoreUnavailableError,
)
from perdure.keys import check_execution_id
from perdure.loop import install_generator_hooks
from perdure.outcome import Cancelled, OpenRequest, Outcome, User, Waiting
from perdure.records import (
    Answer,
    Execution,
    Message,
    Page,
    Post,
    Query,
    Request,
    Resume,
    Status,
    Verdict,
)
from perdure.schema import check
from perdure.scope import ENGINE_THREADS
from perdure.settings import find_url, hide_password
from perdure.store import Store
from perdure.stores import open_store
from perdure.views import HistoryEntry, outcome_of, raise_or_value, request_view
from perdure.watch import MOVING, RowReader, Watch
from perdure.worker import FOREVER, Worker
from perdure.workflow import REGISTRY, Workflow

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("perdure")


def _registered(workflows: Sequence[Workflow[..., Any]] | None) -> dict[tuple[str, int], Workflow[..., Any]]:
    found: dict[tuple[str, int], Workflow[..., Any]] = {}
    candidates = [w for known in REGISTRY.values() for w in known] if workflows is None else workflows
    for made in candidates:
        other = found.get(made.identity)
        if other is not None and other.function is not made.function:
            raise AlreadyExistsError(
                f"two workflows are named {made.name!r} version {made.version}: {other.source} and {made.source}."
                " Name one of them otherwise, or give the engine workflows=[...]"
            )
        found[made.identity] = made
    return found


def _build_of(workflows: Sequence[Workflow[..., Any]]) -> str:
    """A digest of the files that hold these workflows: tells one deploy from another."""
    digest = hashlib.sha256()
    for path in sorted({w.source.rsplit(":", 1)[0] for w in workflows}):
        with suppress(OSError):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:12]


class Engine:
    """Runs workflows on a store, and takes over those whose worker died.

    `url`: a URL (`memory://`, `sqlite:///file.db`, `postgresql://...`) or a `Store`. None: PERDURE_DATABASE_URL, else
    DATABASE_URL (environment, then `.env` here or above), else memory. `worker=False` only submits, answers
    and looks. `workflows`: those that run here; None: all that are imported. `queues`: those that are served.
    `concurrency`: executions in memory at once. `lease`: seconds a worker lives without a heartbeat.
    `poll`: seconds between regular looks for work. `build`: names this deploy in the journal.

    >>> async with Engine("sqlite:///perdure.db") as engine:
    ...     value = await engine.run(fulfil, order)
    """

    def __init__(
        self,
        url: str | Path | Store | None = None,
        *,
        worker: bool = True,
        workflows: Sequence[Workflow[..., Any]] | None = None,
        queues: Sequence[str] = ("default",),
        concurrency: int = 100,
        lease: float = 15.0,
        poll: float | None = None,
        build: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency= must be at least 1")
        if lease <= 0:
            raise ValueError("lease= must be positive")
        if url is None:
            found = find_url(os.environ, Path.cwd())
            if found is None:
                logger.info("no URL given and none found: executions are kept in memory and end with this process")
                url = "memory://"
            else:
                url, where = found
                logger.info("the store is %s (from %s)", hide_password(url), where)
        self.store: Store = open_store(url)
        self.clock: Clock = clock or SystemClock()
        self._given = workflows
        self._with_worker = worker
        self._queues = queues
        self._concurrency = concurrency
        self._lease = lease
        self._poll = poll
        self._build = build
        self._undo_hooks: Any = None
        self._open = False
        self._submit: Worker | None = None
        self.worker: Worker | None = None
        self.watch: Watch

    # Opening ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        if self._open:
            raise PerdureError("this engine is open already")
        self._workflows = _registered(self._given)
        try:
            if isinstance(self.clock, SystemClock):
                self.clock.loop = asyncio.get_running_loop()
                await self.store.open()
            else:
                await self._open_with_clock()
            poll = self._poll if self._poll is not None else self.store.poll
            self._rows = RowReader(self.store)
            self.watch = Watch(self.store, self.clock, min(poll, 1.0), self._is_local, self._is_near)
            if self._with_worker:
                self._undo_hooks = install_generator_hooks()
                self.worker = Worker(
                    self.store,
                    self.clock,
                    self._workflows,
                    queues=self._queues,
                    concurrency=self._concurrency,
                    lease=self.store.lease or self._lease,
                    poll=poll,
                    build=self._build if self._build is not None else _build_of(list(self._workflows.values())),
                    left=self.watch.left,
                )
                await self.worker.start()
        except BaseException:
            if self._undo_hooks is not None:
                self._undo_hooks()
            await self.store.close()
            raise
        self._open = True
        self._thread = threading.get_ident()
        ENGINE_THREADS[self._thread] += 1
        return self

    async def _open_with_clock(self) -> None:
        if hasattr(self.store, "clock"):
            self.store.clock = self.clock
        await self.store.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        ENGINE_THREADS[self._thread] -= 1
        try:
            for worker in (self.worker, self._submit):
                if worker is not None:
                    await worker.leave()
            await self.watch.close()
        finally:
            if self._undo_hooks is not None:
                self._undo_hooks()
            await self.store.close()

    def _is_local(self, execution_id: str) -> bool:
        worker = self.worker
        return worker is not None and (execution_id in worker.runs or execution_id in worker.creating)

    def _is_near(self, execution_id: str) -> bool:
        return self.worker is not None and execution_id in self.worker.submitted

    def _check_open(self) -> None:
        if not self._open:
            raise PerdureError("the engine is not open: use `async with engine:`")

    # Starting -----------------------------------------------------------------------------------------

    async def start(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start an execution; returns once that is durable.

        The same id, workflow and input again is the same execution. Raises `AlreadyExistsError` if the id belongs to
        another one, `EncodeError` for an argument that cannot be recorded, `StoreUnavailableError`.
        """
        self._check_open()
        if not isinstance(workflow, Workflow):
            raise TypeError(f"{workflow!r} is no workflow: mark the function with @workflow")
        options = workflow.options_
        execution_id = options.execution_id if options.execution_id is not None else new_id(self.clock)
        problem = check_execution_id(execution_id)
        if problem is not None:
            raise ValueError(f"{problem}: {execution_id!r:.100}")
        text, _ = workflow.arguments.bind(args, kwargs)
        return await self._start(workflow, execution_id, text)

    async def _start(self, workflow: Workflow[..., Any], execution_id: str, text: str) -> Handle[Any]:
        options = workflow.options_
        now = self.clock.now()
        execution = Execution(
            id=execution_id,
            workflow=options.name,
            version=options.version,
            queue=options.queue or "default",
            priority=options.priority,
            input=text,
            checksum=checksum(text, None, None),
            wake_at=options.wake_at if options.delay is None else now + options.delay,
            started_by=options.by,
            attributes=None
            if options.attributes is None
            else CODEC.encode(dict(options.attributes), path="attributes"),
            created_at=now,
            updated_at=now,
        )
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def created(verdict: Verdict, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(verdict)

        worker = self.worker or await self._submitter()
        if self.worker is not None and self._given is None and workflow.identity not in self._workflows:
            self._workflows.update(_registered(None))
        execution.build = worker.build
        worker.create(execution, workflow, created)
        verdict = await future
        if verdict == Verdict.EXISTS:
            await self._check_same(execution)
        return Handle(self, execution_id, workflow)

    async def _submitter(self) -> Worker:
        """What an engine without a worker submits with: a worker that never claims."""
        if self._submit is None:
            submitter = Worker(
                self.store,
                self.clock,
                {},
                queues=(),
                concurrency=1,
                lease=FOREVER,
                poll=FOREVER,
                build=self._build or "",
                left=self.watch.left,
            )
            await submitter._register()
            self._submit = submitter
        return self._submit

    async def _check_same(self, wanted: Execution) -> None:
        row = (await self.store.get([wanted.id])).get(wanted.id)
        if row is None:
            raise StoreUnavailableError(f"{wanted.id} was deleted while it was being started: try again")
        if (row.workflow, row.version) != (wanted.workflow, wanted.version):
            raise AlreadyExistsError(
                f"{wanted.id} exists: it is a {row.workflow} (version {row.version}), not a {wanted.workflow}"
                f" (version {wanted.version})",
                execution_id=wanted.id,
            )
        if row.input != wanted.input:
            raise AlreadyExistsError(
                f"{wanted.id} exists with another input; nothing was changed", execution_id=wanted.id
            )

    async def run(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Start an execution and wait for its result."""
        handle = await self.start(workflow, *args, **kwargs)
        return await handle.result()

    def get(self, execution_id: str) -> Handle[Any]:
        """A handle; asks nobody. Its methods raise `NotFoundError` if there is no such execution."""
        return Handle(self, execution_id, None)

    # Looking ------------------------------------------------------------------------------------------

    async def list(self, query: Query | None = None, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Executions, newest first: a page of `items`, and the `cursor` of the next one (None at the end)."""
        return await self.store.list(query or Query(), limit, cursor)

    async def count(self, query: Query | None = None) -> dict[str, int]:
        """How many executions, by status."""
        return await self.store.count(query or Query())

    async def requests(self, execution_id: str | None = None, *, limit: int = 1000) -> Sequence[OpenRequest]:
        """What waits for somebody, oldest first."""
        rows = await self.store.requests(execution_ids=[execution_id] if execution_id else (), limit=limit)
        return [request_view(row) for row in rows]

    async def _row(self, execution_id: str) -> Execution:
        row = await self._rows.get(execution_id)
        if row is None:
            raise NotFoundError(f"there is no execution {execution_id} in {self.store.url}", execution_id=execution_id)
        return row

    # Answering ----------------------------------------------------------------------------------------

    async def answer(self, request_id: str, value: Any, *, by: str | User | None = None) -> OpenRequest:
        """Answer a request. The first answer stands; an equal repeat is accepted.

        Raises `InvalidAnswerError` for what does not fit (nothing is changed), `AlreadyDecidedError` after another
        answer, an expiry or a withdrawal, `NotFoundError`.
        """
        self._check_open()
        found = await self.store.requests(ids=[request_id], status=None)
        if not found:
            raise NotFoundError(f"there is no request {request_id} in {self.store.url}")
        request = found[0]
        text = _answer_text(request, value)
        who = by if isinstance(by, User) else User(by) if by is not None else None
        delivery = Answer(
            request_id, text, who.id if who else None, who.via if who else None, checksum(text)
        )  # fmt: skip
        receipt = await self.store.deliver(delivery, self.clock.now())
        if receipt.verdict == Verdict.GONE:
            raise NotFoundError(f"there is no request {request_id} in {self.store.url}")
        decided = receipt.request or request
        if receipt.verdict in (Verdict.DECIDED, Verdict.ENDED):
            raise AlreadyDecidedError(_how_decided(decided), execution_id=decided.execution_id, key=decided.key)
        self._hint(decided.execution_id)
        return request_view(decided)

    def _hint(self, execution_id: str) -> None:
        if self.worker is not None:
            self.worker.hint(execution_id)


def _answer_text(request: Request, value: Any) -> str:
    """An answer as text that fits the request's schema."""
    if request.schema is None:
        return CODEC.encode(value, path="answer")
    dump = getattr(value, "model_dump_json", None)
    try:
        raw = dump() if dump is not None else msgspec.json.encode(value).decode()
        text = CODEC.encode(msgspec.json.decode(raw), path="answer")
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise InvalidAnswerError(
            f"the answer to {request.id} cannot be recorded: {error}; nothing was changed"
        ) from error
    problem = check(request.schema, text)
    if problem is not None:
        raise InvalidAnswerError(
            f"the answer to {request.id} does not fit: {problem}; nothing was changed",
            execution_id=request.execution_id,
            key=request.key,
        )
    return text


def _how_decided(request: Request) -> str:
    if request.status == "decided":
        who = f" by {request.answered_by}" if request.answered_by else ""
        when = f" at {to_datetime(request.decided_at):%Y-%m-%d %H:%M:%S} UTC" if request.decided_at else ""
        return f"{request.id} was answered{who}{when}: {request.answer}; that stands"
    if request.status == "open":
        return f"the execution of {request.id} has ended: it needs no answer any more"
    return f"{request.id} is {request.status}: it takes no answer any more"


class Handle(Generic[R]):
    """One execution, wherever it runs."""

    def __init__(self, engine: Engine, execution_id: str, workflow: Workflow[..., R] | None) -> None:
        self.engine = engine
        self.id = execution_id
        self._workflow = workflow

    def __repr__(self) -> str:
        return f"<execution {self.id}>"

    def _known(self, row: Execution) -> Workflow[..., Any] | None:
        return self._workflow or self.engine._workflows.get((row.workflow, row.version))

    async def status(self) -> Status:
        """How its row stands now."""
        return (await self.engine._row(self.id)).status

    async def row(self) -> Execution:
        """Its row."""
        return await self.engine._row(self.id)

    async def outcome(self, timeout: Duration | None = None) -> Outcome:
        """Wait until it ends or needs something; never older than your last command. Raises `TimeoutError`."""
        if timeout is None:
            return await self._outcome(ends=False)
        async with asyncio.timeout(micros(timeout) / 1_000_000):
            return await self._outcome(ends=False)

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait for the end (through waits and pauses) and give the value, or raise the execution's own error.

        Raises `ExecutionCancelledError`, the typed cause of a block (`JournalMismatchError`, `DecodeError`, ...), or
        `TimeoutError`.
        """
        if timeout is None:
            return raise_or_value(await self._outcome(ends=True), self.id)  # type: ignore[no-any-return]
        async with asyncio.timeout(micros(timeout) / 1_000_000):
            return raise_or_value(await self._outcome(ends=True), self.id)  # type: ignore[no-any-return]

    async def _outcome(self, *, ends: bool) -> Outcome:
        engine = self.engine
        pause = 0.005
        while True:
            engine._check_open()
            waiter = engine.watch.wait_for(self.id, ends=ends)
            try:
                near = engine._is_local(self.id) or engine._is_near(self.id)
                change = await waiter if near else None
                if change is not None and change.status in (Status.COMPLETED, Status.FAILED):
                    row = Execution(self.id, "", status=change.status, output=change.output, error=change.error)
                    found = outcome_of(row, self._workflow)
                    if self._workflow is not None and found is not None:
                        return found
                row = await engine._row(self.id)
                found = await self._stands(row, ends)
                if found is not None:
                    return found
                if ends or row.status in MOVING:
                    if not waiter.done():
                        await waiter
                else:
                    # It waits for children that move: look again when something has changed.
                    await engine.store.changed(pause)
                    pause = min(0.25, pause * 1.5)
            finally:
                engine.watch.forget(self.id, waiter)

    async def _stands(self, row: Execution, ends: bool) -> Outcome | None:
        outcome = outcome_of(row, self._known(row))
        if outcome is not None:
            if ends and row.status == Status.PAUSED:
                return None
            return outcome
        if ends:
            return None
        if row.status == Status.WAITING or (row.status == Status.PENDING and _is_delayed(row, self.engine.clock)):
            return await self._waiting(row)
        return None

    async def _waiting(self, row: Execution) -> Waiting | None:
        """It waits, if nothing below it can go on either."""
        below = await self.engine.store.tree(self.id)
        if any(r.status in (Status.PENDING, Status.RUNNING) and not _is_delayed(r, self.engine.clock) for r in below):
            return None
        ids = [self.id, *[r.id for r in below]]
        requests = await self.engine.store.requests(execution_ids=ids)
        again = await self.engine._row(self.id)
        if again.status != row.status or again.nudges != row.nudges:
            return None
        wakes = [r.wake_at for r in (row, *below) if r.wake_at is not None]
        wake = min(wakes, default=None)
        return Waiting([request_view(r) for r in requests], None if wake is None else to_datetime(wake))

    async def requests(self) -> Sequence[OpenRequest]:
        """What it asks of the world now."""
        await self.engine._row(self.id)
        return await self.engine.requests(self.id)

    async def history(self) -> list[HistoryEntry]:
        """Its journal: one entry a durable call, with its intent and failed attempts inside."""
        await self.engine._row(self.id)
        return views.history(await self.engine.store.history(self.id))

    async def signal(self, name: str, value: Any = None, *, id: str | None = None, by: str | None = None) -> None:
        """Send it a message; one with an `id` is delivered once. Raises `PerdureError` if it has ended."""
        engine = self.engine
        engine._check_open()
        text = CODEC.encode(value, path="value")
        message = Message(
            id=f"{self.id}:{id}" if id is not None else new_id(engine.clock),
            execution_id=self.id,
            name=name,
            value=text,
            checksum=checksum(text),
            sent_by=by,
            created_at=engine.clock.now(),
        )
        receipt = await engine.store.deliver(Post(message), engine.clock.now())
        if receipt.verdict == Verdict.GONE:
            await engine._row(self.id)
        if receipt.verdict == Verdict.ENDED:
            raise PerdureError(f"{self.id} has ended: {name!r} was not delivered", execution_id=self.id)
        engine._hint(self.id)

    async def cancel(self, *, reason: str | None = None, by: str | User | None = None) -> Outcome:
        """Cancel it and all its children; returns its end once that is durable (it may have ended before)."""
        engine = self.engine
        engine._check_open()
        who = by.id if isinstance(by, User) else by
        task = asyncio.ensure_future(cancel(engine.store, engine.clock, self.id, who, reason))
        engine._hint(self.id)
        row = await task
        outcome = outcome_of(row, self._known(row))
        return outcome if outcome is not None else Cancelled(who, reason)

    async def resume(self, *, by: str | User | None = None) -> None:
        """Let a paused or blocked execution go on. Raises `PerdureError` if it is neither."""
        engine = self.engine
        engine._check_open()
        who = by.id if isinstance(by, User) else by
        receipt = await engine.store.deliver(Resume(self.id, who), engine.clock.now())
        if receipt.verdict != Verdict.OK:
            row = await engine._row(self.id)
            raise PerdureError(
                f"{self.id} is {row.status}: only a paused or blocked execution is resumed", execution_id=self.id
            )
        engine._hint(self.id)


def _is_delayed(row: Execution, clock: Clock) -> bool:
    return row.status == Status.PENDING and row.wake_at is not None and row.wake_at > clock.now()
