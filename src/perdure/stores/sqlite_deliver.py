"""What anybody may bring to an execution, on SQLite. Each function runs inside a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perdure.records import (
    ENDED,
    Answer,
    Delivery,
    Expiry,
    Message,
    Post,
    Receipt,
    Request,
    Resume,
    Settle,
    Status,
    Verdict,
    Wish,
    is_legal,
)
from perdure.stores.sqlite_database import Database
from perdure.stores.sqlite_rows import read_records
from perdure.stores.timestamps import to_text


@dataclass(frozen=True, slots=True)
class _Standing:
    """How an execution stands at the moment of a delivery."""

    status: Status
    parent_id: str | None
    owned: bool


def deliver(database: Database, delivery: Delivery, now: int) -> Receipt:
    """See `perdure.store.Store.deliver`."""
    match delivery:
        case Answer() | Expiry():
            return _decide(database, delivery, to_text(now))
        case Post():
            return _post(database, delivery.message, to_text(now))
        case Wish() | Settle() | Resume():
            return _direct(database, delivery, to_text(now))


def _decide(database: Database, delivery: Answer | Expiry, now: str) -> Receipt:
    request = _request(database, delivery.request_id)
    standing = _standing(database, request.execution_id) if request is not None else None
    if request is None or standing is None:
        return Receipt(Verdict.GONE)
    id = request.execution_id
    if request.status != "open":
        equal = isinstance(delivery, Answer) and request.status == "decided" and request.answer == delivery.value
        return Receipt(Verdict.REPEAT if equal else Verdict.DECIDED, id, request)
    if standing.status in ENDED:
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


def _post(database: Database, message: Message, now: str) -> Receipt:
    id = message.execution_id
    standing = _standing(database, id)
    if standing is None:
        return Receipt(Verdict.GONE)
    if database.value("message_exists", (message.id,)):
        return Receipt(Verdict.REPEAT, id)
    if standing.status in ENDED:
        return Receipt(Verdict.ENDED, id)
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
            wish = {"id": id, "wish": delivery.wish, "by": delivery.by, "reason": delivery.reason}
            database.run("wish", wish)
            database.run("nudge", here)
        case Settle():
            if standing.owned or not is_legal(standing.status, Status.CANCELLED):
                return Receipt(Verdict.OWNED, id)
            database.run("cancel_execution", here)
            database.run("withdraw_requests", here)
            if standing.parent_id is not None:
                database.run("nudge", {"id": standing.parent_id, "now": now})
        case Resume():
            if standing.status not in (Status.PAUSED, Status.BLOCKED):
                return Receipt(Verdict.OWNED, id)
            database.run("resume_execution", here)
    return Receipt(Verdict.OK, id)


def _request(database: Database, id: str) -> Request | None:
    found = read_records(Request, database.run("request", (id,)))
    return found[0] if found else None


def _standing(database: Database, id: str) -> _Standing | None:
    row = database.run("standing", (id,)).fetchone()
    return None if row is None else _Standing(Status(row[0]), row[1], bool(row[2]))
