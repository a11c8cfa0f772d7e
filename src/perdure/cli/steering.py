"""`cancel`, `pause`, `resume` and `retry`: one execution, or all that a query finds."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from perdure import bulk
from perdure.cli import documents
from perdure.cli.delivered import tell_delivered
from perdure.cli.ending import exit_code, tell
from perdure.cli.filters import Filter, filters
from perdure.cli.many import Manner, Verb, bulk_options, on_many, one_or_many
from perdure.cli.names import by_option
from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, Session, shared, user, with_session
from perdure.crew import live_workers, nobody_runs
from perdure.deliveries import is_bound_back
from perdure.engine import Engine
from perdure.errors import PerdureError
from perdure.handle import Handle
from perdure.outcome import Cancelled, Outcome, RollbackFailed, RolledBack
from perdure.records import ENDED

CANCEL = Verb("cancel", "cancelled", bulk.OPEN)
CANCEL_AND_UNDO = Verb("cancel", "rolled back", bulk.OPEN)
PAUSE = Verb("pause", "paused", bulk.GOING)
RESUME = Verb("resume", "resumed", bulk.STANDING)
RETRY = Verb("retry", "retried", bulk.FAILED)

reason_option = click.option("--reason", metavar="TEXT", help="Why; recorded.")


# cancel ---------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id", required=False)
@filters()
@bulk_options
@click.option("--rollback", is_flag=True, help="Undo what it did, too; a worker must be there.")
@reason_option
@by_option
@shared
@with_session
def cancel(
    session: Session,
    id: str | None,
    chosen: Filter,
    dry_run: bool,
    yes: bool,
    limit: int | None,
    rollback: bool,
    reason: str | None,
    by: str | None,
) -> int:
    """Cancel an execution and all its children.

    Or all that the filters find. Returns when it has ended, which may take as long as its running steps
    need to stop. With --rollback what it did is undone, last first.
    """
    manner = Manner(dry_run, yes, limit, reason, by, rollback)
    verb = CANCEL_AND_UNDO if rollback else CANCEL
    if one_or_many(verb, id, chosen, manner):
        work = _cancel_and_undo if rollback else _cancel
        return asyncio.run(work(session, session.engine(), id or "", reason, by))

    async def act(handle: Handle[Any]) -> None:
        if rollback:
            return await _undo(handle, reason, by)
        outcome = await handle.cancel(reason=reason, by=user(by))
        if not isinstance(outcome, Cancelled):
            raise PerdureError(f"it has ended otherwise: it is {await handle.status()}")

    return asyncio.run(on_many(session, session.engine(), verb, chosen, manner, act))


async def _undo(handle: Handle[Any], reason: str | None, by: str | None) -> None:
    """Raises `PerdureError` unless all of it is undone."""
    outcome = await _rolled_back(handle, reason, by)
    if not isinstance(outcome, RolledBack):
        raise PerdureError(f"it is {await handle.status()}")


async def _rolled_back(handle: Handle[Any], reason: str | None, by: str | None) -> Outcome:
    row = await handle.row()
    missing = nobody_runs(await live_workers(handle.engine.store), row)
    if missing is not None:
        raise PerdureError(
            f"nothing was changed: {missing}, and a worker must be there to undo what {row.id} did", execution_id=row.id
        )
    if row.status in ENDED:
        raise PerdureError(f"{row.id} had ended before: it is {row.status}", execution_id=row.id)
    return await handle.cancel(rollback=True, reason=reason, by=user(by))


async def _cancel_and_undo(session: Session, engine: Engine, id: str, reason: str | None, by: str | None) -> int:
    async with engine:
        row = await find_execution(engine, id)
        handle = engine.get(row.id)
        outcome = await _rolled_back(handle, reason, by)
        row = await handle.row()
    session.document(documents.ending(row, outcome))
    tell(session, row, outcome)
    return DONE if isinstance(outcome, RolledBack) else exit_code(outcome)


async def _cancel(session: Session, engine: Engine, id: str, reason: str | None, by: str | None) -> int:
    async with engine:
        row = await find_execution(engine, id)
        before = row.status
        if is_bound_back(before, row.wish, row.generation):
            session.hint("It goes back, or is to: it ends when that is done ...")
        elif row.owner is not None:
            session.hint("A worker runs it: it is cancelled as soon as its running steps have stopped ...")
        outcome = await engine.get(row.id).cancel(reason=reason, by=user(by))
        row = await engine.get(row.id).row()
    if before in ENDED and not isinstance(outcome, Cancelled):
        raise PerdureError(f"{row.id} had ended before: it is {row.status}", execution_id=row.id)
    if isinstance(outcome, RollbackFailed):
        raise PerdureError(f"{row.id} was being rolled back: it is {row.status} now", execution_id=row.id)
    if not isinstance(outcome, Cancelled | RolledBack):
        raise PerdureError(f"{row.id} ended before it was cancelled: it is {row.status}", execution_id=row.id)
    session.document(documents.ending(row, outcome))
    undone = isinstance(outcome, RolledBack)
    session.say(f"{row.id} {'was being rolled back: it is rolled back now' if undone else 'is cancelled'}")
    session.hint(f"What it did:\n  {session.command('show', row.id)}")
    return DONE


# pause ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id", required=False)
@filters()
@bulk_options
@reason_option
@by_option
@shared
@with_session
def pause(
    session: Session,
    id: str | None,
    chosen: Filter,
    dry_run: bool,
    yes: bool,
    limit: int | None,
    reason: str | None,
    by: str | None,
) -> int:
    """Let an execution stand still until it is resumed.

    Or all that the filters find. Running steps are recorded first, no new one begins; its children go on.
    """
    manner = Manner(dry_run, yes, limit, reason, by)
    if one_or_many(PAUSE, id, chosen, manner):
        return asyncio.run(_pause(session, session.engine(), id or "", reason, by))
    return asyncio.run(
        on_many(session, session.engine(), PAUSE, chosen, manner, lambda handle: handle.pause(reason=reason, by=by))
    )


async def _pause(session: Session, engine: Engine, id: str, reason: str | None, by: str | None) -> int:
    async with engine:
        row = await find_execution(engine, id)
        if row.owner is not None:
            session.hint("A worker runs it: it stands still as soon as its running steps have ended ...")
        await engine.get(row.id).pause(reason=reason, by=by)
    session.document({"paused": [row.id], "refused": [], "dry_run": False})
    session.say(f"{row.id} is paused")
    session.hint(f"It goes on with:\n  {session.command('resume', row.id)}")
    return DONE


# resume ---------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id", required=False)
@filters()
@bulk_options
@by_option
@shared
@with_session
def resume(
    session: Session, id: str | None, chosen: Filter, dry_run: bool, yes: bool, limit: int | None, by: str | None
) -> int:
    """Let a paused or blocked execution go on.

    Or all that the filters find: --status blocked --workflow NAME, once its code is mended.
    """
    manner = Manner(dry_run, yes, limit, by=by)
    if one_or_many(RESUME, id, chosen, manner):
        return asyncio.run(_resume(session, session.engine(), id or "", by))
    return asyncio.run(on_many(session, session.engine(), RESUME, chosen, manner, lambda handle: handle.resume(by=by)))


async def _resume(session: Session, engine: Engine, id: str, by: str | None) -> int:
    async with engine:
        row = await find_execution(engine, id)
        await engine.get(row.id).resume(by=by)
        document: dict[str, object] = {"resumed": [row.id], "refused": [], "dry_run": False}
        await tell_delivered(session, engine, row.id, document, f"{row.id} goes on")
    return DONE


# retry ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id", required=False)
@filters()
@bulk_options
@by_option
@shared
@with_session
def retry(
    session: Session, id: str | None, chosen: Filter, dry_run: bool, yes: bool, limit: int | None, by: str | None
) -> int:
    """Go on with a failed execution: what failed last is tried again.

    Or all that the filters find. Nothing is undone; what had succeeded does not run again.
    """
    manner = Manner(dry_run, yes, limit, by=by)
    if one_or_many(RETRY, id, chosen, manner):
        return asyncio.run(_retry(session, session.engine(), id or "", by))
    who = user(by)
    return asyncio.run(on_many(session, session.engine(), RETRY, chosen, manner, lambda handle: handle.retry(by=who)))


async def _retry(session: Session, engine: Engine, id: str, by: str | None) -> int:
    async with engine:
        row = await find_execution(engine, id)
        await engine.get(row.id).retry(by=user(by))
        document: dict[str, object] = {"retried": [row.id], "refused": [], "dry_run": False}
        await tell_delivered(session, engine, row.id, document, f"{row.id} goes on: what failed is tried again")
    return DONE
