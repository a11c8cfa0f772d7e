"""The schema of a PostgreSQL database: created, upgraded, and looked at before use."""

from __future__ import annotations

from typing import Any

from perdure.errors import SchemaVersionError
from perdure.stores.migrations import NO_TABLES
from perdure.stores.naming import named_migrations
from perdure.stores.postgres_address import Address

MIGRATION_SECONDS = 3600.0  # a new index on a large table takes its time
TABLES = (
    "workflow_definitions",
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "rollback_actions",
    "approval_decisions",
    "audit_events",
    "messages",
    "workers",
    "payload_chunks",
    "schema_versions",
    "schedules",
    "queues",
    "outbox",
    "execution_tallies",
)


async def migrate(connection: Any, address: Address) -> list[tuple[str, bool]]:
    """Bring the schema up to date, in one transaction: the first who comes does it. Gives (table, created now)."""
    sql = address.sql
    async with connection.transaction():
        await connection.fetchval(sql["lock_schema"], timeout=MIGRATION_SECONDS)
        if address.names.schema is not None and not await connection.fetchval(sql["find_schema"]):
            await connection.execute(f"create schema {address.names.quoted_schema}")
        before = await _find_tables(connection, address)
        for migration in named_migrations(address.names)[await _version(connection, before, address) :]:
            _refuse_foreign(before & migration.tables, address.shown)
            await connection.execute(migration.text, timeout=MIGRATION_SECONDS)
            await connection.execute(sql["record_migration"], migration.version, migration.oldest_writer)
    return [(table, table not in before) for table in TABLES]


async def is_empty(connection: Any, address: Address) -> bool:
    """None of our tables is here."""
    return not await _find_tables(connection, address)


async def check(connection: Any, address: Address) -> None:
    """Raises `SchemaVersionError` where this library and the schema do not fit."""
    await compare(connection, address)


async def compare(connection: Any, address: Address) -> tuple[int, int]:
    """The versions of the schema that are here, and that this library knows. Raises as `check`."""
    tables = await _find_tables(connection, address)
    if not tables:
        raise SchemaVersionError(NO_TABLES.format(address.shown))
    version = await _version(connection, tables, address)
    known = len(named_migrations(address.names))
    if version < known:
        raise SchemaVersionError(
            f"{address.shown} has schema {version}; this library needs schema {known}. Nothing was changed: "
            "run `perdure db upgrade`"
        )
    return version, known


async def _find_tables(connection: Any, address: Address) -> set[str]:
    """Those of our tables that are here, by their plain names."""
    names = address.names
    rows = await connection.fetch(address.sql["find_tables"], [names.table(table) for table in TABLES])
    return {names.plain(row["relname"]) for row in rows}


async def _version(connection: Any, tables: set[str], address: Address) -> int:
    if "schema_versions" not in tables:
        _refuse_foreign(tables, address.shown)
        return 0
    row = await connection.fetchrow(address.sql["schema_version"])
    version, oldest_writer = (0, 0) if row is None else (row["version"], row["oldest_writer"])
    known = len(named_migrations(address.names))
    if oldest_writer > known:
        raise SchemaVersionError(
            f"{address.shown} has schema {version}, which a newer Perdure wrote. It asks for a library that knows "
            f"schema {oldest_writer}; this one knows up to {known}. Nothing was changed: upgrade perdure"
        )
    return int(version)


def _refuse_foreign(tables: set[str], place: str) -> None:
    if tables:
        raise SchemaVersionError(
            f"{place} has tables of these names that are not Perdure's: {sorted(tables)}. Nothing was changed: "
            "give Perdure a schema of its own (schema=, or ?schema=perdure in the URL)"
        )
