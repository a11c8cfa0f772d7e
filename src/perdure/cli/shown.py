"""What `perdure show` says of an execution, part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perdure.cli import documents
from perdure.cli.ending import tell_request
from perdure.cli.session import Session
from perdure.cli.words import LONGEST, cut, error_words, order_words, readable, table, to_json, took, void_words, when
from perdure.clock import to_datetime
from perdure.journal import CUT, EMIT, PUBLISH, ROLLBACK, STREAM, TOLD
from perdure.outcome import OpenRequest
from perdure.records import ENDED, Execution, Status
from perdure.rollback import order_of
from perdure.streams import Usage
from perdure.views import HistoryEntry

TRACEBACKS = 5
ENTRIES = 200
BODIES = ("step", "checkpoint", "attempt", "child")
"""What takes time of its own; the others wait for something."""

HIDDEN = frozenset({*TOLD, EMIT, PUBLISH})
"""What is told elsewhere; there may be thousands of it."""


def execution(session: Session, row: Execution, why_not: str | None) -> None:
    """How it stands, its times, who, what it was given and gave."""
    session.say(f"{row.id}")
    facts = [("workflow", f"{row.workflow} (version {row.version})"), ("status", str(row.status))]
    if row.reason:
        facts.append(("reason", row.reason))
    by = f" by {row.started_by}" if row.started_by else ""
    facts.append(("created", f"{when(to_datetime(row.created_at))} UTC{by}"))
    if row.ended_at is not None:
        duration = took(to_datetime(row.created_at), to_datetime(row.ended_at))
        facts.append(("ended", f"{when(to_datetime(row.ended_at))} UTC, after {duration}"))
    elif row.wake_at is not None:
        facts.append(("wakes", f"{when(to_datetime(row.wake_at))} UTC"))
    if row.wish is not None:
        said = f": {row.wish_reason}" if row.wish_reason else ""
        facts.append(("wish", f"{_wish(row)}{f' by {row.wish_by}' if row.wish_by else ''}{said}"))
    if row.parent_id is not None:
        facts.append(("parent", row.parent_id))
    if row.queue != "default":
        facts.append(("queue", row.queue))
    if row.attributes is not None:
        facts.append(("attributes", to_json(readable(row.attributes))))
    facts.append(("input", cut(to_json(readable(row.input)), LONGEST)))
    if row.output is not None:
        facts.append(("output", cut(to_json(readable(row.output)), LONGEST)))
    if row.error is not None and row.status is not Status.CANCELLED:
        facts.append(("error", documents.error_text(row.error) or ""))
    if why_not:
        facts.append(("worker", why_not))
    for name, value in facts:
        session.say(f"  {name:<12}{value}")


def _wish(row: Execution) -> str:
    order = order_of(row.wish)
    if order is None:
        return row.wish or ""
    done = order.generation is not None and order.generation < row.generation
    return f"{'rolled' if done else 'roll'} back{f' to {order.name}' if order.name else ''}"


def told(session: Session, published: Mapping[str, Any], used: Usage) -> None:
    """What it has published and used so far, if anything."""
    if published:
        session.say("\nPublished:")
        for line in table(
            ("NAME", "VALUE"),
            [[name, cut(to_json(value), LONGEST)] for name, value in published.items()],
            narrow=(0, 1),
            indent="  ",
        ):
            session.say(line)
    if used.tokens or used.cost:
        models = ", ".join(f"{model}: {tokens}" for model, tokens in (used.models or {}).items())
        session.say(f"\nUsed: {used.input_tokens} tokens in, {used.output_tokens} out, cost {used.cost}")
        if models:
            session.say(f"  {models}")


def waits(session: Session, row: Execution, requests: Sequence[OpenRequest], below: Sequence[Execution]) -> None:
    """What it asks, and its children that have not ended."""
    if requests:
        session.say("\nIt asks:")
        for request in requests:
            if request.execution_id != row.id:
                session.say(f"\n  (its child {request.execution_id})")
            tell_request(session, request, indent="  ")
    if below:
        session.say("\nChildren that have not ended:")
        rows = [[child.id, child.workflow, str(child.status)] for child in below]
        for line in table(("ID", "WORKFLOW", "STATUS"), rows, narrow=(0, 1), ids=(0,), indent="  "):
            session.say(line)


def journal(session: Session, row: Execution, history: Sequence[HistoryEntry]) -> None:
    """Its durable calls, one line each, the failed attempts below. What it told has places of its own."""
    emits = any(entry.kind in (EMIT, STREAM) for entry in history)
    history = [entry for entry in history if entry.kind not in HIDDEN]
    if emits:
        session.hint(f"\nIt emits:\n  {session.command('events', row.id)}")
    if not history:
        session.say("\nNothing is recorded of it yet.")
        return
    more = len(history) > ENTRIES
    rows = []
    for entry in history[-ENTRIES:]:
        rows.append(
            [str(entry.seq), entry.key, entry.kind, entry.status, _attempt(entry), _took(entry), _result(entry)]
        )
        for attempt in entry.attempts:
            if attempt.error:
                failed = f"attempt {attempt.attempt} failed"
                rows.append([str(attempt.seq), "", "", failed, "", _took(attempt), error_words(attempt.error)])
    session.say(f"\nHistory (the last {ENTRIES} of {len(history)}; --json gives all):" if more else "\nHistory:")
    for line in table(("SEQ", "KEY", "KIND", "STATUS", "TRIES", "TOOK", "RESULT"), rows, narrow=(1, 6), indent="  "):
        session.say(line)


def _attempt(entry: HistoryEntry) -> str:
    return str(entry.attempt) if entry.kind in ("step", "checkpoint") else ""


def _took(entry: HistoryEntry) -> str:
    if entry.completed_at is None or entry.kind not in BODIES:
        return ""
    return took(entry.started_at, entry.completed_at)


def _result(entry: HistoryEntry) -> str:
    if entry.error:
        return error_words(entry.error)
    if entry.output is None or entry.kind == "timer":
        return ""
    if entry.kind == CUT:
        return void_words(entry.output)
    return order_words(entry.output) if entry.kind == ROLLBACK else cut(to_json(entry.output), LONGEST)


def errors(session: Session, row: Execution, history: Sequence[HistoryEntry]) -> None:
    """The recorded tracebacks: of the execution, of failed calls, and of the last attempt of those still open."""
    found = []
    for entry in history:
        failed = [entry, *entry.attempts] if entry.error else list(reversed(entry.attempts))
        last = next((view for view in failed if view.traceback), None)
        if last is not None and entry.status != "completed":
            found.append((f"{entry.key}, attempt {last.attempt}", last.traceback))
    own = documents.traceback_of(row.error)
    if own and row.status is not Status.CANCELLED:
        found.append((f"the workflow {row.workflow}", own))
    if len(found) > TRACEBACKS:
        session.say(f"\n{len(found)} tracebacks are recorded; the last {TRACEBACKS} follow, --json gives all.")
    for where, text in found[-TRACEBACKS:]:
        session.say(f"\nIn {where}:")
        for line in (text or "").rstrip().splitlines():
            session.say(f"  {line}")


def next_step(session: Session, row: Execution, requests: Sequence[OpenRequest], why_not: str | None) -> None:
    """The command that a person would want next."""
    if why_not:
        session.hint(f"\nStart a worker:\n  {session.worker(row.queue)}")
    if row.status in (Status.BLOCKED, Status.PAUSED):
        session.hint(f"\nIt goes on with:\n  {session.command('resume', row.id)}")
    elif row.status is Status.FAILED:
        session.hint(f"\nWhen that is mended, it goes on where it failed with:\n  {session.command('retry', row.id)}")
    elif row.status not in ENDED and not requests:
        session.hint(f"\nFollow it:\n  {session.command('watch', row.id)}")
