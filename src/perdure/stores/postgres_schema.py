"""The schema of a PostgreSQL database: created, upgraded, and looked at before use."""

from __future__ import annotations

from typing import Any

from perdure.errors import SchemaVersionError
from perdure.stores.migrations import load_migrations
from perdure.stores.postgres_sessions import SQL

MIGRATION_SECONDS = 3600.0  # a new index on a large table takes its time
TABLES = (
    "workflow_definitions",
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "rollback_actions",
    "approval_decisions",
    "messages",
    "workers",
    "payload_chunks",
    "schema_versions",
    "schedules",
    "queues",
    "outbox",
)


async def migrate(connection: Any, place: str) -> list[tuple[str, bool]]:
    """Bring the schema up to date, in one transaction: the first who comes does it. Gives (table, created now)."""
    migrations = load_migrations("postgres")
    async with connection.transaction():
        await connection.fetchval(SQL["lock_schema"], timeout=MIGRATION_SECONDS)
        before = await _find_tables(connection)
        for migration in migrations[await _version(connection, before, place) :]:
            _refuse_foreign(before & migration.tables, place)
            await connection.execute(migration.text, timeout=MIGRATION_SECONDS)
            await connection.execute(SQL["record_migration"], migration.version, migration.oldest_writer)
    return [(table, table not in before) for table in TABLES]


async def is_empty(connection: Any) -> bool:
    """None of our tables is here."""
    return not await _find_tables(connection)


async def check(connection: Any, place: str) -> None:
    """Raises `SchemaVersionError` where this library and the schema do not fit."""
    version = await _version(connection, await _find_tables(connection), place)
    known = len(load_migrations("postgres"))
    if version < known:
        raise SchemaVersionError(
            f"{place} has schema {version}; this library needs schema {known}. Nothing was changed: "
            "run `perdure db upgrade`"
        )


async def _find_tables(connection: Any) -> set[str]:
    return {row["relname"] for row in await connection.fetch(SQL["find_tables"], TABLES)}


async def _version(connection: Any, tables: set[str], place: str) -> int:
    if "schema_versions" not in tables:
        _refuse_foreign(tables, place)
        return 0
    row = await connection.fetchrow(SQL["schema_version"])
    version, oldest_writer = (0, 0) if row is None else (row["version"], row["oldest_writer"])
    known = len(load_migrations("postgres"))
    if oldest_writer > known:
        raise SchemaVersionError(
            f"{place} has schema {version}, which a newer Perdure wrote. It asks for a library that knows schema "
            f"{oldest_writer}; this one knows up to {known}. Nothing was changed: upgrade perdure"
        )
    return int(version)


def _refuse_foreign(tables: set[str], place: str) -> None:
    if tables:
        raise SchemaVersionError(
            f"{place} has tables of these names that are not Perdure's: {sorted(tables)}. Nothing was changed: "
            "give Perdure a database or a schema of its own (?options=-csearch_path%3Dperdure)"
        )
