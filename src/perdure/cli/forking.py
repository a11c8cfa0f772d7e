"""`fork`: a new execution with the beginning of another one's journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from perdure.cli import documents
from perdure.cli.names import by_option, new_id
from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, Session, shared, user, with_session
from perdure.cli.states import entry_of
from perdure.cli.steering import reason_option
from perdure.cli.target import load_module
from perdure.engine import Engine


@click.command()
@click.argument("id")
@click.option("--at", metavar="TARGET", help="A checkpoint's name, a key (pack#2) or an entry's number; else the last.")
@click.option("--change", "changes", metavar="KEY=JSON", multiple=True, help="Another result of a call; needs --code.")
@click.option("--code", metavar="MODULE", help="The module of its workflow.")
@click.option("--id", "new_id", callback=new_id, metavar="ID", help="The id of the fork.")
@reason_option
@by_option
@shared
@with_session
def fork(
    session: Session,
    id: str,
    at: str | None,
    changes: Sequence[str],
    code: str | None,
    new_id: str | None,
    reason: str | None,
    by: str | None,
) -> int:
    """Start a new execution that goes on from an entry of this one.

    What it inherits does not run again, and is never undone by it; this one is not touched. With --change
    later results are inherited only as long as the code still asks the same with the same arguments.
    """
    if code is not None:
        load_module(code)
    wanted = dict(_change(text) for text in changes)
    return asyncio.run(_fork(session, session.engine(), id, at, wanted, new_id, reason, by))


def _change(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    try:
        if found:
            return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        pass
    raise click.UsageError(f"--change is KEY=JSON, as in 'price#1=5' or 'name#1=\"ana\"', not {text!r}")


async def _fork(
    session: Session,
    engine: Engine,
    id: str,
    at: str | None,
    changes: dict[str, Any],
    new_id: str | None,
    reason: str | None,
    by: str | None,
) -> int:
    async with engine:
        row = await find_execution(engine, id)
        handle = await engine.get(row.id).fork(
            None if at is None else entry_of(at), changes, execution_id=new_id, by=user(by), reason=reason
        )
        made = await handle.row()
    session.document({**documents.brief(made), "forked_from": row.id})
    session.say(f"{made.id} goes on from {row.id}")
    session.hint(f"How it goes on:\n  {session.command('watch', made.id)}")
    return DONE
