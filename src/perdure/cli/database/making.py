"""`db init` and `db upgrade`: create the tables; bring them up to date."""

from __future__ import annotations

import asyncio

import click

from perdure.cli.session import DONE, Session, shared, with_session
from perdure.store import Store
from perdure.stores.files import FileStore
from perdure.stores.patience import patiently
from perdure.stores.server import Server
from perdure.stores.sqlite import SqliteStore
from perdure.stores.sqlite_database import Database


@click.command()
@click.option("--create", is_flag=True, help="Create the database itself too, on a server.")
@shared
@with_session
def init(session: Session, create: bool) -> int:
    """Create the tables.

    It says of each whether it was there already; nothing is lost by running it again. Tables of an older Perdure
    on a server are left as they are: `perdure db upgrade` brings them up to date.
    """
    return asyncio.run(_make(session, session.store(new=True), upgrade=False, create=create))


@click.command()
@shared
@with_session
def upgrade(session: Session) -> int:
    """Bring the tables up to date.

    Workers of the version before may go on meanwhile, and after it. A server's data are changed by this alone;
    files are brought up to date when they are opened.
    """
    return asyncio.run(_make(session, session.store(), upgrade=True, create=False))


async def _make(session: Session, store: Store, *, upgrade: bool, create: bool) -> int:
    try:
        tables = await _tables(store, upgrade=upgrade, create=create)
    finally:
        await store.close()
    session.document({"store": store.url, "tables": [{"name": name, "created": new} for name, new in tables]})
    session.say(store.url)
    for name, new in tables:
        session.say(f"  {name:<22}{'created' if new else 'already there'}")
    session.hint(f"Look whether it will do:\n  {session.command('db', 'check')}")
    return DONE


async def _tables(store: Store, *, upgrade: bool, create: bool) -> list[tuple[str, bool]]:
    """`open` creates an absent schema by itself, and keeps to itself what was there before: so this comes first."""
    if isinstance(store, FileStore):
        tables = await store.migrate()
        await store.open()
        return tables
    if isinstance(store, SqliteStore):
        tables = await patiently(store.clock, lambda: _migrate_file(store))
        await store.open()
        return tables
    if isinstance(store, Server):
        return await store.prepare(upgrade=upgrade, create=create)
    await store.open()
    return await store.migrate()


def _migrate_file(store: SqliteStore) -> list[tuple[str, bool]]:
    database = Database(store.path)
    try:
        return database.migrate(store.clock)
    finally:
        database.close()
