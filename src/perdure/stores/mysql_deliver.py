"""What anybody may bring to an execution, and what takes it away, on MariaDB and MySQL.

Each is a transaction of two packets: the first one locks and reads, the second one writes what follows from it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perdure.deliveries import (
    Answer,
    Cut,
    Decide,
    Delivery,
    Expiry,
    Note,
    Post,
    Receipt,
    Resume,
    Rewind,
    Settle,
    StartFrom,
    StartWith,
    Wish,
    goes_back,
    is_bound_back,
    rewinds,
    takes_answers,
)
from perdure.records import (
    ENDED,
    Execution,
    Message,
    Request,
    Status,
    Verdict,
    is_legal,
)
from perdure.stores.columns import parts, read_records
from perdure.stores.mysql_columns import Statements, pack_entries, pack_rows, time_or_null
from perdure.stores.mysql_errors import DRIVER_ERRORS, DUPLICATE, error_code
from perdure.stores.mysql_sessions import Result, Session
from perdure.stores.outgoing import is_same_workflow

# The decisions are found by their requests.
_OF_AN_EXECUTION = (
    "events",
    "decisions",
    "requests",
    "entries",
    "snapshots",
    "actions",
    "messages",
    "chunks",
    "refusals",
    "executions",
)


@dataclass(frozen=True, slots=True)
class _Standing:
    """How an execution stands at the moment of a delivery, under its lock."""

    id: str
    status: Status
    parent_id: str | None
    wish: str | None
    fence: int
    nudges: int
    owner: int | None
    generation: int


async def deliver(session: Session, delivery: Delivery) -> Receipt:
    """See `perdure.store.Store.deliver`. Raises the driver's errors."""
    async with session.transaction():
        match delivery:
            case Answer() | Expiry():
                return await _decide(session, delivery)
            case Post():
                return await _post(session, delivery)
            case StartWith():
                return await _start(session, delivery)
            case StartFrom():
                return await _start_from(session, delivery)
            case Wish() | Resume():
                return await _direct(session, delivery)
            case Settle(id):
                return await _settle(session, id)
            case Cut():
                return await _cut(session, delivery)
            case Rewind():
                return await _rewind(session, delivery)
            case Decide():
                return await _take_part(session, delivery)
            case Note():
                return await _note(session, delivery)


async def _decide(session: Session, delivery: Answer | Expiry) -> Receipt:
    sql = session.sql
    id = delivery.request_id
    _, rows, asked = await session.run(
        sql["begin"], sql.fill("standing_of_request", id=id), sql.fill("request_under_lock", id=id)
    )
    standing, request = _standing(rows), _request(asked)
    if standing is None or request is None:
        return await _refuse(session, Receipt(Verdict.GONE))
    if request.status != "open":
        equal = isinstance(delivery, Answer) and request.status == "decided" and request.answer == delivery.value
        verdict = Verdict.REPEAT if equal else Verdict.DECIDED
        return await _refuse(session, Receipt(verdict, standing.id, request))
    if standing.status in ENDED or goes_back(standing.status, standing.wish, standing.generation):
        return await _refuse(session, Receipt(Verdict.ENDED, standing.id, request))
    decided: dict[str, Any] = {"status": "expired", "answer": None, "by": None, "via": None, "checksum": None}
    if isinstance(delivery, Answer):
        decided = {"status": "decided", "answer": delivery.value, "by": delivery.by, "via": delivery.via}
        decided["checksum"] = delivery.checksum
    results = await session.run(
        sql.fill("decide_request", id=id, **decided),
        _nudge(sql, standing.id),
        sql.fill("get_request", id=id),
        sql["commit"],
    )
    return Receipt(Verdict.OK, standing.id, _request(results[2]))


async def _post(session: Session, delivery: Post) -> Receipt:
    sql = session.sql
    id = delivery.message.execution_id
    verdict, writing = await look_at_post(session, delivery.message, delivery.most, sql["begin"])
    if not writing:
        return await _refuse(session, Receipt(verdict, None if verdict is Verdict.GONE else id))
    try:
        await session.run(*writing, sql["commit"])
    except DRIVER_ERRORS as error:
        if error_code(error) != DUPLICATE:
            raise
        return Receipt(Verdict.REPEAT, id)  # sent to two executions at once
    return Receipt(Verdict.OK, id)


async def _start(session: Session, delivery: StartWith) -> Receipt:
    sql, wanted = session.sql, delivery.execution
    token = f"start.{uuid.uuid4().hex}"
    _, worker, _, created, found = await session.run(
        sql["begin"],
        sql.fill("lock_worker", worker=delivery.worker),
        sql.fill("insert_executions", rows=pack_rows([replace(wanted, token=token)])),
        sql.fill("created_executions", ids=[wanted.id], token=token),
        sql.fill("get_executions", ids=[wanted.id]),
    )
    if list(worker.tuples) != [(delivery.epoch, "live")]:
        return await _refuse(session, Receipt(Verdict.FENCED))
    if not is_same_workflow(wanted, read_records(Execution, found.rows)[0]):
        return await _refuse(session, Receipt(Verdict.EXISTS, wanted.id))
    verdict, writing = await look_at_post(session, delivery.message, delivery.most)
    try:
        await session.run(*writing, sql["commit"])
    except DRIVER_ERRORS as error:
        if error_code(error) != DUPLICATE:
            raise
        return await _start(session, delivery)  # the message went to another execution at once: now it is known
    return Receipt(verdict, wanted.id, started=bool(created.tuples))


async def _start_from(session: Session, delivery: StartFrom) -> Receipt:
    sql, wanted = session.sql, delivery.execution
    token = f"start.{uuid.uuid4().hex}"
    _, worker, _, created = await session.run(
        sql["begin"],
        sql.fill("lock_worker", worker=delivery.worker),
        sql.fill("insert_executions", rows=pack_rows([replace(wanted, token=token)])),
        sql.fill("created_executions", ids=[wanted.id], token=token),
    )
    if list(worker.tuples) != [(delivery.epoch, "live")]:
        return await _refuse(session, Receipt(Verdict.FENCED))
    if not created.tuples:
        return await _refuse(session, Receipt(Verdict.EXISTS, wanted.id))
    for part in parts(delivery.entries):
        await session.run(sql.fill("insert_entries", rows=pack_entries(part)))
    await session.run(sql["commit"])
    return Receipt(Verdict.OK, wanted.id, started=True)


async def look_at_post(session: Session, message: Message, most: int, *first: str) -> tuple[Verdict, list[str]]:
    """Inside a transaction: what becomes of a message, under the lock of its execution, and what then is to be said."""
    sql = session.sql
    id = message.execution_id
    looks = sql.fill("standing", id=id), sql.fill("has_message", id=message.id)
    *_, rows, known = await session.run(*first, *looks)
    standing = _standing(rows)
    if standing is None:
        return Verdict.GONE, []
    if known.value:
        return Verdict.REPEAT, []
    if standing.status in ENDED:
        return Verdict.ENDED, []
    # Each message was a nudge: mostly there is nothing to count.
    if standing.nudges >= most and (await session.run(sql.fill("count_waiting", id=id)))[0].value >= most:
        return Verdict.FULL, []
    insert = sql.fill(
        "insert_message",
        id=message.id,
        execution_id=id,
        name=message.name,
        value=message.value,
        checksum=message.checksum,
        ordinal=standing.nudges + 1,
        sent_by=message.sent_by,
    )
    return Verdict.OK, [insert, _nudge(sql, id)]


async def _direct(session: Session, delivery: Wish | Resume) -> Receipt:
    sql = session.sql
    id = delivery.execution_id
    _, rows = await session.run(sql["begin"], sql.fill("standing", id=id))
    standing = _standing(rows)
    if standing is None:
        return await _refuse(session, Receipt(Verdict.GONE))
    if standing.status in ENDED:
        return await _refuse(session, Receipt(Verdict.ENDED, id))
    if isinstance(delivery, Wish):
        if is_bound_back(standing.status, standing.wish, standing.generation):
            return await _refuse(session, Receipt(Verdict.OWNED, id))
        wish = sql.fill("wish", id=id, wish=delivery.wish, by=delivery.by, reason=delivery.reason)
        said = [] if (standing.wish, delivery.wish) == ("cancel", "cancel") else [wish]
        await session.run(*said, _nudge(sql, id), sql["commit"])
        return Receipt(Verdict.OK, id)
    if standing.status not in (Status.PAUSED, Status.BLOCKED):
        return await _refuse(session, Receipt(Verdict.OWNED, id))
    await session.run(sql.fill("resume", id=id), sql["commit"])
    return Receipt(Verdict.OK, id)


async def _settle(session: Session, id: str) -> Receipt:
    sql = session.sql
    standing = await _lock_family(session, id)
    if standing is None:
        return await _refuse(session, Receipt(Verdict.GONE))
    if standing.status in ENDED:
        return await _refuse(session, Receipt(Verdict.ENDED, id))
    wanted = {"cancel": Status.CANCELLED, "pause": Status.PAUSED}.get(standing.wish or "")
    if wanted is None or not is_legal(standing.status, wanted) or await _is_owned(session, standing):
        return await _refuse(session, Receipt(Verdict.OWNED, id))
    statements = [sql.fill("settle_wish", id=id, status=wanted)]
    if wanted is Status.CANCELLED:
        statements.append(sql.fill("tally", ids=[id]))
        statements.append(sql.fill("withdraw_requests", id=id))
        if standing.parent_id is not None:
            statements.append(_nudge(sql, standing.parent_id))
    await session.run(*statements, sql["commit"])
    return Receipt(Verdict.OK, id)


async def _is_owned(session: Session, standing: _Standing) -> bool:
    sql = session.sql
    if standing.owner is None:
        return False
    return bool((await session.run(sql.fill("is_alive", worker=standing.owner)))[0].value)


async def _cut(session: Session, cut: Cut) -> Receipt:
    sql = session.sql
    id = cut.execution_id
    standing = await _lock_family(session, id)
    if standing is None:
        return await _refuse(session, Receipt(Verdict.GONE))
    stands = standing.fence == cut.fence and standing.status in ENDED and is_legal(standing.status, Status.PENDING)
    if not stands or (await session.run(sql.fill("has_entry", id=id, seq=cut.entry.seq)))[0].value:
        return await _refuse(session, Receipt(Verdict.OWNED, id))
    await session.run(
        sql.fill("insert_entries", rows=pack_entries([cut.entry])),
        sql.fill("untally", ids=[id]),
        sql.fill("revive", id=id, checksum=cut.checksum),
        sql.fill("free_messages", id=id, from_seq=cut.from_seq),
        sql["commit"],
    )
    return Receipt(Verdict.OK, id)


async def _rewind(session: Session, delivery: Rewind) -> Receipt:
    sql, id = session.sql, delivery.execution_id
    _, rows = await session.run(sql["begin"], sql.fill("standing", id=id))
    standing = _standing(rows)
    if standing is None:
        return await _refuse(session, Receipt(Verdict.GONE))
    verdict = rewinds(delivery, standing.status, standing.wish, standing.generation)
    if verdict is not Verdict.OK:
        return await _refuse(session, Receipt(verdict, id))
    wish = sql.fill("wish", id=id, wish=delivery.wish, by=delivery.by, reason=delivery.reason)
    following = [_nudge(sql, id)] if standing.status is Status.RUNNING else _roll_back(sql, id)
    await session.run(wish, *following, sql["commit"])
    return Receipt(Verdict.OK, id)


async def _take_part(session: Session, delivery: Decide) -> Receipt:
    sql, asked = session.sql, delivery.request_id
    _, rows, found = await session.run(
        sql["begin"], sql.fill("standing_of_request", id=asked), sql.fill("request_under_lock", id=asked)
    )
    standing, request = _standing(rows), _request(found)
    if standing is None or request is None:
        return await _refuse(session, Receipt(Verdict.GONE))
    id = standing.id
    if request.status != "open":
        return await _refuse(session, Receipt(Verdict.DECIDED, id, request))
    if not takes_answers(request.kind, standing.status, standing.wish, standing.generation):
        return await _refuse(session, Receipt(Verdict.ENDED, id, request))
    if (await session.run(sql.fill("count_events", id=id)))[0].value != delivery.known:
        return await _refuse(session, Receipt(Verdict.OWNED, id, request))
    statements = []
    if delivery.decisions:
        statements.append(sql.fill("insert_decisions", rows=pack_rows(delivery.decisions)))
    if delivery.events:
        statements.append(sql.fill("insert_events", rows=pack_rows(delivery.events)))
    part = {name: getattr(delivery, name) for name in ("status", "answer", "by", "via", "checksum", "policy")}
    part |= {"assignee": delivery.assignee, "expires_at": time_or_null(delivery.expires_at)}
    statements.append(sql.fill("take_part", id=asked, **part))
    if delivery.status != "open":
        statements += _after(sql, request.kind, standing)
    *_, after, _ = await session.run(*statements, sql.fill("get_request", id=asked), sql["commit"])
    return Receipt(Verdict.OK, id, _request(after))


def _after(sql: Statements, kind: str, standing: _Standing) -> list[str]:
    if kind == "undo" and standing.status is Status.ROLLBACK_FAILED:
        return _roll_back(sql, standing.id)
    if kind == "unknown" and standing.status is Status.BLOCKED:
        return [sql.fill("resume", id=standing.id)]
    return [_nudge(sql, standing.id)]


def _roll_back(sql: Statements, id: str) -> list[str]:
    return [sql.fill("untally", ids=[id]), sql.fill("roll_back", id=id)]


async def _note(session: Session, note: Note) -> Receipt:
    sql, id = session.sql, note.execution_id
    _, rows = await session.run(sql["begin"], sql.fill("standing", id=id))
    if _standing(rows) is None:
        return await _refuse(session, Receipt(Verdict.GONE))
    if (await session.run(sql.fill("count_events", id=id)))[0].value != note.known:
        return await _refuse(session, Receipt(Verdict.OWNED, id))
    await session.run(sql.fill("insert_events", rows=pack_rows(note.events)), sql["commit"])
    return Receipt(Verdict.OK, id)


async def prune(session: Session, ids: Sequence[str], tallied: Callable[[Result], None]) -> list[str]:
    """See `perdure.store.Store.prune`. Raises the driver's errors. `tallied`: see `record`."""
    sql = session.sql
    async with session.transaction():
        _, families = await session.run(sql["begin"], sql.fill("families", ids=ids))
        found = sorted(id for (id,) in families.tuples)
        removed: set[str] = set()
        if found:
            _, prunable = await session.run(sql.fill("lock_executions", ids=found), sql.fill("prunable", ids=ids))
            removed = {id for (id,) in prunable.tuples}
        if not removed:
            await session.roll_back()
            return []
        these = sorted(removed)
        untally = sql.fill("untally", ids=these)
        removing = (sql.fill(f"prune_{rows}", ids=these) for rows in _OF_AN_EXECUTION)
        tallied((await session.run(untally, *removing, sql["commit"]))[0])
    return [id for id in dict.fromkeys(ids) if id in removed]


async def _lock_family(session: Session, id: str) -> _Standing | None:
    sql = session.sql
    # The parent, too, so that the two are always locked in the order of their ids.
    _, rows = await session.run(sql["begin"], sql.fill("lock_family", id=id))
    return next((_Standing(row[0], Status(row[1]), *row[2:]) for row in rows.tuples if row[0] == id), None)


def _standing(found: Result) -> _Standing | None:
    return next((_Standing(row[0], Status(row[1]), *row[2:]) for row in found.tuples), None)


def _request(found: Result) -> Request | None:
    return next(iter(read_records(Request, found.rows)), None)


def _nudge(sql: Statements, id: str) -> str:
    return sql.fill("nudge", id=id, times=1, at=None)


async def _refuse(session: Session, receipt: Receipt) -> Receipt:
    await session.roll_back()
    return receipt
