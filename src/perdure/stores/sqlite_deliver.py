"""What anybody may bring to an execution, and what takes it away, on SQLite. Each runs inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence
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
from perdure.records import ENDED, Execution, Message, Request, Status, Verdict, is_legal
from perdure.stores.outgoing import is_same_workflow
from perdure.stores.sqlite_database import Database
from perdure.stores.sqlite_rows import entry_row, entry_rows, read_records, record_row, to_json
from perdure.stores.timestamps import to_text, to_text_or_null

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
    """How an execution stands at the moment of a delivery."""

    status: Status
    parent_id: str | None
    owned: bool
    wish: str | None
    fence: int
    nudges: int
    generation: int


def deliver(database: Database, delivery: Delivery, now: int) -> Receipt:
    """See `perdure.store.Store.deliver`."""
    match delivery:
        case Answer() | Expiry():
            return _decide(database, delivery, to_text(now))
        case Post():
            return _post(database, delivery.message, delivery.most, to_text(now))
        case StartWith():
            return _start(database, delivery, to_text(now))
        case StartFrom():
            return _start_from(database, delivery)
        case Wish() | Settle() | Resume():
            return _direct(database, delivery, to_text(now))
        case Cut():
            return _cut(database, delivery, to_text(now))
        case Rewind():
            return _rewind(database, delivery, to_text(now))
        case Decide():
            return _take_part(database, delivery, to_text(now))
        case Note():
            return _note(database, delivery)


def _decide(database: Database, delivery: Answer | Expiry, now: str) -> Receipt:
    request = _request(database, delivery.request_id)
    standing = _standing(database, request.execution_id) if request is not None else None
    if request is None or standing is None:
        return Receipt(Verdict.GONE)
    id = request.execution_id
    if request.status != "open":
        equal = isinstance(delivery, Answer) and request.status == "decided" and request.answer == delivery.value
        return Receipt(Verdict.REPEAT if equal else Verdict.DECIDED, id, request)
    if standing.status in ENDED or goes_back(standing.status, standing.wish, standing.generation):
        return Receipt(Verdict.ENDED, id, request)
    decided: dict[str, Any]
    if isinstance(delivery, Answer):
        decided = {"status": "decided", "answer": delivery.value, "by": delivery.by, "via": delivery.via}
        decided["checksum"] = delivery.checksum
    else:
        decided = {"status": "expired", "answer": None, "by": None, "via": None, "checksum": request.checksum}
    database.run("decide_request", decided | {"id": request.id, "now": now})
    database.run("nudge", {"id": id, "now": now})
    return Receipt(Verdict.OK, id, _request(database, request.id))


def _post(database: Database, message: Message, most: int, now: str) -> Receipt:
    id = message.execution_id
    standing = _standing(database, id)
    if standing is None:
        return Receipt(Verdict.GONE)
    if database.value("message_exists", (message.id,)):
        return Receipt(Verdict.REPEAT, id)
    if standing.status in ENDED:
        return Receipt(Verdict.ENDED, id)
    # Each message was a nudge: mostly there is nothing to count.
    if standing.nudges >= most and database.value("count_waiting", (id,)) >= most:
        return Receipt(Verdict.FULL, id)
    database.run(
        "insert_message",
        {
            "id": message.id,
            "execution_id": id,
            "name": message.name,
            "value": message.value,
            "checksum": message.checksum,
            "sent_by": message.sent_by,
            "now": now,
        },
    )
    database.run("nudge", {"id": id, "now": now})
    return Receipt(Verdict.OK, id)


def _start(database: Database, delivery: StartWith, now: str) -> Receipt:
    if not database.value("worker_stands", (delivery.worker, delivery.epoch)):
        return Receipt(Verdict.FENCED)
    wanted = delivery.execution
    started = database.run("insert_execution", record_row(wanted)).rowcount > 0
    if not started:
        there = read_records(Execution, database.run("executions", (to_json([wanted.id]),)))[0]
        if not is_same_workflow(wanted, there):
            return Receipt(Verdict.EXISTS, wanted.id)
    return replace(_post(database, delivery.message, delivery.most, now), started=started)


def _start_from(database: Database, delivery: StartFrom) -> Receipt:
    if not database.value("worker_stands", (delivery.worker, delivery.epoch)):
        return Receipt(Verdict.FENCED)
    id = delivery.execution.id
    if not database.run("insert_execution", record_row(delivery.execution)).rowcount:
        return Receipt(Verdict.EXISTS, id)
    database.run_many("insert_entry", entry_rows(delivery.entries))
    return Receipt(Verdict.OK, id, started=True)


def _direct(database: Database, delivery: Wish | Settle | Resume, now: str) -> Receipt:
    id = delivery.execution_id
    standing = _standing(database, id)
    if standing is None:
        return Receipt(Verdict.GONE)
    if standing.status in ENDED:
        return Receipt(Verdict.ENDED, id)
    here = {"id": id, "now": now}
    match delivery:
        case Wish():
            if is_bound_back(standing.status, standing.wish, standing.generation):
                return Receipt(Verdict.OWNED, id)
            wish = {"id": id, "wish": delivery.wish, "by": delivery.by, "reason": delivery.reason}
            if (standing.wish, delivery.wish) != ("cancel", "cancel"):
                database.run("wish", wish)
            database.run("nudge", here)
        case Settle():
            return Receipt(_settle(database, standing, here), id)
        case Resume():
            if standing.status not in (Status.PAUSED, Status.BLOCKED):
                return Receipt(Verdict.OWNED, id)
            database.run("resume_execution", here)
    return Receipt(Verdict.OK, id)


def _settle(database: Database, standing: _Standing, here: dict[str, str]) -> Verdict:
    wanted = {"cancel": Status.CANCELLED, "pause": Status.PAUSED}.get(standing.wish or "")
    if standing.owned or wanted is None or not is_legal(standing.status, wanted):
        return Verdict.OWNED
    if wanted is Status.PAUSED:
        database.run("pause_execution", here)
        return Verdict.OK
    database.run("cancel_execution", here)
    database.run("withdraw_requests", here)
    if standing.parent_id is not None:
        database.run("nudge", {"id": standing.parent_id, "now": here["now"]})
    return Verdict.OK


def _cut(database: Database, cut: Cut, now: str) -> Receipt:
    id = cut.execution_id
    standing = _standing(database, id)
    if standing is None:
        return Receipt(Verdict.GONE)
    if (
        standing.fence != cut.fence
        or standing.status not in ENDED
        or not is_legal(standing.status, Status.PENDING)
        or database.run("entry", (id, cut.entry.seq)).fetchone()
    ):
        return Receipt(Verdict.OWNED, id)
    database.run("insert_entry", entry_row(cut.entry))
    database.run("revive_execution", {"id": id, "checksum": cut.checksum, "now": now})
    database.run("free_messages", (id, cut.from_seq))
    return Receipt(Verdict.OK, id)


def _rewind(database: Database, delivery: Rewind, now: str) -> Receipt:
    id = delivery.execution_id
    standing = _standing(database, id)
    if standing is None:
        return Receipt(Verdict.GONE)
    verdict = rewinds(delivery, standing.status, standing.wish, standing.generation)
    if verdict is not Verdict.OK:
        return Receipt(verdict, id)
    database.run("wish", {"id": id, "wish": delivery.wish, "by": delivery.by, "reason": delivery.reason})
    database.run("nudge" if standing.status is Status.RUNNING else "roll_back_execution", {"id": id, "now": now})
    return Receipt(Verdict.OK, id)


def _take_part(database: Database, delivery: Decide, now: str) -> Receipt:
    request = _request(database, delivery.request_id)
    standing = _standing(database, request.execution_id) if request is not None else None
    if request is None or standing is None:
        return Receipt(Verdict.GONE)
    id = request.execution_id
    if request.status != "open":
        return Receipt(Verdict.DECIDED, id, request)
    if not takes_answers(request.kind, standing.status, standing.wish, standing.generation):
        return Receipt(Verdict.ENDED, id, request)
    if database.value("count_events", (id,)) != delivery.known:
        return Receipt(Verdict.OWNED, id, request)
    for decision in delivery.decisions:
        database.run("insert_decision", record_row(decision))
    for event in delivery.events:
        database.run("insert_event", record_row(event))
    values = {
        "id": request.id,
        "now": now,
        "status": delivery.status,
        "answer": delivery.answer,
        "by": delivery.by,
        "via": delivery.via,
        "checksum": delivery.checksum,
        "policy": delivery.policy,
        "assignee": delivery.assignee,
        "expires_at": to_text_or_null(delivery.expires_at),
    }
    database.run("take_part_in_request", values)
    if delivery.status != "open":
        database.run(statement_after(request.kind, standing.status), {"id": id, "now": now})
    return Receipt(Verdict.OK, id, _request(database, request.id))


def statement_after(kind: str, status: Status) -> str:
    """What becomes of the execution whose request was decided."""
    if kind == "undo" and status is Status.ROLLBACK_FAILED:
        return "roll_back_execution"
    return "resume_execution" if kind == "unknown" and status is Status.BLOCKED else "nudge"


def _note(database: Database, note: Note) -> Receipt:
    id = note.execution_id
    if _standing(database, id) is None:
        return Receipt(Verdict.GONE)
    if database.value("count_events", (id,)) != note.known:
        return Receipt(Verdict.OWNED, id)
    for event in note.events:
        database.run("insert_event", record_row(event))
    return Receipt(Verdict.OK, id)


def prune(database: Database, ids: Sequence[str]) -> list[str]:
    """See `perdure.store.Store.prune`."""
    removable = {id for (id,) in database.run("prunable", (to_json(ids),))}
    over = [id for id in dict.fromkeys(ids) if id in removable]
    if over:
        these = (to_json(over),)
        for rows in _OF_AN_EXECUTION:
            database.run(f"prune_{rows}", these)
    return over


def _request(database: Database, id: str) -> Request | None:
    found = read_records(Request, database.run("request", (id,)))
    return found[0] if found else None


def _standing(database: Database, id: str) -> _Standing | None:
    row = database.run("standing", (id,)).fetchone()
    return None if row is None else _Standing(Status(row[0]), row[1], bool(row[2]), *row[3:])
