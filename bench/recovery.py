"""Processes that die, and others that go on."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.places import Places
from bench.report import Report

ROOT = Path(__file__).resolve().parent.parent


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


def takeover(report: Report, name: str, url: str, folder: Path) -> None:
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
    report.line(f"{name}: kill of a worker to the next new step elsewhere, worst of 5", max(took), "s", most=1.0)


def sqlite(report: Report, places: Places) -> None:
    recovery(report, "SQLite", places.sqlite(), places.folder)
    takeover(report, "SQLite", places.sqlite(), places.folder)


def postgres(report: Report, places: Places) -> None:
    recovery(report, "PostgreSQL", places.postgres(), places.folder)
