"""The schema of a MariaDB or MySQL database: created, upgraded, and looked at before use.

DDL commits by itself, so a migration is no transaction: it goes statement by statement, and one that was killed is
begun again from its first statement, of which those that were carried out say that what they make is there. Its number
is written last.
"""

from __future__ import annotations

from perdure.errors import SchemaVersionError, StoreUnavailableError
from perdure.stores.migrations import NO_TABLES, Migration
from perdure.stores.mysql_address import Address
from perdure.stores.mysql_errors import ALREADY_MADE, DRIVER_ERRORS, error_code
from perdure.stores.mysql_sessions import Session
from perdure.stores.naming import named_migrations

MIGRATION_SECONDS = 3600  # a new index on a large table takes its time
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
# Byte for byte, and with the spaces at the end: the same by two names.
COLLATION = "utf8mb4_nopad_bin"
COLLATION_OF_MYSQL = "utf8mb4_0900_bin"


async def migrate(session: Session, address: Address, *, recount: bool = False) -> list[tuple[str, bool]]:
    """Bring the schema up to date: the first who comes does it. Gives (table, created now).

    `recount`: also count anew what is kept counted.
    """
    place = address.shown
    lock = session.sql.fill("lock_schema", seconds=MIGRATION_SECONDS)
    if (await session.run(lock, timeout=MIGRATION_SECONDS + 10.0))[0].value != 1:
        raise StoreUnavailableError(f"{place} is being migrated by somebody else, for an hour now; nothing was done")
    try:
        before = await _find_tables(session, address)
        for migration in named_migrations(address.names)[await _version(session, before, address) :]:
            _refuse_foreign(before, migration.tables, place)
            await _apply(session, migration)
        if recount:
            await session.run(session.sql["recount"], timeout=MIGRATION_SECONDS)
    finally:
        if not session.is_broken:  # else the lock went with the connection
            await session.run(session.sql["unlock_schema"])
    return [(table, table not in before) for table in TABLES]


async def needs_first(session: Session, address: Address) -> bool:
    """There is no data here yet: none of our tables, or those that somebody made who was then killed."""
    tables = await _find_tables(session, address)
    _refuse_foreign(tables, frozenset(TABLES), address.shown)
    version = await _version(session, tables, address)
    if 0 < version < len(named_migrations(address.names)):
        return bool((await session.run(session.sql["is_unused"]))[0].value)
    return version == 0


async def check(session: Session, address: Address) -> None:
    """Raises `SchemaVersionError` where this library and the schema do not fit."""
    await compare(session, address)


async def compare(session: Session, address: Address) -> tuple[int, int]:
    """The versions of the schema that are here, and that this library knows. Raises as `check`."""
    tables = await _find_tables(session, address)
    if not any(tables.values()):
        _refuse_foreign(tables, frozenset(TABLES), address.shown)
        raise SchemaVersionError(NO_TABLES.format(address.shown))
    version = await _version(session, tables, address)
    known = len(named_migrations(address.names))
    if version < known:
        raise SchemaVersionError(
            f"{address.shown} has schema {version}; this library needs schema {known}. Nothing was changed: "
            "run `perdure db upgrade`"
        )
    return version, known


async def _apply(session: Session, migration: Migration) -> None:
    for statement in migration.statements:
        text = statement if session.mariadb else statement.replace(COLLATION, COLLATION_OF_MYSQL)
        try:
            await session.run(text, timeout=MIGRATION_SECONDS)
        except DRIVER_ERRORS as error:
            if error_code(error) not in ALREADY_MADE:
                raise
    record = {"version": migration.version, "oldest_writer": migration.oldest_writer}
    await session.run(session.sql.fill("record_migration", **record))


async def _find_tables(session: Session, address: Address) -> dict[str, bool]:
    """Tables by their plain names, and whether they are ours."""
    names = address.names
    found = (await session.run(session.sql.fill("find_tables", names=[names.table(table) for table in TABLES])))[0]
    return {names.plain(name): bool(ours) for name, ours in found.tuples}


async def _version(session: Session, tables: dict[str, bool], address: Address) -> int:
    if not tables.get("schema_versions"):
        return 0
    found = (await session.run(session.sql["schema_version"]))[0].tuples
    version, oldest_writer = found[0] if found else (0, 0)
    known = len(named_migrations(address.names))
    if oldest_writer > known:
        raise SchemaVersionError(
            f"{address.shown} has schema {version}, which a newer Perdure wrote. It asks for a library that knows "
            f"schema {oldest_writer}; this one knows up to {known}. Nothing was changed: upgrade perdure"
        )
    return int(version)


def _refuse_foreign(tables: dict[str, bool], made: frozenset[str], place: str) -> None:
    foreign = sorted(name for name, ours in tables.items() if name in made and not ours)
    if foreign:
        raise SchemaVersionError(
            f"{place} has tables of these names that are not Perdure's: {foreign}. Nothing was changed: "
            "give Perdure a database of its own, or its tables a prefix (table_prefix=, or ?table_prefix= in the URL)"
        )
