"""`worker`: a process that runs what others submit, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import click

from perdure.cli.app import load_app, with_limits
from perdure.cli.documents import schedule as schedule_document
from perdure.cli.health import health
from perdure.cli.interrupt import interruption
from perdure.cli.names import given
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.cli.words import when
from perdure.engine import Engine
from perdure.queues import Queue, check_queue
from perdure.records import Limit
from perdure.schedules import ScheduleView
from perdure.worker import Worker

LOOK = 0.5
"""Seconds between two looks whether the worker still works."""


@click.command()
@click.argument("target", metavar="MODULE[:APP]")
@click.option(
    "--queues",
    metavar="NAMES",
    help="Queues to serve, with commas between them; emails:10 runs at most 10 of it at once.  [default: default]",
)
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Executions at once.  [default: 100]")
@click.option(
    "--health-port", type=click.IntRange(0, 65535), metavar="PORT", help="Answer /live and /ready there (0: any port)."
)
@click.option(
    "--health-host",
    callback=given,
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen for that.",
)
@shared
@with_session
def worker(
    session: Session,
    target: str,
    queues: str | None,
    concurrency: int | None,
    health_port: int | None,
    health_host: str,
) -> int:
    """Run the workflows of a module, until Ctrl-C or SIGTERM.

    MODULE is a module or a file.py, found from the current folder; all workflows that it imports are
    registered. APP is a name in it: an Engine, a function that makes one, or a list of workflows.
    A queue's limit holds over all workers; each of them must be told of it alike: with its number here, or
    by a Queue of that name in the module.

    With --health-port, GET /live and /ready answer 200, or 503, and say why in JSON.
    """
    served = parse_queues(queues if queues is not None else "default")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    app = load_app(target)
    if isinstance(app, Engine):
        if session.db is not None or queues is not None or concurrency is not None:
            raise click.UsageError(
                f"{target} is an engine with settings of its own: leave --db, --queues, --concurrency"
            )
        return asyncio.run(_work(session, app, health_host, health_port))
    engine = Engine(
        session.store(new=True),
        workflows=app,
        queues=with_limits(target, served),
        concurrency=concurrency or 100,
        namespace=session.namespace,
    )
    return asyncio.run(_work(session, engine, health_host, health_port))


def parse_queues(text: str) -> list[str | Queue]:
    """`emails:10,default`: names, some with how many of them may run at once. Raises `click.UsageError`."""
    queues: list[str | Queue] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, colon, number = word.rpartition(":")
        if colon and not (name and number.isdecimal() and int(number) > 0):
            raise click.UsageError(f"--queues {word}: write NAME, or NAME:NUMBER with a number of 1 or more")
        try:
            queues.append(Queue(name, concurrency=int(number)) if colon else check_queue(word))
        except ValueError as error:
            raise click.UsageError(f"--queues: {error}") from error
    names = [queue if isinstance(queue, str) else queue.name for queue in queues]
    if not names or len(set(names)) < len(names):
        raise click.UsageError("--queues: name each queue once" if names else "--queues names no queue")
    return queues


async def _work(session: Session, engine: Engine, host: str, port: int | None) -> int:
    async with AsyncExitStack() as stack:  # who asks is answered until the worker has left
        interrupted = stack.enter_context(interruption())
        async with engine:
            at_work = engine.worker
            if at_work is None:
                raise click.UsageError("this Engine has worker=False: it runs nothing")
            open_port = await stack.enter_async_context(health(at_work, host, port))
            where = None if open_port is None else f"http://{host}:{open_port}"
            _tell(session, engine, at_work, await engine.schedules(), where)
            while not interrupted.done() and at_work.fatal is None:
                await asyncio.wait([interrupted], timeout=LOOK)
            if at_work.fatal is None:
                session.hint("Stopping: running steps get up to 10 s to end; once more, and it ends at once.")
        if at_work.fatal is not None:
            raise click.ClickException(
                f"{type(at_work.fatal).__name__} in a step ended this worker; what ran is not recorded and runs again"
            )
        session.hint("Stopped. What has not ended is kept; any worker goes on with it.")
    return DONE


def _tell(
    session: Session, engine: Engine, at_work: Worker, schedules: Sequence[ScheduleView], health_at: str | None
) -> None:
    limits = {limit.queue: limit for limit in at_work.limits}
    session.document(
        {
            "worker": at_work.record.id,
            "pid": os.getpid(),
            "store": engine.store.url,
            "build": at_work.build,
            "queues": list(at_work.queues),
            "limits": list(limits.values()),
            "concurrency": at_work.concurrency,
            "workflows": [{"name": name, "version": version} for name, version in sorted(at_work.workflows)],
            "schedules": [schedule_document(schedule) for schedule in schedules],
            "health": health_at,
        }
    )
    session.say(f"worker {at_work.record.id} (pid {os.getpid()}) on {engine.store.url}")
    served = ", ".join(name + (limit_words(limits[name]) if name in limits else "") for name in at_work.queues)
    session.say(f"  queues     {served}; up to {at_work.concurrency} executions at once")
    for n, (identity, made) in enumerate(sorted(at_work.workflows.items())):
        queue = made.options_.queue or "default"
        aside = f"   (its queue {queue!r} is not served here)" if queue not in at_work.queues else ""
        session.say(f"  {'workflows' if n == 0 else '':9}  {identity[0]} (version {identity[1]}){aside}")
    for n, schedule in enumerate(schedules):
        session.say(f"  {'schedules' if n == 0 else '':9}  {_schedule_words(at_work, schedule)}")
    if health_at is not None:
        session.say(f"  health     {health_at}/live and /ready")
    session.say("Ctrl-C stops it.")
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()


def limit_words(limit: Limit) -> str:
    """` (at most 10 at once, 100 starts in 60 s, for each customer)`"""
    words = [f"at most {limit.concurrency} at once"] if limit.concurrency is not None else []
    words += [f"{limit.starts} starts in {limit.window / 1_000_000:g} s"] if limit.starts is not None else []
    words += [f"for each {limit.per}"] if limit.per is not None else []
    return f" ({', '.join(words)})" if words else ""


def _schedule_words(at_work: Worker, schedule: ScheduleView) -> str:
    following = "paused" if schedule.paused else f"next {when(schedule.next_at) or 'never'} UTC"
    known = (schedule.workflow, schedule.version) in at_work.workflows
    aside = "" if known else f"   ({schedule.workflow} (version {schedule.version}) is not run here)"
    return f"{schedule.name}: {schedule.cron} ({schedule.timezone}), {following}{aside}"
