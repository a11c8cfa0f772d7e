"""What befalls workers, connections and the server, by a seed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.crash import ledger
from tests.crash.processes import ROOT
from tests.proxy import Cut, Proxy
from tests.servers import MariaDbServer, PostgresServer

LEASE = 2.0
GAP = 0.6
"""Seconds between two troubles, on the average."""

TROUBLES = {"kill": 3, "stop": 3, "cut before": 4, "cut after": 6, "sever": 1, "crash": 1}
"""What may happen, and how often, in proportion."""


class Crew:
    """Worker processes, each in a place of its own, from which it is started again."""

    def __init__(self, folder: Path, commands: Sequence[Sequence[str]]) -> None:
        self.folder = folder
        self.commands = commands
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.stopped: set[int] = set()
        self.ended: list[str] = []

    def start(self, place: int) -> None:
        with (self.folder / f"worker-{place}.err").open("ab") as told:
            self.processes[place] = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", *self.commands[place]],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                cwd=ROOT,
                env={**os.environ, ledger.VARIABLE: str(self.folder / "ledger")},
            )

    def look(self) -> None:
        """Whoever ended without having been killed is noted, and started again."""
        for place, process in list(self.processes.items()):
            if process.poll() is not None:
                self.ended.append(f"worker {place} ended with {process.returncode}")
                self.start(place)

    def kill(self, place: int) -> None:
        process = self.processes.pop(place)
        process.kill()
        process.wait()
        self.stopped.discard(place)

    def stop(self, place: int) -> None:
        self.processes[place].send_signal(signal.SIGSTOP)
        self.stopped.add(place)

    def go_on(self, place: int) -> None:
        if place in self.stopped:
            self.stopped.discard(place)
            with suppress(ProcessLookupError):
                self.processes[place].send_signal(signal.SIGCONT)

    def close(self) -> None:
        for place in list(self.processes):
            self.kill(place)


class Storm:
    def __init__(
        self, random: Random, crew: Crew, proxy: Proxy, server: PostgresServer | MariaDbServer, lease: float = LEASE
    ) -> None:
        self.random = random
        self.crew = crew
        self.proxy = proxy
        self.server = server
        self.lease = lease
        self.counts: Counter[str] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()
        self._crashing = False
        self._cut: tuple[str, Cut] | None = None

    async def rage(self, seconds: float) -> None:
        """Until it is over, and all is whole again: each process runs, the server is up, nothing will be cut."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await asyncio.sleep(self.random.expovariate(1 / GAP))
            self.crew.look()
            [what] = self.random.choices(list(TROUBLES), list(TROUBLES.values()))
            await self._make(what)
        await asyncio.gather(*self._under_way)
        self._count_cut()
        self.proxy.cut = None
        for place in range(len(self.crew.commands)):
            if place not in self.crew.processes:
                self.crew.start(place)

    async def _make(self, what: str) -> None:
        place = self.random.randrange(len(self.crew.commands))
        match what:
            case "kill" if place in self.crew.processes:
                self.crew.kill(place)
                self._later(self._start_again(place, self.random.uniform(0, 1)))
            case "stop" if place in self.crew.processes and place not in self.crew.stopped:
                self.crew.stop(place)
                self._later(self._go_on(place, self.random.choice((0.1, 0.5, 1.0, 2.5)) * self.lease))
            case "cut before" | "cut after":
                self._count_cut()
                cut = Cut.BEFORE if what == "cut before" else Cut.AFTER
                self._cut, self.proxy.cut = (what, cut), cut
                return  # counted once it has happened
            case "sever":
                await self.proxy.sever()
            case "crash" if not self._crashing:
                self._later(self._crash(self.random.choice((0.0, 0.5, 3.0))))
            case _:
                return
        self.counts[what] += 1

    def _count_cut(self) -> None:
        if self._cut is not None and self.proxy.cut is None:
            self.counts[self._cut[0]] += 1
        self._cut = None

    def _later(self, coroutine: asyncio.Future[None] | object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)  # type: ignore[arg-type]
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _start_again(self, place: int, pause: float) -> None:
        await asyncio.sleep(pause)
        self.crew.start(place)

    async def _go_on(self, place: int, pause: float) -> None:
        await asyncio.sleep(pause)
        self.crew.go_on(place)

    async def _crash(self, pause: float) -> None:
        self._crashing = True
        how = signal.SIGQUIT if isinstance(self.server, PostgresServer) else signal.SIGKILL
        await asyncio.to_thread(self.server.stop, how)
        await asyncio.sleep(pause)
        await asyncio.to_thread(self.server.start)
        self._crashing = False
