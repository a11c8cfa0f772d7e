"""Rows as people and programs see them: times as datetimes, payloads as values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from perdure.approvals import Action, asked_actions, details_text, policy_of, values
from perdure.clock import to_datetime
from perdure.codec import CODEC, REFUSED, decode_error, error_traceback
from perdure.errors import DecodeError, EncodeError, ExecutionCancelledError, StepFailedError
from perdure.journal import ATTEMPT, INTENT, is_outcome, unpacker_of
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
    Voice,
)
from perdure.packing import Unpacker, is_packed
from perdure.records import DecisionRow, Dossier, Entry, Execution, Request, Status
from perdure.redaction import redact
from perdure.sealing import SEALED
from perdure.tags import dump
from perdure.votes import decision_of, stage_of, state_of, votes_of
from perdure.workflow import Workflow


def _time(when: int | None) -> datetime | None:
    return None if when is None else to_datetime(when)


def value_of(text: str | None) -> Any:
    """A recorded value for display: what cannot be read is shown as its text."""
    if text is None:
        return None
    if text.startswith(SEALED):
        return ENCRYPTED
    try:
        return CODEC.decode(text)
    except DecodeError:
        return _unread(text)


def _unread(text: str) -> str:
    """A value whose class is not known here, as its text; secrets in it stay hidden."""
    try:
        return dump(redact(json.loads(text)))
    except (ValueError, RecursionError, EncodeError):
        return text


ENCRYPTED = "(encrypted, and there are no keys here)"


@dataclass(slots=True, frozen=True)
class Recorded:
    """A recorded text, whole or packed. Large ones are unpacked only when they are asked for."""

    seq: int
    column: str
    text: str | None
    unpacker: Unpacker | None = field(default=None, compare=False, repr=False)

    def value(self) -> Any:
        """The value; what cannot be read is shown as its text."""
        if self.unpacker is None or not is_packed(self.text):
            return value_of(self.text)
        try:
            return value_of(self.unpacker.text(self.seq, self.column))
        except DecodeError as error:
            return f"({error})"


@dataclass(slots=True, frozen=True)
class HistoryEntry:
    """One durable call of an execution, with the intent and the failed attempts inside it.

    `status`: "completed", "failed", or "open" (begun, no outcome yet). `attempt`: how many it took so far.
    """

    seq: int
    key: str
    kind: str
    name: str
    status: str
    attempt: int
    recorded_input: Recorded
    recorded_output: Recorded
    error: str | None
    traceback: str | None
    started_at: datetime
    completed_at: datetime | None
    build: str
    fence: int
    attempts: tuple[HistoryEntry, ...] = ()

    @property
    def input(self) -> Any:
        """The arguments by name, decoded now."""
        return self.recorded_input.value()

    @property
    def output(self) -> Any:
        """The result, decoded now."""
        return self.recorded_output.value()


def told_error(text: str | None) -> tuple[str | None, str | None]:
    """A recorded error in words, and its traceback; what cannot be read says so."""
    if text is None:
        return None, None
    if text.startswith(SEALED):
        return ENCRYPTED, None
    try:
        error = decode_error(text)
        return f"{type(error).__name__}: {error}", error_traceback(text)
    except DecodeError as error:
        return f"({error})", None


def _entry(entry: Entry, unpacker: Unpacker | None = None) -> HistoryEntry:
    error, traceback = told_error(entry.error)
    return HistoryEntry(
        seq=entry.seq,
        key=entry.key,
        kind=entry.kind,
        name=entry.key.rsplit("/", 1)[-1].rsplit("#", 1)[0],
        status=entry.status,
        attempt=entry.attempt,
        recorded_input=Recorded(entry.seq, "i", entry.input, unpacker),
        recorded_output=Recorded(entry.seq, "o", entry.output, unpacker),
        error=error,
        traceback=traceback,
        started_at=to_datetime(entry.started_at),
        completed_at=to_datetime(entry.completed_at),
        build=entry.build,
        fence=entry.fence,
    )


class History(list[HistoryEntry]):
    """A journal as one entry a durable call, in the order of their outcomes; what is open comes last.

    It carries what was recorded, so that `perdure.testing.replay` may run today's code on it.
    """

    def __init__(self, execution: Execution, journal: list[Entry]) -> None:
        super().__init__()
        self.execution = execution
        self.journal = journal


def history(execution: Execution, entries: list[Entry]) -> History:
    """The journal of an execution as people read it."""
    result = History(execution, entries)
    result += told(entries)
    return result


def told(entries: list[Entry]) -> list[HistoryEntry]:
    """Entries as people read them."""
    inside: dict[str, list[HistoryEntry]] = {}
    result: list[HistoryEntry] = []
    unpacker = unpacker_of(entries)
    for entry in entries:
        view = _entry(entry, unpacker)
        if entry.kind in (INTENT, ATTEMPT) or (entry.kind == "timer" and entry.status == "set"):
            inside.setdefault(entry.key, []).append(view)
            continue
        if is_outcome(entry) and entry.key in inside:
            view = _with(view, inside.pop(entry.key))
        result.append(view)
    for key, views in inside.items():
        first = views[0]
        result.append(
            HistoryEntry(
                first.seq, key, _open_kind(first), first.name, "open",
                1 + max((v.attempt for v in views if v.kind == ATTEMPT), default=0), first.recorded_input,
                Recorded(first.seq, "o", None), None, None,
                first.started_at, None, first.build, first.fence, tuple(views),
            )
        )  # fmt: skip
    return result


def _open_kind(first: HistoryEntry) -> str:
    if first.kind == INTENT:
        said = first.output  # an intent says what it is the intent of
        return str(said["kind"] if isinstance(said, dict) else said or "step")
    return "step" if first.kind == ATTEMPT else first.kind


def _with(view: HistoryEntry, attempts: list[HistoryEntry]) -> HistoryEntry:
    fields = {name: getattr(view, name) for name in view.__dataclass_fields__}
    return HistoryEntry(**{**fields, "attempts": tuple(attempts)})


def request_view(row: Request, dossier: Dossier | None = None) -> OpenRequest:
    """A request as people see it. `dossier`: where what was said of it so far is to be seen, too."""
    actions: list[Action] = []
    approvers: list[str] = []
    split: dict[str, str] = {}
    said = [] if dossier is None else [each for each in dossier.decisions if each.request_id == row.id]
    if row.policy is not None:
        actions, approvers, split = _asked(row, said)
    return OpenRequest(
        id=row.id,
        execution_id=row.execution_id,
        key=row.key,
        kind=row.kind,
        message=row.message,
        details=value_of(_details(row)),
        status=row.status,
        schema=row.schema,
        assignee=row.assignee,
        answer=_decision(row.answer) if row.policy is not None else value_of(row.answer),
        answered_by=row.answered_by,
        created_at=to_datetime(row.created_at),
        expires_at=_time(row.expires_at),
        decided_at=_time(row.decided_at),
        actions=actions,
        approvers=approvers,
        decisions=[_voice(each) for each in said],
        digest=row.digest,
        split=split if row.status == "open" else {},
    )


def _details(row: Request) -> str | None:
    try:
        return row.details if row.policy is None else details_text(row)
    except DecodeError:
        return row.details


def _asked(row: Request, said: list[DecisionRow]) -> tuple[list[Action], list[str], dict[str, str]]:
    """The actions of an approval, their arguments as they stand, who decides now, and who says what if they differ.

    Of what is damaged, nothing.
    """
    approvers: list[str] = []
    try:
        policy = policy_of(row)
        approvers = policy.stages[0].approvers if policy.stages else []
        asked = asked_actions(row)
        state = state_of(policy, asked, votes_of(said, asked))
        standing = {id: json.loads(text) for id, text in state.standing.items() if text is not None}
        stand = [replace(each, arguments=standing.get(each.id, each.arguments)) for each in asked]
        return [each.view() for each in stand], stage_of(policy, state).approvers, state.split
    except (DecodeError, ValueError, TypeError, AttributeError, RecursionError):
        return [], approvers, {}


def _decision(text: str | None) -> Any:
    try:
        return None if text is None else decision_of(text)
    except DecodeError:
        return value_of(text)


def _voice(row: DecisionRow) -> Voice:
    arguments: Any = None
    if row.arguments is not None:
        try:
            arguments = values(json.loads(row.arguments))
        except (ValueError, AttributeError, RecursionError):
            arguments = ENCRYPTED if row.arguments.startswith(SEALED) else row.arguments
    at = to_datetime(row.decided_at)
    return Voice(row.decided_by, row.decided_via, row.action_id, row.decision, arguments, row.comment, row.digest, at)


def error_of(text: str | None) -> BaseException:
    """The recorded error of an execution."""
    return decode_error(text) if text else StepFailedError("no error was recorded")


def outcome_of(row: Execution, workflow: Workflow[..., Any] | None) -> Outcome | None:
    """The outcome of a row that says it all by itself; None if it is on its way or waits."""
    match row.status:
        case Status.COMPLETED:
            if workflow is not None and row.output is not None:
                return Completed(workflow.arguments.returns.decode(row.output))
            return Completed(CODEC.decode(row.output or "null"))
        case Status.FAILED:
            return Failed(error_of(row.error))
        case Status.CANCELLED:
            return Cancelled(row.wish_by, row.wish_reason)
        case Status.PAUSED:
            return Paused(row.wish_by, row.wish_reason)
        case Status.BLOCKED:
            unread = row.error is None or row.error.startswith(REFUSED)  # and so the cause was not written there
            return Blocked(row.reason or "", DecodeError(row.reason or "") if unread else error_of(row.error))
        case Status.ROLLED_BACK:
            return RolledBack(None if row.error is None else error_of(row.error))
        case Status.ROLLBACK_FAILED:
            return RollbackFailed(None if row.error is None else error_of(row.error))
        case _:
            return None


def rolled_back(outcome: RolledBack | RollbackFailed, dossier: Dossier | None) -> RolledBack | RollbackFailed:
    """The outcome of a rollback with what its actions say."""
    actions = [] if dossier is None else dossier.actions
    last = [action for action in actions if action.generation == actions[-1].generation]
    if isinstance(outcome, RolledBack):
        return replace(outcome, undone=[action.key for action in last if action.status == "completed"])
    failed = {action.key: error_of(action.error) for action in last if action.status in ("failed", "unknown")}
    return replace(outcome, undo_errors=failed)


def raise_or_value(outcome: Outcome, execution_id: str) -> Any:
    """What `result()` makes of an outcome."""
    match outcome:
        case Completed(value):
            return value
        case Failed(error) | Blocked(_, error):
            raise error
        case RolledBack(error) | RollbackFailed(error):
            how = "rolled back" if isinstance(outcome, RolledBack) else "rolled back in part: an undo failed"
            raise error or ExecutionCancelledError(f"{execution_id} was {how}", execution_id=execution_id)
        case Cancelled(by, reason):
            who = f" by {by}" if by else ""
            raise ExecutionCancelledError(
                f"{execution_id} was cancelled{who}: {reason or 'no reason given'}", execution_id=execution_id
            )
        case _:
            raise AssertionError(f"{outcome} is no end")
