"""`schedule`: executions that are started by the clock."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from perdure.cli import documents
from perdure.cli.names import queue_name
from perdure.cli.running import arguments_argument, load_call, prints_aside, target_argument
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.cli.words import table, when
from perdure.crew import live_workers, nobody_runs
from perdure.engine import Engine
from perdure.records import Execution
from perdure.schedules import OVERLAPS, ScheduleView
from perdure.workflow import Workflow


@click.group(invoke_without_command=True)
@shared
@click.pass_context
def schedule(context: click.Context) -> int:
    """Have executions started by the clock."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return DONE


# list -----------------------------------------------------------------------------------------------------


@schedule.command("list")
@shared
@with_session
def list_schedules(session: Session) -> int:
    """List schedules and when they start something next."""
    return asyncio.run(_list(session, session.engine()))


async def _list(session: Session, engine: Engine) -> int:
    async with engine:
        found = await engine.schedules()
    session.document({"items": [documents.schedule(view) for view in found]})
    if not found:
        session.say("No schedules.")
        session.hint(f"Add one:\n  {session.command('schedule', 'add', 'NAME', 'MODULE:WORKFLOW', '0 2 * * *')}")
        return DONE
    rows = [
        [view.name, workflow_name(view), view.cron, view.timezone, _next(view), view.last_id or ""] for view in found
    ]
    for line in table(("NAME", "WORKFLOW", "CRON", "ZONE", "NEXT (UTC)", "LAST"), rows, narrow=(0, 1, 5), ids=(5,)):
        session.say(line)
    return DONE


def workflow_name(view: ScheduleView) -> str:
    return view.workflow if view.version == 1 else f"{view.workflow} (version {view.version})"


def _next(view: ScheduleView) -> str:
    return "paused" if view.paused else when(view.next_at) or "never"


# add ------------------------------------------------------------------------------------------------------


@schedule.command()
@click.argument("name")
@target_argument
@click.argument("cron", metavar="CRON")
@arguments_argument
@click.option("--timezone", metavar="ZONE", default="UTC", show_default=True, help="As in Europe/Berlin.")
@click.option(
    "--overlap",
    type=click.Choice(OVERLAPS),
    default="skip",
    show_default=True,
    help="If the last one has not ended: skip this one, queue it, or allow both.",
)
@click.option("--backfill", is_flag=True, help="Start all that was missed while no worker ran, not only the last.")
@click.option("--queue", callback=queue_name, metavar="NAME", help="The queue to put them into.")
@shared
@with_session
def add(
    session: Session,
    name: str,
    target: str,
    cron: str,
    arguments: str | None,
    timezone: str,
    overlap: str,
    backfill: bool,
    queue: str | None,
) -> int:
    """Add a schedule, or change the one of this name.

    CRON are five fields, as cron has them. MODULE:WORKFLOW and JSON are as for `perdure run`:

    \b
      perdure schedule add nightly app:report '0 2 * * *' --timezone Europe/Berlin
    """
    store = session.store(new=True)
    with prints_aside(session):
        workflow, args, kwargs = load_call(target, arguments)
    if queue is not None:
        workflow = workflow.options(queue=queue)
    settings = {"cron": cron, "timezone": timezone, "overlap": overlap, "backfill": backfill}
    return asyncio.run(_add(session, session.client(store), name, workflow, args, kwargs, settings))


async def _add(
    session: Session,
    engine: Engine,
    name: str,
    workflow: Workflow[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    settings: dict[str, Any],
) -> int:
    async with engine:
        try:
            made = await engine.schedule(name, workflow, args=args, kwargs=kwargs, **settings)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        row = Execution("", made.workflow, made.version, queue=workflow.options_.queue or "default")
        why_not = nobody_runs(await live_workers(engine.insight), row)
    session.document({"schedule": documents.schedule(made), "nobody_runs_it": why_not})
    session.say(f"{name} starts {workflow_name(made)}; next: {_next(made)}{'' if made.paused else ' UTC'}")
    if made.paused:
        session.hint(f"It goes on with:\n  {session.command('schedule', 'resume', name)}")
    if why_not:
        session.hint(f"So far {why_not}. Start one:\n  {session.worker(row.queue)}")
    return DONE


# pause, resume, remove ------------------------------------------------------------------------------------


@schedule.command()
@click.argument("name")
@shared
@with_session
def pause(session: Session, name: str) -> int:
    """Let a schedule start nothing until it is resumed."""
    return asyncio.run(_pause(session, session.engine(), name))


async def _pause(session: Session, engine: Engine, name: str) -> int:
    async with engine:
        await engine.pause_schedule(name)
        view = await _view(engine, name)
    session.document({"schedule": documents.schedule(view)})
    session.say(f"{name} is paused")
    session.hint(f"It goes on with:\n  {session.command('schedule', 'resume', name)}")
    return DONE


@schedule.command()
@click.argument("name")
@shared
@with_session
def resume(session: Session, name: str) -> int:
    """Let a paused schedule go on, with its next time from now."""
    return asyncio.run(_resume(session, session.engine(), name))


async def _resume(session: Session, engine: Engine, name: str) -> int:
    async with engine:
        await engine.resume_schedule(name)
        view = await _view(engine, name)
    session.document({"schedule": documents.schedule(view)})
    session.say(f"{name} goes on; next: {_next(view)} UTC")
    return DONE


@schedule.command()
@click.argument("name")
@shared
@with_session
def remove(session: Session, name: str) -> int:
    """Remove a schedule; what it has started goes on."""
    return asyncio.run(_remove(session, session.engine(), name))


async def _remove(session: Session, engine: Engine, name: str) -> int:
    async with engine:
        await engine.remove_schedule(name)
    session.document({"removed": name})
    session.say(f"{name} is removed; what it has started goes on")
    return DONE


async def _view(engine: Engine, name: str) -> ScheduleView:
    return next(view for view in await engine.schedules() if view.name == name)
