"""Executions that wait: what they cost the worker that ran them, and how soon they go on."""

from __future__ import annotations

import asyncio
import time

from bench.fleet import standing
from bench.flows import ask, many
from bench.places import Places
from bench.report import Report, rss
from perdure import Engine, Waiting

IDS = [f"p{n}" for n in range(10_000)]
SOME = [IDS[n : n + 1000] for n in range(0, len(IDS), 1000)]


async def parked(report: Report, name: str, url: str, worker: int) -> None:
    """10,000 executions parked on an interrupt. `worker`: the process that runs them; this one only starts them."""
    async with Engine(url, build="bench", worker=False, workflows=[many, ask]) as engine:
        await engine.run(many, 100)
        await (await engine.start(ask.options(execution_id="first"), 0)).outcome()
        before = rss(worker)
        began = time.perf_counter()
        for ids in SOME:
            handles = await asyncio.gather(*[engine.start(ask.options(execution_id=i), int(i[1:])) for i in ids])
            outcomes = await asyncio.gather(*[handle.outcome() for handle in handles])
            assert all(isinstance(outcome, Waiting) for outcome in outcomes)
        took = time.perf_counter() - began
        grown = rss(worker) - before
        report.line(f"{name}: 10,000 executions parked on an interrupt occupy in the worker", grown, "MiB", most=10)
        report.line(f"{name}: parking them", took, "s")
        began = time.perf_counter()
        for ids in SOME:
            await asyncio.gather(*[engine.answer(f"{i}:interrupt#1", "yes") for i in ids])
        for ids in SOME:
            results = await asyncio.gather(*[engine.get(i).result() for i in ids])
            assert results == [[int(i[1:]), "yes"] for i in ids], "not all went on"
        report.line(f"{name}: answering all of them, until the last has ended", time.perf_counter() - began, "s")


def run(report: Report, name: str, url: str) -> None:
    with standing(url) as worker:
        asyncio.run(parked(report, name, url, worker.pid))


def sqlite(report: Report, places: Places) -> None:
    run(report, "SQLite", places.sqlite())


def postgres(report: Report, places: Places) -> None:
    run(report, "PostgreSQL", places.postgres())


def mariadb(report: Report, places: Places) -> None:
    run(report, "MariaDB", places.mariadb())
