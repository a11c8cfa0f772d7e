"""`audit`: who asked, saw, decided and undid what, and whether that record is whole."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

import click

from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, FAILED, Session, shared, with_session
from perdure.cli.words import table, when
from perdure.clock import to_datetime
from perdure.engine import Engine
from perdure.records import Dossier, Entry, Execution, Request
from perdure.timeline import Moment, faults, timeline

COLUMNS = tuple(field.name for field in fields(Moment))

AGAIN, PAUSE = 3, 0.1
"""So often is it read again, after so many seconds, where something is wrong."""

MOST = 1_000_000
"""Requests of an execution that are read."""

Record = tuple[Execution, Sequence[Request], Dossier, Sequence[Entry]]


@click.command()
@click.argument("id")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, with all columns.")
@shared
@with_session
def audit(session: Session, id: str, as_csv: bool) -> int:
    """Show who asked, decided and undid what, and check it.

    Audit events are chained by digests: one that was changed, dropped or moved is found, and so are a request
    and a decision that were changed later, a gap or a changed entry in the journal, and an undo, a rollback or a
    cancel of which the tables tell different things. Then the exit code is 1.
    """
    return asyncio.run(_audit(session, session.engine(), id, as_csv))


async def _audit(session: Session, engine: Engine, id: str, as_csv: bool) -> int:
    opened = engine.protection.encryption is not None
    async with engine:
        row = await find_execution(engine, id)
        record = await _read(engine, row)
        wrong = faults(*record, opened=opened)
        for _ in range(AGAIN):
            if not wrong:
                break  # else it may have gone on between two readings: what is wrong then is not so for long
            await asyncio.sleep(PAUSE)
            record = await _read(engine, row)
            now = faults(*record, opened=opened)
            wrong = [fault for fault in wrong if fault in now]
    row, _, dossier, _ = record
    moments = timeline(*record)
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


async def _read(engine: Engine, row: Execution) -> Record:
    store = engine.store
    row = (await store.get([row.id])).get(row.id, row)
    requests = await store.requests(execution_ids=[row.id], status=None, limit=MOST)
    dossier = (await store.dossiers([row.id])).get(row.id, Dossier())
    return row, requests, dossier, await store.history(row.id)


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
