"""What is answered: written as text that fits a request's schema; and how a request stands, in words."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.checking import check_size
from perdure.clock import to_datetime
from perdure.codec import CODEC
from perdure.errors import DecodeError, InvalidAnswerError
from perdure.records import Request
from perdure.schema import check
from perdure.secrets import Secret

SETTLED = frozenset({"undo", "unknown", "pivot"})
"""Kinds of requests that no answer settles: see `Engine.resolve`."""


def answer_text(request: Request, value: Any, coder: Any = None) -> str:
    """An answer as text that fits the request's schema, and its type where that is known here: `coder` reads it.

    Raises `InvalidAnswerError`, `EncodeError`, `TooLargeError`.
    """
    if request.kind in SETTLED:
        raise InvalidAnswerError(f"{request.id} is settled by `resolve`, not by an answer; nothing was changed")
    if request.kind == "approval":
        raise InvalidAnswerError(f"{request.id} is decided (approve, reject), not answered; nothing was changed")
    text = _fitting_text(request, value)
    check_size(text, f"the answer to {request.id}")
    if coder is not None and request.status == "open":
        try:
            coder.decode(text)
        except DecodeError as error:
            raise _unfit(request, str(error).removeprefix("the recorded text does not fit ")) from error
    return text


def _fitting_text(request: Request, value: Any) -> str:
    if request.schema is None:
        return CODEC.encode(value, path="answer")
    dump = getattr(value, "model_dump_json", None)
    try:
        raw = dump() if dump is not None else msgspec.json.encode(value).decode()
        text = CODEC.encode(msgspec.json.decode(raw), path="answer")
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise InvalidAnswerError(
            f"the answer to {request.id} cannot be recorded: {error}; nothing was changed"
        ) from error
    problem = check(request.schema, text)
    if problem is None and msgspec.json.decode(request.schema) == {"writeOnly": True}:  # the answer is a Secret
        text = CODEC.encode(Secret(value), path="answer")
    if problem is not None:
        raise _unfit(request, problem)
    return text


def _unfit(request: Request, problem: str) -> InvalidAnswerError:
    return InvalidAnswerError(
        f"the answer to {request.id} does not fit: {problem}; nothing was changed",
        execution_id=request.execution_id,
        key=request.key,
    )


def is_overdue(request: Request, now: int) -> bool:
    """Is an open request's term over? What is said of it from then on comes too late, even if nobody has noted it."""
    return request.status == "open" and request.expires_at is not None and request.expires_at <= now


def how_decided(request: Request) -> str:
    """Why it takes no answer any more."""
    if request.status == "decided":
        who = f" by {request.answered_by}" if request.answered_by else ""
        when = f" at {to_datetime(request.decided_at):%Y-%m-%d %H:%M:%S} UTC" if request.decided_at else ""
        if request.kind == "approval":
            return f"{request.id} was decided{who}{when}; that stands"
        return f"{request.id} was answered{who}{when}: {request.answer}; that stands"
    if request.status == "open":
        return f"the execution of {request.id} has ended, or is to be rolled back: it needs no answer any more"
    return f"{request.id} is {request.status}: it takes no answer any more"
