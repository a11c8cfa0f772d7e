"""A rollback under way: an execution in a worker's memory whose undos run, one after another, the last step's first.

Its row is `rolling_back` meanwhile, and its journal says how far it has come: the order, each failed attempt, the end
of each undo, at last the cut. Whoever takes it over reads that and goes on. Forward work never restarts in between.
An undo that fails for good does not hold up the others: then the row is `rollback_failed`, and a person is asked.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from perdure import bodies, veiling
from perdure.clock import SECOND
from perdure.codec import CODEC, checksum, decode_error, encode_error
from perdure.deliveries import PARENT, Rewind
from perdure.errors import (
    CrashLoopError,
    ExecutionCancelledError,
    RollbackStuckError,
    UnknownOutcomeError,
)
from perdure.journal import ATTEMPT, CUT, RECEIVE, ROLLBACK, UNDO
from perdure.keys import child_id, request_id
from perdure.recalling import NOT_DONE, Past
from perdure.records import Change, Entry, Execution, Inbox, Request, RollbackAction, Status
from perdure.retry import Retry, delay
from perdure.rollback import RETURNS, Order, Plan, Task, open_order, order_of, plan, returns, target
from perdure.scope import CURRENT, STARTED, Call
from perdure.steps import StepOptions, StepSpec
from perdure.store import Store, room
from perdure.undoing import body_of, completed, fitted
from perdure.workflow import Step, SyncStep

if TYPE_CHECKING:
    from perdure.executor import Run

logger = logging.getLogger("perdure")

RETRY = Retry(attempts=5, initial=0.2, factor=3.0, max_interval=10.0, jitter=0.1)
"""How an undo is tried again that is a plain function, and so has no `retry=` of its own."""

CRASHES = 5
"""So often may the owner die in a row, without progress, before the undo that was next counts as failed."""

PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
GIVE_WAY = 300_000
"""Microseconds for which a rollback that waits for a child leaves its place to others."""

SCHEMA = '{"enum":["done","retry"]}'
"""What a person may say of an undo that failed: it is done now, or it shall be tried again."""


class Stop(Exception):
    """This worker gives the rollback up for now; another one, or this one later, goes on."""

    def __init__(self, wake_at: int) -> None:
        super().__init__("for now")
        self.wake_at = wake_at


def begin(run: Run, order: Order | None, error: str | None = None) -> None:
    """Nothing of the execution is under way any more: undo. `error`: what it failed of, as text."""
    run.stopping = _nothing
    run.undoing = _Rollback(run, order, error)
    run.undoing.start()


def _nothing() -> None:
    """What is under way is the rollback."""


class _Rollback:
    """The rollback of one execution."""

    def __init__(self, run: Run, order: Order | None, error: str | None) -> None:
        self.run = run
        self.order = order
        self.error = error if error is not None else run.execution.error
        self.plan = Plan(0, ())
        self.begun: Entry | None = None
        self.entries: list[Entry] = []
        self.last: dict[str, Entry] = {}
        self.attempts: dict[str, Entry] = {}
        self.asked: dict[str, Request] = {}
        self.inbox: Inbox | None = None
        self.past = Past(run, [])
        self.leaving = False
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        context = contextvars.copy_context()
        context.run(CURRENT.set, None)
        self.task = self.run.worker.loop.create_task(self._go(), context=context)
        self.task.add_done_callback(self._over)

    def again(self) -> None:
        """Something has come since it was given up: look at it."""
        self.run.ended = False
        self.start()

    def release(self) -> None:
        """Go no further than to the end of the undo that runs."""
        self.leaving = True

    def cancel(self) -> None:
        if self.task is not None:
            self.run.worker.loop.call_soon(self.task.cancel)

    def _over(self, task: asyncio.Task[None]) -> None:
        run = self.run
        if run.abandoned:
            if not task.cancelled():
                task.exception()
            return
        if task.cancelled():
            return self._leave(run.now())
        error = task.exception()
        if isinstance(error, Stop):
            return self._leave(error.wake_at)
        if isinstance(error, bodies.FATAL):
            return run.worker.give_up(run, error, onward=True)
        if error is not None:
            logger.error("%s: its rollback cannot go on", run.id, exc_info=error)
            if self.begun is None:  # nothing was undone yet
                self.error = _text(error)
                return self._change(Status.BLOCKED, error=self.error, reason=str(error))
            self._ask(f"undo:{run.id}", f"the rollback of {run.id} cannot go on: {error}", error)
            self._give_up(f"the rollback cannot go on: {type(error).__name__}: {error}")

    # The way through ----------------------------------------------------------------------------------

    async def _go(self) -> None:
        run, worker = self.run, self.run.worker
        store = worker.store
        self.inbox = (await worker.insist(lambda: store.inbox([run.id])))[run.id]
        run.nudges = self.inbox.nudges
        self.asked = {}
        for request in self.inbox.requests:
            if request.kind == "undo" and request.generation == run.generation:
                self.asked[request.key] = request
        if self.begun is None:
            self.entries = await worker.insist(lambda: store.history(run.id))
            run.seq = max(run.seq, self.entries[-1].seq if self.entries else run.execution.base_seq)
            await self._begin()
        for task in self.plan.tasks:
            if self.leaving:
                raise Stop(run.now())
            await self._do(task)
        stuck = [task for task in self.plan.tasks if not self._is_settled(task)]
        if stuck:
            return self._stand_still(stuck)
        return self._end()

    async def _begin(self) -> None:
        run = self.run
        since = [entry for entry in self.entries if entry.seq > run.execution.base_seq]
        known = open_order(since)
        if known is not None:
            self.begun, self.order = known
            earlier = [entry for entry in self.entries if entry.seq < self.begun.seq]
            self.plan = plan(earlier, self.order, run.execution.base_seq)
            self.past = Past(run, earlier)
            for entry in self.entries:
                if entry.seq > self.begun.seq:
                    self._note(entry)
            return
        order = self.order or Order(id="", cause="asked")
        if order.to is None and order.name is not None:
            to = target(self.entries, _name(order.name), run.execution.base_seq)
            order = msgspec.structs.replace(order, to=to)
        if order.cause == "code" and returns(since) >= RETURNS:
            raise RollbackStuckError(f"{run.id} has gone back {RETURNS} times", execution_id=run.id)
        self.order = order
        self.plan = plan(self.entries, order, run.execution.base_seq)
        self.past = Past(run, self.entries)
        requests = self.inbox.requests if self.inbox is not None else ()
        for request in requests:
            if request.status == "open" and request.kind != "undo":
                run.committer.close_request(request.id, run.id)
        actions = [self._action(task) for task in self.plan.tasks]
        self._change(Status.ROLLING_BACK)
        self.begun = await self._record(f"{ROLLBACK}:{run.seq + 1}", ROLLBACK, "set", order.text(), None, actions)

    def _note(self, entry: Entry) -> None:
        if entry.kind == UNDO:
            self.last[entry.key] = entry
        if entry.kind in (UNDO, ATTEMPT):
            known = self.attempts.get(entry.key)
            if known is None or known.attempt <= entry.attempt:
                self.attempts[entry.key] = entry
        elif entry.parent_key is not None and entry.status in ("completed", "failed"):
            self.run.inner[entry.key] = entry

    def _is_settled(self, task: Task) -> bool:
        last = self.last.get(task.key)
        return last is not None and last.status == "completed"

    # One undo -----------------------------------------------------------------------------------------

    async def _do(self, task: Task) -> None:
        last = self.last.get(task.key)
        if last is not None and last.status == "completed":
            return
        if last is not None:
            asked = self.asked.get(task.key)
            if asked is None or asked.status != "decided":
                return  # the person who was asked has not answered
            if asked.answer == '"done"':
                who = asked.answered_by
                words = CODEC.encode({"settled": "done", "by": who}, path="output")
                await self._outcome(task, "completed", words, None, last.attempt, self.run.now(), by=who)
                return
        await self._try(task)

    async def _try(self, task: Task) -> None:
        run = self.run
        if run.execution.crashes >= CRASHES:
            run.execution.crashes = 0
            words = f"the worker died {CRASHES} times in a row while {task.key} ran"
            return await self._fail(task, CrashLoopError(words, execution_id=run.id, key=task.key), run.now())
        if task.kind == "child":
            return await self._child(task)
        started = run.now()
        try:
            spec, call_args, call_kwargs = await self.past.called(task)
            result = await self.past.result(task, spec, call_args, call_kwargs)
            undo = spec.options.undo
            call_args, call_kwargs = completed(spec.function, call_args, call_kwargs)
            args, kwargs = fitted(undo, (result, *call_args), call_kwargs)
        except bodies.FATAL:
            raise
        except Exception as error:
            return await self._fail(task, error, started)
        if result is NOT_DONE:
            return await self._outcome(task, "completed", '"nothing was done"', None, 1, started, status="skipped")
        return await self._run(task, undo_spec(undo), args, kwargs)

    async def _run(self, task: Task, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run = self.run
        before = self.attempts.get(task.key)
        tried = before.attempt if before is not None else 0
        forgiven = self.last[task.key].attempt if task.key in self.last else 0
        if before is not None and before.kind == ATTEMPT:
            await self._sleep_until(int(before.output or 0))
        call = Call(run.sequencer, spec, task.key, None, "null")
        call.run, call.state = run, STARTED
        while True:
            tried += 1
            call.attempt, call.started_at, call.counts = tried, run.now(), None
            try:
                value = await self._attempt(call, args, kwargs)
                text, _ = spec.returns.record(value, "result")
            except bodies.FATAL:
                raise
            except Exception as error:
                wait = delay(spec.options.retry, tried - forgiven, error, run.worker.clock.jitter())
                if wait is None:
                    return await self._fail(task, error, call.started_at, tried)
                until = run.now() + round(wait * SECOND)
                failure = self._told(error, counts=False)
                await self._record(task.key, ATTEMPT, "failed", str(until), failure, attempt=tried)
                if self.leaving:
                    raise Stop(run.now()) from None
                await self._sleep_until(until)
                continue
            return await self._outcome(task, "completed", text, None, tried, call.started_at)

    async def _attempt(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run, spec = self.run, call.spec
        call.owner = asyncio.current_task()
        if run.worker.is_late():
            coroutine = bodies.in_time(run, call, args, kwargs)
        elif spec.resources:
            coroutine = bodies.filled(run, call, args, kwargs)
        elif spec.is_async:
            coroutine = spec.function(*args, **kwargs)
        else:
            coroutine = bodies.in_thread(run, call, args, kwargs)
        token = CURRENT.set(call)
        try:
            if spec.options.timeout is None:
                return await coroutine
            async with asyncio.timeout(spec.options.timeout / SECOND):
                return await coroutine
        finally:
            CURRENT.reset(token)

    async def _sleep_until(self, when: int) -> None:
        seconds = (when - self.run.now()) / SECOND
        if seconds > 0:
            await self.run.worker.clock.sleep(seconds)

    # Children -----------------------------------------------------------------------------------------

    async def _child(self, task: Task) -> None:
        run, worker = self.run, self.run.worker
        started = run.now()
        id = self._child_id(task)
        assert self.order is not None
        named, reason = f"{self.order.id}/{run.generation}", f"{run.id} is rolled back"
        tries = 0
        again = False
        while True:
            row = (await worker.insist(lambda: worker.store.get([id]))).get(id)
            if row is None or row.status is Status.ROLLED_BACK:
                words = CODEC.encode({"child": id}, path="output")
                return await self._outcome(task, "completed", words, None, 1, started)
            order = Order(id=named, cause="asked", reason=reason, generation=row.generation)
            asked = _is_asked(row, order)
            deaf = asked and stands_still(row)
            if await self._is_stuck(row, order) or (deaf and again and row.status is Status.BLOCKED):
                words = f"{id}, a child, is {row.status}: {row.reason or 'it was not undone'}"
                return await self._fail(task, RollbackStuckError(words, execution_id=run.id, key=task.key), started)
            # It may end, or stand still, before its owner hears of the wish.
            if not asked or _is_over(row.status) or deaf:
                again = deaf
                await worker.deliver(Rewind(id, order.text(), PARENT, order.reason))
            if self.leaving or (id not in worker.runs and worker.free() <= 0):
                raise Stop(run.now() + (0 if self.leaving else GIVE_WAY))
            await worker.clock.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1

    async def _is_stuck(self, row: Execution, order: Order) -> bool:
        """Has a child done what it was asked to do, and yet is not undone; or is an earlier rollback of it not over?"""
        if row.status is Status.ROLLBACK_FAILED:
            return True
        if not _is_asked(row, order):
            return False
        worker = self.run.worker
        return _is_over(row.status) and await worker.insist(lambda: is_carried_out(worker.store, row.id, order))

    def _child_id(self, task: Task) -> str:
        key = task.entry.key
        first = task.intent or task.entry
        wanted = child_id(self.run.id, key, first.generation, room(self.run.worker.store))
        children = [row for row in (self.inbox.children if self.inbox is not None else ()) if row.parent_key == key]
        named = [row.id for row in children if row.id == wanted]
        return named[0] if named else children[-1].id if children else wanted

    # Recording ----------------------------------------------------------------------------------------

    async def _record(
        self,
        key: str,
        kind: str,
        status: str,
        output: str | None,
        error: str | None,
        actions: Sequence[RollbackAction] = (),
        *,
        attempt: int = 1,
        started_at: int | None = None,
    ) -> Entry:
        """Write an entry, and what goes with it, and wait until it is durable."""
        run = self.run
        if run.abandoned:
            raise asyncio.CancelledError
        run.seq += 1
        run.flying += 1
        entry = run.entry(key, kind, status, output, started_at if started_at is not None else run.now())
        entry = entry._replace(attempt=attempt, error=error, checksum=checksum(None, output, error))
        future: asyncio.Future[Entry] = run.worker.loop.create_future()
        for action in actions:
            run.committer.act(action)
        run.committer.items.append((run, future, entry))
        run.committer.kick()
        await future
        self._note(entry)
        return entry

    def _action(self, task: Task, **fields: Any) -> RollbackAction:
        undo = task.means.undo if task.means is not None and task.means.undo is not None else "rollback of the child"
        action = RollbackAction(self.run.id, self.run.generation, task.seq, task.entry.key, undo)
        action = replace(action, **fields)
        return replace(action, checksum=checksum(None, action.output, action.error))

    async def _outcome(
        self,
        task: Task,
        outcome: str,
        output: str | None,
        error: str | None,
        attempt: int,
        started: int,
        *,
        status: str | None = None,
        by: str | None = None,
    ) -> None:
        action = self._action(
            task,
            status=status or outcome,
            attempt=attempt,
            output=output,
            error=error,
            resolved_by=by,
            started_at=started,
            completed_at=self.run.now(),
        )
        await self._record(task.key, UNDO, outcome, output, error, [action], attempt=attempt, started_at=started)

    async def _fail(self, task: Task, error: Exception, started: int, attempt: int | None = None) -> None:
        if attempt is None:
            before = self.attempts.get(task.key)
            attempt = before.attempt + 1 if before is not None else 1
        unknown = isinstance(error, UnknownOutcomeError)
        logger.warning("%s: %s failed: %s: %s", self.run.id, task.key, type(error).__name__, error)
        await self._outcome(
            task,
            "failed",
            None,
            self._told(error, counts=True),
            attempt,
            started,
            status="unknown" if unknown else None,
        )

    def _told(self, error: BaseException, *, counts: bool) -> str:
        """The error of an undo as it is recorded."""
        redaction = self.run.sequencer.redaction
        text = veiling.told(redaction, error, None, None, counts=counts)
        return text if redaction is None else redaction.error(text, counts=counts)

    # The end ------------------------------------------------------------------------------------------

    def _stand_still(self, stuck: Sequence[Task]) -> None:
        for task in stuck:
            asked = self.asked.get(task.key)
            if asked is None or asked.status != "open":
                last = self.last[task.key]
                error = last.error or "{}"
                self._ask(task.key, f"{task.entry.key} could not be undone: {_words(error)}", None, details=error)
        self._give_up(f"{len(stuck)} of {len(self.plan.tasks)} undos failed")

    def _ask(self, key: str, message: str, error: BaseException | None, details: str | None = None) -> None:
        run = self.run
        rounds = sum(1 for r in (self.inbox.requests if self.inbox else ()) if r.key == key and r.kind == "undo")
        id = request_id(run.id, key, run.generation) + (f"~{rounds + 1}" if rounds else "")
        text = details if details is not None else _text(error) if error is not None else None
        request = Request(
            id=id,
            execution_id=run.id,
            key=key,
            generation=run.generation,
            kind="undo",
            message=message,
            details=text,
            schema=SCHEMA,
            checksum=checksum(text, SCHEMA, None),
            created_at=run.now(),
        )
        run.committer.ask(request)

    def _give_up(self, reason: str) -> None:
        self._change(Status.ROLLBACK_FAILED, error=self.error, reason=reason)

    def _leave(self, wake_at: int) -> None:
        self._change(Status.ROLLING_BACK, wake_at=wake_at, error=self.run.execution.error)

    def _end(self) -> None:
        run, order = self.run, self.order
        assert order is not None
        cut = {
            "from_seq": self.plan.to + 1,
            "reason": "rollback",
            "by": order.by,
            "words": order.reason,
            "order": order.id,
            "to": order.name,
        }
        run.local(f"{CUT}:{run.seq + 1}", CUT, "completed", CODEC.encode(cut, path="cut"))
        for entry in self.plan.voided:
            if entry.kind == RECEIVE and entry.status == "completed":
                run.committer.free_message(run.id, entry.seq)
        generation = run.generation + 1
        if self.plan.pivot is not None and order.to is None:
            words = f"{self.plan.pivot} is completed, and a point of no return: what came before it was not undone"
            self._ask_about_pivot(words)
            self._change(Status.FAILED, error=self.error or self._cancelled(), reason=words, generation=generation)
        elif order.to is not None or order.name is not None:
            self._change(Status.PENDING, generation=generation)
        else:
            error = self.error if order.cause != "cancel" else self._cancelled()
            self._change(Status.ROLLED_BACK, error=error, reason=order.reason, generation=generation)

    def _ask_about_pivot(self, words: str) -> None:
        run = self.run
        request = Request(
            id=request_id(run.id, "pivot", run.generation),
            execution_id=run.id,
            key=self.plan.pivot or "",
            generation=run.generation,
            kind="pivot",
            message=words,
            schema='{"enum":["done"]}',
            checksum=checksum(None, '{"enum":["done"]}', None),
            created_at=run.now(),
        )
        run.committer.ask(request)

    def _cancelled(self) -> str:
        assert self.order is not None
        return _text(ExecutionCancelledError(self.order.reason or "cancelled", execution_id=self.run.id))

    def _change(
        self,
        status: Status,
        *,
        error: str | None = None,
        reason: str | None = None,
        wake_at: int | None = None,
        generation: int | None = None,
    ) -> None:
        run = self.run
        if run.abandoned:
            return
        if status is Status.ROLLING_BACK and wake_at is None:
            error = self.error
        change = Change(
            execution_id=run.id,
            fence=run.fence,
            nudges=run.nudges,
            status=status,
            at=run.now(),
            error=error,
            checksum=run.sum(None, error),
            reason=reason,
            wake_at=wake_at,
            parent_id=run.execution.parent_id if status in _ENDS else None,
            generation=generation,
        )
        run.flying += 1
        run.flush()
        run.ended = not change.keeps
        run.committer.change(run, change)


_ENDS = frozenset({Status.FAILED, Status.ROLLED_BACK, Status.ROLLBACK_FAILED})


async def is_carried_out(store: Store, execution_id: str, order: Order) -> bool:
    """Has an execution been rolled back as this order says?"""
    seq = 0
    while entries := await store.tail(execution_id, seq, (CUT,), 100):
        if any(CODEC.decode(entry.output or "{}").get("order") == order.id for entry in entries):
            return True
        seq = entries[-1].seq
    return False


def stands_still(row: Execution) -> bool:
    """Does nobody hear of a wish here before somebody resumes it?"""
    return row.owner is None and row.status in (Status.PAUSED, Status.BLOCKED)


def _is_asked(row: Execution, order: Order) -> bool:
    wish = order_of(row.wish)
    return wish is not None and wish.id == order.id


def _is_over(status: Status) -> bool:
    return status in (Status.FAILED, Status.ROLLBACK_FAILED, Status.COMPLETED, Status.CANCELLED)


def _text(error: BaseException) -> str:
    return encode_error(error)


def _words(text: str) -> str:
    error = decode_error(text)
    return f"{type(error).__name__}: {error}"


def _name(name: str) -> str | int:
    return int(name) if name.isdigit() else name


def undo_spec(undo: Any) -> StepSpec:
    """How an undo is run: as the step that it is, or as a plain function that is tried several times."""
    if isinstance(undo, Step | SyncStep):
        return undo.spec
    function = body_of(undo)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return StepSpec(function, StepOptions(name=name, kind="undo", retry=RETRY))
