"""`answer`, `signal`, `cancel` and `resume`: the commands that bring something to an execution."""

from __future__ import annotations

import asyncio

import click

from perdure.cli import documents
from perdure.cli.crew import live_workers, nobody_runs
from perdure.cli.inputs import answer_value, parse, takes_text
from perdure.cli.reference import find_execution, find_request
from perdure.cli.session import DONE, FAILED, Session, by_option, shared, user, with_session
from perdure.cli.words import to_json
from perdure.engine import Engine
from perdure.errors import InvalidAnswerError, PerdureError
from perdure.outcome import Cancelled, OpenRequest
from perdure.records import Query, Status

PAGE = 200


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
        await _tell_delivered(
            session,
            engine,
            request.execution_id,
            {"request": documents.request(decided)},
            f"{request.id} is answered: {to_json(decided.answer)}",
        )
    return DONE


def _as_text(request: OpenRequest, text: str) -> str:
    """What looks like a number may have been meant as a text."""
    if not text.startswith('"') and takes_text(request.schema, text):
        return f". As a text it fits: write '{to_json(text)}'"
    return ""


async def _tell_delivered(
    session: Session, engine: Engine, execution_id: str, document: dict[str, object], words: str
) -> None:
    """Say what was delivered, and who goes on with it, if anybody."""
    row = await engine.get(execution_id).row()
    why_not = nobody_runs(await live_workers(engine.store), row)
    session.document({**document, "nobody_runs_it": why_not})
    session.say(words)
    if why_not:
        session.hint(f"It is kept, but {why_not}. Start one:\n  {session.command('worker', 'MODULE')}")
    else:
        session.hint(f"Follow it:\n  {session.command('watch', execution_id)}")


@click.command("signal")
@click.argument("id")
@click.argument("name")
@click.argument("value", metavar="[JSON]", default="null")
@click.option("--id", "message_id", metavar="ID", help="Deliver a message of this id once, however often it is sent.")
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
        await engine.get(row.id).signal(name, value, id=message_id, by=by)
        document: dict[str, object] = {"id": row.id, "name": name, "value": value}
        await _tell_delivered(session, engine, row.id, document, f"{name} is sent to {row.id}")
    return DONE


@click.command()
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="Why; recorded.")
@by_option
@shared
@with_session
def cancel(session: Session, id: str, reason: str | None, by: str | None) -> int:
    """Cancel an execution and all its children.

    Returns when it has ended, which may take as long as its running steps need to stop.
    """
    return asyncio.run(_cancel(session, session.engine(), id, reason, by))


async def _cancel(session: Session, engine: Engine, id: str, reason: str | None, by: str | None) -> int:
    async with engine:
        row = await find_execution(engine, id)
        if row.owner is not None:
            session.hint("A worker runs it: it is cancelled as soon as its running steps have stopped ...")
        outcome = await engine.get(row.id).cancel(reason=reason, by=by)
        row = await engine.get(row.id).row()
    if not isinstance(outcome, Cancelled):
        raise PerdureError(f"{row.id} had ended before: it is {row.status}", execution_id=row.id)
    session.document(documents.ending(row, outcome))
    session.say(f"{row.id} is cancelled")
    session.hint(f"What it did:\n  {session.command('show', row.id)}")
    return DONE


@click.command()
@click.argument("id", required=False)
@click.option("--status", type=click.Choice(["blocked", "paused"]), help="All of this status.")
@click.option("--workflow", metavar="NAME", help="With --status: only of this workflow.")
@by_option
@shared
@with_session
def resume(session: Session, id: str | None, status: str | None, workflow: str | None, by: str | None) -> int:
    """Let a paused or blocked execution go on.

    Or all that --status, and --workflow, find.
    """
    if id is not None and status is None and workflow is None:
        return asyncio.run(_resume(session, session.engine(), id, by))
    if id is not None or status is None:
        raise click.UsageError("give the id of an execution, or --status blocked (and --workflow NAME)")
    query = Query(status=(Status(status),), workflow=workflow)
    return asyncio.run(_resume_all(session, session.engine(), query, by))


async def _resume(session: Session, engine: Engine, id: str, by: str | None) -> int:
    async with engine:
        row = await find_execution(engine, id)
        await engine.get(row.id).resume(by=by)
        await _tell_delivered(session, engine, row.id, {"resumed": [row.id], "refused": []}, f"{row.id} goes on")
    return DONE


async def _resume_all(session: Session, engine: Engine, query: Query, by: str | None) -> int:
    resumed: list[str] = []
    refused: dict[str, str] = {}
    async with engine:
        cursor = None
        while True:
            page = await engine.list(query, limit=PAGE, cursor=cursor)
            for row in page.items:
                try:
                    await engine.get(row.id).resume(by=by)
                except PerdureError as error:
                    refused[row.id] = str(error)
                    session.hint(f"{row.id} does not: {error}")
                else:
                    resumed.append(row.id)
                    session.say(f"{row.id} goes on")
            cursor = page.cursor
            if cursor is None:
                break
    document = {"resumed": resumed, "refused": [{"id": id, "error": why} for id, why in refused.items()]}
    session.document(document)
    if not resumed and not refused:
        session.say(f"No execution is {query.status[0]}.")
    return FAILED if refused else DONE
