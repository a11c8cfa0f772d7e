"""One claimed execution: replayed to the end of its journal, then run until it parks, ends or is taken away.

Everything here happens in callbacks of the real loop, with the private loop at rest in between. `bodies`
counts what runs for the execution outside of it, `flying` what is on its way into the journal; when both
are 0 the execution is idle: it has ended, or waits for the world (and parks), or can never go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure import alarms, beginnings, bodies, budgets, endings, errands, streams, transactional, waits
from perdure.capturing import Album, picture
from perdure.codec import checksum, decode_error, encode_error
from perdure.errors import DecodeError, LeaseLostError, PerdureError
from perdure.journal import ATTEMPT, CHECKPOINT, INTENT, RECEIVE, RESTART, ROLLBACK, Journal, forget_failures
from perdure.loop import Timer
from perdure.nested import nested
from perdure.packing import BASE_LEAST, pack_pair
from perdure.records import Change, Entry, Execution, Inbox, Message, Request, Status, Verdict
from perdure.rollback import wished
from perdure.scope import BACKOFF, GONE, OPEN, STARTED, Branch, Call
from perdure.sequencer import Sequencer
from perdure.telemetry import step_happening, tell
from perdure.workflow import Workflow

if TYPE_CHECKING:
    from perdure.worker import Worker

logger = logging.getLogger("perdure")

STAY = 1_000_000
"""Microseconds: an execution that waits for less than this stays in memory."""

_new = tuple.__new__
_BODIES = frozenset({"step", "checkpoint"})


class Run:
    """An execution in a worker's memory."""

    __slots__ = (
        "abandoned",
        "alarm",
        "album",
        "asked",
        "backoffs",
        "bodies",
        "build",
        "carriers",
        "child_rows",
        "children",
        "committer",
        "ended",
        "execution",
        "fence",
        "fits",
        "flying",
        "forgiven",
        "generation",
        "has_children",
        "id",
        "inner",
        "listeners",
        "locals",
        "messages",
        "now",
        "nudges",
        "parking",
        "purse",
        "receiving",
        "refusals",
        "requests",
        "rolls",
        "secrets",
        "seq",
        "sequencer",
        "stopping",
        "streaming",
        "suspect",
        "taken",
        "told",
        "undoing",
        "worker",
        "workflow",
        "working",
    )

    sequencer: Sequencer

    def __init__(self, worker: Worker, execution: Execution, workflow: Workflow[..., Any]) -> None:
        self.worker = worker
        self.execution = execution
        self.workflow = workflow
        self.id = execution.id
        self.fence = execution.fence
        self.generation = execution.generation
        self.nudges = execution.nudges
        self.fits = checksum(execution.input, execution.output, execution.error) == execution.checksum
        self.build = worker.build
        self.committer = worker.committer
        self.carriers = worker.carriers
        self.secrets = worker.secrets
        self.listeners = worker.listeners
        self.now: Callable[[], int] = worker.clock.now
        self.seq = 0
        self.bodies = 0
        self.flying = 0
        self.locals: list[Entry] = []
        self.told: list[streams.Told] = []
        self.streaming: dict[str, tuple[int, int]] = {}
        self.inner: dict[str, Entry] = {}
        self.backoffs: dict[str, Call] = {}
        self.forgiven: dict[str, int] = {}
        self.purse: budgets.Purse | None = None
        self.album: Album | None = None
        self.requests: dict[str, Request] = {}
        self.asked: dict[str, Call] = {}
        self.messages: list[Message] = []
        self.taken: dict[str, Message] = {}
        self.receiving: list[Call] = []
        self.children: dict[str, Call] = {}
        self.child_rows: dict[str, Execution] = {}
        self.alarm: Any = None
        self.stopping: Callable[[], None] | None = None
        self.working: dict[Call, None] = {}
        self.refusals = 0
        self.suspect = False  # it may be what kills its workers, and has recorded nothing here yet
        self.has_children = False
        self.ended = False
        self.parking = False  # a park is on its way: until its verdict, this worker may be the owner no more
        self.abandoned = False
        self.rolls = False  # it is to be rolled back as soon as what runs has ended
        self.undoing: Any = None  # the rollback under way (see `perdure.rolling`)

    # Beginning ----------------------------------------------------------------------------------------

    def begin(self, entries: list[Entry], inbox: Inbox | None) -> None:
        """Replay the journal and go on from there."""
        beginnings.begin(self, entries, inbox)

    # At rest ------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """The private loop is at rest: start what the code asks for, or settle what to do."""
        if self.abandoned or self.ended:
            return None
        if self.stopping is not None:
            if not self.bodies and not self.flying:
                self.stopping()
            return None
        sequencer = self.sequencer
        if sequencer.fatal is not None:
            return self.worker.give_up(self, sequencer.fatal, onward=True)
        if sequencer.fault is not None:
            return self.block(sequencer.fault)
        if sequencer.info.changed is not None:
            endings.note_attributes(self)
        if sequencer.timers:
            alarms.set_timers(self)
        if sequencer.new:
            if self.seq >= endings.JOURNAL_LIMIT and endings.is_full(self):
                return None
            new, sequencer.new = sequencer.new, []
            for call in new:
                if call.state == OPEN:
                    if call.spec.kind in _BODIES:
                        if self.suspect:
                            return self.block(endings.crash_loop(self.execution))
                        if self.purse is None or budgets.admit(self, self.purse, call):
                            bodies.enter(self, call)
                    elif call.spec.kind == RESTART:
                        endings.restart(self, call.spec.text)
                    elif call.spec.kind == ROLLBACK:
                        endings.roll_back(self, call.spec.order)
                    else:
                        waits.enter(self, call)
            if self._is_stopping() or self.abandoned:
                return self.rest()
        if not self.bodies and not self.flying:
            self._idle()
        return None

    def _is_stopping(self) -> bool:
        return self.stopping is not None

    def _idle(self) -> None:
        """Nothing is under way for this execution."""
        sequencer = self.sequencer
        if sequencer.finished():
            return endings.end(self)
        if not sequencer.open and not sequencer.timers:
            return self.fail(sequencer.stuck())
        if self.worker.is_local_any(self.children):
            return None  # a child in this worker's memory will end or park soon
        lost = [c.key for c in sequencer.open.values() if c.spec.kind in _BODIES and c.state != BACKOFF]
        if lost:  # parking now would forget them: whatever the cause, wait for another worker instead
            logger.error("%s: nothing runs for %s, which is a defect of Perdure; releasing it", self.id, lost)
            return endings.release(self)
        wake = alarms.wake_at(self)
        if wake is not None and wake < self.now() + STAY:
            return self.arm()
        return endings.change(self, Status.WAITING, wake_at=wake)

    def arm(self) -> None:
        """Have the earliest of what waits for time call back."""
        alarms.arm(self)

    # The journal --------------------------------------------------------------------------------------

    def put(
        self, call: Call, kind: str, status: str, output: str | None, error: str | None, subject: Any = None
    ) -> None:
        """Have an entry of a call recorded; `acknowledged` of the call (or of `subject`) follows."""
        if self.abandoned:
            return
        committer = self.committer
        if self.locals or self.told:
            self.flush()
        self.seq = seq = self.seq + 1
        self.flying += 1
        if kind == CHECKPOINT and call.outermost is None:
            picture(self, "checkpoint", call.spec.name)
        text = call.input if kind != ATTEMPT else None
        if self.sequencer.redaction is not None:
            text, error = bodies.hide(self.sequencer.redaction, call, kind, text, error)
        encoding = "json"
        if (text is not None and len(text) >= BASE_LEAST) or (output is not None and len(output) >= BASE_LEAST):
            text, output, encoding = pack_pair(
                self.sequencer.window, seq, text, output, is_base=_is_base(call), is_body=kind in _BODIES
            )
            if len(text or "") + len(output or "") > self.worker.capacity.sure:
                refused = self.worker.capacity.refusal(f"the result of {call.key}", text or "", output or "")
                if refused is not None and output is not None:
                    refused.execution_id, refused.key = self.id, call.key
                    self.sequencer.window.forget(seq, "o")
                    status, output, error = "failed", None, encode_error(refused)
        entry: Entry = _new(
            Entry,
            (
                self.id,
                seq,
                self.generation,
                call.key,
                kind,
                status,
                call.attempt,
                self.fence,
                call.outermost,
                text,
                output,
                error,
                encoding,
                checksum(text, output, error),
                self.build,
                call.started_at,
                self.now(),
            ),
        )
        committer.items.append((self, subject or call, entry))
        if not committer.busy:
            committer.kick()

    async def put_inner(self, call: Call, kind: str, status: str, output: str | None, error: str | None) -> Entry:
        """Record an entry of a call made inside a body, and wait until it is durable."""
        if self.abandoned:
            raise asyncio.CancelledError
        future: asyncio.Future[Entry] = self.worker.loop.create_future()
        self.put(call, kind, status, output, error, future)
        return await future

    def entry(self, key: str, kind: str, status: str, output: str | None, started_at: int) -> Entry:
        """An entry with the seq that was taken last."""
        return Entry(
            self.id,
            self.seq,
            self.generation,
            key,
            kind,
            status,
            1,
            self.fence,
            None,
            None,
            output,
            None,
            "json",
            checksum(None, output, None),
            self.build,
            started_at,
            self.now(),
        )

    def write_local(self, kind: str, key: str, output: str) -> None:
        """A local entry: takes its seq now and rides in the execution's next commit."""
        self.local(key, kind, "completed", output)

    def local(self, key: str, kind: str, status: str, output: str) -> None:
        """An entry that nobody waits for: rides in the execution's next commit."""
        if self.told:
            streams.entries(self)
        self.seq += 1
        self.locals.append(self.entry(key, kind, status, output, self.now()))

    def tell(self, key: str, kind: str, status: str, attempt: int, output: str) -> None:
        """An entry of what a body said."""
        self.seq += 1
        self.locals.append(self.entry(key, kind, status, output, self.now())._replace(attempt=attempt))

    def acknowledged(self, subject: Any, entry: Entry) -> None:
        """An entry is durable: hand its outcome over."""
        self.flying -= 1
        self.suspect = False
        if self.abandoned:
            return
        if subject.__class__ is Call:
            kind = entry.kind
            if self.listeners:
                happening = step_happening(self.worker.record.id, self.execution.workflow, entry)
                if happening is not None:
                    tell(self.listeners, happening)
            if kind in _BODIES and entry.status == "completed" and subject.state == STARTED and self.stopping is None:
                self.sequencer.hand_over(subject, subject.value, None, entry.completed_at)  # what most entries are
                return self.rest()
            if kind == INTENT:
                self._intended(subject)
            elif kind == ATTEMPT:
                bodies.attempt_recorded(self, subject)
                self._dropped(subject)
            else:
                self._outcome(subject, entry)
        elif subject.__class__ is Timer:
            self.sequencer.gone.pop(subject.key, None)
            if self.stopping is None:
                self.sequencer.fire(subject, entry.completed_at)
            self.rest()
        elif not subject.done():
            subject.set_result(entry)
        else:  # its body was cancelled meanwhile
            self.rest()

    def _dropped(self, call: Call) -> None:
        if call.state == GONE:
            self.sequencer.gone.pop(call.key, None)
        self.rest()

    def _intended(self, call: Call) -> None:
        if call.spec.kind not in _BODIES:
            waits.child_intended(self, call)
        elif call.state == STARTED and self.stopping is None:
            bodies.start(self, call)
            if not self.bodies and not self.flying:
                self.rest()
        else:
            self._dropped(call)

    def _outcome(self, call: Call, entry: Entry) -> None:
        sequencer = self.sequencer
        if call.state == GONE:  # withdrawn meanwhile: recorded as unused
            sequencer.gone.pop(call.key, None)
            if entry.kind == RECEIVE and self.stopping is None:
                waits.not_used(self, call)
            return self.rest()
        if self.stopping is not None:
            return self.rest()
        if entry.status == "completed":
            if entry.kind in _BODIES or entry.kind in ("send", "start_child"):
                value = call.value
            else:
                try:
                    value = call.spec.decode(entry.output)
                except PerdureError as error:
                    error = sequencer.unread(call, error)
                    if entry.kind != RECEIVE:
                        return self.block(error)
                    sequencer.hand_over(call, None, error, entry.completed_at)
                    return self.rest()
            sequencer.hand_over(call, value, None, entry.completed_at)
        else:
            sequencer.hand_over(call, None, decode_error(entry.error or "{}"), entry.completed_at)
        return self.rest()

    def transact(self, call: Call, args: Any, kwargs: Any) -> None:
        """Run a transactional body (see `perdure.transactional`)."""
        transactional.start(self, call, args, kwargs)

    def nested(self, scope: Call | Branch, spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A durable call made by a step's body (see `perdure.nested`)."""
        return nested(self, scope, spec, args, kwargs)

    def forget_failures(self, body: str) -> None:
        """A body is tried again: what failed inside it is tried again too."""
        journal = Journal(inner=self.inner, pending=self.sequencer.pending)
        forget_failures(journal, body)

    def withdrawn(self, call: Call) -> None:
        """The code cancelled the await of a call that was under way."""
        if call.spec.kind not in _BODIES:
            return waits.withdraw(self, call)
        if self.backoffs.pop(call.key, None) is not None:
            self.sequencer.gone.pop(call.key, None)
            return self.arm()
        call.stopped = call.stopped or "cancel"
        if call.task is not None:
            self.worker.loop.call_soon(call.task.cancel)
        return None

    # What comes from outside --------------------------------------------------------------------------

    def refreshed(self, inbox: Inbox) -> None:
        """The inbox was read again."""
        if self.abandoned or self.ended or self.parking or inbox.nudges < self.nudges or self.rolls:
            return
        if self.stopping is None and inbox.wish == "cancel":
            return endings.cancel(self, inbox.wish_by, inbox.wish_reason)
        if self.stopping is None and inbox.wish == "pause":
            return endings.pause(self, inbox.wish_reason)
        if self.stopping is None and (order := wished(inbox, self.sequencer.info.orders)) is not None:
            return endings.roll_back(self, order)
        self.look(inbox)
        self.rest()

    def look(self, inbox: Inbox) -> None:
        self.nudges = inbox.nudges
        if self.stopping is None:
            waits.refreshed(self, inbox)

    def broken(self, error: Exception) -> None:
        """Something in Perdure itself failed for this execution: it alone is blocked, no other one suffers."""
        if not isinstance(error, DecodeError):
            logger.error("%s: a defect of Perdure", self.id, exc_info=error)
            words = f"Perdure failed at this execution: {type(error).__name__}: {error}"
            error = PerdureError(words, execution_id=self.id)
        try:
            if not hasattr(self, "sequencer"):
                beginnings.make(self, None, {})
            self.block(error)
        except Exception:
            logger.exception("%s: it could not even be blocked", self.id)
            self.abandon()
            self.worker.forget(self)

    # Ends ---------------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """The execution failed: its children are cancelled, then its end is recorded."""
        endings.fail(self, error)

    def block(self, error: PerdureError) -> None:
        """Only a person can help: nothing is changed but the status."""
        endings.block(self, error)

    def refuse(self, refused: str) -> None:
        """Leave the execution to a worker of another build (`refused`: JSON list of those that do not fit)."""
        endings.refuse(self, refused)

    def release(self) -> None:
        """Give the execution back for another worker, once what is under way is recorded."""
        if self.undoing is not None:
            return self.undoing.release()  # type: ignore[no-any-return]
        endings.release(self)

    def stop_bodies(self) -> None:
        """Tell all running bodies to stop."""
        if self.undoing is not None:
            self.undoing.cancel()
        for call in list(self.working):
            call.stopped = call.stopped or "cancel"
            if call.task is not None:
                self.worker.loop.call_soon(call.task.cancel)

    def sum(self, output: str | None, error: str | None) -> int | None:
        """The checksum of the row with these texts; None: what was recorded is not what was read, and stays alone."""
        return checksum(self.execution.input, output, error) if self.fits else None

    def flush(self) -> None:
        """Send the local entries, and what was told, along with what goes next."""
        if self.told:
            streams.entries(self)
        if self.locals:
            self.committer.items.extend((None, None, entry) for entry in self.locals)
            self.locals = []

    def changed(self, change: Change, verdict: Verdict) -> None:
        """The store's verdict on a change of the execution's row."""
        self.flying -= 1
        if self.abandoned:
            return None
        if change.keeps and verdict == Verdict.OK:
            return self.rest()
        self.parking = False
        if verdict == Verdict.NUDGED and self.undoing is not None:
            return self.undoing.again()  # type: ignore[no-any-return]
        if verdict == Verdict.NUDGED:
            self.arm()
            return self.worker.refreshing.wants(self)
        if verdict != Verdict.OK:
            return self.lose(
                LeaseLostError(f"{self.id}: its owner is another ({verdict}); nothing of it was recorded here")
            )
        self.ended = True
        fault = self.sequencer.close()
        self.forget()
        self.worker.left(self, change)
        if fault is not None:
            errands.block_parked(self.worker, self, fault)
        else:
            self.sequencer.let_go()
        return None

    def refused(self, error: BaseException) -> None:
        """The store refuses what this execution wants recorded: it alone fails (C4)."""
        if self.abandoned:
            return
        self.committer.forget(self.id)
        self.locals = []
        self.flying = 0
        self.refusals += 1
        if self.refusals > 2:
            return self.lose(LeaseLostError(f"{self.id}: the store refuses even its end: {error}"))
        errands.check_owner(self.worker, self, error)

    def fail_refused(self, error: BaseException) -> None:
        """End as failed after entries were refused."""
        self.ended = False
        self.stopping = None
        self.fail(error)

    def lose(self, error: LeaseLostError) -> None:
        """Somebody else owns the execution: drop it, without a trace."""
        self.abandon()
        self.worker.dropped(self, error)

    def abandon(self) -> None:
        """Drop everything, record nothing."""
        if self.abandoned:
            return
        self.abandoned = True
        self.sequencer.close()
        self.stop_bodies()
        self.forget()

    def forget(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        for held in (self.requests, self.asked, self.backoffs, self.children, self.child_rows, self.inner, self.taken):
            held.clear()
        self.messages = []
        self.receiving = []


def _is_base(call: Call) -> bool:
    """May later entries refer to texts of this one? Not of what is not loaded, nor of what may be rolled back."""
    return call.outermost is None and not (call.spec.kind in _BODIES and call.spec.options.transactional)
