"""`stats`: how many executions stand where, who runs them, what waits for somebody."""

from __future__ import annotations

import asyncio
from collections import Counter

import click

from perdure.bulk import Stats
from perdure.cli.documents import time
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.cli.words import table, when
from perdure.crew import live_workers
from perdure.engine import Engine
from perdure.records import Tally, WorkerRecord, listed


@click.command()
@shared
@with_session
def stats(session: Session) -> int:
    """Count executions by workflow, queue and status; list workers."""
    return asyncio.run(_stats(session, session.engine()))


async def _stats(session: Session, engine: Engine) -> int:
    async with engine:
        found = await engine.stats()
        workers = await live_workers(engine.insight)
    by_status: Counter[str] = Counter()
    for tally in found.executions:
        by_status[str(tally.status)] += tally.number
    session.document(
        {
            "statuses": dict(by_status),
            "executions": [_tally(tally) for tally in found.executions],
            "workers": [_worker(worker) for worker in workers],
            "open_requests": found.open_requests,
        }
    )
    _tell(session, found, workers)
    if found.open_requests:
        session.hint(f"\nWhat waits for somebody:\n  {session.command('inbox')}")
    return DONE


def _tally(tally: Tally) -> dict[str, object]:
    return {
        "workflow": tally.workflow,
        "queue": tally.queue,
        "status": str(tally.status),
        "number": tally.number,
        "oldest": time(tally.oldest),
    }


def _worker(worker: WorkerRecord) -> dict[str, object]:
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "build": worker.build,
        "queues": listed(worker.queues),
        "workflows": [{"name": name, "version": version} for name, version in _pairs(worker.workflows)],
        "started_at": time(worker.started_at),
    }


def _tell(session: Session, found: Stats, workers: list[WorkerRecord]) -> None:
    if not found.executions:
        session.say("No executions.")
    else:
        rows = [[t.workflow, t.queue, str(t.status), str(t.number), when(time(t.oldest))] for t in found.executions]
        for line in table(("WORKFLOW", "QUEUE", "STATUS", "NUMBER", "OLDEST (UTC)"), rows, narrow=(0, 1)):
            session.say(line)
    session.say()
    if not workers:
        session.say("No live worker.")
    else:
        rows = [
            [
                str(worker.id),
                f"{worker.host}:{worker.pid}",
                ", ".join(map(str, listed(worker.queues))),
                str(len(listed(worker.workflows))),
                worker.build,
                when(time(worker.started_at)),
            ]
            for worker in workers
        ]
        for line in table(
            ("WORKER", "HOST:PID", "QUEUES", "WORKFLOWS", "BUILD", "SINCE (UTC)"), rows, narrow=(1, 2, 4)
        ):
            session.say(line)
    asked = found.open_requests
    session.say(f"\n{asked} open request{'' if asked == 1 else 's'}.")


def _pairs(text: str) -> list[tuple[object, object]]:
    return [(pair[0], pair[1]) for pair in listed(text) if isinstance(pair, list) and len(pair) == 2]
