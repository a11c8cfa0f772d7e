"""Would this code block what is open? Journals are replayed as a worker would replay them, and nothing is recorded.

Nobody is disturbed by it: no worker is registered, no row is locked or written, and of the code only workflow code
runs, up to where it rests behind the last recorded entry. What it would do next is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from perdure.bulk import OPEN
from perdure.codec import CODEC, checksum
from perdure.context import Info
from perdure.errors import DecodeError, PerdureError
from perdure.journal import RECEIVE, fold
from perdure.keys import child_id
from perdure.loop import install_generator_hooks
from perdure.places import open_calls, places
from perdure.protection import Protection
from perdure.records import ENDED, Entry, Execution, Inbox, Query, Status
from perdure.scope import Call
from perdure.secrets import allowing_secrets
from perdure.sequencer import Sequencer, within
from perdure.store import Store, room
from perdure.workflow import Workflow

PAGE = 500
"""Rows that are read together."""

AT_ONCE = 50
"""Journals that are in memory together."""

LONGEST = 120
"""Characters of recorded arguments in a warning."""

Workflows = Mapping[tuple[str, int], Workflow[..., Any]]
T = TypeVar("T")


class Fit(StrEnum):
    """How an execution and the code go together."""

    FITS = "fits"
    BLOCKS = "blocks"
    UNKNOWN = "unknown"  # its workflow, or that version of it, is not in this code


@dataclass(slots=True, frozen=True)
class Verified:
    """What would become of one execution.

    `error` (where it blocks) is what `result()` would raise, `places` where the code stands then (`file:line`).
    `warnings`: what does not block and is still worth knowing.
    """

    id: str
    workflow: str
    version: int
    status: Status
    fit: Fit
    error: PerdureError | None = None
    places: Sequence[str] = ()
    warnings: Sequence[str] = ()


def open_only(query: Query) -> Query | None:
    """The query, for what has not ended; None if it asks for nothing of that."""
    wanted = tuple(status for status in OPEN if not query.status or status in query.status)
    return replace(query, status=wanted) if wanted else None


async def verify(store: Store, workflows: Workflows, query: Query, protection: Protection) -> AsyncIterator[Verified]:
    """Replay what the query finds and has not ended; one `Verified` for each, as they come. See `Engine.verify`."""
    wanted = open_only(query)
    if wanted is None:
        return
    undo = install_generator_hooks()
    try:
        cursor = None
        while True:
            page = await store.list(wanted, PAGE, cursor)
            known = [row.id for row in page.items if (row.workflow, row.version) in workflows]
            for row in page.items:
                if (row.workflow, row.version) not in workflows:
                    yield _verified(row, Fit.UNKNOWN)
            for n in range(0, len(known), AT_ONCE):
                async for row, journal, inbox in _read(store, known[n : n + AT_ONCE]):
                    workflow = workflows[row.workflow, row.version]
                    yield await _called_back(_Replay(row, workflow, journal, inbox, protection, room(store)).look)
            cursor = page.cursor
            if cursor is None:
                return
    finally:
        undo()


def _verified(row: Execution, fit: Fit, **more: Any) -> Verified:
    return Verified(row.id, row.workflow, row.version, row.status, fit, **more)


# Reading --------------------------------------------------------------------------------------------------

Journal = list[Entry] | PerdureError


async def _read(store: Store, ids: Sequence[str]) -> AsyncIterator[tuple[Execution, Journal, Inbox | None]]:
    """Open executions with their journals: a restart in between is read again, so that both are of one life."""
    while ids:
        before = await store.get(ids)
        try:
            journals: Mapping[str, Journal] = await store.load(ids)
        except DecodeError:
            journals = {id: await _load(store, id) for id in ids}
        inboxes = await store.inbox(ids)
        after = await store.get(ids)
        again = []
        for id in ids:
            row = before.get(id)
            if row is None or row.status in ENDED or row.status is Status.ROLLING_BACK:
                continue  # it has ended meanwhile, or goes back: no worker will replay all of it
            if id in after and _life(after[id]) != _life(row):
                again.append(id)
            else:
                yield row, journals.get(id, []), inboxes.get(id)
        ids = again


def _life(row: Execution) -> tuple[int, int, str]:
    return row.generation, row.base_seq, row.input


async def _load(store: Store, id: str) -> Journal:
    try:
        return (await store.load([id])).get(id, [])
    except DecodeError as error:
        return error


async def _called_back(act: Callable[[], T]) -> T:
    """Workflow code runs in a callback of the real loop: no task of that loop may be current then."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        if done.cancelled():
            return
        try:
            done.set_result(act())
        except Exception as error:
            done.set_exception(error)

    loop.call_soon(call)
    return await done


# Replaying ------------------------------------------------------------------------------------------------


class _Watched(Sequencer):
    """A sequencer that remembers which arguments have changed."""

    changed: list[str]

    def _same_input(self, call: Call, entry: Entry) -> bool:
        known = len(self.notes)
        same = super()._same_input(call, entry)
        if len(self.notes) > known and self.journal is not None:
            before = self.journal.whole_input(entry)
            place = open_calls(self).get(call.key, "an unknown place")
            self.changed.append(
                f"the arguments of {call.key} ({place}) were {_short(before)}, now {_short(self.shown(call))}:"
                " what is recorded stands"
            )
        return same


class _Replay:
    """One execution, begun as `executor.Run.begin` does it, with nowhere to write to."""

    def __init__(
        self,
        row: Execution,
        workflow: Workflow[..., Any],
        journal: Journal,
        inbox: Inbox | None,
        protection: Protection,
        room: int,
    ) -> None:
        self._row = row
        self._workflow = workflow
        self._journal = journal
        self._inbox = inbox
        self._secrets = protection.encryption is not None
        self._redaction = protection.redaction(workflow.options_.redact)
        self._warnings: list[str] = []
        self._room = room

    def look(self) -> Verified:
        with allowing_secrets(self._secrets):
            return self._look()

    def _look(self) -> Verified:
        row = self._row
        if row.wish == "cancel":
            return _verified(row, Fit.FITS)  # it ends without being replayed
        try:
            sequencer, coroutine = self._begin()
        except PerdureError as unread:
            return self._blocks(unread, [self._workflow.source])
        except Exception as defect:
            return self._blocks(_broken(defect), [self._workflow.source])
        error: PerdureError | None
        try:
            sequencer.start(coroutine, asyncio.get_running_loop())
            error = sequencer.replay() or _fatal(sequencer) or sequencer.fault or self._arrived(sequencer)
        except Exception as defect:
            error = _broken(defect)
        where = self._where(sequencer, error)
        self._warnings += sequencer.changed
        self._end(sequencer)
        refused = sequencer.close()
        if error is None and refused is None:
            return _verified(row, Fit.FITS, warnings=self._warnings)
        return self._blocks(error or refused, where)

    def _begin(self) -> tuple[_Watched, Any]:
        row, workflow = self._row, self._workflow
        if isinstance(self._journal, PerdureError):
            raise self._journal
        if checksum(row.input, row.output, row.error) != row.checksum:
            raise DecodeError(f"the input of {row.id} is damaged: its checksum does not fit", execution_id=row.id)
        attributes = CODEC.decode(row.attributes) if row.attributes else {}
        journal = fold(self._journal) if self._journal else None
        args, kwargs = workflow.arguments.unbind(row.input)
        if journal is not None:
            attributes = journal.attributes_at_first(attributes)
        sequencer = _Watched(
            row.id,
            started_at=row.created_at if journal is None else journal.began(row.created_at),
            journal=journal,
            write_local=lambda kind, key, text: None,
            withdrawn=lambda call: None,
            info=Info.of(row, attributes),
        )
        sequencer.arguments = workflow.arguments
        sequencer.secrets = self._secrets
        sequencer.redaction = self._redaction
        sequencer.changed = []
        coroutine = workflow.run(args, kwargs)
        if workflow.options_.timeout is not None:
            coroutine = within(coroutine, workflow.options_.timeout, workflow.name)
        return sequencer, coroutine

    def _blocks(self, error: PerdureError | None, where: Sequence[str]) -> Verified:
        if error is not None:
            error.execution_id = error.execution_id or self._row.id
        return _verified(self._row, Fit.BLOCKS, error=error, places=where, warnings=self._warnings)

    def _where(self, sequencer: Sequencer, error: PerdureError | None) -> list[str]:
        """Where the code stands: at the call concerned, if that can be said."""
        place = open_calls(sequencer).get(error.key or "") if error is not None else None
        return [place] if place is not None else places(sequencer) or [self._workflow.source]

    def _arrived(self, sequencer: Sequencer) -> PerdureError | None:
        """An answer, a message or a child's result that is there already, and that today's types cannot read."""
        for call in sequencer.open.values():
            text = None if self._inbox is None else _delivered(call, self._row, self._inbox, self._room)
            if text is not None:
                try:
                    call.spec.decode(text)
                except PerdureError as error:
                    if call.spec.kind != RECEIVE:
                        return sequencer.unread(call, error)
                    self._warnings.append(f"{call.key} raises {type(error).__name__} of what was sent: {error}")
        return None

    def _end(self, sequencer: Sequencer) -> None:
        """Warn of an end that nobody may have wanted."""
        main = sequencer.main
        if main.done():
            error = None if main.cancelled() else main.exception()
            if error is not None:
                self._warnings.append(f"the code ends with {type(error).__name__}: {error}{_raised_at(error)}")
        elif not sequencer.open and not sequencer.timers:
            self._warnings.append(str(sequencer.stuck()))


def _delivered(call: Call, row: Execution, inbox: Inbox, room: int) -> str | None:
    """The text that has come for an open call."""
    if call.spec.kind == "interrupt":
        asked = (r for r in inbox.requests if (r.key, r.generation) == (call.key, row.generation))
        return next((request.answer for request in asked if request.status == "decided"), None)
    if call.spec.kind == RECEIVE:
        return next((message.value for message in inbox.messages if message.name == call.extra), None)
    if call.spec.kind == "child":
        id = call.spec.workflow.options_.execution_id or child_id(row.id, call.key, row.generation, room)
        return next((c.output for c in inbox.children if c.id == id and c.status is Status.COMPLETED), None)
    return None


def _fatal(sequencer: Sequencer) -> PerdureError | None:
    error = sequencer.fatal
    return None if error is None else PerdureError(f"the code raises {error!r}: it would end every worker")


def _broken(error: Exception) -> PerdureError:
    return PerdureError(f"the replay failed: {type(error).__name__}: {error}{_raised_at(error)}")


def _raised_at(error: BaseException) -> str:
    """` (file:line)` of the innermost frame."""
    traceback = error.__traceback__
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f" ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
