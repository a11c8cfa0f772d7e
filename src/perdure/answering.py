"""What is answered: written as text that fits a request's schema; and how a request stands, in words."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.checking import check_size
from perdure.clock import to_datetime
from perdure.codec import CODEC
from perdure.errors import InvalidAnswerError
from perdure.records import Request
from perdure.schema import check
from perdure.secrets import Secret

SETTLED = frozenset({"undo", "unknown", "pivot"})
"""Kinds of requests that no answer settles: see `Engine.resolve`."""


def answer_text(request: Request, value: Any) -> str:
    """An answer as text that fits the request's schema."""
    if request.kind in SETTLED:
        raise InvalidAnswerError(f"{request.id} is settled by `resolve`, not by an answer; nothing was changed")
    if request.schema is None:
        text = CODEC.encode(value, path="answer")
        check_size(text, f"the answer to {request.id}")
        return text
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
        raise InvalidAnswerError(
            f"the answer to {request.id} does not fit: {problem}; nothing was changed",
            execution_id=request.execution_id,
            key=request.key,
        )
    check_size(text, f"the answer to {request.id}")
    return text


def how_decided(request: Request) -> str:
    """Why it takes no answer any more."""
    if request.status == "decided":
        who = f" by {request.answered_by}" if request.answered_by else ""
        when = f" at {to_datetime(request.decided_at):%Y-%m-%d %H:%M:%S} UTC" if request.decided_at else ""
        return f"{request.id} was answered{who}{when}: {request.answer}; that stands"
    if request.status == "open":
        return f"the execution of {request.id} has ended: it needs no answer any more"
    return f"{request.id} is {request.status}: it takes no answer any more"
