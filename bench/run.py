"""`make bench`: each figure that Perdure promises is a line; exit 1 if one is missed.

Ratios are taken within one run, round by round, and the median counts: machines differ and are shared.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import raw
from bench.flows import ask, many
from perdure import Engine, Waiting
from tests.servers import NoServerError, PostgresServer

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5


class Report:
    """The lines of a run."""

    def __init__(self) -> None:
        self.missed = 0

    def line(
        self, name: str, value: float, unit: str, *, least: float | None = None, most: float | None = None
    ) -> None:
        """A figure, and the bound that it must keep."""
        ok = (least is None or value >= least) and (most is None or value <= most)
        bound = (
            f"at least {least:,g}" if least is not None else f"at most {most:,g}" if most is not None else "reported"
        )
        mark = "  " if least is None and most is None else "ok" if ok else "MISSED"
        print(f"{mark:6} {name:<66} {value:>12,.2f} {unit:<8} ({bound})", flush=True)
        self.missed += not ok


def rss() -> float:
    """MiB of memory that this process occupies."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def timed(act: Callable[[], Awaitable[Any]]) -> float:
    gc.collect()
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began


async def alone(report: Report, name: str, url: str, raw_commits: Callable[[int], Awaitable[float]]) -> None:
    """The steps of one execution, one after the other."""
    steps = 3000
    ratios, rate, cpu = [], [], []
    async with Engine(url, build="bench") as engine:
        await engine.run(many, 200)
        for _ in range(ROUNDS):
            raw_took = await raw_commits(steps)
            before = time.process_time()
            took = await timed(lambda: engine.run(many, steps))
            cpu.append((time.process_time() - before) / steps * 1e6)
            ratios.append(raw_took / took)
            rate.append(steps / took)
        report.line(
            f"{name}: steps of one execution / raw single-row commits", statistics.median(ratios), "", least=0.5
        )
        report.line(f"{name}: steps of one execution", statistics.median(rate), "steps/s")
        report.line(f"{name}: CPU of a plain step, commit included", statistics.median(cpu), "us")


async def together(report: Report, name: str, url: str) -> None:
    """500 executions of 10 steps at once, on a database of their own."""
    speeds = []
    async with Engine(url, build="bench") as engine:
        await engine.run(many, 200)
        for _ in range(ROUNDS + 2):
            took = await timed(lambda: asyncio.gather(*[engine.run(many, 10) for _ in range(500)]))
            speeds.append(5000 / took)
        report.line(
            f"{name}: 500 executions of 10 steps, first start to last result",
            statistics.median(speeds),
            "steps/s",
            least=30_000,
        )
        report.line(f"{name}: the same, best round", max(speeds), "steps/s")


async def long_one(report: Report, url: str) -> None:
    """50,000 steps in one execution."""
    moments: list[float] = []
    from bench.flows import trivial
    from perdure import workflow

    @workflow(name="long_one")
    async def long() -> None:
        for i in range(50_000):
            if i % 1000 == 0:
                moments.append(time.perf_counter())
            await trivial(i)
        moments.append(time.perf_counter())

    async with Engine(url, build="bench", workflows=[many, long]) as engine:
        await engine.run(many, 1000)
        await engine.run(long)
    costs = [b - a for a, b in zip(moments, moments[1:], strict=False)]
    first, last = statistics.median(costs[:5]), statistics.median(costs[-5:])
    report.line("one execution of 50,000 steps: a thousand at the end / at the start", last / first, "", most=1.2)


async def parked(report: Report, name: str, url: str) -> None:
    """10,000 executions parked on an interrupt."""
    async with Engine(url, build="bench") as engine:
        await engine.run(many, 100)
        warm = await engine.start(ask.options(execution_id="warm"), 0)
        await warm.outcome()
        gc.collect()
        before = rss()
        ids = [f"p{n}" for n in range(10_000)]
        began = time.perf_counter()
        for n in range(0, len(ids), 1000):
            handles = await asyncio.gather(
                *[engine.start(ask.options(execution_id=i), int(i[1:])) for i in ids[n : n + 1000]]
            )
            outcomes = await asyncio.gather(*[handle.outcome() for handle in handles])
            assert all(isinstance(outcome, Waiting) for outcome in outcomes)
            del handles, outcomes
        took = time.perf_counter() - began
        gc.collect()
        grown = rss() - before
        report.line(f"{name}: 10,000 executions parked on an interrupt occupy in the worker", grown, "MiB", most=10)
        report.line(f"{name}: parking them", took, "s")
        began = time.perf_counter()
        for n in range(0, len(ids), 1000):
            await asyncio.gather(*[engine.answer(f"{i}:interrupt#1", "yes") for i in ids[n : n + 1000]])
        for n in range(0, len(ids), 1000):
            results = await asyncio.gather(*[engine.get(i).result() for i in ids[n : n + 1000]])
            assert results == [[int(i[1:]), "yes"] for i in ids[n : n + 1000]], "not all went on"
        report.line(f"{name}: answering all of them, until the last has ended", time.perf_counter() - began, "s")


def child(url: str, execution_id: str, n: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.flows", url, execution_id, str(n)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def beacons(path: Path) -> list[tuple[int, int, float]]:
    if not path.exists():
        return []
    return [(int(i), int(pid), float(at)) for i, pid, at in (line.split() for line in path.read_text().splitlines())]


def recovery(report: Report, name: str, url: str, folder: Path) -> None:
    """From the start of a process to the next new step of an execution with 5,000 recorded ones."""
    took = []
    for _ in range(3):
        execution = f"r{time.time_ns()}"
        path = folder / "beacon"
        path.unlink(missing_ok=True)
        first = child(url, execution, 5000, BEACON=str(path), HOLD="5000", LEASE="1")
        while not beacons(path):
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
        if not url.startswith("sqlite"):
            time.sleep(1.2)  # the lease of the dead worker, which is not what is measured here
        began = time.time()
        second = child(url, execution, -1, BEACON=str(path), LEASE="1")
        second.wait()
        took.append(next(at for i, pid, at in beacons(path) if pid == second.pid) - began)
    report.line(
        f"{name}: 5,000 recorded steps, process start to the next new step", statistics.median(took), "s", most=0.5
    )


def takeover(report: Report, url: str, folder: Path) -> None:
    """From the kill of a worker to the next new step in another process, the lease being an hour."""
    took = []
    for _ in range(5):
        execution = f"t{time.time_ns()}"
        path = folder / "beacon"
        path.unlink(missing_ok=True)
        first = child(url, execution, 20, BEACON=str(path), HOLD="20", LEASE="3600")
        while not beacons(path):
            time.sleep(0.01)
        second = child(url, execution, -1, BEACON=str(path), LEASE="3600")
        time.sleep(1.0)  # the other worker is up and idle
        first.send_signal(signal.SIGKILL)
        killed = time.time()
        first.wait()
        second.wait()
        took.append(next(at for i, pid, at in beacons(path) if pid == second.pid) - killed)
    report.line("SQLite: kill of a worker to the next new step elsewhere, worst of 5", max(took), "s", most=1.0)


def demo(report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "perdure.demo", "--yes"], cwd=folder, check=True, capture_output=True)
        report.line("the demo, after installation", time.perf_counter() - began, "s", most=30)


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="perdure-bench-", dir=os.environ.get("BENCH_DIR")))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(report: Report) -> None:
    with scratch() as folder:
        url = f"sqlite:///{folder}/bench.db"

        async def raw_here(n: int) -> float:
            return raw.sqlite(folder / "raw.db", n)

        asyncio.run(together(report, "SQLite", f"sqlite:///{folder}/together.db"))
        asyncio.run(alone(report, "SQLite", url, raw_here))
        asyncio.run(long_one(report, f"sqlite:///{folder}/long.db"))
        asyncio.run(parked(report, "SQLite", f"sqlite:///{folder}/parked.db"))
        recovery(report, "SQLite", f"sqlite:///{folder}/recovery.db", folder)
        takeover(report, f"sqlite:///{folder}/takeover.db", folder)
    try:
        server = PostgresServer(durable=True)
    except NoServerError as error:
        print(f"MISSED PostgreSQL: {error}")
        report.missed += 1
        return
    with server, scratch() as folder:

        async def raw_there(n: int) -> float:
            return await raw.postgres(raw_url, n)

        raw_url = server.create_database()
        asyncio.run(together(report, "PostgreSQL", server.create_database()))
        asyncio.run(alone(report, "PostgreSQL", server.create_database(), raw_there))
        asyncio.run(parked(report, "PostgreSQL", server.create_database()))
        recovery(report, "PostgreSQL", server.create_database(), folder)
    demo(report)


if __name__ == "__main__":
    result = Report()
    measure(result)
    print("all figures are kept" if not result.missed else f"{result.missed} figure(s) missed")
    sys.exit(1 if result.missed else 0)
