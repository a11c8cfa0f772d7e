"""What is said when an execution has ended or waits: the result, or what to do next; and the exit code."""

from __future__ import annotations

from perdure.cli import documents
from perdure.cli.example import example
from perdure.cli.progress import one_line_kept
from perdure.cli.session import DONE, FAILED, WAITING, Session
from perdure.cli.words import cut, one_line, readable, to_json, took, when
from perdure.clock import to_datetime
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
from perdure.records import Execution

LONGEST = 2000
HOW = {"undo": "done", "unknown": "happened", "pivot": "done", "blocked": "resume"}


def exit_code(outcome: Outcome) -> int:
    """0 done, 1 failed, 3 waiting for somebody."""
    match outcome:
        case Completed():
            return DONE
        case Waiting() | Paused():
            return WAITING
        case _:
            return FAILED


def document(session: Session, row: Execution, outcome: Outcome) -> dict[str, object]:
    """The same for `--json`, with the commands that answer."""
    made = documents.ending(row, outcome)
    for request in made["requests"]:
        schema = None if request["schema"] is None else to_json(request["schema"])
        request["command"] = session.command(*settling(request["kind"], request["id"], schema))
    return made


def settling(kind: str, id: str, schema: str | None) -> tuple[str, ...]:
    """The words of the command that settles a request."""
    match kind:
        case "approval":
            return "approve", id, "--by", "NAME"
        case "undo" | "unknown" | "pivot" | "blocked":
            return "resolve", id, HOW[kind]
        case _:
            return "answer", id, example(schema)


def tell(session: Session, row: Execution, outcome: Outcome) -> None:
    """Say it to a person: what was asked for to stdout, the rest to stderr."""
    match outcome:
        case Completed():
            session.hint(f"{row.id} is completed{_in(row)}")
            session.say(to_json(readable(row.output)))
        case Failed():
            session.hint(f"{row.id} failed{_in(row)}: {documents.error_text(row.error)}")
            if not session.in_memory:
                session.hint(f"Where, and what it did before:\n  {session.command('show', row.id)}")
        case Blocked(reason=reason):
            session.hint(f"{row.id} is blocked; it needs a person: {reason}")
            session.hint(f"When that is mended, it goes on with:\n  {session.command('resume', row.id)}")
        case RolledBack(error, undone):
            session.hint(f"{row.id} is rolled back{f', it failed: {error}' if error is not None else ''}")
            session.hint(f"Undone: {', '.join(undone) or 'there was nothing to undo'}")
        case RollbackFailed(_, errors):
            session.hint(f"{row.id} is rolled back in part; a person must look after:")
            for key, error in errors.items():
                session.hint(f"  {key}: {type(error).__name__}: {error}")
        case Cancelled(by, reason):
            session.hint(f"{row.id} is cancelled{_by(by)}{f': {reason}' if reason else ''}")
        case Paused(by, reason):
            session.say(f"{row.id} is paused{_by(by)}{f': {reason}' if reason else ''}")
            session.say(f"It goes on with:\n  {session.command('resume', row.id)}")
        case Waiting(requests):
            session.say(f"{row.id} waits for {'an answer' if requests else 'a message'}")
            for request in requests:
                tell_request(session, request)
            if session.in_memory:
                session.hint(
                    "It ran in memory and ends with this process: use --interactive, or name a database with --db"
                )
            elif not requests:
                session.say(f"Send it:\n  {session.command('signal', row.id, 'NAME', 'JSON')}")


def tell_request(session: Session, request: OpenRequest, *, indent: str = "") -> None:
    """A question, and the command that answers it."""
    session.say()
    session.say(f"{indent}{cut(one_line(request.message), LONGEST) if request.kind == 'undo' else request.message}")
    if request.details is not None and request.kind != "undo":  # its message tells the error
        session.say(f"{indent}  {cut(one_line_kept(to_json(request.details)), LONGEST)}")
    for action in request.actions:
        described = f"  ({action.description})" if action.description else ""
        session.say(f"{indent}  {action.id}: {action.name} {cut(to_json(action.arguments), LONGEST)}{described}")
    about = [f"since {when(request.created_at)} UTC"]
    if request.assignee:
        about.append(f"for {request.assignee}")
    if request.expires_at:
        about.append(f"expires {when(request.expires_at)} UTC")
    if request.approvers:
        about.append(f"decided by {' or '.join(request.approvers)}")
    session.say(f"{indent}  ({', '.join(about)})")
    for voice in request.decisions:
        on = f" {voice.action}" if voice.action else ""
        said = f": {voice.comment}" if voice.comment else ""
        session.say(f"{indent}  {voice.decision}{on} by {voice.by or 'somebody'} at {when(voice.at)} UTC{said}")
    if request.split:
        session.say(f"{indent}  {split(request)}")
    if not session.in_memory:
        session.say(f"{indent}  {session.command(*settling(request.kind, request.id, request.schema))}")


def split(request: OpenRequest) -> str:
    """Who says what of a request, where people say different things."""
    *others, last = request.split
    said = "; ".join(f"{who}: {cut(words, LONGEST)}" for who, words in request.split.items())
    return f"{', '.join(others)} and {last} say different things ({said}); each may still say something else"


def _by(by: str | None) -> str:
    return f" by {by}" if by else ""


def _in(row: Execution) -> str:
    return f" in {took(to_datetime(row.created_at), to_datetime(row.ended_at))}" if row.ended_at else ""
