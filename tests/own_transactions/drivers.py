"""The drivers that users have, each with a connection in an open transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any
from urllib.parse import urlsplit

import aiomysql
import aiosqlite
import asyncmy
import asyncpg
import psycopg
import pymysql
import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from django import setup as django_setup
from django.conf import settings

TABLE = "create table mine (n integer)"
ROW = "insert into mine (n) values (1)"

pymysql.install_as_MySQLdb()
pymysql.version_info = (2, 2, 1, "final", 0)  # what Django asks for, of mysqlclient
if not settings.configured:
    settings.configure(USE_TZ=True, LOGGING_CONFIG=None)
    django_setup(set_prefix=False)


@dataclass
class Own:
    """A user's connection. What is executed, committed and rolled back is theirs."""

    connection: Any
    execute: Callable[[str], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]
    is_async: bool = True

    async def do(self, statement: str) -> None:
        await _done(self.execute(statement))

    async def end(self, how: str) -> None:
        await _done(self.commit() if how == "commit" else self.rollback())


async def _done(result: Any) -> None:
    if isawaitable(result):
        await result


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {"host": parts.hostname, "port": parts.port, "user": parts.username}


def _name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


# PostgreSQL -------------------------------------------------------------------------------------------


@asynccontextmanager
async def by_asyncpg(url: str) -> AsyncIterator[Own]:
    connection = await asyncpg.connect(url)
    yield await _asyncpg(connection)
    await connection.close()


async def _asyncpg(connection: Any) -> Own:
    await connection.execute("begin")
    execute = connection.execute
    return Own(connection, execute, lambda: execute("commit; begin"), lambda: execute("rollback; begin"))


@asynccontextmanager
async def by_asyncpg_pool(url: str) -> AsyncIterator[Own]:
    async with asyncpg.create_pool(url, min_size=1) as pool, pool.acquire() as connection:
        yield await _asyncpg(connection)
        await connection.execute("rollback")


@asynccontextmanager
async def by_psycopg(url: str) -> AsyncIterator[Own]:
    with psycopg.connect(url) as connection:
        yield Own(connection, connection.execute, connection.commit, connection.rollback, is_async=False)


@asynccontextmanager
async def by_psycopg_async(url: str) -> AsyncIterator[Own]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield Own(connection, connection.execute, connection.commit, connection.rollback)


# SQLite -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def by_sqlite3(url: str) -> AsyncIterator[Own]:
    connection = sqlite3.connect(_path(url))
    yield Own(connection, connection.execute, connection.commit, connection.rollback, is_async=False)
    connection.close()


@asynccontextmanager
async def by_aiosqlite(url: str) -> AsyncIterator[Own]:
    async with aiosqlite.connect(_path(url)) as connection:
        yield Own(connection, connection.execute, connection.commit, connection.rollback)


# MariaDB ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def by_asyncmy(url: str) -> AsyncIterator[Own]:
    connection = await asyncmy.connect(**_server(url), db=_name(url))
    yield Own(connection, _by_cursor(connection), connection.commit, connection.rollback)
    await connection.ensure_closed()


@asynccontextmanager
async def by_aiomysql(url: str) -> AsyncIterator[Own]:
    connection = await aiomysql.connect(**_server(url), db=_name(url))
    yield Own(connection, _by_cursor(connection), connection.commit, connection.rollback)
    await connection.ensure_closed()


def _by_cursor(connection: Any) -> Callable[[str], Awaitable[None]]:
    async def execute(statement: str) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute(statement)

    return execute


@asynccontextmanager
async def by_pymysql(url: str) -> AsyncIterator[Own]:
    connection = pymysql.connect(**_server(url), database=_name(url))

    def execute(statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    yield Own(connection, execute, connection.commit, connection.rollback, is_async=False)
    connection.close()


# SQLAlchemy -------------------------------------------------------------------------------------------

SYNC = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite", "mysql": "mysql+pymysql"}
ASYNC = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite", "mysql": "mysql+asyncmy"}


def _alchemy(connection: Any, *, is_async: bool) -> Own:
    return Own(
        connection,
        lambda statement: connection.execute(sqlalchemy.text(statement)),
        connection.commit,
        connection.rollback,
        is_async,
    )


def _url(url: str, drivers: dict[str, str]) -> str:
    scheme, _, rest = url.partition("://")
    return f"{drivers[scheme]}://{rest}"


@asynccontextmanager
async def by_alchemy(url: str) -> AsyncIterator[Own]:
    engine = sqlalchemy.create_engine(_url(url, SYNC))
    with engine.connect() as connection:
        yield _alchemy(connection, is_async=False)
    engine.dispose()


@asynccontextmanager
async def by_alchemy_session(url: str) -> AsyncIterator[Own]:
    engine = sqlalchemy.create_engine(_url(url, SYNC))
    with sqlalchemy.orm.Session(engine) as session:
        yield _alchemy(session, is_async=False)
    engine.dispose()


@asynccontextmanager
async def by_alchemy_async(url: str) -> AsyncIterator[Own]:
    engine = sqlalchemy.ext.asyncio.create_async_engine(_url(url, ASYNC))
    async with engine.connect() as connection:
        yield _alchemy(connection, is_async=True)
    await engine.dispose()


@asynccontextmanager
async def by_alchemy_async_session(url: str) -> AsyncIterator[Own]:
    engine = sqlalchemy.ext.asyncio.create_async_engine(_url(url, ASYNC))
    async with sqlalchemy.ext.asyncio.AsyncSession(engine) as session:
        yield _alchemy(session, is_async=True)
    await engine.dispose()


# Django: its connections are for plain programs only --------------------------------------------------


def django(url: str) -> Own:
    """A connection of Django's, in a transaction."""
    from django.db.backends.mysql.base import DatabaseWrapper as DjangoMysql  # it asks at once for mysqlclient
    from django.db.backends.postgresql.base import DatabaseWrapper as DjangoPostgres
    from django.db.backends.sqlite3.base import DatabaseWrapper as DjangoSqlite

    plain = {"ENGINE": "", "OPTIONS": {}, "TIME_ZONE": None, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False}
    plain |= {"AUTOCOMMIT": True, "ATOMIC_REQUESTS": False, "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    scheme = url.partition("://")[0]
    if scheme == "sqlite":
        connection: Any = DjangoSqlite(plain | {"NAME": _path(url)})
    else:
        server = _server(url)
        where = {"NAME": _name(url), "HOST": server["host"], "PORT": server["port"], "USER": server["user"]}
        connection = (DjangoPostgres if scheme == "postgresql" else DjangoMysql)(plain | where)
    connection.set_autocommit(False)

    def execute(statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    return Own(connection, execute, connection.commit, connection.rollback, is_async=False)


POSTGRES = [by_asyncpg, by_asyncpg_pool, by_psycopg, by_psycopg_async]
SQLITE = [by_sqlite3, by_aiosqlite]
MYSQL = [by_asyncmy, by_aiomysql, by_pymysql]
ALCHEMY = [by_alchemy, by_alchemy_session, by_alchemy_async, by_alchemy_async_session]
