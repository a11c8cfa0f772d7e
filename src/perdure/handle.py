"""One execution, wherever it runs: how it stands, what it said, what to do with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from perdure import views
from perdure.auditing import CANCEL_ASKED, note
from perdure.checking import check_message_name, check_size, refused_message
from perdure.clock import Clock, Duration, micros, new_id, to_datetime
from perdure.codec import CODEC, checksum
from perdure.deciding import seen_requests
from perdure.deliveries import Post, Resume
from perdure.errors import AlreadyExistsError, PerdureError
from perdure.forking import copies, fork_row, forked, lineage
from perdure.inspecting import inspect
from perdure.journal import PUBLISH, USAGE
from perdure.keys import check_execution_id
from perdure.outcome import Cancelled, OpenRequest, Outcome, RollbackFailed, RolledBack, User, Waiting
from perdure.records import ENDED, Dossier, Execution, Message, Status, Verdict
from perdure.retrying import retry
from perdure.rewinding import RollbackPlan, plan_view, planned, roll_back
from perdure.rollback import Order
from perdure.state import State
from perdure.store import room
from perdure.streams import BATCH, KINDS, StreamItem, Usage, items
from perdure.views import History, outcome_of, raise_or_value, rolled_back
from perdure.watch import MOVING
from perdure.wishes import after_rollback, cancel, pause
from perdure.workflow import Workflow

if TYPE_CHECKING:
    from perdure.engine import Engine

R = TypeVar("R")

PAGE = 500
"""Entries read together."""

LOOK = 0.02, 0.5
"""Seconds between two looks for new events of an execution that runs elsewhere: at first, at most."""


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

    async def _standing(self, row: Execution) -> Outcome | None:
        """What the row alone says, and of a rollback what became of each undo."""
        outcome = outcome_of(row, self._known(row))
        if isinstance(outcome, RolledBack | RollbackFailed):
            return rolled_back(outcome, (await self.engine.store.dossiers([self.id])).get(self.id))
        return outcome

    async def _stands(self, row: Execution, ends: bool) -> Outcome | None:
        outcome = await self._standing(row)
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
        return Waiting(await seen_requests(self.engine.store, requests), None if wake is None else to_datetime(wake))

    async def requests(self) -> Sequence[OpenRequest]:
        """What it asks of the world now."""
        await self.engine._row(self.id)
        return await self.engine.requests(self.id)

    async def history(self) -> History:
        """Its journal: a list with one entry a durable call, with its intent and failed attempts inside."""
        row = await self.engine._row(self.id)
        return views.history(row, await self.engine.store.history(self.id))

    async def inspect(self, at: str | int | None = None) -> State:
        """Its complete state: variables, position, attempts, errors, requests, decisions, usage, metadata.

        `at`: behind an earlier entry: a checkpoint's name (its latest), a key (`pack#2`), an entry's number; one that
        was taken back by a rollback or a retry, too: as it was then (a name that stands goes before). Where the
        workflow's code is at hand, its journal is replayed on it up to there, which changes nothing; else variables
        and position are those of the latest snapshot (`State.source` and `.of` say which). Variables are for display:
        JSON, cut, without secrets. Raises `PerdureError` for an `at` that is not there, `DecodeError` for a damaged
        snapshot.
        """
        engine = self.engine
        row = await engine._row(self.id)
        return await inspect(engine.store, self.id, at, self._known(row), engine.protection, engine.capture)

    async def signal(
        self,
        name: str,
        value: Any = None,
        *,
        id: str | None = None,
        by: str | User | None = None,
        connection: Any = None,
    ) -> None:
        """Send it a message; one with an `id` is delivered once.

        Raises `PerdureError` if it has ended, `TooLargeError` if 10,000 messages wait there to be received.

        `connection`: yours, to the engine's database (see `Workflow.options`); the message is part of the transaction
        that is open there, and delivered once you have committed. Whether the execution is there, and has not ended, is
        found out then: what cannot be delivered is logged and listed by `Engine.outbox`.
        """
        engine = self.engine
        engine._check_open()
        message = self._message(name, value, id, by)
        if connection is not None:
            return await engine._outbox.put(connection, [engine.store.outgoing(message)])
        receipt = await engine.store.deliver(Post(message), engine.clock.now())
        if receipt.verdict == Verdict.GONE:
            await engine._row(self.id)
        refused = refused_message(receipt.verdict, self.id, name)
        if refused is not None:
            raise refused
        engine._hint(self.id)

    def _message(self, name: str, value: Any, id: str | None, by: str | User | None) -> Message:
        check_message_name(name)
        with self.engine.protection.encoding():
            text = CODEC.encode(value, path="value")
        check_size(text, f"the message {name!r}")
        return Message(
            id=f"{self.id}:{id}" if id is not None else new_id(self.engine.clock),
            execution_id=self.id,
            name=name,
            value=text,
            checksum=checksum(text),
            sent_by=_name(by),
            created_at=self.engine.clock.now(),
        )

    async def cancel(
        self, *, rollback: bool = False, reason: str | None = None, by: str | User | None = None
    ) -> Outcome:
        """Cancel it and all its children; returns its end once that is durable (it may have ended before).

        `rollback`: what it did is undone, and it ends `rolled_back`; one that has ended stays as it is. One that is
        being rolled back is waited for; raises `PerdureError` where no worker is there that would do that.
        """
        engine = self.engine
        engine._check_open()
        who = _name(by)
        row = await engine._row(self.id)
        if rollback:
            row = await after_rollback(engine.store, engine.clock, row)
        if rollback and row.status not in ENDED:
            order = Order(id=new_id(engine.clock), cause="cancel", by=who, reason=reason, generation=row.generation)
            await self._roll_back(row, order, by)
            return await self._outcome(ends=False)
        user = _user(by)
        if user is not None and row.status not in ENDED:
            said = {"actor": user.id, "via": user.via, "comment": reason}
            await note(engine.store, engine.clock, self.id, CANCEL_ASKED, **said)
        task = asyncio.ensure_future(cancel(engine.store, engine.clock, self.id, who, reason))
        engine._hint(self.id)
        row = await task
        outcome = await self._standing(row)
        return outcome if outcome is not None else Cancelled(who, reason)

    async def rollback(
        self,
        to: str | int | None = None,
        *,
        reason: str | None = None,
        by: str | User | None = None,
        dry_run: bool = False,
        force: bool = False,
        wait: bool = True,
    ) -> RollbackPlan:
        """Undo what it did, last first; also where it has ended. Gives what was undone, once that is so.

        `to`: a checkpoint's name (its latest), a key (`pack#2`) or an entry's number: the execution goes on after it.
        None: everything is undone, and it ends `rolled_back`. Branches, children, messages and questions behind that
        point go with it (see `RollbackPlan`). An undo that fails does not hold up the others: then it is
        `rollback_failed`, and `Engine.requests` lists what a person must settle. `dry_run`: only give the plan.
        `force` (needs `by`): beyond a pivot, too. A worker that has its workflow does the work; without `wait` it is
        only asked for.
        Raises `PerdureError`, `AlreadyRollingBackError`.
        """
        engine = self.engine
        engine._check_open()
        who = _name(by)
        if force and who is None:
            raise PerdureError(
                "force=True goes beyond a point of no return: say who does so, by=", execution_id=self.id
            )
        row = await engine._row(self.id)
        order = Order(
            id=new_id(engine.clock), cause="asked", by=who, reason=reason, force=force, generation=row.generation
        )
        order, found = await planned(engine.store, row, order, to)
        if not dry_run:
            await self._roll_back(row, order, by, wait=wait)
        return plan_view(found)

    async def fork(
        self,
        at: str | int | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        execution_id: str | None = None,
        by: str | User | None = None,
        reason: str | None = None,
    ) -> Handle[R]:
        """Start a new execution that begins with this one's journal; gives its handle. This one is not touched.

        `at`: the fork goes on after this entry (a checkpoint's name, a key, a number; None: the last one). What it
        inherits is replayed, and never undone by it; steps that run in it have other idempotency keys. What is under
        way here (calls, questions, messages that nobody received) it asks anew. `changes`: other results, by key: what
        came after them is inherited only as long as the code still asks the same with the same arguments. Raises
        `PerdureError` for an `at` or a key that is not there, or was taken back, and for a key that the other changes
        lead past, `DecodeError` for a result that does not fit its type, `AlreadyExistsError` for an id that is taken.
        """
        engine = self.engine
        row = await engine._row(self.id)
        entries = await engine.store.history(self.id)
        again = await engine._row(self.id)
        if (row.base_seq, row.input) != (again.base_seq, again.input):
            return await self.fork(at, changes, execution_id=execution_id, by=by, reason=reason)
        workflow, who = self._known(row), _name(by)
        seq, kept = await forked(row, entries, at, changes or {}, workflow, engine.protection)
        id = execution_id if execution_id is not None else new_id(engine.clock)
        if (problem := check_execution_id(id, room(engine.store))) is not None:
            raise ValueError(f"{problem}: {id!r:.100}")
        made = fork_row(row, entries, seq, id, who, engine.clock.now())
        said = {**lineage(row, entries, seq, changes or {}), "by": who, "reason": reason}
        journal = copies(made, kept, build=engine.build, said=said)
        if await engine.store.get([id]) or not await engine._create_from(made, journal):
            raise AlreadyExistsError(f"{id} exists: a fork needs an id of its own", execution_id=id)
        user = _user(by)
        told = {name: said[name] for name in ("from", "at", "changed")}
        via = user.via if user is not None else None
        await note(engine.store, engine.clock, id, "forked", actor=who, via=via, comment=reason, details=told)
        engine._hint(id)
        return Handle(engine, id, workflow)

    async def _roll_back(self, row: Execution, order: Order, by: str | User | None, *, wait: bool = True) -> None:
        engine = self.engine
        task = asyncio.ensure_future(roll_back(engine.store, engine.clock, row, order, _user(by), wait=wait))
        engine._hint(self.id)
        await task

    async def pause(self, *, reason: str | None = None, by: str | User | None = None) -> None:
        """Let it stand still: running bodies are recorded, no new one enters, until `resume`. Its children go on.

        Returns once that is durable. Raises `PerdureError` if it has ended or is blocked.
        """
        engine = self.engine
        engine._check_open()
        task = asyncio.ensure_future(pause(engine.store, engine.clock, self.id, _name(by), reason))
        engine._hint(self.id)
        await task

    async def retry(self, *, by: str | User | None = None) -> None:
        """Go on with a failed execution: the step that failed last is tried again, nothing is undone.

        Its retry policy begins anew, its idempotency key stays. A child that failed is retried itself. Raises
        `PerdureError` if the execution has not failed.
        """
        engine = self.engine
        engine._check_open()
        engine.protection.check_keys(await engine._row(self.id))
        await retry(engine.store, engine.clock, self.id, _user(by), engine.build)
        engine._hint(self.id)

    async def resume(self, *, by: str | User | None = None) -> None:
        """Let a paused or blocked execution go on. Raises `PerdureError` if it is neither."""
        engine = self.engine
        engine._check_open()
        who = _name(by)
        receipt = await engine.store.deliver(Resume(self.id, who), engine.clock.now())
        if receipt.verdict != Verdict.OK:
            row = await engine._row(self.id)
            raise PerdureError(
                f"{self.id} is {row.status}: only a paused or blocked execution is resumed", execution_id=self.id
            )
        engine._hint(self.id)

    # What it says -------------------------------------------------------------------------------------

    async def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[StreamItem]:
        """What it emits, in order: `Event`, `Restarted`, `Progress`, from behind the offset `after` on.

        Ends when the execution has ended and everything was given, or, without `follow`, with what is recorded now.
        From any process; what was emitted with `durable=False` reaches only who follows where it runs.
        """
        engine = self.engine
        if type(after) is not int or after < 0:
            raise ValueError(f"after= is an item's offset, a whole number of 0 or more, not {after!r:.100}")
        live = engine.live.follow(self.id) if follow else None
        pause = LOOK[0]
        seq = after // BATCH - 1
        try:
            while True:
                row = await engine._row(self.id)
                ended = outcome_of(row, None) is not None and row.status not in (Status.PAUSED, Status.BLOCKED)
                found = False
                while entries := await engine.store.tail(self.id, seq, KINDS, PAGE):
                    for item in (item for entry in entries for item in items(entry)):
                        if item.offset > after:
                            found = True
                            yield item
                    seq = entries[-1].seq
                    after = max(after, seq * BATCH + BATCH - 1)
                    if len(entries) < PAGE:
                        break
                if live is None or ended:
                    return
                pause = LOOK[0] if found else min(LOOK[1], pause * 1.5)
                engine._check_open()
                for item in await _passing(live, pause):
                    yield item
        finally:
            if live is not None:
                engine.live.leave(self.id, live)

    async def value(self, name: str, default: Any = None) -> Any:
        """The value that it published last under this name, or `default`."""
        await self.engine._row(self.id)
        entry = await self.engine.store.latest(self.id, f"{PUBLISH}:{name}")
        return default if entry is None else CODEC.decode(entry.output or "null")

    async def usage(self) -> Usage:
        """What its steps have used so far, all attempts and lives together."""
        await self.engine._row(self.id)
        total, seq = Usage(), 0
        while entries := await self.engine.store.tail(self.id, seq, (USAGE,), PAGE):
            for entry in entries:
                total = total.plus(entry.output or "{}")
            seq = entries[-1].seq
        return total

    async def export(self) -> dict[str, Any]:
        """Everything that is recorded of it, as one JSON document: row, journal, requests, decisions, events,
        rollbacks, descendants' ids."""
        engine = self.engine
        row = await engine._row(self.id)
        requests = await engine.store.requests(execution_ids=[self.id], status=None)
        dossier = (await engine.store.dossiers([self.id])).get(self.id, Dossier())
        document = {
            "perdure": 1,
            "execution": row,
            "journal": [entry._asdict() for entry in await engine.store.history(self.id)],
            "requests": requests,
            "decisions": dossier.decisions,
            "events": dossier.events,
            "rollback_actions": dossier.actions,
            "open_descendants": [child.id for child in await engine.store.tree(self.id)],
        }
        return msgspec.json.decode(msgspec.json.encode(document))  # type: ignore[no-any-return]


async def _passing(live: asyncio.Queue[Any], seconds: float) -> list[StreamItem]:
    """What comes by within a time; returns at once when there may be something recorded."""
    try:
        async with asyncio.timeout(seconds):
            first = await live.get()
    except TimeoutError:
        return []
    found = [first]
    while not live.empty():
        found.append(live.get_nowait())
    return [item for item in found if item is not None]


def _name(by: str | User | None) -> str | None:
    return by.id if isinstance(by, User) else by


def _user(by: str | User | None) -> User | None:
    return User(by) if isinstance(by, str) else by


def _is_delayed(row: Execution, clock: Clock) -> bool:
    return row.status == Status.PENDING and row.wake_at is not None and row.wake_at > clock.now()
