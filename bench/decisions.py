"""Opposite decisions at the same moment, and a decision at the end of its time: one stands, the other is told."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from bench.places import Places
from bench.report import Report
from perdure import AlreadyDecidedError, Engine, MemoryStore, Waiting, approval, workflow

ROUNDS = 1000
TOGETHER = 20
SPREAD = 400
"""Microseconds between two moments at which a decision comes, around the end of its time."""


@workflow(name="contest")
async def contest() -> str:
    return str((await approval("Go?", approvers=["ana", "bob"])).by)


@workflow(name="late")
async def late() -> str:
    return str((await approval("Go?", approvers=["ana"], expires=0.1)).by)


async def _opposite(engine: Engine, other: Engine, n: int) -> str:
    """One round; gives who won."""
    handle = await engine.start(contest)
    outcome = await handle.outcome(timeout=120)
    assert isinstance(outcome, Waiting)
    id = outcome.requests[0].id
    first, second = (engine, other) if n % 4 < 2 else (other, engine)
    parts = [first.approve(id, by="ana"), second.reject(id, by="bob")]
    told = await asyncio.gather(*(parts if n % 2 else reversed(parts)), return_exceptions=True)
    lost = [each for each in told if isinstance(each, AlreadyDecidedError)]
    won = [each for each in told if not isinstance(each, BaseException)]
    assert (len(won), len(lost)) == (1, 1), told
    by = str(won[0].answered_by)
    assert by in str(lost[0]), f"the loser is not told of {by}: {lost[0]}"
    assert await handle.result(timeout=120) == by
    decisions = (await engine.store.dossiers([handle.id]))[handle.id].decisions
    assert [row.decided_by for row in decisions] == [by]
    return by


async def _in_time(engine: Engine, n: int) -> str:
    """One round; the decision comes a little before, or after, the end of its time."""
    handle = await engine.start(late)
    while not (found := await engine.store.requests(execution_ids=[handle.id], status=None)):
        await asyncio.sleep(0.001)
    moment = (found[0].expires_at or 0) + (n % 21 - 10) * SPREAD
    while (ahead := moment - engine.clock.now()) > 0:
        await asyncio.sleep(ahead / 1_000_000)
    try:
        told = str((await engine.approve(found[0].id, by="ana")).answered_by)
    except AlreadyDecidedError as error:
        assert "expired" in str(error), error
        told = "expiry"
    assert await handle.result(timeout=120) == told
    return told


async def _all(report: Report, name: str, url: Any) -> None:
    async with Engine(url, workflows=[contest, late]) as engine, engine.client() as other:
        for what in ("opposite decisions", "decision and expiry"):
            began = perf_counter()
            winners: list[str | BaseException] = []
            for first in range(0, ROUNDS, TOGETHER):
                ns = range(first, min(ROUNDS, first + TOGETHER))
                rounds = [
                    _opposite(engine, other, n) if what.startswith("opposite") else _in_time(engine, n) for n in ns
                ]
                winners += await asyncio.gather(*rounds, return_exceptions=True)
            wrong = [each for each in winners if isinstance(each, BaseException)]
            for error in wrong[:3]:
                report.miss(f"{name}: {what}: {error!r}")
            said = f"{name}: {ROUNDS:,} times {what}"
            report.line(f"{said}: not one outcome", len(wrong), "rounds", most=0)
            report.line(f"{said}: ana stood", winners.count("ana"), "rounds")
            report.line(f"{said}: took", perf_counter() - began, "s")


def sqlite(report: Report, places: Places) -> None:
    asyncio.run(_all(report, "sqlite", places.sqlite()))


def postgres(report: Report, places: Places) -> None:
    asyncio.run(_all(report, "postgres", places.postgres()))


def mariadb(report: Report, places: Places) -> None:
    asyncio.run(_all(report, "mariadb", places.mariadb()))


def anywhere(report: Report, places: Places) -> None:
    asyncio.run(_all(report, "memory", MemoryStore()))
    asyncio.run(_all(report, "file", places.folder / "decisions"))
