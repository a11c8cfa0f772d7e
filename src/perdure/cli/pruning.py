"""`prune`: forget executions that ended long ago."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import click

from perdure.cli.filters import Filter, filters
from perdure.cli.many import Verb, confirm, dry_run_option, tell_dry_run, yes_option
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.cli.times import span
from perdure.engine import Engine
from perdure.records import ENDED, Status

PRUNE = Verb("prune", "pruned", [status for status in Status if status in ENDED])


@click.command()
@click.option(
    "--older-than", callback=span, required=True, metavar="TIME", help="Ended so long ago, at least: 12h, 30d, 4w."
)
@filters()
@dry_run_option
@yes_option
@shared
@with_session
def prune(session: Session, older_than: timedelta, chosen: Filter, dry_run: bool, yes: bool) -> int:
    """Remove what ended long ago, with its journal and requests.

    What an open parent or child still needs stays. On a terminal it asks first, if there are several; elsewhere
    it does not. --dry-run only tells which.
    """
    chosen.check(PRUNE.statuses, "prune removes executions that are")
    return asyncio.run(_prune(session, session.engine(), older_than, chosen, dry_run, yes))


async def _prune(
    session: Session, engine: Engine, older_than: timedelta, chosen: Filter, dry_run: bool, yes: bool
) -> int:
    async with engine:
        found = await engine.prune(chosen.query, older_than=older_than, dry_run=True)
        if dry_run:
            words = ["prune", "--older-than", f"{older_than.total_seconds():.0f}s", *chosen.words]
            return tell_dry_run(session, PRUNE, found.ids, words)
        confirm(session, PRUNE, found.ids, yes)
        done = await engine.prune(chosen.query, older_than=older_than)
    session.document({"pruned": list(done.ids), "refused": [], "dry_run": False})
    kept = len(found.ids) - len(done.ids)
    session.say(f"{len(done.ids)} pruned.")
    if kept > 0:
        session.hint(f"{kept} stay for now: a parent or child of theirs has not ended.")
    return DONE
