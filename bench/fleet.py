"""Several workers on one server: how soon a death is made good, and work picked up; how little an idle worker asks.

`python -m bench.fleet URL` is a worker that runs until its stdin ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncmy
import asyncpg

from bench.flows import ask, many, resumes
from bench.places import Places
from bench.recovery import ROOT, beacons, child
from bench.report import Report
from perdure import Engine, step, workflow
from perdure.stores.mysql_address import read_address

DEATHS = 10
PICKUPS = 50
LEAVES = 5
QUIET = 20.0
"""Seconds after which a worker has become idle."""
COUNTED = 60.0
"""Seconds for which its statements are counted."""


@step(name="moment")
async def moment() -> float:
    return time.time()


@workflow(name="picked_up")
async def picked_up() -> float:
    return await moment()


@contextmanager
def standing(url: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, once it is at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.fleet", url],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


def takeover(report: Report, name: str, url: str, folder: Path) -> None:
    """From the kill of a worker to the next new step in another one that was idle, the leases being an hour."""
    path = folder / "fleet-beacon"
    took = []
    with standing(url, LEASE="3600", BEACON=str(path)) as survivor:
        for number in range(DEATHS):
            path.unlink(missing_ok=True)
            victim = child(url, f"death-{number}", 20, BEACON=str(path), HOLD="20", LEASE="3600")
            while not any(pid == victim.pid for _, pid, _ in beacons(path)):
                time.sleep(0.01)
            time.sleep(2.0)  # the other worker has seen it, and is idle again
            victim.send_signal(signal.SIGKILL)
            killed = time.time()
            victim.wait()
            while len(after := [at for _, pid, at in beacons(path) if pid == survivor.pid]) < 2:
                time.sleep(0.01)  # it says twice that it goes on
            took.append(after[0] - killed)
    report.line(f"{name}: kill of a worker to the next new step elsewhere, worst of {DEATHS}", max(took), "s", most=1.0)
    report.line(f"{name}: the same, median", statistics.median(took), "s")


def pickup(report: Report, name: str, url: str, *, most: float | None) -> None:
    """From `start` in one process, which runs nothing, to the step in another one."""

    async def measure() -> list[float]:
        took = []
        async with Engine(url, worker=False, workflows=[picked_up]) as engine:
            for _ in range(PICKUPS):
                await asyncio.sleep(0.1)
                began = time.time()
                handle = await engine.start(picked_up)
                took.append((await handle.result() - began) * 1000)
        return took

    with standing(url):
        report.line(
            f"{name}: start in one process to the step in another, median of {PICKUPS}",
            statistics.median(asyncio.run(measure())),
            "ms",
            most=most,
        )


def drain(report: Report, name: str, url: str) -> None:
    """From SIGTERM to the end of `perdure worker`, which has nothing to do."""
    took = []
    for _ in range(LEAVES):
        command = [sys.executable, "-m", "perdure", "worker", "bench.fleet", "--db", url]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            while "Ctrl-C" not in process.stdout.readline():
                if process.poll() is not None:
                    raise RuntimeError(f"the worker ended with {process.returncode}")
            time.sleep(1.0)  # it has looked around
            began = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            process.wait()
            took.append(time.perf_counter() - began)
    report.line(f"{name}: SIGTERM to the end of an idle `perdure worker`, worst of {LEAVES}", max(took), "s", most=1.0)


def idle(report: Report, name: str, url: str) -> None:
    """Statements, heartbeats and presence included, as the server counts them."""
    with standing(url):
        time.sleep(QUIET)
        before = asyncio.run(statements(url))
        time.sleep(COUNTED)
        rate = (asyncio.run(statements(url)) - before) / COUNTED
    report.line(f"{name}: statements of an idle worker", rate, "/s", most=1.0)


async def statements(url: str) -> int:
    if url.startswith("postgres"):
        place, _, database = url.rpartition("/")
        connection = await asyncpg.connect(f"{place}/postgres")
        count = "select xact_commit + xact_rollback from pg_stat_database where datname = $1"
        found: int = await connection.fetchval(count, database)
        await connection.close()
        return found
    options = {name: value for name, value in read_address(url).options.items() if value is not None}
    async with asyncmy.connect(**options) as connection, connection.cursor() as cursor:
        await cursor.execute("show global status like 'Com\\_%'")
        apart = ("Com_show_status", "Com_admin_commands", "Com_change_db", "Com_multi")
        return sum(int(value) for name, value in await cursor.fetchall() if name not in apart)


def postgres(report: Report, places: Places) -> None:
    takeover(report, "PostgreSQL", places.postgres(), places.folder)
    pickup(report, "PostgreSQL", places.postgres(), most=5.0)
    drain(report, "PostgreSQL", places.postgres())
    idle(report, "PostgreSQL", places.postgres())


def mariadb(report: Report, places: Places) -> None:
    takeover(report, "MariaDB", places.mariadb(), places.folder)
    pickup(report, "MariaDB", places.mariadb(), most=None)
    drain(report, "MariaDB", places.mariadb())
    idle(report, "MariaDB", places.mariadb())


def sqlite(report: Report, places: Places) -> None:
    drain(report, "SQLite", places.sqlite())


async def stand(url: str) -> None:
    lease = float(os.environ.get("LEASE", "15"))
    async with Engine(url, workflows=[resumes, picked_up, ask, many], lease=lease, build="bench"):
        print("at work", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(stand(sys.argv[1]))
