"""`answer` and `signal`: the commands that bring something to an execution."""

from __future__ import annotations

import asyncio

import click

from perdure.cli import documents
from perdure.cli.delivered import tell_delivered
from perdure.cli.inputs import answer_value, parse, takes_text
from perdure.cli.names import by_option, given
from perdure.cli.reference import find_execution, find_request
from perdure.cli.session import DONE, Session, shared, user, with_session
from perdure.cli.words import to_json
from perdure.engine import Engine
from perdure.errors import InvalidAnswerError
from perdure.outcome import OpenRequest


@click.command()
@click.argument("id", metavar="REQUEST-OR-ID")
@click.argument("answer", metavar="JSON")
@by_option
@shared
@with_session
def answer(session: Session, id: str, answer: str, by: str | None) -> int:
    """Answer a question.

    An execution's id will do if it has one open request. A bare text is taken as it is where a text is
    wanted; everything else is JSON. The first answer stands.
    """
    return asyncio.run(_answer(session, session.engine(), id, answer, by))


async def _answer(session: Session, engine: Engine, id: str, text: str, by: str | None) -> int:
    async with engine:
        request = await find_request(engine, id)
        try:
            value = answer_value(request.schema, text)
            decided = await engine.answer(request.id, value, by=user(by))
        except InvalidAnswerError as error:
            raise InvalidAnswerError(f"{error}{_as_text(request, text)}", execution_id=request.execution_id) from error
        await tell_delivered(
            session,
            engine,
            request.execution_id,
            {"request": documents.request(decided)},
            f"{request.id} is answered: {to_json(decided.answer)}",
        )
    return DONE


def _as_text(request: OpenRequest, text: str) -> str:
    """What looks like a number may have been meant as a text."""
    if request.kind == "input" and not text.startswith('"') and takes_text(request.schema, text):
        return f". As a text it fits: write '{to_json(text)}'"
    return ""


@click.command("signal")
@click.argument("id")
@click.argument("name", callback=given)
@click.argument("value", metavar="[JSON]", default="null")
@click.option(
    "--id",
    "message_id",
    callback=given,
    metavar="ID",
    help="Deliver a message of this id once, however often it is sent.",
)
@by_option
@shared
@with_session
def signal_command(session: Session, id: str, name: str, value: str, message_id: str | None, by: str | None) -> int:
    """Send a message to an execution.

    The workflow takes it with `receive(NAME)`.
    """
    return asyncio.run(_signal(session, session.engine(), id, name, parse(value, "the message"), message_id, by))


async def _signal(
    session: Session, engine: Engine, id: str, name: str, value: object, message_id: str | None, by: str | None
) -> int:
    async with engine:
        row = await find_execution(engine, id)
        engine.protection.check_keys(row)
        await engine.get(row.id).signal(name, value, id=message_id, by=by)
        document: dict[str, object] = {"id": row.id, "name": name, "value": value}
        await tell_delivered(session, engine, row.id, document, f"{name} is sent to {row.id}")
    return DONE
