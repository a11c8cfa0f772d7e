"""Connections that users have: recognized by the module of their class, without importing any driver.

What is written on them is part of the transaction that is open there. Nothing here commits, rolls back or closes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from perdure.errors import PerdureError
from perdure.records import Outgoing
from perdure.stores.naming import Names, load_statements
from perdure.stores.queries import load_queries

SQLITE, POSTGRES, MYSQL = "sqlite", "postgresql", "mysql"

KNOWN = (
    "asyncpg, psycopg, psycopg2, SQLAlchemy (connections and sessions, sync and async), sqlite3, aiosqlite, asyncmy,"
    " aiomysql, pymysql, MySQLdb and Django"
)

Values = Mapping[str, Any]
Execute = Callable[[Any, str, Values], Any]

_PARAMETER = re.compile(r"(?<!:):(\w+)")
_DJANGO = {"postgresql": POSTGRES, "sqlite": SQLITE, "mysql": MYSQL}
_SQLALCHEMY = {"postgresql": POSTGRES, "sqlite": SQLITE, "mysql": MYSQL, "mariadb": MYSQL}


@dataclass(frozen=True, slots=True)
class OwnConnection:
    """A connection, how it is spoken to, and the kind of its database (None: it does not tell)."""

    connection: Any
    is_async: bool
    dialect: str | None
    execute: Execute

    def run(self, statement: str, values: Values) -> Any:
        """Execute a statement whose parameters are written `:name`. Gives an awaitable if `is_async`."""
        return self.execute(self.connection, statement, values)


# How drivers want their parameters --------------------------------------------------------------------


def _numbered(statement: str, values: Values) -> tuple[str, list[Any]]:
    """`$1, $2`."""
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement), [values[name] for name in names]


def _marked(statement: str, values: Values, mark: str) -> tuple[str, list[Any]]:
    """The same mark for each."""
    return _PARAMETER.sub(lambda _: mark, statement), [values[name] for name in _PARAMETER.findall(statement)]


def _asyncpg(connection: Any, statement: str, values: Values) -> Awaitable[Any]:
    text, given = _numbered(statement, values)
    done: Awaitable[Any] = connection.execute(text, *given)
    return done


def _psycopg(connection: Any, statement: str, values: Values) -> Any:
    return connection.execute(*_marked(statement, values, "%s"))


def _sqlite(connection: Any, statement: str, values: Values) -> Any:
    return connection.execute(*_marked(statement, values, "?"))


async def _aiosqlite(connection: Any, statement: str, values: Values) -> None:
    await (await connection.execute(*_marked(statement, values, "?"))).close()


def _by_cursor(connection: Any, statement: str, values: Values) -> None:
    with connection.cursor() as cursor:
        cursor.execute(*_marked(statement, values, "%s"))


async def _by_async_cursor(connection: Any, statement: str, values: Values) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute(*_marked(statement, values, "%s"))


def _sqlalchemy(connection: Any, statement: str, values: Values) -> Any:
    return connection.execute(sys.modules["sqlalchemy"].text(statement), dict(values))


# What it is -------------------------------------------------------------------------------------------

_BY_CLASS: Mapping[tuple[str, str], tuple[bool, str, Execute]] = {
    ("asyncpg", "Connection"): (True, POSTGRES, _asyncpg),
    ("asyncpg", "PoolConnectionProxy"): (True, POSTGRES, _asyncpg),
    ("psycopg", "Connection"): (False, POSTGRES, _psycopg),
    ("psycopg", "AsyncConnection"): (True, POSTGRES, _psycopg),
    ("psycopg2", "connection"): (False, POSTGRES, _by_cursor),
    ("sqlite3", "Connection"): (False, SQLITE, _sqlite),
    ("aiosqlite", "Connection"): (True, SQLITE, _aiosqlite),
    ("asyncmy", "Connection"): (True, MYSQL, _by_async_cursor),
    ("aiomysql", "Connection"): (True, MYSQL, _by_async_cursor),
    ("pymysql", "Connection"): (False, MYSQL, _by_cursor),
    ("MySQLdb", "Connection"): (False, MYSQL, _by_cursor),
}


def recognize(connection: Any) -> OwnConnection:
    """What a user's connection is. Raises `TypeError` for what is none that is known."""
    for kind in type(connection).__mro__:
        package, name = kind.__module__.partition(".")[0], kind.__name__
        found = _BY_CLASS.get((package, name))
        if found is not None:
            return OwnConnection(connection, *found)
        if package == "sqlalchemy" and hasattr(connection, "execute"):
            return _of_sqlalchemy(connection, kind.__module__, name)
        if package == "django" and hasattr(connection, "vendor"):
            return OwnConnection(connection, False, _DJANGO.get(connection.vendor, connection.vendor), _by_cursor)
    what = f"{type(connection).__module__}.{type(connection).__qualname__}"
    hint = ": give a connection of it" if hasattr(connection, "acquire") or "ool" in what or "ngine" in what else ""
    raise TypeError(f"connection= is a {what}{hint}. Those known are {KNOWN}")


def _of_sqlalchemy(connection: Any, module: str, name: str) -> OwnConnection:
    is_async = ".asyncio" in module or name.startswith(("Async", "async_"))
    dialect = getattr(connection, "dialect", None)
    if dialect is None:
        bind = getattr(connection, "bind", None)  # of a session; one with several engines tells none
        dialect = getattr(bind, "dialect", None)
    known = None if dialect is None else _SQLALCHEMY.get(dialect.name, dialect.name)
    return OwnConnection(connection, is_async, known, _sqlalchemy)


# Writing ----------------------------------------------------------------------------------------------


def check(own: OwnConnection, place: str) -> None:
    """Raises `PerdureError` where the connection is to another kind of database than the store, at `place`."""
    wanted = place.partition(":")[0].partition("+")[0]
    wanted = {"postgres": POSTGRES, "mariadb": MYSQL}.get(wanted, wanted)
    if own.dialect is not None and own.dialect != wanted:
        raise PerdureError(
            f"connection= is to a database of the kind {own.dialect}, and the engine's is {place}: a start or a message"
            " is part of a transaction in the engine's own database only. Nothing was written"
        )


async def put(own: OwnConnection, rows: Sequence[Outgoing], names: Names | None) -> None:
    """Write these into the user's transaction. A sync connection blocks the event loop for that long.

    `names`: those of the store's tables, where it has others than the plain ones.
    """
    for statement, values in _statements(rows, names):
        done = own.run(statement, values)
        if isawaitable(done):
            await done


def put_now(own: OwnConnection, rows: Sequence[Outgoing], names: Names | None) -> None:
    """The same for plain functions. Raises `TypeError` for an async connection."""
    if own.is_async:
        what = f"{type(own.connection).__module__}.{type(own.connection).__qualname__}"
        raise TypeError(f"connection= is a {what}, which is async: a plain program needs a sync connection")
    for statement, values in _statements(rows, names):
        own.run(statement, values)


def _statements(rows: Sequence[Outgoing], names: Names | None) -> list[tuple[str, Values]]:
    statements = load_queries("outbox") if names is None else load_statements(("outbox",), names)
    statement = statements["put_outgoing"]
    return [(statement, {"kind": row.kind, "execution_id": row.execution_id, "content": row.content}) for row in rows]
