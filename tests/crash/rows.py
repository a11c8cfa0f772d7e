"""The database by plain SQL, without a line of Perdure's stores."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import asyncmy
import asyncmy.errors
import asyncpg
from asyncmy.cursors import DictCursor

from perdure.stores.mysql_address import read_address
from tests.crash.folders import lock_folder, read_folder

Row = dict[str, Any]

ALL = (
    "select * from workflow_executions where substr(id, 1, {length}) = '{prefix}' order by id",
    "select * from step_executions where substr(execution_id, 1, {length}) = '{prefix}' order by execution_id, seq",
    "select * from approval_requests where substr(execution_id, 1, {length}) = '{prefix}' order by id",
    "select * from messages where substr(execution_id, 1, {length}) = '{prefix}' order by execution_id, ordinal",
    "select * from workers order by id",
    "select * from rollback_actions where substr(execution_id, 1, {length}) = '{prefix}'"
    " order by execution_id, generation, seq desc",
    # What has ended, of all executions, less what is kept counted of it.
    "select workflow, version, queue, status, sum(number) as number from ("
    " select workflow, version, queue, status, 1 as number from workflow_executions"
    " where status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')"
    " union all select workflow, version, queue, status, -number from execution_tallies"
    ") c group by workflow, version, queue, status having sum(number) <> 0",
)


@dataclass
class Rows:
    """What is in the tables, of one tree of executions or of all. Times are microseconds since 1970."""

    executions: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    workers: list[Row] = field(default_factory=list)
    actions: list[Row] = field(default_factory=list)
    miscounted: list[Row] = field(default_factory=list)

    def of(self, id: str) -> Rows:
        """The part that concerns an execution and those below it."""
        mine = {row["id"] for row in self.executions if row["id"] == id or row["id"].startswith(f"{id}/")}
        return Rows(
            [row for row in self.executions if row["id"] in mine],
            [row for row in self.entries if row["execution_id"] in mine],
            [row for row in self.requests if row["execution_id"] in mine],
            [row for row in self.messages if row["execution_id"] in mine],
            self.workers,
            [row for row in self.actions if row["execution_id"] in mine],
            self.miscounted,
        )

    def journal(self, id: str) -> list[Row]:
        return [entry for entry in self.entries if entry["execution_id"] == id]

    def execution(self, id: str) -> Row:
        return next(row for row in self.executions if row["id"] == id)


class Tables:
    """Reads the tables of one database, again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._runner = asyncio.Runner()
        self._server: _Postgres | _Mysql | None = None
        if not url.startswith(("sqlite", "file:")):
            self._server = _Mysql(url) if url.startswith("mysql") else _Postgres(url)

    def __enter__(self) -> Tables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._runner.run(self._server.close())
        self._runner.close()

    def read(self, prefix: str = "") -> Rows:
        """What is there of executions whose ids begin so, as of one moment; nothing if there are no tables yet."""
        assert "'" not in prefix
        if self.url.startswith("file:"):
            return self._files(prefix)
        return Rows(*self.query(*[one.format(length=len(prefix), prefix=prefix) for one in ALL]))

    def _files(self, prefix: str) -> Rows:
        tables = read_folder(Path(self.url.removeprefix("file://")))
        for rows in tables.values():
            rows[:] = [{name: _plain(name, value) for name, value in row.items()} for row in rows]
        mine = [row for row in tables["execution"] if row["id"].startswith(prefix)]
        of_mine = {
            kind: [row for row in tables[kind] if row["execution_id"].startswith(prefix)]
            for kind in ("entry", "request", "message", "action")
        }
        of_mine["action"].sort(key=lambda row: (row["execution_id"], row["generation"], -row["seq"]))
        rows = [of_mine[kind] for kind in ("entry", "request", "message")]
        return Rows(mine, *rows, tables["worker"], of_mine["action"])

    def query(self, *statements: str) -> list[list[Row]]:
        found = self._sqlite(statements) if self._server is None else self._runner.run(self._server.read(statements))
        return [[{name: _plain(name, value) for name, value in row.items()} for row in rows] for rows in found]

    def lock_all(self) -> bool:
        """Take the lock of everything, now, and give it back: was nobody in a transaction?"""
        if self.url.startswith("file:"):
            return lock_folder(Path(self.url.removeprefix("file://")))
        if self._server is not None:
            return self._runner.run(self._server.lock_all())
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)) as base:
            try:
                base.execute("begin exclusive")
            except sqlite3.OperationalError:
                return False
            base.execute("rollback")
            return True

    def _sqlite(self, statements: Sequence[str]) -> list[list[Row]]:
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=20, isolation_level=None)) as base:
            base.row_factory = sqlite3.Row
            base.execute("begin")
            try:
                return [[dict(row) for row in base.execute(statement)] for statement in statements]
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return [[] for _ in statements]
                raise


class _Postgres:
    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    async def read(self, statements: Sequence[str]) -> list[list[Row]]:
        connection = await self._connected()
        try:
            async with connection.transaction(isolation="repeatable_read"):
                return [[dict(row) for row in await connection.fetch(one)] for one in statements]
        except asyncpg.UndefinedTableError:
            return [[] for _ in statements]

    async def lock_all(self) -> bool:
        connection = await self._connected()
        names = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
        try:
            async with connection.transaction():
                for (name,) in names:
                    await connection.execute(f'lock table "{name}" in access exclusive mode nowait')
        except asyncpg.LockNotAvailableError:
            return False
        return bool(names)

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url)
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class _Mysql:
    NOT_YET = (1146, 1412)  # no such table; it was made after this look began
    NO_LOCK = 1205

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    async def read(self, statements: Sequence[str]) -> list[list[Row]]:
        try:
            await self._say("start transaction with consistent snapshot")
            return [await self._say(statement) for statement in statements]
        except (asyncmy.errors.ProgrammingError, asyncmy.errors.OperationalError) as error:
            if error.args[0] not in self.NOT_YET:
                raise
            return [[] for _ in statements]
        finally:
            await self._say("rollback")

    async def lock_all(self) -> bool:
        names = [name for row in await self._say("show tables") for name in row.values()]
        if not names:
            return False
        try:
            await self._say(f"lock tables {', '.join(f'`{name}` write' for name in names)} nowait")
        except asyncmy.errors.OperationalError as error:
            if error.args[0] != self.NO_LOCK:
                raise
            return False
        await self._say("unlock tables")
        return True

    async def _say(self, statement: str) -> list[Row]:
        if self._connection is None or not self._connection.connected:
            where = read_address(self._url).options
            given = {name: where[name] for name in ("host", "port", "user", "database")}
            self._connection = await asyncmy.connect(
                **given, charset="utf8mb4", init_command="set time_zone = '+00:00'"
            )
        async with self._connection.cursor(DictCursor) as cursor:
            await cursor.execute(statement)
            return list(await cursor.fetchall())

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.ensure_closed()


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, str | datetime) and (name.endswith("_at") or name == "lease_until"):
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return (when - EPOCH) // timedelta(microseconds=1)
    return value
