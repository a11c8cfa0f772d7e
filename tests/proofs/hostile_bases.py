"""Databases as somebody has them who may write into every table: rows as plain values, put there by SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_type_hints
from urllib.parse import urlsplit

import asyncmy
import asyncpg
import msgspec
from asyncmy.cursors import DictCursor

from perdure.records import Entry
from perdure.stores.files_lines import KEYS, KINDS, seal, unseal
from perdure.stores.files_names import file_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """`texts`: it takes any text, or nearly any."""

    name: str
    texts: bool


class Base(Protocol):
    """A connection to a database of one kind."""

    async def catalog(self) -> dict[str, list[Column]]:
        """The columns of all tables that may be written, from the database itself."""
        ...

    async def rows(self, table: str, **where: Any) -> list[Row]: ...

    async def put(self, table: str, rows: Sequence[Row]) -> None:
        """Insert them all."""
        ...

    async def takes(self, table: str, row: Row) -> bool:
        """Insert it. False if the database refuses to."""
        ...

    async def run(self, statement: str) -> None: ...


class Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._base = connection

    async def catalog(self) -> dict[str, list[Column]]:
        tables = self._base.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
        found = {}
        for (table,) in tables.fetchall():
            columns = self._base.execute(f"pragma table_info({table})").fetchall()
            found[table] = [Column(row["name"], row["type"] == "TEXT") for row in columns]
        return found

    async def rows(self, table: str, **where: Any) -> list[Row]:
        wanted = " and ".join(f"{name} = ?" for name in where) or "true"
        return list(map(dict, self._base.execute(f"select * from {table} where {wanted}", list(where.values()))))

    async def put(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            names = list(rows[0])
            marks = ", ".join("?" * len(names))
            values = [[row[name] for name in names] for row in rows]
            self._base.executemany(f"insert into {table} ({', '.join(names)}) values ({marks})", values)

    async def takes(self, table: str, row: Row) -> bool:
        try:
            await self.put(table, [row])
        except (sqlite3.Error, UnicodeEncodeError):
            return False
        return True

    async def run(self, statement: str) -> None:
        self._base.execute(statement)


class Postgres:
    """Rows travel as JSON: so every value is a text that the server itself reads as what the column holds."""

    def __init__(self, connection: Any) -> None:
        self._base = connection

    async def catalog(self) -> dict[str, list[Column]]:
        found: dict[str, list[Column]] = {}
        for table, column, kind in await self._base.fetch(
            "select table_name, column_name, data_type from information_schema.columns"
            " where table_schema = 'public' order by table_name, ordinal_position"
        ):
            found.setdefault(table, []).append(Column(column, kind == "text"))
        return found

    async def rows(self, table: str, **where: Any) -> list[Row]:
        wanted = " and ".join(f"{name} = ${at}" for at, name in enumerate(where, 1)) or "true"
        found = await self._base.fetch(f"select row_to_json(t) from {table} t where {wanted}", *where.values())
        return [json.loads(row[0]) for row in found]

    async def put(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            names = ", ".join(rows[0])
            asked = f"insert into {table} ({names}) overriding system value select {names} from "
            asked += f"json_populate_recordset(null::{table}, $1::text::json)"
            await self._base.execute(asked, json.dumps(list(rows)))

    async def takes(self, table: str, row: Row) -> bool:
        try:
            async with self._base.transaction():
                await self.put(table, [row])
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    async def run(self, statement: str) -> None:
        await self._base.execute(statement)


class Mysql:
    def __init__(self, connection: Any) -> None:
        self._base = connection

    async def _do(self, statement: str, values: Any = None, *, many: bool = False) -> list[Row]:
        async with self._base.cursor(DictCursor) as cursor:
            await (cursor.executemany if many else cursor.execute)(statement, values)
            return [] if many or cursor.description is None else list(await cursor.fetchall())

    async def catalog(self) -> dict[str, list[Column]]:
        found: dict[str, list[Column]] = {}
        for row in await self._do(
            "select table_name t, column_name c, data_type k from information_schema.columns"
            " where table_schema = database() and is_generated = 'NEVER' order by table_name, ordinal_position"
        ):
            found.setdefault(row["t"], []).append(Column(row["c"], row["k"] in ("varchar", "text", "longtext")))
        return found

    async def rows(self, table: str, **where: Any) -> list[Row]:
        wanted = " and ".join(f"`{name}` = %s" for name in where) or "true"
        names = ", ".join(f"`{column.name}`" for column in (await self.catalog())[table])
        return await self._do(f"select {names} from {table} where {wanted}", list(where.values()))

    async def put(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            names = ", ".join(f"`{name}`" for name in rows[0])
            marks = ", ".join(["%s"] * len(rows[0]))
            values = [list(row.values()) for row in rows]
            await self._do(f"insert into {table} ({names}) values ({marks})", values, many=True)

    async def takes(self, table: str, row: Row) -> bool:
        try:
            await self.put(table, [row])
        except (asyncmy.errors.MySQLError, UnicodeEncodeError):
            return False
        return True

    async def run(self, statement: str) -> None:
        await self._do(statement)


class Files:
    """A folder of the file store. Rows are the lines that put them, each sealed as the library does; times are text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[str, list[tuple[str, bytes]]] = {}

    async def catalog(self) -> dict[str, list[Column]]:
        found = {}
        for kind, type_ in {**KINDS, "entry": Entry}.items():
            hints = get_type_hints(type_).items()
            texts = {name for name, hint in hints if hint in (str, str | None)}
            found[TABLES[kind]] = [Column(name, name in texts) for name, _ in hints]
        return found

    async def rows(self, table: str, **where: Any) -> list[Row]:
        kind = next((kind for kind, name in TABLES.items() if name == table), "")
        found: dict[Any, Row] = {}
        key = KEYS.get(kind)
        nothing = dict.fromkeys(column.name for column in (await self.catalog()).get(table, ()))
        for name in ("workers", "schedules", "executions/v", "executions/u"):
            path = self._folder / f"{name}.jsonl"
            for at, line in enumerate(path.read_bytes().splitlines() if path.exists() else ()):
                said = json.loads(unseal(line) or b"{}")
                if kind in said.values():
                    place = said["row"][key] if key else (path, at)
                    found[place] = found.get(place, nothing) | said["row"]
        return [row for row in found.values() if all(row[name] == value for name, value in where.items())]

    async def put(self, table: str, rows: Sequence[Row]) -> None:
        for row in rows:
            assert await self.takes(table, row)

    async def takes(self, table: str, row: Row) -> bool:
        kind = next(kind for kind, name in TABLES.items() if name == table)
        file = {"workers": "workers.jsonl", "schedules": "schedules.jsonl"}.get(table)
        try:
            file = file or file_of(row["id" if kind == "execution" else "execution_id"])
            whole = {name: value for name, value in row.items() if value is not None}
            line = seal(msgspec.json.encode({"put": kind, "row": whole}))
        except (UnicodeEncodeError, ValueError):
            return False
        self._lines.setdefault(file, []).append((kind, line))
        return True

    async def run(self, statement: str) -> None:
        """There is no SQL here."""

    def flush(self) -> None:
        for file, lines in self._lines.items():
            with (self._folder / file).open("ab") as out:
                out.writelines(line for _, line in sorted(lines, key=lambda each: each[0] != "execution"))


TABLES = {
    "execution": "workflow_executions",
    "entry": "step_executions",
    "request": "approval_requests",
    "message": "messages",
    "worker": "workers",
    "schedule": "schedules",
    "decision": "approval_decisions",
    "event": "audit_events",
    "action": "rollback_actions",
    "snapshot": "state_snapshots",
}
"""Which lines of files are the rows of which table."""


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[Base]:
    """A connection in one transaction, committed at the end."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        files = Files(Path(parts.path))
        yield files
        files.flush()
    elif parts.scheme == "sqlite":
        lite = sqlite3.connect(parts.path[1:] if parts.path.startswith("//") else parts.path, isolation_level=None)
        lite.row_factory = sqlite3.Row
        try:
            lite.execute("begin immediate")
            yield Sqlite(lite)
            lite.execute("commit")
        finally:
            lite.close()
    elif parts.scheme == "mysql":
        place = {"host": parts.hostname, "port": parts.port, "user": parts.username, "db": parts.path[1:]}
        strict = "set session sql_mode = 'STRICT_ALL_TABLES', character_set_client = utf8mb4"
        async with asyncmy.connect(**place, charset="utf8mb4", autocommit=False, init_command=strict) as connection:
            yield Mysql(connection)
            await connection.commit()
    else:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                yield Postgres(connection)
        finally:
            await connection.close()


def renamed(row: Mapping[str, Any], old: str, new: str) -> Row:
    """A row of one execution as that of another: its id, alone and at the beginning of others."""
    return {
        name: new + value[len(old) :]
        if isinstance(value, str) and (value == old or value.startswith(f"{old}:"))
        else value
        for name, value in row.items()
    }


def turns(of: Sequence[Any], at: int) -> Any:
    """One of these, each in its turn."""
    return of[at % len(of)]


def texts(row: Mapping[str, Any], names: Iterable[str]) -> list[str | None]:
    return [None if row[name] is None else str(row[name]) for name in names]
