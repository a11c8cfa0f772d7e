"""All of it at once; then it comes to rest, and ledger and rows are judged."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from perdure import Engine
from perdure.records import ENDED
from tests.chaos.client import Client
from tests.chaos.flows import FLOWS, expected, kind_of
from tests.chaos.storm import LEASE, Crew, Storm
from tests.crash import ledger
from tests.crash.promises import broken, shrunk
from tests.crash.rows import Rows, Tables
from tests.proxy import Proxy
from tests.servers import MariaDbServer, PostgresServer

WORKERS = 4
OPEN = 400
"""So many executions are under way at once."""


@dataclass
class Found:
    """What a run has come to: counts, and each promise that was broken."""

    counts: dict[str, int]
    wrong: list[str]
    log: list[str] = field(default_factory=list)


async def run(
    server: PostgresServer | MariaDbServer,
    url: str,
    folder: Path,
    *,
    seed: int,
    seconds: float,
    executions: int,
    patience: float = 300.0,
) -> Found:
    """Let `executions` go through a storm of so many seconds. `url` is a database of `server`'s."""
    before = os.environ.get(ledger.VARIABLE)
    os.environ[ledger.VARIABLE] = str(folder / "ledger")
    try:
        return await _run(server, url, folder, Random(seed), seconds, executions, patience)
    finally:
        del os.environ[ledger.VARIABLE]
        if before is not None:
            os.environ[ledger.VARIABLE] = before


async def _run(
    server: PostgresServer | MariaDbServer,
    url: str,
    folder: Path,
    random: Random,
    seconds: float,
    executions: int,
    patience: float,
) -> Found:
    (folder / "ledger").touch()
    own = executions // 2
    async with Proxy(server.port) as proxy, Engine(url, worker=False, workflows=FLOWS) as engine:
        proxy.kin = b"insert into step_executions"
        name = url.rsplit("/", 1)[1]
        places = [url if place % 2 else server.url(name, port=proxy.port) for place in range(WORKERS)]
        shares = [(place, own, WORKERS) for place in range(WORKERS)]
        crew = Crew(
            folder, [[place, str(LEASE), *map(str, share)] for place, share in zip(places, shares, strict=True)]
        )
        client = Client(engine)
        storm = Storm(random, crew, proxy, server)
        wanted = {f"own-{n}": n for n in range(own)} | {f"given-{n}": n for n in range(own, executions)}
        beside = [asyncio.create_task(work) for work in (client.answers(), client.mends())]
        try:
            for place in range(WORKERS):
                crew.start(place)
            started = asyncio.create_task(_submit(client, wanted, seconds))
            middle = asyncio.create_task(_look_once(url, seconds * 0.6))
            await storm.rage(seconds)
            after_storm = await asyncio.to_thread(_read, url)
            calm = asyncio.create_task(_keep(crew))
            try:
                async with asyncio.timeout(patience):
                    await started
                    await _rest(engine, client)
            except TimeoutError:
                client.counts["not at rest"] += 1
            calm.cancel()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            crew.close()
        at_end = await asyncio.to_thread(_read, url)
    lines = ledger.read(folder / "ledger")
    wrong = [*broken(lines, at_end), *_ends(wanted, client.told, at_end), *_unhappy(beside)]
    for earlier in (await middle, after_storm):
        wrong += shrunk(earlier, at_end)
    told = {path.name: path.read_text() for path in sorted(folder.glob("worker-*.err"))}
    return Found(_count(storm, client, at_end, lines, told), wrong, [*crew.ended, *_log(told)])


async def _submit(client: Client, wanted: Mapping[str, int], seconds: float) -> None:
    """Start what is given, evenly over the storm, and go along with all."""
    pause = seconds * 0.9 / max(1, len(wanted))
    turns = asyncio.Semaphore(OPEN)

    async def one(id: str, n: int) -> None:
        async with turns:
            if id.startswith("given"):
                await client.start(id, n)
            await client.accompany(id, n)

    async with asyncio.TaskGroup() as group:
        for id, n in sorted(wanted.items(), key=lambda item: item[1] % (len(wanted) // 2)):
            group.create_task(one(id, n))
            await asyncio.sleep(pause)


async def _rest(engine: Engine, client: Client) -> None:
    """Until all have ended, children too."""
    ended = {str(status) for status in ENDED}
    while set(await client.insist(engine.count)) - ended:
        await asyncio.sleep(0.1)


async def _keep(crew: Crew) -> None:
    while True:
        crew.look()
        await asyncio.sleep(0.2)


async def _look_once(url: str, seconds: float) -> Rows:
    await asyncio.sleep(seconds)
    while True:
        with suppress(Exception):  # the server may be away: then a little later
            return await asyncio.to_thread(_read, url)
        await asyncio.sleep(0.5)


def _read(url: str) -> Rows:
    with Tables(url) as tables:
        return tables.read()


def _ends(wanted: Mapping[str, int], told: Mapping[str, Any], rows: Rows) -> Iterator[str]:
    """Each has ended as it had to, and its client was told so."""
    by_id = {row["id"]: row for row in rows.executions}
    for id, n in wanted.items():
        row = by_id.get(id, {"status": "not there", "reason": None, "output": None, "error": None})
        kind = kind_of(n)
        status = {"fails": "failed", "cancelled": "cancelled"}.get(kind, "completed")
        if row["status"] != status:
            yield f"I16, I38: {id} had to be {status} and is {row['status']} ({row['reason']}, {row['error']})"
        elif status == "completed" and json.loads(row["output"]) != expected(id, n):
            yield f"I6: {id} had to give {expected(id, n)} and gave {row['output']}"
        if id not in told:
            yield f"I6: nobody was told of the end of {id}"


def _unhappy(tasks: list[asyncio.Task[None]]) -> Iterator[str]:
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            yield f"the client ended: {error!r}"


def _count(
    storm: Storm, client: Client, rows: Rows, lines: list[ledger.Line], told: Mapping[str, str]
) -> dict[str, int]:
    text = "\n".join(told.values())
    counts = Counter(storm.counts)
    counts.update({f"client: {name}": n for name, n in client.counts.items()})
    for row in rows.executions:
        counts[f"executions {row['status']}"] += 1
    counts["executions claimed more than once"] = sum(row["fence"] > 1 for row in rows.executions)
    counts["entries"] = len(rows.entries)
    counts["failed attempts"] = sum(entry["kind"] == "attempt" for entry in rows.entries)
    counts["requests"], counts["messages"] = len(rows.requests), len(rows.messages)
    counts["workers registered"] = len(rows.workers)
    counts["workers declared dead"] = sum(row["state"] == "dead" for row in rows.workers)
    counts["ledger lines"] = len(lines)
    counts["bodies entered"] = sum(line.what == ledger.ENTER for line in lines)
    counts["leases lost"] = text.count("what it ran goes on elsewhere")
    return dict(sorted(counts.items()))


def _log(told: Mapping[str, str]) -> list[str]:
    """What no worker should have to say."""
    return [
        f"{name}: {line}"
        for name, text in told.items()
        for line in text.splitlines()
        if "defect of Perdure" in line or "Traceback" in line or " CRITICAL " in line
    ]
