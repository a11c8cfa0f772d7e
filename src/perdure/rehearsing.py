"""Workflow code run once more over recorded entries, with nowhere to write to: what it asks, and what it holds there.

Nobody is disturbed by it: no row is locked or written, no body runs; what the code would do next is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from perdure.codec import CODEC, checksum
from perdure.context import Info
from perdure.errors import DecodeError, PerdureError
from perdure.journal import ROLLBACK, UNDO, fold
from perdure.loop import install_generator_hooks
from perdure.places import frames_in_thread, frames_of, is_users
from perdure.protection import Protection
from perdure.records import Entry, Execution
from perdure.secrets import allowing_secrets
from perdure.sequencer import Sequencer, within
from perdure.workflow import Workflow

T = TypeVar("T")


@dataclass(slots=True)
class Rehearsal:
    """The code at rest behind the last of the entries. `fault`: what does not fit; `frame`: the workflow's own."""

    sequencer: Sequencer
    fault: PerdureError | None
    frame: Any


Look = Callable[[Rehearsal], T]


async def rehearse(
    row: Execution,
    workflow: Workflow[Any, Any],
    entries: Sequence[Entry],
    protection: Protection,
    look: Look[T],
    kind: type[Sequencer] = Sequencer,
) -> T:
    """Replay entries on a workflow's code and look. Raises `PerdureError` for what cannot even be begun."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def act() -> None:  # in a callback: no task of the real loop may be current while workflow code runs
        if done.cancelled():
            return
        try:
            with allowing_secrets(protection.encryption is not None):
                done.set_result(_rehearse(row, workflow, entries, protection, look, kind))
        except Exception as error:
            done.set_exception(error)

    undo = install_generator_hooks()
    try:
        loop.call_soon(act)
        return await done
    finally:
        undo()


def _rehearse(
    row: Execution,
    workflow: Workflow[Any, Any],
    entries: Sequence[Entry],
    protection: Protection,
    look: Look[T],
    kind: type[Sequencer],
) -> T:
    if checksum(row.input, row.output, row.error) != row.checksum:
        raise DecodeError(f"the input of {row.id} is damaged: its checksum does not fit", execution_id=row.id)
    kept = [entry for entry in entries if entry.seq > row.base_seq and entry.kind not in (ROLLBACK, UNDO)]
    journal = fold(kept) if kept else None
    attributes: Any = CODEC.decode(row.attributes) if row.attributes else {}
    args, kwargs = workflow.arguments.unbind(row.input)
    sequencer = kind(
        row.id,
        started_at=row.created_at if journal is None else journal.began(row.created_at),
        journal=journal,
        write_local=lambda kind, key, text: None,
        withdrawn=lambda call: None,
        info=Info.of(row, attributes if journal is None else journal.attributes_at_first(attributes)),
    )
    if journal is not None:
        sequencer.info.rollback_reason, sequencer.info.orders = journal.rollback_reason, journal.orders
    sequencer.arguments, sequencer.secrets = workflow.arguments, protection.encryption is not None
    sequencer.redaction = protection.redaction(workflow.options_.redact)
    coroutine = workflow.run(args, kwargs)
    if workflow.options_.timeout is not None:
        coroutine = within(coroutine, workflow.options_.timeout, workflow.name)
    try:
        sequencer.start(coroutine, asyncio.get_running_loop())
        frame = _own_frame(sequencer)
        fault = sequencer.replay() or sequencer.fault
        return look(Rehearsal(sequencer, fault, frame))
    finally:
        sequencer.close()


def _own_frame(sequencer: Sequencer) -> Any:
    """The workflow's own frame, held: so it can be looked at once it has ended, too."""
    for frame in frames_of(sequencer.main.get_coro()):
        if is_users(frame.f_code.co_filename):
            return frame
        if frame.f_code.co_name == "drive" and (found := frames_in_thread(frame.f_locals.get("thread"))):
            return found[0]
    return None
