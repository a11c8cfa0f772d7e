"""A MariaDB or MySQL database itself: made, and opened to the user of the workers."""

from __future__ import annotations

import dataclasses

from perdure.errors import PerdureError
from perdure.stores.findings import COUNTING_RIGHTS
from perdure.stores.mysql_address import Address
from perdure.stores.mysql_columns import literal
from perdure.stores.mysql_errors import DRIVER_ERRORS
from perdure.stores.mysql_schema import TABLES
from perdure.stores.mysql_sessions import Pool, connect, in_words


async def create_database(address: Address) -> None:
    """Make the database, unless it is there. Raises `PerdureError`."""
    name = address.names.schema or address.options["database"]
    try:
        session = await connect(dataclasses.replace(address, options=address.options | {"database": None}))
    except DRIVER_ERRORS as error:
        raise in_words(address, error) from error
    try:
        await session.run(f"create database if not exists {quoted(name)}")
    except DRIVER_ERRORS as error:
        raise in_words(address, error) from error
    finally:
        await session.close()


async def grant(pool: Pool | None, address: Address, role: str) -> list[str]:
    """Say through the pool, which is opened here, that a user may do what workers do. None: say nothing."""
    user, _, host = role.partition("@")
    if not user:
        raise PerdureError("name the user that workers log in as: NAME, or NAME@HOST")
    to = f"{literal(user)}@{literal(host or '%')}"
    database = quoted(address.names.schema or address.options["database"])
    statements = [
        f"grant {', '.join(verbs)} on {database}.{quoted(address.names.table(table))} to {to}"
        for table, verbs in COUNTING_RIGHTS.items()
        if table in TABLES
    ]
    if pool is not None:
        await pool.open()
        await pool.run(*statements)
    return statements


def quoted(identifier: str) -> str:
    """An identifier as it stands in a statement."""
    return "`" + identifier.replace("`", "``") + "`"
