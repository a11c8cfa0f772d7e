"""`db grant`: the least rights, for the role that workers log in as."""

from __future__ import annotations

import asyncio

import click

from perdure.cli.session import DONE, Session, shared, with_session
from perdure.stores.server import Server


@click.command()
@click.argument("role")
@click.option("--dry-run", is_flag=True, help="Only print the statements.")
@shared
@with_session
def grant(session: Session, role: str, dry_run: bool) -> int:
    """Give ROLE the least rights that workers need.

    It prints the statements. The role is there already; on MariaDB and MySQL it is NAME or NAME@HOST.
    Whoever grants must own the tables.
    """
    return asyncio.run(_grant(session, role, dry_run))


async def _grant(session: Session, role: str, dry_run: bool) -> int:
    store = session.store()
    if not isinstance(store, Server):
        raise click.ClickException(f"{store.url} has no roles: its files' permissions say who may do what")
    try:
        statements = await store.grant(role, dry_run=dry_run)
    finally:
        await store.close()
    session.document({"store": store.url, "granted": not dry_run, "statements": statements})
    for statement in statements:
        session.say(f"{statement};")
    return DONE
