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

import asyncpg

from tests.crash.folders import lock_folder, read_folder

Row = dict[str, Any]

ALL = (
    "select * from workflow_executions where substr(id, 1, {length}) = '{prefix}' order by id",
    "select * from step_executions where substr(execution_id, 1, {length}) = '{prefix}' order by execution_id, seq",
    "select * from approval_requests where substr(execution_id, 1, {length}) = '{prefix}' order by id",
    "select * from messages where substr(execution_id, 1, {length}) = '{prefix}' order by execution_id, ordinal",
    "select * from workers order by id",
)


@dataclass
class Rows:
    """What is in the tables, of one tree of executions or of all. Times are microseconds since 1970."""

    executions: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    workers: list[Row] = field(default_factory=list)

    def of(self, id: str) -> Rows:
        """The part that concerns an execution and those below it."""
        mine = {row["id"] for row in self.executions if row["id"] == id or row["id"].startswith(f"{id}/")}
        return Rows(
            [row for row in self.executions if row["id"] in mine],
            [row for row in self.entries if row["execution_id"] in mine],
            [row for row in self.requests if row["execution_id"] in mine],
            [row for row in self.messages if row["execution_id"] in mine],
            self.workers,
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
        self._connection: Any = None

    def __enter__(self) -> Tables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._runner.run(self._connection.close())
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
            for kind in ("entry", "request", "message")
        }
        return Rows(mine, of_mine["entry"], of_mine["request"], of_mine["message"], tables["worker"])

    def query(self, *statements: str) -> list[list[Row]]:
        if self.url.startswith("sqlite"):
            found = self._sqlite(statements)
        else:
            found = self._runner.run(self._postgres(statements))
        return [[{name: _plain(name, value) for name, value in row.items()} for row in rows] for rows in found]

    def lock_all(self) -> bool:
        """Take the lock of everything, now, and give it back: was nobody in a transaction?"""
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)) as base:
                try:
                    base.execute("begin exclusive")
                except sqlite3.OperationalError:
                    return False
                base.execute("rollback")
                return True
        if self.url.startswith("file:"):
            return lock_folder(Path(self.url.removeprefix("file://")))
        return self._runner.run(self._lock_all())

    async def _lock_all(self) -> bool:
        tables = [
            row["tablename"] for row in await self._fetch("select tablename from pg_tables where schemaname = 'public'")
        ]
        try:
            async with self._connection.transaction():
                for table in tables:
                    await self._connection.execute(f'lock table "{table}" in access exclusive mode nowait')
        except asyncpg.LockNotAvailableError:
            return False
        return bool(tables)

    async def _fetch(self, statement: str) -> list[Any]:
        if self._connection is None:
            self._connection = await asyncpg.connect(self.url)
        return list(await self._connection.fetch(statement))

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

    async def _postgres(self, statements: Sequence[str]) -> list[list[Row]]:
        if self._connection is None:
            self._connection = await asyncpg.connect(self.url)
        try:
            async with self._connection.transaction(isolation="repeatable_read"):
                return [[dict(row) for row in await self._connection.fetch(one)] for one in statements]
        except asyncpg.UndefinedTableError:
            return [[] for _ in statements]


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, str | datetime) and (name.endswith("_at") or name == "lease_until"):
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return (when - EPOCH) // timedelta(microseconds=1)
    return value
