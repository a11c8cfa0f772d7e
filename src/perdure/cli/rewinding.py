"""`rollback`: undo what an execution did, or only tell what that would be."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click

from perdure.cli import documents
from perdure.cli.ending import exit_code, tell
from perdure.cli.names import by_option
from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, WAITING, Session, shared, user, with_session
from perdure.cli.steering import reason_option
from perdure.crew import live_workers, nobody_runs
from perdure.engine import Engine
from perdure.records import Status
from perdure.rewinding import RollbackPlan

HOW = {"unknown": ", of unknown outcome", "error": ", which failed", "child": ", with all that it did"}


@click.command()
@click.argument("id")
@click.option("--to", metavar="TARGET", help="A checkpoint's name, a key (pack#2) or an entry's number.")
@click.option("--force", is_flag=True, help="Beyond a point of no return, too.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be undone.")
@reason_option
@by_option
@shared
@with_session
def rollback(
    session: Session, id: str, to: str | None, force: bool, dry_run: bool, reason: str | None, by: str | None
) -> int:
    """Undo what an execution did, last first; with --to it goes on from there.

    A worker that has its workflow does the work. An undo that fails does not hold up the others; what then
    is left for a person is in the inbox.
    """
    return asyncio.run(_rollback(session, session.engine(), id, to, force, dry_run, reason, by))


async def _rollback(
    session: Session,
    engine: Engine,
    id: str,
    to: str | None,
    force: bool,
    dry_run: bool,
    reason: str | None,
    by: str | None,
) -> int:
    target: str | int | None = int(to) if to is not None and to.isdigit() else to
    async with engine:
        row = await find_execution(engine, id)
        handle = engine.get(row.id)
        plan = await handle.rollback(target, force=force, by=user(by), dry_run=True)
        if dry_run:
            session.document({"execution": row.id, "dry_run": True, **asdict(plan)})
            _show(session, row.id, plan)
            return DONE
        await handle.rollback(target, force=force, reason=reason, by=user(by), wait=False)
        row = await handle.row()
        missing = nobody_runs(await live_workers(engine.store), row)
        if missing is not None:
            session.document({**documents.brief(row), **asdict(plan)})
            session.say(f"{row.id} is to be rolled back, and {missing}: it begins when one does")
            return WAITING
        session.hint(f"{len(plan.undos)} to undo ...")
        while True:
            row = await handle.row()
            if row.status not in (Status.ROLLING_BACK, Status.RUNNING, Status.PENDING) or target is not None:
                break
            await engine.store.changed(0.2)
        if target is not None and row.status is not Status.ROLLBACK_FAILED:
            session.document({**documents.brief(row), **asdict(plan)})
            session.say(f"{row.id} goes back to entry {plan.to}, and on from there")
            session.hint(f"How it goes on:\n  {session.command('watch', row.id)}")
            return DONE
        outcome = await handle.outcome()
    session.document(documents.ending(row, outcome))
    tell(session, row, outcome)
    return DONE if row.status is Status.ROLLED_BACK else exit_code(outcome)


def _show(session: Session, id: str, plan: RollbackPlan) -> None:
    where = f"entry {plan.to}" if plan.to else "its beginning"
    session.say(f"{id} would go back to {where}, and these would be undone, in this order:")
    for undo in plan.undos:
        how = {"unknown": ", of unknown outcome", "error": ", which failed", "child": ", with all it did"}.get(
            undo.kind, ""
        )
        session.say(f"  {undo.seq:>5}  {undo.key}{how}{f'  by {undo.undo}' if undo.undo else ''}")
    if not plan.undos:
        session.say("  nothing")
    if plan.pivot is not None:
        session.say(f"What came before {plan.pivot}, a point of no return, stays.")
    others = [key for key in plan.voided if key not in {undo.key for undo in plan.undos}]
    if others:
        session.say(f"Void then, without an undo: {', '.join(others)}")
