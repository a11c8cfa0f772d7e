"""`audit`: who asked, saw, decided and undid what, and whether that record is whole."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import asdict, fields

import click

from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, FAILED, Session, shared, with_session
from perdure.cli.words import table, when
from perdure.clock import to_datetime
from perdure.engine import Engine
from perdure.timeline import Moment, faults, timeline

COLUMNS = tuple(field.name for field in fields(Moment))


@click.command()
@click.argument("id")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, with all columns.")
@shared
@with_session
def audit(session: Session, id: str, as_csv: bool) -> int:
    """Show who asked, decided and undid what, and check it.

    Audit events are chained by digests: one that was changed, dropped or moved is found, and so are a request
    and a decision that were changed later. Then the exit code is 1.
    """
    return asyncio.run(_audit(session, session.engine(), id, as_csv))


async def _audit(session: Session, engine: Engine, id: str, as_csv: bool) -> int:
    async with engine:
        row = await find_execution(engine, id)
        requests = await engine.store.requests(execution_ids=[row.id], status=None)
        dossier = (await engine.store.dossiers([row.id]))[row.id]
        entries = await engine.store.history(row.id)
    moments = timeline(row, requests, dossier, entries)
    wrong = faults(row, requests, dossier, entries, opened=engine.protection.encryption is not None)
    listed = [{**asdict(moment), "at": to_datetime(moment.at)} for moment in moments]
    session.document({"id": row.id, "moments": listed, "events": len(dossier.events), "faults": wrong})
    if as_csv:
        session.say(_csv(moments).rstrip("\n"))
    else:
        cells = [[when(to_datetime(m.at)), m.what, _who(m), m.request or m.key or "", m.words or ""] for m in moments]
        for line in table(("TIME (UTC)", "WHAT", "WHO", "OF", ""), cells, narrow=(3, 4)):
            session.say(line)
    for fault in wrong:
        session.hint(f"NOT WHOLE: {fault}")
    if not wrong and not as_csv:
        session.hint(f"{len(dossier.events)} audit events, chained without a break.")
    return FAILED if wrong else DONE


def _who(moment: Moment) -> str:
    unverified = " (unverified)" if moment.is_unverified else ""
    return f"{moment.who}{unverified}" if moment.who else ""


def _csv(moments: list[Moment]) -> str:
    """All columns; what a spreadsheet would take for a formula is told from one by a quote."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for moment in moments:
        cells = {**asdict(moment), "at": to_datetime(moment.at).isoformat()}
        writer.writerow([_safe("" if cell is None else str(cell)) for cell in cells.values()])
    return text.getvalue()


def _safe(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
