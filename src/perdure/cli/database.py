"""`db init` and `db check`: create the tables; say in words whether this database will do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import click

from perdure.cli.crew import live_workers
from perdure.cli.session import DONE, FAILED, Session, shared, with_session
from perdure.clock import SystemClock
from perdure.errors import PerdureError
from perdure.records import WorkerRecord
from perdure.store import Store
from perdure.stores.files import FileStore
from perdure.stores.patience import patiently
from perdure.stores.sqlite import SqliteStore
from perdure.stores.sqlite_database import Database

BEATS = 5
SKEW = 1.0
"""Seconds that this machine's clock may be off before it is worth a warning."""


@click.group(invoke_without_command=True)
@shared
@click.pass_context
def db(context: click.Context) -> int:
    """Create and check the database."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return DONE


# init -----------------------------------------------------------------------------------------------------


@db.command()
@shared
@with_session
def init(session: Session) -> int:
    """Create the tables, or bring them up to date.

    It says of each whether it was there already; nothing is lost by running it again.
    """
    return asyncio.run(_init(session, session.store(new=True)))


async def _init(session: Session, store: Store) -> int:
    try:
        tables = await _migrate(store)
    finally:
        await store.close()
    session.document({"store": store.url, "tables": [{"name": name, "created": new} for name, new in tables]})
    session.say(store.url)
    for name, new in tables:
        session.say(f"  {name:<22}{'created' if new else 'already there'}")
    session.hint(f"Look whether it will do:\n  {session.command('db', 'check')}")
    return DONE


async def _migrate(store: Store) -> list[tuple[str, bool]]:
    """`open` creates an absent schema by itself, and keeps to itself what was there before: so this comes first."""
    if isinstance(store, FileStore):
        tables = await store.migrate()
        await store.open()
        return tables
    if isinstance(store, SqliteStore):
        tables = await patiently(store.clock, lambda: _migrate_file(store))
        await store.open()
        return tables
    pool: Any = getattr(store, "_pool", None)
    if pool is None:
        await store.open()
    else:
        await pool.open()
    return await store.migrate()


def _migrate_file(store: SqliteStore) -> list[tuple[str, bool]]:
    database = Database(store.path)
    try:
        return database.migrate(store.clock)
    finally:
        database.close()


# check ----------------------------------------------------------------------------------------------------


@db.command()
@shared
@with_session
def check(session: Session) -> int:
    """Connect, write, read and measure; nothing of yours is changed."""
    return asyncio.run(_Check(session).run(session.store()))


class _Check:
    """One look at a database, a line for each finding."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._findings: list[dict[str, str]] = []
        self._worker = WorkerRecord(id=0, process="perdure db check")

    async def run(self, store: Store) -> int:
        good = True
        try:
            for name, look in (
                ("connection", self._connection),
                ("schema", self._schema),
                ("write and read", self._write),
                ("latency, clock", self._latency),
                ("workers", self._workers),
                ("outbox", self._outbox),
            ):
                good = good and await self._try(name, look, store)
        finally:
            await store.close()
        self._session.document({"store": store.url, "ok": good, "checks": self._findings})
        return DONE if good else FAILED

    async def _try(self, name: str, look: Callable[[Store], Awaitable[str]], store: Store) -> bool:
        try:
            words, result = await look(store), "ok"
        except PerdureError as error:
            words, result = str(error), "failed"
        self._findings.append({"check": name, "result": result, "detail": words})
        self._session.say(f"{result:<8}{name:<16}{words}")
        return result == "ok"

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
