"""Executions that wait: what they cost, and how soon they go on."""

from __future__ import annotations

import asyncio
import gc
import time

from bench.flows import ask, many
from bench.places import Places
from bench.report import Report, rss
from perdure import Engine, Waiting

IDS = [f"p{n}" for n in range(10_000)]
SOME = [IDS[n : n + 1000] for n in range(0, len(IDS), 1000)]


async def parked(report: Report, name: str, url: str) -> None:
    """10,000 executions parked on an interrupt."""
    async with Engine(url, build="bench") as engine:
        await engine.run(many, 100)
        warm = await engine.start(ask.options(execution_id="warm"), 0)
        await warm.outcome()
        gc.collect()
        before = rss()
        began = time.perf_counter()
        for ids in SOME:
            handles = await asyncio.gather(*[engine.start(ask.options(execution_id=i), int(i[1:])) for i in ids])
            outcomes = await asyncio.gather(*[handle.outcome() for handle in handles])
            assert all(isinstance(outcome, Waiting) for outcome in outcomes)
            del handles, outcomes
        took = time.perf_counter() - began
        gc.collect()
        grown = rss() - before
        report.line(f"{name}: 10,000 executions parked on an interrupt occupy in the worker", grown, "MiB", most=10)
        report.line(f"{name}: parking them", took, "s")
        began = time.perf_counter()
        for ids in SOME:
            await asyncio.gather(*[engine.answer(f"{i}:interrupt#1", "yes") for i in ids])
        for ids in SOME:
            results = await asyncio.gather(*[engine.get(i).result() for i in ids])
            assert results == [[int(i[1:]), "yes"] for i in ids], "not all went on"
        report.line(f"{name}: answering all of them, until the last has ended", time.perf_counter() - began, "s")


def sqlite(report: Report, places: Places) -> None:
    asyncio.run(parked(report, "SQLite", places.sqlite()))


def postgres(report: Report, places: Places) -> None:
    asyncio.run(parked(report, "PostgreSQL", places.postgres()))
