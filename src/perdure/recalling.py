"""What an execution's code asked for, found by running it once more over its journal: the calls, with their arguments.

An undo is given the arguments of the step that it undoes as the code gave them: what is recorded may hide secrets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perdure import bodies
from perdure.codec import CODEC
from perdure.context import Info
from perdure.errors import PerdureError, UnknownOutcomeError
from perdure.journal import ROLLBACK, UNDO, fold, unpacker_of
from perdure.packing import is_packed
from perdure.records import Entry
from perdure.rollback import Task
from perdure.scope import STARTED, Call
from perdure.secrets import allowing_secrets
from perdure.sequencer import Sequencer, within
from perdure.undoing import Unknown
from perdure.workflow import UNDOABLE

if TYPE_CHECKING:
    from perdure.executor import Run

logger = logging.getLogger("perdure")


NOT_DONE: Any = object()
"""What `Past.result` gives where a step turns out not to have happened."""


class Past:
    """What was called and what it gave, up to where a rollback began."""

    def __init__(self, run: Run, entries: Sequence[Entry]) -> None:
        self._run = run
        self._entries = entries
        self._unpacker = unpacker_of(entries)
        self._calls: dict[str, Call] | None = None

    async def called(self, task: Task) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The step that a task undoes, and the arguments that it was called with."""
        if self._calls is None:
            self._calls = await recall(self._run, self._entries)
        call, means = self._calls.get(task.entry.key), task.means
        assert means is not None
        if call is not None and getattr(call.spec, "options", None) is not None and call.spec.options.undo is not None:
            if call.args is not None:
                return call.spec, call.args, {}
            args, kwargs = call.spec.arguments.unbind(call.input)
            return call.spec, tuple(args), dict(kwargs)
        step = UNDOABLE.get(means.step or "")
        if step is None:
            raise PerdureError(
                f"{task.entry.key} is undone by {means.undo} of {means.step}, which is not in the code here",
                execution_id=self._run.id,
                key=task.key,
            )
        args, kwargs = step.spec.arguments.unbind(self._text(task.intent or task.entry, "i"))
        return step.spec, tuple(args), dict(kwargs)

    def _text(self, entry: Entry, column: str) -> str:
        text = entry.input if column == "i" else entry.output
        if is_packed(text):
            return self._unpacker.text(entry.seq, column)
        return text or ("{}" if column == "i" else "null")

    async def result(self, task: Task, spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the step gave: `Unknown`, or `NOT_DONE` where its `verify=` says so. Raises `UnknownOutcomeError`."""
        if task.kind == "undo":
            return spec.decode(self._text(task.entry, "o"))
        if task.kind == "error":
            return Unknown
        verify = spec.options.verify
        if verify is not None:
            call = Call(self._run.sequencer, spec, task.key, None, "null")
            call.run, call.state = self._run, STARTED
            if asyncio.iscoroutinefunction(verify):
                found = await verify(*args, **kwargs)
            else:
                found = await bodies.in_thread(self._run, call, args, kwargs, verify)
            return NOT_DONE if found is None else found
        if spec.options.undo_unknown:
            return Unknown
        raise UnknownOutcomeError(
            f"{task.entry.key} was begun, and nobody knows whether it happened: its undo is not run blindly."
            " Look, undo it by hand if need be, and say that it is done",
            execution_id=self._run.id,
            key=task.key,
        )


class _Kept(list[Call]):
    """The calls that the code opens, all of them remembered by their keys."""

    def __init__(self, found: dict[str, Call]) -> None:
        super().__init__()
        self._found = found

    def append(self, call: Call) -> None:
        self._found[call.key] = call
        super().append(call)


async def recall(run: Run, entries: Sequence[Entry]) -> dict[str, Call]:
    """The calls that today's code makes over these entries, by key. Those of an end that does not fit are missing."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[dict[str, Call]] = loop.create_future()

    def act() -> None:  # in a callback: no task of the real loop may be current while workflow code runs
        if not done.done():
            done.set_result(_recall(run, entries))

    loop.call_soon(act)
    return await done


def _recall(run: Run, entries: Sequence[Entry]) -> dict[str, Call]:
    found: dict[str, Call] = {}
    try:
        with allowing_secrets(run.worker.secrets):
            _replay(run, entries, found)
    except Exception as error:
        logger.warning("%s: its code does not fit its journal, undos take what is recorded: %s", run.id, error)
    return found


def _replay(run: Run, entries: Sequence[Entry], found: dict[str, Call]) -> None:
    row, workflow = run.execution, run.workflow
    kept = [entry for entry in entries if entry.seq > row.base_seq and entry.kind not in (ROLLBACK, UNDO)]
    journal = fold(kept) if kept else None
    if journal is None:
        return
    attributes: Any = CODEC.decode(row.attributes) if row.attributes else {}
    args, kwargs = workflow.arguments.unbind(row.input)
    sequencer = Sequencer(
        run.id,
        started_at=journal.began(row.created_at),
        journal=journal,
        write_local=lambda kind, key, text: None,
        withdrawn=lambda call: None,
        info=Info.of(row, journal.attributes_at_first(attributes), run.worker.namespace),
    )
    sequencer.arguments, sequencer.secrets = workflow.arguments, run.worker.secrets
    sequencer.redaction = run.sequencer.redaction
    sequencer.new = _Kept(found)
    coroutine = workflow.run(args, kwargs)
    if workflow.options_.timeout is not None:
        coroutine = within(coroutine, workflow.options_.timeout, workflow.name)
    try:
        sequencer.start(coroutine, run.worker.loop)
        fault = sequencer.replay()
        if fault is not None:
            logger.warning("%s: its code does not fit its journal, undos take what is recorded: %s", run.id, fault)
    finally:
        sequencer.close()
