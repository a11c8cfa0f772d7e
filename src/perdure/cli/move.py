"""`move`: take all executions from one database to another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import click

from perdure.cli.bar import Bar
from perdure.cli.session import DONE, Session, existing, shared, with_session
from perdure.clock import SystemClock
from perdure.errors import PerdureError
from perdure.moving import Move, Moved, number
from perdure.records import WorkerRecord
from perdure.store import Movable
from perdure.stores import KNOWN, open_store
from perdure.stores.memory import MemoryStore

LOOK = 0.5
"""Seconds between two looks whether workers have left."""

PARTS = 10
"""Lines in all that say how far it has come, where there is no terminal."""


@click.command()
@click.argument("source")
@click.argument("target", required=False)
@click.option("--wait", is_flag=True, help="Wait until the source's workers have left.")
@click.option("--reopen", is_flag=True, help="Take the mark of a move away from SOURCE: it is in use again.")
@shared
@with_session
def move(session: Session, source: str, target: str | None, wait: bool, reopen: bool) -> int:
    """Take all executions from SOURCE to TARGET, open ones too.

    Both are URLs of databases. Nothing is deleted: the source is marked, and nothing runs there any more. A move that
    was broken off is completed by running it again.
    """
    if reopen == (target is not None):
        raise click.UsageError("give SOURCE and TARGET, or --reopen and SOURCE alone")
    if target is None:
        return asyncio.run(_reopen(session, _store(source, new=False)))
    return asyncio.run(_move(session, _store(source, new=False), _store(target, new=True), wait))


def _store(url: str, *, new: bool) -> Movable:
    if "://" not in url:
        raise click.UsageError(f"{url!r} is no URL of a database. Those known are: {KNOWN}")
    store = open_store(url)
    if isinstance(store, MemoryStore):
        raise click.UsageError("memory:// is the memory of one process: nothing can be moved out of it or into it")
    if not hasattr(store, "unpack"):
        raise click.UsageError(f"{store.url} is a store that knows nothing of moves")
    return cast(Movable, store if new else existing(store))


async def _reopen(session: Session, store: Movable) -> int:
    store.even_if_moved = True
    try:
        await store.open()
        target = await store.moved_to()
        await store.mark_moved(None)
    finally:
        await store.close()
    session.document({"source": store.url, "was_moved_to": target})
    if target is None:
        session.say(f"{store.url} has no mark of a move.")
    else:
        session.say(f"{store.url} is in use again.")
        session.hint(f"What was moved to {target} is there too: let only one of them run it.")
    return DONE


async def _move(session: Session, source: Movable, target: Movable, wait: bool) -> int:
    if source.url == target.url:
        raise click.UsageError("source and target are the same database")
    source.even_if_moved = True
    try:
        await target.open()
        await source.open()
        total = await number(source)
        carrying = Move(source, target, _Progress(session, total))
        marked = await source.moved_to() is not None
        await carrying.close_source()
        try:
            await _await_workers(session, carrying, source, wait)
        except BaseException:
            if not marked:
                await source.mark_moved(None)
            raise
        moved = await carrying.carry()
    finally:
        await source.close()
        await target.close()
    _tell(session, source, target, moved)
    return DONE


async def _await_workers(session: Session, carrying: Move, source: Movable, wait: bool) -> None:
    told = False
    while live := await carrying.live_workers():
        names = ", ".join(f"{row.host or 'a host'} pid {row.pid}" for row in live[:5])
        if not wait:
            raise PerdureError(
                f"{len(live)} live worker(s) run executions of {source.url}: {names}. Nothing was moved. Stop them and "
                f"try again, or give --wait; one that was killed counts as live until its lease is over "
                f"({_lease(live)})"
            )
        if not told:
            session.hint(f"Waiting for {len(live)} worker(s) to leave: {names}")
            told = True
        await asyncio.sleep(LOOK)


def _lease(live: Sequence[WorkerRecord]) -> str:
    left = max(row.lease_until for row in live) - SystemClock().now()
    return f"{max(0, left) // 1_000_000 + 1} s"


class _Progress:
    """A bar on a terminal, some lines elsewhere."""

    def __init__(self, session: Session, total: int) -> None:
        self._session = session
        self._total = total
        self._bar = Bar(session, total)
        self._said = 0

    def __call__(self, moved: Moved) -> None:
        self._bar.reach(moved.executions)
        part = moved.executions * PARTS // max(1, self._total)
        if not self._bar.is_drawn and part > self._said:
            self._said = part
            self._session.hint(f"{moved.executions} of {self._total} moved")
        if moved.executions >= self._total:
            self._bar.clear()


def _tell(session: Session, source: Movable, target: Movable, moved: Moved) -> None:
    tables = {
        table: {"rows": share.rows, "digest": f"{share.digest:016x}", "arrived": moved.arrived[table] == share}
        for table, share in moved.left.items()
    }
    session.document(
        {
            "source": source.url,
            "target": target.url,
            "executions": moved.executions,
            "there_before": moved.there_before,
            "gone_on": moved.gone_on,
            "tables": tables,
        }
    )
    session.say(f"{moved.executions} executions moved from {source.url} to {target.url}")
    if moved.there_before:
        session.say(f"  {moved.there_before} of them were there already, from a move before")
    if moved.gone_on:
        session.say(f"  {moved.gone_on} of them have gone on there since, and are not compared")
    for table, share in moved.left.items():
        if share.rows:
            session.say(f"  {table:<22}{share.rows:>9} rows, digest {share.digest:016x} on both sides")
    session.hint(f"{source.url} is kept, and marked: nothing runs there any more.")
