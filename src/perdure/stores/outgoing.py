"""What is written to `outbox`, how it is read again, and how a database delivers it, whichever it is."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, Protocol

import msgspec

from perdure.deliveries import MOST_WAITING
from perdure.errors import BadBatchError, DecodeError, PerdureError
from perdure.records import Execution, Folded, Message, Outgoing, Verdict
from perdure.store import Same

START, MESSAGE = "start", "message"
BATCH = 100
"""Rows that are delivered in one transaction, at most."""

_UNREADABLE = (ValueError, TypeError, KeyError, RecursionError, msgspec.MsgspecError)
_EXECUTION = {field.name for field in fields(Execution)}
_MESSAGE = {field.name for field in fields(Message)}


def no_transactions(place: str) -> PerdureError:
    """A store that is no database has no transactions of others."""
    return PerdureError(
        f"{place} is no database that you could have a transaction in: connection= and transactional steps need"
        " SQLite, PostgreSQL, MariaDB or MySQL. Nothing was done"
    )


def write(item: Execution | Message, *, any_input: bool = False) -> Outgoing:
    """The row that asks for this."""
    if isinstance(item, Message):
        return Outgoing(MESSAGE, item.execution_id, _dump({name: getattr(item, name) for name in _MESSAGE}))
    content = {name: getattr(item, name) for name in _EXECUTION}
    return Outgoing(START, item.id, _dump({"execution": content, "any_input": any_input}))


def _dump(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def read_start(row: Outgoing) -> tuple[Execution, bool]:
    """The execution that a row asks for, and whether one with another input will do. Raises `DecodeError`."""
    try:
        content = json.loads(row.content)
        return msgspec.convert(content["execution"], Execution), bool(content["any_input"])
    except _UNREADABLE as error:
        raise _damaged(row, error) from error


def read_message(row: Outgoing) -> Message:
    """The message that a row asks for. Raises `DecodeError`."""
    try:
        return msgspec.convert(json.loads(row.content), Message)
    except _UNREADABLE as error:
        raise _damaged(row, error) from error


def _damaged(row: Outgoing, error: Exception) -> DecodeError:
    return DecodeError(f"row {row.id} of outbox is damaged: {error!r}", execution_id=row.execution_id)


def asks_for(wanted: Execution, there: Execution) -> bool:
    """Whether an execution that is there is the one that was to be started."""
    return (wanted.workflow, wanted.version, wanted.input) == (there.workflow, there.version, there.input)


def is_same_workflow(wanted: Execution, there: Execution) -> bool:
    """The same, whatever input it has."""
    return (wanted.workflow, wanted.version) == (there.workflow, there.version)


def judge(wanted: Execution, there: Execution, same: Same) -> Verdict:
    """What becomes of a start whose id is taken."""
    return Verdict.REPEAT if same(wanted, there) else Verdict.EXISTS


def refuse(row: Outgoing, verdict: Verdict, error: PerdureError | None = None) -> Folded:
    """What cannot be delivered, with the reason in words."""
    id = row.execution_id
    match verdict:
        case Verdict.EXISTS:
            words = f"{id} exists already, with another workflow or input; nothing was started"
        case Verdict.ENDED:
            words = f"{id} has ended; the message was not delivered"
        case Verdict.FULL:
            words = f"{MOST_WAITING:,} messages wait at {id}, which is the limit; this one was not delivered"
        case _:
            words = f"there is no execution {id} to take the message"
    row.refused = words if error is None else str(error)
    return Folded(row, verdict)


class Outbox(Protocol):
    """What a database has to do for `fold`. Each is a transaction of its own."""

    async def waits(self) -> list[int]:
        """The ids of what is to be delivered next, without taking a lock: most looks find none."""
        ...

    async def fold(self, limit: int, same: Same, only: int | None) -> list[Folded]:
        """See `perdure.store.Store.fold`; `only` this row. Raises `DecodeError`, `BadBatchError` for what one holds."""
        ...

    async def refuse(self, id: int, error: PerdureError) -> list[Folded]:
        """Let this row stay, with the reason."""
        ...


async def fold_all(outbox: Outbox, limit: int, same: Same | None) -> list[Folded]:
    """See `perdure.store.Store.fold`."""
    ids = await outbox.waits()
    if not ids:
        return []
    same = same or asks_for
    try:
        return await outbox.fold(min(limit, BATCH), same, None)
    except (DecodeError, BadBatchError):
        pass  # one of them is refused by the database: it must not be in the way of the others
    folded: list[Folded] = []
    for id in ids[:limit]:
        try:
            folded += await outbox.fold(1, same, id)
        except (DecodeError, BadBatchError) as error:
            folded += await outbox.refuse(id, error)
    return folded
