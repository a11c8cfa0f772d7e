"""The whole schema as a script, for those who make tables by other means than `perdure db init`."""

from __future__ import annotations

from typing import Literal

from perdure.clock import SystemClock
from perdure.errors import PerdureError
from perdure.stores.migrations import Migration, load_migrations
from perdure.stores.naming import Names, named_migrations
from perdure.stores.timestamps import to_text

Kind = Literal["postgresql", "mariadb", "mysql", "sqlite"]
KINDS: tuple[Kind, ...] = ("postgresql", "mariadb", "mysql", "sqlite")
# As stores/mysql_schema.py has them, which needs the driver.
_COLLATIONS = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin")


def script(kind: Kind, schema: str | None = None, table_prefix: str = "") -> str:
    """All migrations in order, each with the line that tells that it was applied."""
    if kind == "sqlite":
        if schema or table_prefix:
            raise PerdureError("an SQLite file has neither schemas nor prefixes of tables")
        migrations: tuple[Migration, ...] = load_migrations("sqlite")
        return "\n".join(f"{known.text}\n{_applied(known, 'schema_versions', _now())}" for known in migrations)
    names = Names("postgres" if kind == "postgresql" else "mysql", schema, table_prefix)
    versions = names.put_in("insert into schema_versions").removeprefix("insert into ")
    now = "clock_timestamp()" if kind == "postgresql" else "utc_timestamp(6)"
    parts = [f"create schema if not exists {names.quoted_schema};\n"] if schema and kind == "postgresql" else []
    parts += [f"{known.text}\n{_applied(known, versions, now)}" for known in named_migrations(names)]
    text = "\n".join(parts)
    return text.replace(*_COLLATIONS) if kind == "mysql" else text


def _now() -> str:
    return f"'{to_text(SystemClock().now())}'"


def _applied(migration: Migration, table: str, now: str) -> str:
    return (
        f"insert into {table} (version, applied_at, oldest_writer)\n"
        f"values ({migration.version}, {now}, {migration.oldest_writer});\n"
    )
