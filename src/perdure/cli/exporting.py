"""`export`: everything that is recorded of an execution, as JSON."""

from __future__ import annotations

import asyncio
import json

import click

from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.engine import Engine


@click.command()
@click.argument("id")
@shared
@with_session
def export(session: Session, id: str) -> int:
    """Print all that is recorded of an execution, as JSON.

    The row, the whole journal and the requests, as they are in the database: perdure export ID > file.json
    """
    return asyncio.run(_export(session, session.engine(), id))


async def _export(session: Session, engine: Engine, id: str) -> int:
    async with engine:
        row = await find_execution(engine, id)
        document = await engine.get(row.id).export()
    session.document(document)
    session.say(json.dumps(document, indent=2))
    return DONE
