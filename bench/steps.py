"""Plain steps: one after the other, many executions at once, and a long journal."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from bench import raw
from bench.flows import many, trivial
from bench.places import Places
from bench.report import Report, timed
from perdure import Engine, step, workflow

ROUNDS = 5
STEPS = 3000
SOME = 1000  # a part of the long execution; raw commits between crowds
CROWD = 500  # executions at once
MANY = 20_000  # raw rows between crowds, a thousand in a transaction


async def alone(
    report: Report, name: str, url: str, raw_commits: Callable[[int], Awaitable[float]], *, least: float
) -> None:
    """The steps of one execution, one after the other, beside what the database does by itself, round by round."""
    ratios, rate, cpu = [], [], []
    async with Engine(url, build="bench") as engine:
        await engine.run(many, 200)
        for _ in range(ROUNDS):
            raw_took = await raw_commits(STEPS)
            before = time.process_time()
            took = await timed(lambda: engine.run(many, STEPS))
            cpu.append((time.process_time() - before) / STEPS * 1e6)
            ratios.append(raw_took / took)
            rate.append(STEPS / took)
    report.line(f"{name}: steps of one execution / raw single-row commits", statistics.median(ratios), "", least=least)
    report.line(f"{name}: steps of one execution", statistics.median(rate), "steps/s")
    report.line(f"{name}: CPU of a plain step, commit included", statistics.median(cpu), "us")


async def together(
    report: Report,
    name: str,
    url: str,
    raw_rows: Callable[[int, int], Awaitable[float]],
    *,
    wanted: int,
    ones: int,
    thousands: int,
) -> None:
    """500 executions of 10 steps at once, which the worker is told to run at once, on a database of their own.

    `wanted` steps a second are promised where the database takes `ones` raw rows a second one by one, `thousands` of
    them a thousand at a time: the first tells how fast the disk is, the second how fast the processors. Both are
    measured here too, round by round; the bound is `wanted` times what this machine is beside that one, by the better.
    """
    raw_ones, raw_thousands, speeds = [], [], []
    async with Engine(url, build="bench", concurrency=CROWD) as engine:
        await engine.run(many, 200)
        for _ in range(ROUNDS + 2):
            raw_ones.append(SOME / await raw_rows(SOME, 1))
            raw_thousands.append(MANY / await raw_rows(MANY, 1000))
            speeds.append(5000 / await timed(lambda: crowd(engine)))
    one, thousand = statistics.median(raw_ones), statistics.median(raw_thousands)
    bound = round(wanted * max(one / ones, thousand / thousands))
    promise = f"{wanted:,} where raw rows go {ones:,} or {thousands:,} a second"
    report.line(
        f"{name}: 500 executions of 10 steps, concurrency=500, {promise}",
        statistics.median(speeds),
        "steps/s",
        least=bound,
    )
    report.line(f"{name}: the same, best round", max(speeds), "steps/s")
    report.line(f"{name}: raw rows here, one by one", one, "a second")
    report.line(f"{name}: raw rows here, a thousand at a time", thousand, "a second")


async def crowd(engine: Engine) -> None:
    await asyncio.gather(*[engine.run(many, 10) for _ in range(CROWD)])


async def long_one(report: Report, url: str) -> None:
    """50,000 steps in one execution. At its end each thousand is timed beside the first thousand of another one.

    The machine's speed changes within the half minute that this takes: only what is measured in turns is comparable.
    """
    ratios: list[float] = []
    engine = Engine(url, build="bench")

    @step(name="first_thousand")
    async def first() -> float:
        return await timed(lambda: engine.run(many, SOME))

    @workflow(name="long_one")
    async def long() -> None:
        for i in range(50 * SOME):
            if i % SOME == 0:
                began = time.perf_counter()
            await trivial(i)
            if i % SOME == SOME - 1 and i >= 40 * SOME:
                took = time.perf_counter() - began
                ratios.append(took / await first())

    async with engine:
        await engine.run(many, SOME)
        await engine.run(long)
    ratio = statistics.median(ratios)
    report.line("one execution of 50,000 steps: a thousand at the end / the first of another", ratio, "", most=1.2)


async def beside(report: Report, mariadb: str, postgres: str) -> None:
    """MariaDB and PostgreSQL in turns, as the machine's speed changes from minute to minute."""
    ones, crowds, speeds = [], [], []
    async with Engine(mariadb, build="bench") as mine, Engine(postgres, build="bench") as theirs:
        for engine in (mine, theirs):
            await engine.run(many, 200)
            await crowd(engine)
        for _ in range(ROUNDS):
            took, other = [await timed(lambda e=e: e.run(many, STEPS // 2)) for e in (mine, theirs)]
            ones.append(took / other)
            speeds.append(STEPS / 2 / took)
            took, other = [await timed(lambda e=e: crowd(e)) for e in (mine, theirs)]
            crowds.append(took / other)
    report.line("MariaDB: steps of one execution", statistics.median(speeds), "steps/s")
    report.line("MariaDB: steps of one execution, time / PostgreSQL's", statistics.median(ones), "", most=2.0)
    report.line("MariaDB: 500 executions of 10 steps, time / PostgreSQL's", statistics.median(crowds), "", most=2.0)


def sqlite(report: Report, places: Places) -> None:
    async def raw_rows(n: int, at_once: int) -> float:
        return raw.sqlite(places.folder / "raw.db", n, at_once)

    async def raw_commits(n: int) -> float:
        return await raw_rows(n, 1)

    asyncio.run(together(report, "SQLite", places.sqlite(), raw_rows, wanted=30_000, ones=16_600, thousands=500_000))
    asyncio.run(alone(report, "SQLite", places.sqlite(), raw_commits, least=0.5))
    asyncio.run(long_one(report, places.sqlite()))


def postgres(report: Report, places: Places) -> None:
    raw_url = places.postgres()

    async def raw_rows(n: int, at_once: int) -> float:
        return await raw.postgres(raw_url, n, at_once)

    async def raw_commits(n: int) -> float:
        return await raw_rows(n, 1)

    asyncio.run(
        together(report, "PostgreSQL", places.postgres(), raw_rows, wanted=35_000, ones=9_000, thousands=208_000)
    )
    asyncio.run(alone(report, "PostgreSQL", places.postgres(), raw_commits, least=0.55))


def mariadb(report: Report, places: Places) -> None:
    asyncio.run(beside(report, places.mariadb(), places.postgres()))
