"""The sequencer: runs workflow code to rest and hands outcomes over, one by one, in the journal's order.

Replay and live run are the same thing. The code runs on a private loop until nothing in it is ready
(*at rest*); then exactly one outcome is handed over: in replay the next entry's, live the next
committed one. Nothing starts before every recorded entry has been handed over.

If at rest the next entry finds no open call of its key, the code has changed: `JournalMismatchError`.
A call that the code *withdrew* (cancelled) stays known while something of it may still be recorded; an
entry that matches it is handed to nobody.

This module knows neither stores nor bodies. What the code asks for appears in `new` and `timers`; the
executor starts it and brings outcomes back by `hand_over` and `fire`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from asyncio import events
from collections.abc import Callable
from typing import Any

from perdure.capacity import Capacity
from perdure.clock import SECOND
from perdure.codec import decode_error
from perdure.errors import DecodeError, FramesRefusedError, JournalMismatchError, NotInWorkflowError, PerdureError
from perdure.journal import (
    ATTEMPT,
    INTENT,
    LIFE,
    LOCAL,
    NOTE,
    PATCHED,
    RECEIVE,
    REPEATED,
    TIMER,
    Journal,
    Pending,
    name_of,
)
from perdure.keys import request_id
from perdure.loop import Timer, WorkflowLoop, WorkflowTask
from perdure.packing import BASE_LEAST, Window, same
from perdure.places import describe, place_of, places
from perdure.records import Entry
from perdure.redaction import Redaction
from perdure.scope import CURRENT, GONE, OPEN, Call, Scope
from perdure.secrets import SECRETS_ALLOWED

logger = logging.getLogger("perdure")

REFUSALS = 50
CLOSES = 20
NOTHING = object()

DEADLINE = "deadline"
"""The key of the timer that is a workflow's `timeout=`; whether there is one may change."""

GRAVE: list[Any] = []
"""Frames that refused to be closed, kept for ever: the garbage collector would run their code."""


class Unwind(BaseException):
    """Raised by durable calls while frames are being closed. Never leaves Perdure."""


ANY_STORE = Capacity()

Withdrawn = Callable[[Call], None]


class Sequencer:
    """One execution's code, run to rest again and again.

    `local` writes a local entry (kind, key, output) live; `withdrawn` is told of calls the code cancelled.
    """

    def __init__(
        self,
        execution_id: str,
        *,
        started_at: int,
        journal: Journal | None = None,
        origin: str | None = None,
        write_local: Callable[[str, str, str], None],
        withdrawn: Withdrawn,
        info: Any = None,
    ) -> None:
        self.id = execution_id
        self.origin = origin or (journal.origin if journal is not None else None) or execution_id
        self.info = info
        self.time = started_at
        self.journal = journal
        self.write_local = write_local
        self.withdrawn = withdrawn
        self.open: dict[str, Call] = {}
        self.new: list[Call] = []
        self.timers: dict[str, Timer] = {}
        self.gone: dict[str, Any] = {}
        self.pending: dict[str, Pending] = journal.pending if journal is not None else {}
        self.notes: list[str] = []
        self.unused: list[Entry] = []
        self.withdrawn_before: list[Call] = []
        self.asked: set[str] = set()
        self.patches: dict[str, bool] = {}
        self.repeats: dict[str, int] = {}
        self.window = Window()
        self.secrets = False  # may secrets be recorded?
        self.capacity = ANY_STORE
        self.redaction: Redaction | None = None
        self.arguments: Any = None  # those of the workflow
        self.missing: tuple[str, set[str]] | None = None
        self.cursor = 0
        self.live = False
        self.ending = False
        self.closing = False
        self.refused = 0
        self.fault: PerdureError | None = None
        self.fatal: BaseException | None = None
        self.loop = WorkflowLoop(self)  # type: ignore[abstract]
        self.root = Scope(self, "")
        self.main: WorkflowTask
        self.outer: asyncio.AbstractEventLoop | None = None

    # Starting and replaying ---------------------------------------------------------------------------

    def start(self, coroutine: Any, outer: asyncio.AbstractEventLoop | None) -> None:
        """Begin with the workflow's coroutine and run it to its first rest."""
        self.outer = outer
        context = contextvars.copy_context()
        context.run(CURRENT.set, self.root)
        if SECRETS_ALLOWED.get() != self.secrets:  # a variable less makes each change of another one cheaper
            context.run(SECRETS_ALLOWED.set, self.secrets)
        loop = self.loop
        loop.ordinal += 1
        self.main = WorkflowTask(coroutine, loop, context, loop.salt + loop.ordinal, f"{self.id}:main")
        if self.journal is None or not self.journal.entries:
            self.live = True
        self.run()

    def run(self) -> None:
        """Run to rest. The end of the main task cancels the others, as `asyncio.run` does."""
        self.loop.run(self.outer)
        if self.main.done() and not self.closing:
            self._wind_up()

    def _wind_up(self) -> None:
        loop = self.loop
        if not self.ending:
            self.ending = True
            for task in list(loop.tasks.values()):
                task.cancel()
            loop.run(self.outer)
        while not loop.tasks and loop.generators:
            kept, loop.generators = loop.generators, []
            for generator in kept:
                if generator.ag_frame is not None:
                    self.main.own_context.run(loop.create_task, generator.aclose())
            loop.run(self.outer)

    def finished(self) -> bool:
        """Has all of the code ended? (Outcomes of withdrawn calls may still be on their way.)"""
        return self.ending and not self.loop.tasks

    def replay(self) -> PerdureError | None:
        """Hand the recorded entries over; gives what stops the execution, if something does."""
        journal = self.journal
        if journal is not None and journal.entries and not self.live:
            matched: Entry | None = None
            entries = journal.entries
            if (fault := self._fault()) is not None:
                return fault
            for self.cursor, entry in enumerate(entries, 1):
                if self.missing is not None and entry.key not in self.missing[1] and entry.kind not in LOCAL:
                    return self._inserted(entry)
                if not self._replay_entry(entry):
                    return self._mismatch(entry, matched)
                if (fault := self._fault()) is not None:
                    return fault
                matched = entry
            self.withdrawn_before = [call for call in self.gone.values() if isinstance(call, Call)]
            self.gone.clear()
            self.new = [call for call in self.new if call.state == OPEN and call.key in self.open]
        self.live = True
        self.journal = None
        return None

    def _replay_entry(self, entry: Entry) -> bool:
        key, kind = entry.key, entry.kind
        if kind in LOCAL:
            return kind in (NOTE, LIFE, PATCHED) or kind in REPEATED or key in self.asked
        if kind == TIMER:
            timer = self.timers.get(key)
            if timer is None:
                return key in self.gone or key == DEADLINE
            if entry.status == "set":
                timer.deadline = int(entry.output or 0)
                timer.set_at = entry.started_at
                return True
            self.fire(timer, entry.completed_at)
            return True
        call = self.open.get(key)
        if call is None:
            if key not in self.gone:
                return False
            if kind not in (INTENT, ATTEMPT):
                self.unused.append(entry)
            return True
        if _family(kind) != _family(call.spec.kind) and kind not in (INTENT, ATTEMPT):
            return False
        recorded = entry.input
        if recorded is not None:
            if call.input != recorded and not same(recorded, call.input):
                if not self._same_input(call, entry):
                    return False
            elif len(call.input) >= BASE_LEAST:
                self.window.add(entry.seq, "i", call.input)
        if entry.output is not None and len(entry.output) >= BASE_LEAST and entry.status == "completed":
            self.window.add(entry.seq, "o", entry.output)
        if kind in (INTENT, ATTEMPT):
            return True
        call.started_at = entry.started_at
        if entry.status == "completed":
            try:
                value = call.spec.decode(entry.output)
            except PerdureError as error:
                error = self.unread(call, error)
                if kind == RECEIVE:  # whoever sends is not the workflow: it hears of what it cannot read
                    self.hand_over(call, None, error, entry.completed_at)
                else:
                    self.fault = error
                return True
            self.hand_over(call, value, None, entry.completed_at)
        else:
            try:
                failure = decode_error(entry.error or "{}")
            except PerdureError as error:
                error.execution_id, error.key = self.id, key
                self.fault = error
                return True
            self.hand_over(call, None, failure, entry.completed_at)
        return True

    def unread(self, call: Call, error: PerdureError) -> PerdureError:
        """What is said of an outcome that cannot be read."""
        if call.spec.kind == "interrupt" and isinstance(error, DecodeError):
            request = request_id(self.id, call.key, 0 if self.info is None else self.info.generation)
            problem = str(error).removeprefix("the recorded text does not fit ")
            error = DecodeError(
                f"the answer to {request} does not fit what the code asks for: {problem}. It was accepted by the JSON"
                " Schema of the question, and stands. Let the type take it and resume; or roll back to an entry before"
                " it, and it is asked anew; or cancel"
            )
        error.execution_id, error.key = self.id, call.key
        return error

    def _same_input(self, call: Call, entry: Entry) -> bool:
        """The arguments changed (R8): noted, unless they were swapped with another call or must be exact."""
        assert self.journal is not None
        recorded = self.journal.whole_input(entry) or ""
        asked = self.shown(call)
        if recorded == asked:  # what is hidden in one is hidden in the other
            return True
        try:
            if self._hidden(call.spec.normalize(recorded)) == asked:
                return True
        except PerdureError:
            pass  # today's types cannot read it: it differs, which is what this asks
        if call.spec.on_change == "exact":
            return False
        for other in self.journal.entries:
            if same(other.input, asked) and other.key != entry.key and name_of(other.key) == name_of(entry.key):
                return False
        logger.warning("%s: the arguments of %s differ from the recorded ones; going on", self.id, call.key)
        if f"{NOTE}:{entry.seq}" not in self.journal.local:
            self.notes.append(f"{NOTE}:{entry.seq}")
        return True

    def shown(self, call: Call) -> str:
        """A call's input as it is recorded: without what is hidden."""
        return self._hidden(call.input) if call.spec.kind in ("step", "checkpoint") else str(call.input)

    def _hidden(self, text: str) -> str:
        return text if self.redaction is None else self.redaction.text(text)

    def _mismatch(self, entry: Entry, matched: Entry | None) -> JournalMismatchError:
        asked = describe(self) or "nothing"
        call = self.open.get(entry.key)
        what = "its arguments are those of another call" if call is not None else f"the code at rest asks {asked}"
        if call is not None and _family(call.spec.kind) != _family(entry.kind) and entry.kind not in (INTENT, ATTEMPT):
            what = f"the code asks it as a {call.spec.kind}: {asked}"
        elif call is not None:
            what += f": recorded {_short(entry.input)}, now {_short(self.shown(call))}; {asked}"
        last = f"entry {matched.seq}, {matched.key}" if matched is not None else "none"
        return JournalMismatchError(
            f"entry {entry.seq} is {entry.key} ({entry.kind}), but {what}. The last entry that matched: {last}."
            " The journal is untouched: run the code that wrote it, or mend the code, then resume",
            execution_id=self.id,
            key=entry.key,
        )

    def _fault(self) -> PerdureError | None:
        return self.fault

    def _inserted(self, entry: Entry) -> JournalMismatchError:
        assert self.missing is not None
        return JournalMismatchError(
            f"the code asks {self.missing[0]} before entry {entry.seq}, {entry.key}; the journal has none there."
            f" The code at rest asks {describe(self) or 'nothing'}."
            " The journal is untouched: run the code that wrote it, or mend the code, then resume",
            execution_id=self.id,
            key=self.missing[0],
        )

    # Outcomes -----------------------------------------------------------------------------------------

    def hand_over(self, call: Call, value: Any, error: BaseException | None, at: int) -> None:
        """Give a call its outcome and run to rest."""
        del self.open[call.key]
        call.state = GONE
        if at > self.time:
            self.time = at
        future = call.future
        if not future.done():
            if error is None:
                future.set_result(value)
            elif isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
            self.run()

    def fire(self, timer: Timer, at: int) -> None:
        """Run a timer's callback, and then to rest."""
        self.timers.pop(timer.key, None)
        if at > self.time:
            self.time = at
        callback, timer.callback = timer.callback, None
        timer.fired = True
        if callback is not None:
            self.loop.call_soon(callback, *timer.args, context=timer.context)
            self.run()

    def drop_timer(self, timer: Timer) -> None:
        """The code cancelled a timer."""
        self.timers.pop(timer.key, None)
        if self.closing:
            return
        if not self.live or timer.fired:
            self.gone[timer.key] = timer

    def withdraw(self, call: Call) -> None:
        """The code cancelled the await of a call."""
        self.open.pop(call.key, None)
        before, call.state = call.state, GONE
        if not self.live:
            self.gone[call.key] = call
        elif before != OPEN:
            self.gone[call.key] = call
            self.withdrawn(call)

    # Local entries ------------------------------------------------------------------------------------

    def at_end(self) -> bool:
        """Has replay reached the end of the journal (or was there none)?"""
        return self.live or self.journal is None or self.cursor >= len(self.journal.entries)

    def recorded_local(self, key: str) -> Any:
        """The text recorded for a local entry; `NOTHING` if it is to be made now."""
        if self.closing:
            raise Unwind
        if self.journal is not None:
            entry = self.journal.local.get(key)
            if entry is not None:
                self.asked.add(key)
                return entry.output
            if self.missing is None and not self.at_end():
                # It was lost with a crash if what comes next was under way already when the code asked for it;
                # anything opened later would have carried it into the journal: then the code has changed.
                self.missing = key, {*self.open, *self.timers, *self.gone}
        return NOTHING

    def make_local(self, kind: str, key: str, make: Callable[[], str]) -> str:
        """A value made once and recorded (R7)."""
        text = self.recorded_local(key)
        if text is NOTHING:
            text = make()
            self.write_local(kind, key, text)
        return str(text)

    def repeat_local(self, kind: str, key: str, text: str) -> bool:
        """A local entry of which several have one key. False if it is recorded already."""
        n = self.repeats[key] = self.repeats.get(key, 0) + 1
        if self.recorded_local(f"{key}#{n}") is not NOTHING:
            return False
        self.write_local(kind, key, text)
        return True

    def check_local(self, kind: str, key: str, text: str) -> None:
        """A value that the journal's order decided: recorded live, compared in replay."""
        recorded = self.recorded_local(key)
        if recorded is NOTHING:
            self.write_local(kind, key, text)
        elif recorded != text:
            self.fault = JournalMismatchError(
                f"{key} was won by {recorded}, now by {text}: the code has changed. The journal is untouched",
                execution_id=self.id,
                key=key,
            )

    def patched(self, name: str) -> bool:
        """One answer for one name (see `perdure.patched`)."""
        known = self.patches.get(name)
        if known is None:
            key = f"{PATCHED}:{name}"
            if self.closing:
                raise Unwind
            if self.journal is not None and key in self.journal.local:
                known = True
            else:
                known = self.at_end()
                if known:
                    self.write_local(PATCHED, key, "true")
            self.patches[name] = known
        return known

    # Closing ------------------------------------------------------------------------------------------

    def refuse(self) -> asyncio.Future[Any]:
        """A durable call while frames are being closed."""
        self.refused += 1
        if self.refused > REFUSALS:
            return asyncio.Future(loop=self.loop)
        raise Unwind

    def close(self) -> FramesRefusedError | None:
        """Close all frames, the root first. None, or what refused; those frames are kept for ever."""
        if self.closing:
            return None
        self.closing = True
        if not hasattr(self, "main"):  # it never began
            return None
        tasks = [self.main, *self.loop.tasks.values()]
        refused: list[WorkflowTask] = []
        outer = events._get_running_loop()
        events._set_running_loop(self.loop)
        try:
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                if not task.done() and not _close(task):
                    refused.append(task)
            for generator in self.loop.generators:
                _close_generator(generator, self.main)
        finally:
            events._set_running_loop(outer)
        self.loop.ready.clear()
        fault = None
        if refused:
            GRAVE.append((self, tasks))
            where = ", ".join(place_of(task) for task in refused)
            fault = FramesRefusedError(
                f"frames of {self.id} refuse to be closed at {where}: code there swallows every exception in a loop."
                " Let BaseException pass, then resume",
                execution_id=self.id,
            )
        else:
            self.loop.tasks.clear()
            self.loop.generators.clear()
            del self.main
        self.open.clear()
        self.new.clear()
        self.timers.clear()
        return fault

    def let_go(self) -> None:
        """Closed, and asked for no more: drops what would keep it in memory until the garbage collector comes by."""
        if self.write_local is not _nobody:
            self.write_local = self.withdrawn = _nobody
            del self.loop, self.root

    def stuck(self) -> NotInWorkflowError:
        """The error of code at rest that waits for nothing that could ever come."""
        where = ", ".join(places(self)) or "an unknown place"
        return NotInWorkflowError(
            f"the workflow waits at {where} for something that is neither a durable call nor asyncio's own:"
            " nothing can ever wake it. Do this in a step",
            execution_id=self.id,
        )


def _nobody(*_: Any) -> None:
    pass


def _close(task: WorkflowTask) -> bool:
    coroutine = task.get_coro()
    for _ in range(CLOSES):
        try:
            task.own_context.run(coroutine.close)
            return True
        except RuntimeError as error:
            if "ignored GeneratorExit" not in str(error):
                return True
        except BaseException:
            return True
    return False


def _close_generator(generator: Any, main: WorkflowTask) -> None:
    """Run an abandoned generator's synchronous `finally` code; one that awaits there goes no further."""
    if generator.ag_frame is None:
        return
    closing = generator.aclose()
    try:
        main.own_context.run(closing.send, None)
    except BaseException:
        return
    GRAVE.append(closing)


def _family(kind: str) -> str:
    return "step" if kind == "checkpoint" else kind  # a step may become a checkpoint under way


def _short(text: str | None, size: int = 120) -> str:
    text = text or ""
    return text if len(text) <= size else text[: size - 3] + "..."


async def within(coroutine: Any, duration: int, name: str) -> Any:
    """Run a workflow's main coroutine until its recorded deadline (`duration` microseconds after it began)."""
    token = CURRENT.set(_Deadline(CURRENT.get()))
    limit = asyncio.timeout(duration / SECOND)
    await limit.__aenter__()
    CURRENT.reset(token)
    try:
        result = await coroutine
    except BaseException as error:
        try:
            await limit.__aexit__(type(error), error, error.__traceback__)
        except TimeoutError:
            raise TimeoutError(f"{name} took longer than {duration / SECOND:g} s") from None
        raise
    await limit.__aexit__(None, None, None)
    return result


class _Deadline(Scope):
    """The scope of the one timer that is a workflow's deadline: its key counts among no others."""

    def __init__(self, scope: Any) -> None:
        super().__init__(scope.sequencer, scope.path)

    def key(self, name: str) -> str:
        return DEADLINE


async def durable_call(call: Call) -> Any:
    """Open a call and wait for its outcome. The coroutine behind every durable call of workflow code."""
    sequencer = call.sequencer
    if sequencer.closing:
        return await sequencer.refuse()
    key = call.key
    future: asyncio.Future[Any] = asyncio.Future(loop=sequencer.loop)
    call.future = future
    sequencer.open[key] = call
    sequencer.new.append(call)
    try:
        return await future
    finally:
        if call.state != GONE and not sequencer.closing:
            sequencer.withdraw(call)
