"""A PostgreSQL database itself: made, and opened to the role of the workers."""

from __future__ import annotations

import dataclasses
import getpass
import os
import re
from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from perdure.errors import PerdureError
from perdure.stores.findings import RIGHTS
from perdure.stores.postgres_address import Address
from perdure.stores.postgres_errors import DRIVER_ERRORS
from perdure.stores.postgres_sessions import Pool, connect, in_words

_OTHERS = ("postgres", "template1")
"""Databases that are there already: one must be connected to, to make another."""


async def create_database(address: Address) -> None:
    """Make the database, unless it is there. Raises `PerdureError`."""
    name = _name(address)
    failed: PerdureError | None = None
    for other in _OTHERS:
        parts = urlsplit(address.dsn)
        dsn = f"postgresql://{parts.netloc}/{other}" + (f"?{parts.query}" if parts.query else "")
        there = dataclasses.replace(address, dsn=re.sub(r"(?<=[?&])(dbname|database)=[^&]*&?", "", dsn), pooled=True)
        try:
            connection = await connect(there)
        except DRIVER_ERRORS as error:
            failed = in_words(address, error)
            continue
        try:
            with suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(f"create database {quoted(name)}")
            return
        except DRIVER_ERRORS as error:
            raise in_words(address, error) from error
        finally:
            await connection.close()
    assert failed is not None
    raise failed


def _name(address: Address) -> str:
    parts = urlsplit(address.dsn)
    given = parse_qs(parts.query)
    said = unquote(parts.path.lstrip("/")) or given.get("dbname", given.get("database", [""]))[0]
    who = unquote(parts.username or "") or given.get("user", [""])[0] or os.environ.get("PGUSER", "")
    return said or os.environ.get("PGDATABASE", "") or who or getpass.getuser()


async def grant(pool: Pool | None, address: Address, role: str) -> list[str]:
    """Say through the pool, which is opened here, that a role may do what workers do. None: say nothing."""
    if not role or "\0" in role:
        raise PerdureError("name the role that workers log in as")
    names = address.names
    where = f"{names.quoted_schema}." if names.schema else ""
    statements = [f"grant usage on schema {names.quoted_schema} to {quoted(role)}"] if names.schema else []
    for table, verbs in RIGHTS.items():
        statements.append(f"grant {', '.join(verbs)} on {where}{quoted(names.table(table))} to {quoted(role)}")
    if pool is not None:
        await pool.open()
        async with pool.connection() as connection, connection.transaction():
            for statement in statements:
                await connection.execute(statement)
    return statements


def quoted(identifier: str) -> str:
    """An identifier as it stands in a statement."""
    return '"' + identifier.replace('"', '""') + '"'
