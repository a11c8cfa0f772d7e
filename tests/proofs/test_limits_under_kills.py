"""The limits of queues hold over four processes, of which two are killed with bodies inside."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from perdure import Engine
from tests.crash.processes import until
from tests.crash.rows import Tables
from tests.proofs import crew
from tests.proofs.crew import crowded, hasty, met, moves_of, not_once, visits
from tests.proofs.programs import Program, append, read

WORKERS, KILLS = 4, 2
SEED = 20261122


@pytest.fixture(
    params=["sqlite", *(pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("postgres", "mysql"))]
)
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{folder}/perdure.db"
    given: str = request.getfixturevalue(f"{request.param}_url")
    return given


async def submit(url: str) -> None:
    async with Engine(url, worker=False, workflows=[]) as engine:
        for n in range(24):
            await engine.start(visits.options(execution_id=f"narrow-{n}", queue="narrow"), n)
        for n in range(24):
            attributes = {"customer": n % 3}
            await engine.start(visits.options(execution_id=f"each-{n % 3}-{n}", queue="each", attributes=attributes), n)
        for n in range(12):
            await engine.start(visits.options(execution_id=f"slow-{n}", queue="slow"), n)


def prepare(url: str) -> None:
    async def create() -> None:
        async with Engine(url, worker=False, workflows=[]):
            pass

    asyncio.run(create())
    crew.watch_moves(url)
    asyncio.run(submit(url))


def inside(ledger: Path) -> list[int]:
    """The processes that have a body inside just now."""
    open_visits = {}
    for line in read(ledger):
        if line["what"] == "enter":
            open_visits[line["id"], line["fence"]] = line["pid"]
        elif line["what"] == "leave":
            open_visits.pop((line["id"], line["fence"]), None)
    return list(open_visits.values())


def kill_one(chance: random.Random, ledger: Path, crew_now: dict[int, Program], lines: int) -> tuple[int, int]:
    """When the ledger has grown so much, kill one that has a body inside. Gives its pid, and how many were inside."""

    def candidates() -> list[int]:
        grown = len(read(ledger)) >= lines
        return sorted({pid for pid in inside(ledger) if pid in crew_now}) if grown else []

    pid = chance.choice(until(candidates, f"{lines} lines, and somebody inside"))
    victim = crew_now.pop(pid)
    victim.stop()
    append(ledger, what="stopped", pid=pid)
    count = inside(ledger).count(pid)
    victim.kill()
    return pid, count


def everything(tables: Tables) -> tuple[list[crew.Move], list[dict[str, object]]]:
    executions, moves = tables.query(
        "select * from workflow_executions order by id", "select * from proof_moves order by n"
    )
    return moves_of(moves), executions


def test_no_limit_is_exceeded_and_all_end_once_while_workers_are_killed(folder: Path, url: str) -> None:
    chance, ledger = random.Random(SEED), folder / "ledger"
    prepare(url)
    killed_inside = 0
    with ExitStack() as stack, Tables(url) as tables:
        crew_now: dict[int, Program] = {}

        def hire() -> None:
            program = stack.enter_context(Program(folder, "crew", url, ledger))
            crew_now[program.pid] = program

        for _ in range(WORKERS):
            hire()
        lines = 10
        for _ in range(KILLS):
            lines += chance.randrange(10, 50)
            _, count = kill_one(chance, ledger, crew_now, lines)
            killed_inside += count
            hire()

        def over() -> bool:
            assert all(program.is_well() for program in crew_now.values())
            return all(row["status"] == "completed" for row in everything(tables)[1])

        until(over, "the end of all")
        moves, rows = everything(tables)
    lines_told = read(ledger)
    assert len(rows) == 60
    assert killed_inside > 0
    assert len({line["pid"] for line in lines_told if line["what"] == "enter"}) > 1, "one did all of it alone"
    assert [move for move in moves if move.id is None and move.after != "live"], "nobody was declared dead"
    assert list(crowded(moves)) == []
    assert list(met(lines_told)) == []
    assert list(hasty(rows)) == []
    assert list(not_once(moves, rows)) == []


@pytest.mark.parametrize("what", crew.PLANTS)
def test_a_worker_that_does_not_count_is_convicted(folder: Path, url: str, what: str) -> None:
    ledger, closed = folder / "ledger", folder / "closed"
    prepare(url)
    if what == "running":
        closed.touch()
    crew_now = [Program(folder, "crew", url, ledger, what) for _ in range(2)]
    with Tables(url) as tables, crew_now[0], crew_now[1]:

        def over() -> bool:
            assert all(program.is_well() for program in crew_now)
            return all(row["status"] == "completed" for row in everything(tables)[1])

        if what == "running":
            until(lambda: list(met(read(ledger))), "more to enter than there is room for")
            closed.unlink()
        until(over, "the end of all")
        moves, rows = everything(tables)
    if what == "running":
        assert list(crowded(moves))
    else:
        assert list(hasty(rows))
    assert list(not_once(moves, rows)) == []
