"""The face: start executions, see how they stand, answer, signal, cancel."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from perdure import bulk, schedules, starting, verifying
from perdure.capturing import ALL, check_capture
from perdure.checking import check_positive, check_size
from perdure.clock import Clock, Duration, SystemClock, micros, new_id
from perdure.codec import checksum
from perdure.deciding import Directory
from perdure.errors import (
    AlreadyExistsError,
    NotFoundError,
    PerdureError,
)
from perdure.handle import Handle
from perdure.housekeeping import Housekeeping
from perdure.keys import NAMESPACE_MARK, check_execution_id
from perdure.loop import install_generator_hooks
from perdure.notices import Notices, Notifier
from perdure.outbox import Outbox
from perdure.outcome import User
from perdure.people import People
from perdure.protection import KEYS, Protection
from perdure.queues import Queue, check_queue
from perdure.records import Counts, Entry, Execution, Outgoing, Page, Schedule, Verdict
from perdure.records import Query as RowQuery
from perdure.registering import attributes_of, build_of, checked, registered
from perdure.resources import Resources
from perdure.schedules import ScheduleView
from perdure.scope import ENGINE_THREADS
from perdure.sealing import Encryption
from perdure.search import Query, row_query
from perdure.settings import default_url
from perdure.store import Store, room
from perdure.stores import open_store
from perdure.stores.namespaced import DEFAULT, DefaultInsight, NamespacedStore
from perdure.stores.sealed import SealedStore
from perdure.streams import Live
from perdure.telemetry import Listener
from perdure.unawaited import name_unawaited_calls
from perdure.watch import RowReader, Watch
from perdure.worker import FOREVER, Worker
from perdure.workflow import Workflow

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("perdure")


def _protection(codec: Protection | Encryption | None) -> Protection:
    if codec is None and os.environ.get(KEYS):
        try:
            codec = Encryption.from_text(os.environ[KEYS])
        except ValueError as error:
            raise PerdureError(f"{KEYS} holds no keys: {error}") from None
    if not isinstance(codec, Protection | Encryption | None):
        raise TypeError(f"codec= is an Encryption or a Protection, not {codec!r:.100}")
    return codec if isinstance(codec, Protection) else Protection(codec, hides=False)


class Engine(People):
    """Runs workflows on a store, and takes over those whose worker died.

    `url`: a URL (`memory://`, `sqlite:///file.db`, `postgresql://...`), a `Store`, or a database of Django's settings.
    None: PERDURE_DATABASE_URL, else DATABASE_URL (environment, then `.env` here or above), else memory. On a server:
    `schema`, `table_prefix`: where our tables are; `pool`: how many connections, or one of yours (see `PostgresStore`).
    `worker=False` only submits, answers and looks. `workflows`: those that run here; None: all that are imported.
    `queues`: those that are served (names, or `Queue`s with limits). `concurrency`: executions in memory at once.
    `lease`: seconds a worker lives without a heartbeat. `poll`: seconds between looks. `build`: names a deploy.
    `namespace`: several applications in one database see only their own executions, queues and schedules.
    `retention`: how long ended executions are kept (seconds or a timedelta; None: until they are pruned by hand).
    `capture`: what is recorded of variables, to be looked at: "all", "names" (and types), "off"; a workflow's own wins.
    `codec`: an `Encryption`, or a `Protection`; None: the keys in PERDURE_ENCRYPTION_KEYS, else nothing is encrypted.
    `directory`: an async function that gives the `User` of a name, with roles. `notifiers`: tell people what is asked
    (see `perdure.notifiers`). `listeners`: are told what happens (see `Happening`). `resources`: by kind, what makes
    them (see `resource`).

    >>> async with Engine("sqlite:///perdure.db") as engine:
    ...     value = await engine.run(fulfil, order)
    """

    def __init__(
        self,
        url: str | Path | Store | Mapping[str, Any] | None = None,
        *,
        worker: bool = True,
        workflows: Sequence[Workflow[..., Any]] | None = None,
        queues: Sequence[str | Queue] = ("default",),
        concurrency: int = 100,
        lease: float = 15.0,
        poll: float | None = None,
        build: str | None = None,
        retention: Duration | None = None,
        namespace: str = DEFAULT,
        codec: Protection | Encryption | None = None,
        capture: str = "all",
        resources: Mapping[Any, Callable[[], Any]] | None = None,
        listeners: Sequence[Listener] = (),
        directory: Directory | None = None,
        notifiers: Sequence[Notifier] = (),
        clock: Clock | None = None,
        schema: str | None = None,
        table_prefix: str = "",
        pool: Any = None,
    ) -> None:
        if isinstance(queues, str):
            raise ValueError(f"queues= is a list of queues: [{queues!r}]")
        for queue in queues:
            check_queue(queue if isinstance(queue, str) else queue.name)
        check_positive("concurrency", concurrency)
        if not micros(lease) > 0:
            raise ValueError("lease= must be positive")
        if url is None:
            url = default_url(os.environ, Path.cwd())
        self.protection = _protection(codec)
        self.new_store = partial(open_store, url, schema=schema, table_prefix=table_prefix, pool=pool)
        self.store: Store = self.new_store()
        if self.protection.encryption is not None:
            self.store = cast(Store, SealedStore(self.store, self.protection.encryption))
        self.insight: Store = cast(Store, DefaultInsight(self.store))
        if namespace != DEFAULT:
            self.store = self.insight = cast(Store, NamespacedStore(self.store, namespace))
        self._namespace = namespace
        self.clock: Clock = clock or SystemClock()
        self._given = workflows
        self._with_worker = worker
        self._queues = queues
        self._concurrency = concurrency
        self._lease = lease
        self._poll = poll
        self._given_build = build
        self.capture = check_capture(capture) or ALL
        self._retention = None if retention is None else micros(retention)
        self._factories = dict(resources or {})
        self._listeners = tuple(listeners)
        self.directory = directory
        self._notices = Notices(notifiers)
        self.build = build or ""
        self.live = Live()
        self._chores: Housekeeping | None = None
        self._undo_hooks: Any = None
        self._open = False
        self._submit: Worker | None = None
        self.worker: Worker | None = None
        self.watch: Watch
        self._outbox = Outbox(self.store, self.clock, self._came)

    # Opening ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        if self._open:
            raise PerdureError("this engine is open already")
        self._workflows = registered(self._given)
        try:
            if isinstance(self.clock, SystemClock):
                self.clock.loop = asyncio.get_running_loop()
                await self.store.open()
            else:
                await self._open_with_clock()
            poll = self._poll if self._poll is not None else self.store.poll
            self._rows = RowReader(self.insight)
            self.watch = Watch(self.store, self.clock, min(poll, 1.0), self._is_local, self._is_near)
            if self._with_worker:
                self._undo_hooks = install_generator_hooks()
                name_unawaited_calls()
                if self._given_build is None:
                    self.build = build_of(list(self._workflows.values()))
                self.worker = Worker(
                    self.store,
                    self.clock,
                    self._workflows,
                    queues=self._queues,
                    concurrency=self._concurrency,
                    lease=self.store.lease or self._lease,
                    poll=poll,
                    idle_poll=self.store.idle_poll if self._poll is None else poll,
                    build=self.build,
                    left=self.watch.left,
                    live=self.live,
                    protection=self.protection,
                    capture=self.capture,
                    resources=Resources(self._factories),
                    listeners=self._listeners,
                    outbox=self._outbox,
                )
                self._chores = Housekeeping(self.insight, self.clock, self._start_row, self._retention)
                self.worker.expect_tick = self._chores.expect
                self.worker.tell_people = self._notices.tell
                with self.protection.encoding():  # what the worker starts inherits it
                    await self.worker.start()
                self._chores.begin()
        except BaseException:
            if self._undo_hooks is not None:
                self._undo_hooks()
            await self.store.close()
            raise
        await self._warn_of_keys()
        self._open = True
        self._thread = threading.get_ident()
        ENGINE_THREADS[self._thread] += 1
        return self

    async def _warn_of_keys(self) -> None:
        """An engine that was forgotten when the others got their keys would record in plain."""
        if self.protection.encryption is None:
            newest = await self.store.list(RowQuery(), 1, None)
            if any(row.encoding.endswith("+aes") for row in newest.items):
                logger.warning(
                    "%s holds encrypted executions, and this engine has no keys: it reads none of them, and what it"
                    " records stays readable. Give it codec=, or set %s",
                    self.store.url,
                    KEYS,
                )

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
            if self._chores is not None:
                await self._chores.end()
            await self._outbox.close()
            await self._notices.close()
            for worker in (self.worker, self._submit):
                if worker is not None:
                    await worker.leave()
                    await worker.resources.close()
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
        another one, `EncodeError` for an argument that cannot be recorded, `StoreUnavailableError`. With
        `options(connection=)` it returns at once, and the execution is started when your transaction is committed.
        """
        execution = self._execution(checked(workflow), args, kwargs)
        options = workflow.options_
        handle: Handle[Any] = Handle(self, execution.id, workflow)
        if options.connection is not None:
            await self._outbox.put(options.connection, await self._outgoing(workflow, execution))
            return handle
        if options.signal is not None:
            signal = options.signal
            message = handle._message(signal.name, signal.value, signal.id, options.by)
            execution.build = self.build
            await starting.start_with(self.worker or await self._submitter(), execution, message)
            self._hint(execution.id)
        elif await self._create(execution) == Verdict.EXISTS:
            await starting.check_same(self.store, execution)
        return handle

    def _execution(self, workflow: Workflow[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Execution:
        """The row of what is to be started."""
        self._check_open()
        options = workflow.options_
        execution_id = options.execution_id if options.execution_id is not None else new_id(self.clock)
        problem = check_execution_id(execution_id, room(self.store))
        if problem is not None:
            raise ValueError(f"{problem}: {execution_id!r:.100}")
        with self.protection.encoding():
            text, _ = workflow.arguments.bind(tuple(args), kwargs)
        check_size(text, f"the input of {workflow.name}")
        if self.worker is not None and self._given is None and workflow.identity not in self._workflows:
            self._workflows.update(registered(None))
        now = self.clock.now()
        return Execution(
            id=execution_id,
            workflow=options.name,
            version=options.version,
            queue=options.queue or "default",
            priority=options.priority,
            input=text,
            checksum=checksum(text, None, None),
            wake_at=options.wake_at if options.delay is None else now + options.delay,
            started_by=options.by,
            attributes=attributes_of(options),
            build=self.build,
            created_at=now,
            updated_at=now,
        )

    # In users' own transactions -----------------------------------------------------------------------

    async def _outgoing(self, workflow: Workflow[..., Any], execution: Execution) -> Sequence[Outgoing]:
        """What a start writes into a transaction of the user's."""
        options, signal = workflow.options_, workflow.options_.signal
        if options.execution_id is not None and await self.store.get([execution.id]):
            await starting.check_same(self.store, execution, whatever_input=signal is not None)
        rows = [self.store.outgoing(execution, any_input=signal is not None)]
        if signal is not None:
            sent = self.get(execution.id)._message(signal.name, signal.value, signal.id, options.by)
            rows.append(self.store.outgoing(sent))
        return rows

    def _came(self, execution_id: str) -> None:
        """Something of the outbox was delivered to this execution."""
        if self.worker is not None:
            self.worker.backlog = True
        self._hint(execution_id)

    async def outbox(self, *, limit: int = 1000) -> Sequence[Outgoing]:
        """What was started or sent with `connection=` in committed transactions and is not delivered.

        Those with `refused` say why they cannot be, and stay until they are dismissed; the others are due.
        """
        check_positive("limit", limit)
        return await self.insight.outbox(limit)

    async def dismiss(self, *rows: Outgoing) -> int:
        """Forget what was refused (see `outbox`). Gives how many rows that were."""
        return await self.store.dismiss([row.id for row in rows])

    # Starting -----------------------------------------------------------------------------------------

    async def _create_from(self, execution: Execution, entries: Sequence[Entry]) -> bool:
        """Have an execution recorded together with the journal that it begins with. False: its id is taken."""
        worker = self.worker or await self._submitter()
        execution.build = worker.build
        return await starting.start_from(worker, execution, entries)

    async def _create(self, execution: Execution) -> Verdict:
        """Have an execution recorded. Gives OK or EXISTS."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def created(verdict: Verdict, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(verdict)

        worker = self.worker or await self._submitter()
        execution.build = worker.build
        worker.create(execution, created)
        return await future

    async def _start_row(self, execution: Execution) -> None:
        """Start what a schedule asks for; that the same is there already is no error."""
        if await self._create(execution) == Verdict.EXISTS:
            row = (await self.store.get([execution.id])).get(execution.id)
            if row is not None and row.started_by != execution.started_by:
                raise AlreadyExistsError(f"{execution.id} exists and is no tick of it", execution_id=execution.id)

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
                build=self.build,
                left=self.watch.left,
                live=self.live,
            )
            await submitter._register()
            self._submit = submitter
        return self._submit

    async def run(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Start an execution and wait for its result."""
        if checked(workflow).options_.connection is not None:
            raise ValueError("run() waits for the end, which comes after your COMMIT: with connection= use start()")
        handle = await self.start(workflow, *args, **kwargs)
        return await handle.result()

    def client(self) -> Engine:
        """Another engine on the same database, which only submits, answers and looks."""
        return Engine(
            self.new_store(),
            worker=False,
            workflows=self._given,
            build=self._given_build,
            codec=self.protection,
            capture=self.capture,
            clock=self.clock,
            namespace=self._namespace,
            directory=self.directory,
        )

    def get(self, execution_id: str) -> Handle[Any]:
        """A handle; asks nobody. Its methods raise `NotFoundError` if there is no such execution."""
        if not isinstance(execution_id, str):
            raise TypeError(f"an execution's id is a text, not {execution_id!r:.100}")
        if execution_id.startswith(NAMESPACE_MARK):
            raise NotFoundError(f"{execution_id} is in another namespace: say which, namespace=")
        return Handle(self, execution_id, None)

    # Looking ------------------------------------------------------------------------------------------

    async def list(self, query: Query | RowQuery | None = None, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Executions, newest first: a page of `items`, and the `cursor` of the next one (None at the end).

        Where no index helps (a text, say), a page looks at some thousands of executions: it may be shorter than
        `limit`, even empty, though a cursor follows.
        """
        self._check_open()
        check_positive("limit", limit)
        return await self.insight.list(row_query(query), limit, cursor)

    async def count(self, query: Query | RowQuery | None = None, *, at_most: int | None = 10_000) -> Counts:
        """How many executions, by status.

        By workflow, version, queue and status it is known at once, however many there are (in a namespace: not by
        version); for other queries they are counted. `at_most`: it looks at no more than so many of them. If there are
        more, what it gives may be less than there are, and is not `complete`; as text it is "10,000+" then. None: it
        looks at all, which may take seconds.
        ```python
        found = await engine.count(Query(text="refund"))
        exact = found if found.complete else await engine.count(Query(text="refund"), at_most=None)
        ```
        """
        self._check_open()
        if at_most is not None:
            check_positive("at_most", at_most)
        return await self.insight.count(row_query(query), at_most)

    async def _row(self, execution_id: str) -> Execution:
        self._check_open()
        await self._outbox.look_for(execution_id)
        row = await self._rows.get(execution_id)
        if row is None:
            self._outbox.check_started(execution_id)
            raise NotFoundError(f"there is no execution {execution_id} in {self.store.url}", execution_id=execution_id)
        return row

    # Many at once -------------------------------------------------------------------------------------

    async def cancel(
        self, query: Query, *, dry_run: bool = False, reason: str | None = None, by: str | User | None = None
    ) -> bulk.Done:
        """Cancel what the query finds and has not ended. `dry_run`: only tell which."""
        return await bulk.each(self, query, bulk.OPEN, lambda h: h.cancel(reason=reason, by=by), dry_run)

    async def pause(
        self, query: Query, *, dry_run: bool = False, reason: str | None = None, by: str | User | None = None
    ) -> bulk.Done:
        """Pause what the query finds and is pending, running or waiting."""
        return await bulk.each(self, query, bulk.GOING, lambda h: h.pause(reason=reason, by=by), dry_run)

    async def resume(self, query: Query, *, dry_run: bool = False, by: str | User | None = None) -> bulk.Done:
        """Resume what the query finds and is paused or blocked."""
        return await bulk.each(self, query, bulk.STANDING, lambda h: h.resume(by=by), dry_run)

    async def retry(self, query: Query, *, dry_run: bool = False, by: str | User | None = None) -> bulk.Done:
        """Retry what the query finds and has failed."""
        return await bulk.each(self, query, bulk.FAILED, lambda h: h.retry(by=by), dry_run)

    async def prune(
        self, query: Query | None = None, *, older_than: Duration | None = None, dry_run: bool = False
    ) -> bulk.Done:
        """Remove ended executions that the query finds, with all that belongs to them.

        `older_than` (seconds or a timedelta): only those that ended so long ago. What an open parent or child needs
        stays.
        """
        return await bulk.prune(self, query or Query(), older_than, dry_run)

    async def stats(self) -> bulk.Stats:
        """How many executions stand where, the workers, and how many requests wait for somebody."""
        self._check_open()
        return await bulk.stats(self.insight)

    def verify(self, query: Query | None = None) -> AsyncIterator[verifying.Verified]:
        """Replay what the query finds and has not ended on the workflows known here, and record nothing.

        Gives a `Verified` for each, as they come: would this code block it, and why?
        """
        self._check_open()
        return verifying.verify(self.insight, self._workflows, row_query(query), self.protection)

    # Schedules ----------------------------------------------------------------------------------------

    async def schedule(
        self,
        name: str,
        workflow: Workflow[..., Any],
        *,
        cron: str,
        timezone: str = "UTC",
        overlap: str = "skip",
        backfill: bool = False,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> ScheduleView:
        """Start a workflow by the clock: each tick at most once, whichever worker is first.

        `cron`: five fields, as cron has them, in `timezone`. A fixed time in the hour that summer time skips comes
        right after it, one in the hour that comes twice comes once; an expression whose minutes or hours begin with `*`
        is an interval: nothing comes in the skipped hour, and all twice in the repeated one. `overlap`: if the last one
        has not ended, "skip" this tick, "queue" it until then, or "allow" both. `backfill`: after a time without any
        worker start all missed ticks (else only the latest). The same name again changes it; with the same times it
        goes on as it was. Raises `ValueError` for what is no expression, zone or name, `EncodeError`, `TypeError` for
        wrong arguments.
        """
        self._check_open()
        checked(workflow)
        with self.protection.encoding():
            text, _ = workflow.arguments.bind(tuple(args), dict(kwargs or {}))
        now = self.clock.now()
        wanted = Schedule(
            name, *workflow.identity, cron, timezone, overlap, backfill, text, workflow.options_.queue, created_at=now
        )
        known = {row.name: row for row in await self.insight.schedules()}
        made = schedules.make(wanted, known.get(name), now)
        await self.store.put_schedule(made)
        self._look_at_schedules()
        return schedules.view(made)

    async def schedules(self) -> Sequence[ScheduleView]:
        """All schedules, by name."""
        return [schedules.view(row) for row in await self.insight.schedules()]

    async def pause_schedule(self, name: str) -> None:
        """Let it start nothing until it is resumed. Raises `NotFoundError`."""
        await self._set_schedule(name, paused=True)

    async def resume_schedule(self, name: str) -> None:
        """Let it go on with its next tick from now. Raises `NotFoundError`."""
        await self._set_schedule(name, paused=False)

    async def remove_schedule(self, name: str) -> None:
        """Remove it; what it started goes on. Raises `NotFoundError`."""
        if not await self.store.remove_schedule(name):
            raise NotFoundError(f"there is no schedule {name} in {self.store.url}")

    async def _set_schedule(self, name: str, *, paused: bool) -> None:
        self._check_open()
        row = next((row for row in await self.insight.schedules() if row.name == name), None)
        if row is None:
            raise NotFoundError(f"there is no schedule {name} in {self.store.url}")
        if row.paused and not paused:
            row.next_at = schedules.next_tick(row.cron, row.timezone, self.clock.now())
        row.paused = paused
        await self.store.put_schedule(row)
        self._look_at_schedules()

    def _look_at_schedules(self) -> None:
        if self._chores is not None:
            self._chores.look()

    def _hint(self, execution_id: str) -> None:
        if self.worker is not None:
            self.worker.hint(execution_id)
