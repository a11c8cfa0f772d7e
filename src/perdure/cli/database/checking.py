"""`db check`: say in words whether this database will do."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import click

from perdure.cli.session import DONE, FAILED, Session, shared, with_session
from perdure.clock import SystemClock
from perdure.crew import live_workers
from perdure.errors import PerdureError
from perdure.records import WorkerRecord
from perdure.store import Store
from perdure.stores.findings import SKEW, Finding
from perdure.stores.server import Server

BEATS = 5
NEXT = {"": "connection", "sessions": "schema", "TLS": "schema", "schema": "rights", "rights": "write and read"}
"""What was being looked at, after which finding, when the server said no."""


@click.command()
@shared
@with_session
def check(session: Session) -> int:
    """Say in words whether this database will do.

    It connects, looks, writes, reads and measures, a line each; nothing of yours is changed.
    Warnings are good to know; what failed must be mended, and makes the exit code 1.
    """
    return asyncio.run(_Check(session).run(session.store()))


class _Check:
    """One look at a database, a line for each finding."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._findings: list[Finding] = []
        self._worker = WorkerRecord(id=0, process="perdure db check")

    async def run(self, store: Store) -> int:
        try:
            if isinstance(store, Server):
                await self._examine(store)
            else:
                await self._use(store)
        finally:
            await store.close()
        good = all(finding.result != "failed" for finding in self._findings)
        checks = [{"check": found.check, "result": found.result, "detail": found.words} for found in self._findings]
        self._session.document({"store": store.url, "ok": good, "checks": checks})
        return DONE if good else FAILED

    async def _examine(self, store: Server) -> None:
        try:
            async for finding in store.examine():
                self._tell(finding)
            if self._findings[-1].result != "failed":
                self._tell(Finding("outbox", "ok", await self._outbox(cast(Store, store))))
        except PerdureError as error:
            last = self._findings[-1].check if self._findings else ""
            self._tell(Finding(NEXT.get(last, "next"), "failed", str(error)))

    async def _use(self, store: Store) -> None:
        for name, look in (
            ("connection", self._connection),
            ("schema", self._schema),
            ("write and read", self._write),
            ("latency, clock", self._latency),
            ("workers", self._workers),
            ("outbox", self._outbox),
        ):
            try:
                self._tell(Finding(name, "ok", await look(store)))
            except PerdureError as error:
                return self._tell(Finding(name, "failed", str(error)))

    def _tell(self, finding: Finding) -> None:
        self._findings.append(finding)
        self._session.say(f"{finding.result:<9}{finding.check:<16}{finding.words}")

    async def _connection(self, store: Store) -> str:
        began = time.perf_counter()
        await store.open()
        return f"{store.url}, opened in {(time.perf_counter() - began) * 1000:.0f} ms"

    async def _schema(self, store: Store) -> str:
        tables = await store.migrate()
        return f"{len(tables)} tables, up to date"

    async def _write(self, store: Store) -> str:
        self._worker = await store.register(self._worker, 15.0)
        found = any(row.id == self._worker.id for row in await store.workers())
        if not found:
            raise PerdureError("what was written was not read back")
        return "a worker without workflows signed on and was read back"

    async def _latency(self, store: Store) -> str:
        times = []
        off = 0.0
        for _ in range(BEATS):
            began = time.perf_counter()
            _, now = await store.heartbeat(self._worker.id, self._worker.epoch, 15.0)
            times.append(time.perf_counter() - began)
            off = (now - SystemClock().now()) / 1_000_000
        await store.release(self._worker.id, self._worker.epoch)
        skew = f"its clock is {abs(off):.3f} s {'ahead of' if off > 0 else 'behind'} this machine's"
        warning = " (the store's time counts; set this machine's right)" if abs(off) > SKEW else ""
        return f"{sorted(times)[BEATS // 2] * 1000:.1f} ms a write; {skew}{warning}"

    async def _workers(self, store: Store) -> str:
        workers = await live_workers(store)
        return f"{len(workers)} live"

    async def _outbox(self, store: Store) -> str:
        """What users' transactions asked for and is not delivered; what was refused waits for a person."""
        rows = await store.outbox()
        refused = [row for row in rows if row.refused]
        words = f"{len(rows) - len(refused)} to deliver"
        if refused:
            words += f", {len(refused)} refused and kept, the first: {refused[0].refused} (see Engine.outbox)"
        return words
