"""The documents of `--json`: executions, journals, requests, outcomes."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from perdure.cli.words import describe, error_words, readable
from perdure.clock import to_datetime
from perdure.codec import error_traceback
from perdure.errors import DecodeError
from perdure.outcome import (
    Blocked,
    Cancelled,
    Completed,
    Failed,
    OpenRequest,
    Outcome,
    Paused,
    RollbackFailed,
    RolledBack,
    Waiting,
)
from perdure.records import Execution, Status
from perdure.schedules import ScheduleView
from perdure.streams import Usage
from perdure.views import HistoryEntry, error_of

ENTRY = (
    "seq", "key", "kind", "name", "status", "attempt", "input", "output", "error", "traceback", "started_at",
    "completed_at", "build", "fence",
)  # fmt: skip


def time(when: int | None) -> datetime | None:
    return None if when is None else to_datetime(when)


def traceback_of(text: str | None) -> str | None:
    """The recorded traceback of a recorded error; None where there is none."""
    try:
        return error_traceback(text) or None if text else None
    except DecodeError:
        return None


def error_text(text: str | None) -> str | None:
    """A recorded error as `Type: message`."""
    try:
        return describe(error_of(text)) if text else None
    except DecodeError as error:
        return str(error)


def brief(row: Execution) -> dict[str, Any]:
    """An execution as a list shows it."""
    return {
        "id": row.id,
        "workflow": row.workflow,
        "version": row.version,
        "status": str(row.status),
        "queue": row.queue,
        "reason": row.reason,
        "started_by": row.started_by,
        "parent_id": row.parent_id,
        "wake_at": time(row.wake_at),
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
        "ended_at": time(row.ended_at),
    }


def execution(row: Execution) -> dict[str, Any]:
    """All that the row of an execution tells."""
    return {
        **brief(row),
        "input": readable(row.input),
        "output": readable(row.output),
        "error": error_text(row.error),
        "traceback": traceback_of(row.error),
        "wish": row.wish,
        "wish_by": row.wish_by,
        "wish_reason": row.wish_reason,
        "priority": row.priority,
        "attributes": readable(row.attributes),
        "owner": row.owner,
        "fence": row.fence,
        "crashes": row.crashes,
        "generation": row.generation,
        "parent_key": row.parent_key,
        "build": row.build,
    }


def request(asked: OpenRequest) -> dict[str, Any]:
    """A request, with the schema of its answer as an object."""
    document = {name.name: getattr(asked, name.name) for name in fields(asked)}
    return {**document, "schema": None if asked.schema is None else readable(asked.schema)}


def entry(view: HistoryEntry) -> dict[str, Any]:
    """A durable call, with its failed attempts inside."""
    document = {name: getattr(view, name) for name in ENTRY}
    document["error"] = None if view.error is None else error_words(view.error)
    document["attempts"] = [entry(attempt) for attempt in view.attempts]
    if view.kind in ("attempt", "timer"):
        document["output"] = None  # a time of the journal's own
    return document


def status_of(outcome: Outcome) -> Status:
    """The status that an outcome speaks of."""
    match outcome:
        case Completed():
            return Status.COMPLETED
        case Failed():
            return Status.FAILED
        case Waiting():
            return Status.WAITING
        case Paused():
            return Status.PAUSED
        case Cancelled():
            return Status.CANCELLED
        case Blocked():
            return Status.BLOCKED
        case RolledBack():
            return Status.ROLLED_BACK
        case RollbackFailed():
            return Status.ROLLBACK_FAILED


def ending(row: Execution, outcome: Outcome) -> dict[str, Any]:
    """How an execution has come to stand still."""
    document = {**brief(row), "status": str(status_of(outcome)), "output": None, "error": None, "requests": []}
    match outcome:
        case Completed():
            document["output"] = readable(row.output)
        case Failed() | Blocked():
            document["error"] = error_text(row.error)
        case RolledBack(_, undone):
            document |= {"error": error_text(row.error), "undone": list(undone)}
        case RollbackFailed(_, errors):
            words = {key: f"{type(error).__name__}: {error}" for key, error in errors.items()}
            document |= {"error": error_text(row.error), "undo_errors": words}
        case Waiting(requests, wake_at):
            document["requests"] = [request(asked) for asked in requests]
            document["wake_at"] = wake_at
        case Paused(by, reason) | Cancelled(by, reason):
            document |= {"by": by, "reason": reason}
    return document


def schedule(view: ScheduleView) -> dict[str, Any]:
    return {name.name: getattr(view, name.name) for name in fields(view)}


def usage(used: Usage) -> dict[str, Any]:
    return {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cost": str(used.cost),
        "models": dict(used.models or {}),
    }
