"""`approve`, `reject`, `comment`, `claim`, `reassign` and `resolve`: what people do with what is in the inbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import click

from perdure.approvals import Edit
from perdure.cli import documents
from perdure.cli.delivered import tell_delivered
from perdure.cli.ending import split
from perdure.cli.inputs import parse
from perdure.cli.names import by_option, given
from perdure.cli.reference import find_execution, find_request, find_unsettled
from perdure.cli.session import DONE, Session, shared, user, with_session
from perdure.cli.words import when
from perdure.engine import Engine
from perdure.errors import InvalidAnswerError, NotFoundError
from perdure.outcome import OpenRequest
from perdure.records import Status

comment_option = click.option("--comment", metavar="TEXT", help="What to say with it; recorded.")


# Deciding -------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id", metavar="REQUEST-or-ID")
@click.option("--edit", metavar="JSON", help="Other arguments: of the one action, or {action: {...}}.")
@click.option("--except", "but", metavar="ACTION", multiple=True, help="Reject this action; may be repeated.")
@comment_option
@by_option
@shared
@with_session
def approve(
    session: Session, id: str, edit: str | None, but: tuple[str, ...], comment: str | None, by: str | None
) -> int:
    """Approve what is asked.

    An execution's id will do if it has one open request. Arguments that --edit does not name stay as they are.
    The first decision stands; until a quorum has come to one, each may say something else. Who gives it is recorded
    as unverified.
    """
    edits = None if edit is None else _object(edit)
    return asyncio.run(_decide(session, session.engine(), id, edits, but, comment, by))


@click.command()
@click.argument("id", metavar="REQUEST-or-ID")
@click.option("--reason", metavar="TEXT", help="Why; recorded, and given to the workflow.")
@comment_option
@by_option
@shared
@with_session
def reject(session: Session, id: str, reason: str | None, comment: str | None, by: str | None) -> int:
    """Reject what is asked.

    An execution's id will do if it has one open request. The first decision stands.
    """
    said = "; ".join(words for words in (reason, comment) if words)
    return asyncio.run(_decide(session, session.engine(), id, None, None, said or None, by))


def _object(text: str) -> Any:
    """The edits, with names that are given twice refused."""
    parse(text, "--edit")
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise click.UsageError(f"--edit names something twice: {', '.join(name for name, _ in pairs)}")
    return found


def decision_of(request: OpenRequest, edits: Any, but: Sequence[str]) -> Any:
    """What `approve` was told, as a decision. Raises `InvalidAnswerError`."""
    if edits is None and not but:
        return "approve"
    ids = [action.id for action in request.actions]
    if edits is not None and not isinstance(edits, dict):
        raise InvalidAnswerError("--edit takes an object; nothing was changed")
    edits = edits or {}
    if len(ids) == 1 and not (set(edits) == set(ids) and isinstance(edits[ids[0]], dict)):
        edits = {ids[0]: edits} if edits else {}
    decision: dict[str, Any] = dict.fromkeys(ids, "approve")
    decision |= {id: Edit(arguments) for id, arguments in edits.items()}
    return decision | dict.fromkeys(but, "reject")


async def _decide(
    session: Session,
    engine: Engine,
    id: str,
    edits: Any,
    but: Sequence[str] | None,
    comment: str | None,
    by: str | None,
) -> int:
    async with engine:
        request = await find_request(engine, id)
        decision = "reject" if but is None else decision_of(request, edits, but)
        decided = await engine.decide(request.id, decision, by=user(by), comment=comment)
        await _tell(session, engine, decided, _words(decided, decision))
    return DONE


def _words(request: OpenRequest, decision: Any) -> str:
    if request.status == "open" and request.split:
        return f"{request.id} has your word; {split(request)}"
    if request.status == "open":
        return f"{request.id} has your word; it is still to be decided by {' or '.join(request.approvers) or 'others'}"
    how = "rejected" if decision == "reject" else "approved" if request.answer.approved else "approved in part"
    return f"{request.id} is {how} by {request.answered_by or 'somebody'} at {when(request.decided_at)} UTC"


async def _tell(session: Session, engine: Engine, request: OpenRequest, words: str) -> None:
    document: dict[str, object] = {"request": documents.request(request)}
    await tell_delivered(session, engine, request.execution_id, document, words)


# Besides --------------------------------------------------------------------------------------------------


@click.command("comment")
@click.argument("id", metavar="REQUEST-or-ID")
@click.argument("text")
@by_option
@shared
@with_session
def comment_command(session: Session, id: str, text: str, by: str | None) -> int:
    """Say something about an open request; it is kept in the audit."""

    async def act() -> None:
        async with session.engine() as engine:
            request = await find_request(engine, id)
            said = await engine.comment(request.id, text, by=user(by))
            session.document({"request": documents.request(said)})
            session.say(f"{said.id} has a comment more")

    asyncio.run(act())
    return DONE


@click.command()
@click.argument("id", metavar="REQUEST-or-ID")
@click.option("--by", callback=given, metavar="NAME", required=True, help="Who looks after it; recorded as unverified.")
@shared
@with_session
def claim(session: Session, id: str, by: str) -> int:
    """Look after a request, so that others need not."""

    async def act() -> None:
        async with session.engine() as engine:
            request = await find_request(engine, id)
            claimed = await engine.claim(request.id, by=user(by) or by)
            session.document({"request": documents.request(claimed)})
            session.say(f"{claimed.id} is {by}'s")

    asyncio.run(act())
    return DONE


@click.command()
@click.argument("id", metavar="REQUEST-or-ID")
@click.option(
    "--to", callback=given, metavar="NAME", required=True, help="Who looks after it, and decides, from now on."
)
@by_option
@shared
@with_session
def reassign(session: Session, id: str, to: str, by: str | None) -> int:
    """Hand a request on to somebody else."""

    async def act() -> None:
        async with session.engine() as engine:
            request = await find_request(engine, id)
            handed = await engine.reassign(request.id, to=to, by=user(by))
            session.document({"request": documents.request(handed)})
            session.say(f"{handed.id} is {to}'s")

    asyncio.run(act())
    return DONE


# Settling -------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id", metavar="REQUEST-or-ID")
@click.argument("how", metavar="HOW")
@click.option("--result", metavar="JSON", help="What the step gave, where it happened.")
@comment_option
@by_option
@shared
@with_session
def resolve(session: Session, id: str, how: str, result: str | None, comment: str | None, by: str | None) -> int:
    """Settle what only a person can.

    HOW: an undo that failed is `done` now, or to `retry`; a once-only step of which nobody knows has
    `happened` or was `not_done`; a point of no return is `done`; a blocked execution is to `resume` or to `cancel`.
    """
    value = None if result is None else parse(result, "--result")
    return asyncio.run(_resolve(session, session.engine(), id, how, value, comment, by))


async def _resolve(
    session: Session, engine: Engine, id: str, how: str, result: Any, comment: str | None, by: str | None
) -> int:
    async with engine:
        target = await _blocked(engine, id) if how in ("resume", "cancel") else (await find_unsettled(engine, id)).id
        settled = await engine.resolve(target, how, result=result, by=user(by), comment=comment)
        await _tell(session, engine, settled, f"{settled.id} is settled: {how}")
    return DONE


async def _blocked(engine: Engine, id: str) -> str:
    """The blocked execution that is meant: its id, or that of one of its requests."""
    try:
        row = await find_execution(engine, id)
    except NotFoundError:
        request = await find_request(engine, id)
        row = await engine.get(request.execution_id).row()
    if row.status is not Status.BLOCKED:
        raise InvalidAnswerError(
            f"{row.id} is {row.status}: only a blocked execution is resumed or cancelled like this"
        )
    return row.id
