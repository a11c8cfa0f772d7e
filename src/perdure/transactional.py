"""Steps whose own rows and whose record are one transaction.

The body gets a connection in an open transaction of the store. When it returns, its outcome is written in that same
transaction, and all is committed at once: the rows exist if and only if the record does.

The outcome is an entry like any other, and the journal has no gaps: so while it is on its way nothing else of this
worker is. The committer is held meanwhile, and what the execution wanted recorded before goes with the outcome. Stores
whose one lock the transaction takes (`inline`) are held from its beginning: nothing else could be committed there.

What can go wrong, and what follows:
- the body raises, takes too long or is told to stop: rolled back, and then as with any other step;
- the database refuses the commit for what the body wrote: rolled back, the attempt has failed with that error;
- the store goes away before the commit: nothing is recorded; a failed attempt is, and the body runs again soon;
- it is unknown whether it is committed: `settle` tells, under the lock of the worker's row;
- the worker was declared dead: rolled back, and everything that it runs is dropped.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from perdure import bodies
from perdure.checking import VALUE_LIMIT
from perdure.clock import SECOND
from perdure.errors import CommitUnknownError, PerdureError, StoreUnavailableError, TooLargeError
from perdure.gathering import Work
from perdure.journal import ATTEMPT
from perdure.records import Entry, Verdicts
from perdure.resources import Transaction as Wanted
from perdure.scope import Call
from perdure.secrets import allowing_secrets
from perdure.store import Transaction

if TYPE_CHECKING:
    from perdure.executor import Run

TRIES = 10
"""Attempts after which a store that does not take the commit is the step's error."""

AGAIN = 100_000
"""Microseconds until a body runs again whose commit the store did not take."""


def start(run: Run, call: Call, args: Any, kwargs: Any) -> None:
    """Run an attempt of a transactional body."""
    attempt = _Attempt(run, call)
    task = run.worker.carriers.start(attempt.go(args, kwargs), call)
    assert isinstance(task, asyncio.Task)
    run.bodies += 1
    run.working[call] = None
    call.task = task
    task.add_done_callback(attempt.over)


class _Attempt:
    def __init__(self, run: Run, call: Call) -> None:
        self.run = run
        self.call = call
        self.held = False
        self.timer: Any = None
        self.transaction: Transaction | None = None
        self.work: Work | None = None  # what is, or was, on its way in the transaction
        self.entry: Entry | None = None  # the outcome in it

    # In a task of the real loop -----------------------------------------------------------------------

    async def go(self, args: Any, kwargs: Any) -> Verdicts | Exception:
        """The body, and the commit. Gives the verdicts, or why nothing was recorded; raises what the body raises."""
        await asyncio.sleep(0)  # so that it is a task, whatever the body does
        try:
            text = await self._carry_out(args, kwargs)
            committing = asyncio.ensure_future(self._commit(text))
            while True:
                try:
                    return await asyncio.shield(committing)
                except asyncio.CancelledError:
                    if committing.done():
                        raise
                    # Too late: what becomes of the commit is decided at the server.
        finally:
            if self.transaction is not None:
                await self.transaction.roll_back()

    async def _carry_out(self, args: Any, kwargs: Any) -> str:
        run, call, store = self.run, self.call, self.run.worker.store
        limit = call.spec.options.timeout
        if store.inline:
            await self._hold()
        self.transaction = await run.worker.insist(lambda: store.begin(limit / SECOND))
        self.timer = run.worker.clock.call_at(run.now() + limit, functools.partial(self._time_out, self.transaction))
        value = await self._body(self.transaction, args, kwargs)
        with allowing_secrets(run.worker.secrets):
            recorded: tuple[str, Any] = call.spec.returns.record(value, "result")
        text, call.value = recorded
        if len(text) > VALUE_LIMIT:
            raise TooLargeError(f"the result of {call.key} takes {len(text):,} bytes; at most {VALUE_LIMIT:,}")
        if run.worker.capacity.packet is not None:  # one row holds both
            run.worker.capacity.check(f"{call.input}{text}", f"the input and result of {call.key}")
        if not self.held:
            await self._hold()
        self.timer.cancel()
        if run.abandoned or run.committer.dead or call.stopped is not None:
            raise asyncio.CancelledError
        return text

    async def _body(self, transaction: Transaction, args: Any, kwargs: Any) -> Any:
        spec, connection = self.call.spec, transaction.connection
        if not spec.is_async and transaction.is_async:
            raise TypeError(f"{spec.name} is a plain function, and the store's connection is async: use async def")
        found = {}
        for name, kind in spec.resources.items():
            if isinstance(kind, Wanted):
                kind.check(connection)
                found[name] = connection
        others = {name: kind for name, kind in spec.resources.items() if name not in found}
        if others:
            found |= await self.run.worker.resources.get(others)
        if spec.is_async:
            return await spec.function(*args, **kwargs, **found)
        return await bodies.in_thread(self.run, self.call, args, {**kwargs, **found})

    async def _hold(self) -> None:
        await self.run.committer.hold()
        self.held = True

    def _time_out(self, transaction: Transaction) -> None:
        call = self.call
        if call.stopped is None:
            call.stopped = "timeout"
        transaction.expire()
        if call.spec.is_async:
            call.task.cancel()

    async def _commit(self, text: str) -> Verdicts | Exception:
        run, call, committer = self.run, self.call, self.run.committer
        assert self.transaction is not None
        run.put(call, call.spec.kind, "completed", text, None)
        self.entry = committer.items[-1][2]
        self.work, batch = committer.take_of(run.id)
        try:
            return await self.transaction.commit(batch)
        except CommitUnknownError:
            verdicts = await committer.settle(self.work)
            return verdicts or StoreUnavailableError(f"the store went away at the commit of {call.key}")
        except Exception as error:
            return error

    # In a callback of the real loop -------------------------------------------------------------------

    def over(self, task: asyncio.Task[Any]) -> None:
        """The task has ended."""
        try:
            bodies.ended(self.run, self.call, self.timer, self._landed, task)
        finally:
            if self.held:
                self.held = False
                self.run.committer.let_go()

    def _landed(self, run: Run, call: Call, task: Any, result: Verdicts | Exception) -> None:
        assert self.work is not None
        if isinstance(result, Verdicts):
            return run.committer.answered(self.work, result)
        return self._not_recorded(self.work, result)

    def _not_recorded(self, work: Work, error: Exception) -> None:
        """Nothing of it is recorded: the entry is that of a failed attempt, and goes with the next batch."""
        run, call, committer = self.run, self.call, self.run.committer
        assert self.entry is not None
        assert work.items[-1][2] is self.entry
        work.items.pop()
        run.flying -= 1
        run.flush()  # what was told since then has taken its place behind
        last, run.seq = run.seq, self.entry.seq - 1
        if isinstance(error, PerdureError):
            error.execution_id, error.key = run.id, call.key
        if isinstance(error, StoreUnavailableError) and call.attempt < TRIES:
            run.forgiven[call.key] = run.forgiven.get(call.key, 0) + 1
            call.wake = run.now() + AGAIN
            run.put(call, ATTEMPT, "failed", str(call.wake), bodies.told(run, call, error, counts=False))
        else:
            bodies.failed(run, call, error)
        work.items.append(committer.items.pop())
        run.seq = max(last, self.entry.seq)
        committer.merge(work)
