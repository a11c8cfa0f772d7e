"""What an execution's code asked for, found by running it once more over its journal: the calls, with their arguments.

An undo is given the arguments of the step that it undoes as the code gave them: what is recorded may hide secrets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perdure.codec import CODEC
from perdure.context import Info
from perdure.journal import ROLLBACK, UNDO, fold
from perdure.records import Entry
from perdure.scope import Call
from perdure.secrets import allowing_secrets
from perdure.sequencer import Sequencer, within

if TYPE_CHECKING:
    from perdure.executor import Run

logger = logging.getLogger("perdure")


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
