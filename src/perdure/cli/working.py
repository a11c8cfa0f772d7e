"""`worker`: a process that runs what others submit, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from perdure.cli.interrupt import interruption
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.cli.target import find, load_module, registered
from perdure.engine import Engine
from perdure.worker import Worker
from perdure.workflow import Workflow

LOOK = 0.5
"""Seconds between two looks whether the worker still works."""


@click.command()
@click.argument("target", metavar="MODULE[:APP]")
@click.option("--queues", metavar="NAMES", help="Queues to serve, with commas between them.  [default: default]")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Executions at once.  [default: 100]")
@shared
@with_session
def worker(session: Session, target: str, queues: str | None, concurrency: int | None) -> int:
    """Run the workflows of a module, until Ctrl-C or SIGTERM.

    MODULE is a module or a file.py, found from the current folder; all workflows that it imports are
    registered. APP is a name in it: an Engine, a function that makes one, or a list of workflows.
    """
    module, name = load_module(target)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    app = find(module, name) if name else None
    if name and app is None:
        raise click.UsageError(f"{module.__name__} has no {name!r}")
    if callable(app) and not isinstance(app, Workflow | Engine):
        app = app()
    if isinstance(app, Engine):
        if session.db is not None or queues is not None or concurrency is not None:
            raise click.UsageError(
                f"{target} is an engine with settings of its own: leave --db, --queues, --concurrency"
            )
        return asyncio.run(_work(session, app))
    engine = Engine(
        session.store(new=True),
        workflows=_chosen(target, app),
        queues=[name.strip() for name in (queues or "default").split(",") if name.strip()],
        concurrency=concurrency or 100,
    )
    return asyncio.run(_work(session, engine))


def _chosen(target: str, app: Any) -> Sequence[Workflow[..., Any]] | None:
    if app is None:
        if not registered():
            raise click.UsageError(f"{target} has no workflows: mark an `async def` with @workflow")
        return None
    chosen = [app] if isinstance(app, Workflow) else app
    if not isinstance(chosen, list | tuple) or not all(isinstance(w, Workflow) for w in chosen) or not chosen:
        raise click.UsageError(f"{target} is neither an Engine, nor a function that makes one, nor a list of workflows")
    return chosen


async def _work(session: Session, engine: Engine) -> int:
    with interruption() as interrupted:
        async with engine:
            at_work = engine.worker
            if at_work is None:
                raise click.UsageError("this Engine has worker=False: it runs nothing")
            _tell(session, engine, at_work)
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


def _tell(session: Session, engine: Engine, at_work: Worker) -> None:
    workflows = [{"name": name, "version": version} for name, version in sorted(at_work.workflows)]
    session.document(
        {
            "worker": at_work.record.id,
            "pid": os.getpid(),
            "store": engine.store.url,
            "build": at_work.build,
            "queues": list(at_work.queues),
            "concurrency": at_work.concurrency,
            "workflows": workflows,
        }
    )
    session.say(f"worker {at_work.record.id} (pid {os.getpid()}) on {engine.store.url}")
    session.say(f"  queues     {', '.join(at_work.queues)}; up to {at_work.concurrency} executions at once")
    for n, (identity, made) in enumerate(sorted(at_work.workflows.items())):
        queue = made.options_.queue or "default"
        aside = f"   (its queue {queue!r} is not served here)" if queue not in at_work.queues else ""
        session.say(f"  {'workflows' if n == 0 else '':9}  {identity[0]} (version {identity[1]}){aside}")
    session.say("Ctrl-C stops it.")
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
