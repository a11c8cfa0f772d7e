"""The stores, and `open_store`, which finds the one that a URL means."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from perdure.errors import PerdureError
from perdure.store import Store
from perdure.stores.django import django_url
from perdure.stores.memory import MemoryStore

KNOWN = (
    "memory://, sqlite:///file.db, sqlite:////absolute/file.db, file:///absolute/folder,"
    " postgresql://user@host/database, mysql://user@host/database"
)


def open_store(
    url: str | Path | Store | Mapping[str, Any] | None,
    *,
    schema: str | None = None,
    table_prefix: str = "",
    pool: Any = None,
) -> Store:
    """The store that a URL means, not yet connected; a `Store` object is given back as it is, None is memory.

    A dict is one of Django's `DATABASES`. On servers: `schema` and `table_prefix` are where our tables stand and what
    their names begin with; `pool` is how many connections there may be besides those of commits and heartbeats, or a
    pool that the user has already (of asyncpg, or an `AsyncEngine` of SQLAlchemy's over it).
    Raises `PerdureError` for what is no URL of a store, in words and without a password.

    >>> open_store("sqlite:///orders.db").url
    'sqlite:///orders.db'
    """
    options = _options(schema, table_prefix, pool)
    match url:
        case str():
            return _by_scheme(url, options)
        case Mapping():
            return _by_scheme(django_url(url), options)
    if options:
        raise PerdureError(f"{' and '.join(options)} are for databases on servers, given by their URL")
    match url:
        case None:
            return MemoryStore()
        case Path():
            return store_class("FileStore")(url)
        case _ if hasattr(url, "commit"):
            return url
        case _:
            raise PerdureError(f"{url!r:.100} is no URL, Path or Store. Known URLs are: {KNOWN}")


def _of(module: str, name: str) -> Callable[..., Store]:
    """A store's class, imported only now: a process needs one of them, and each takes its time to import."""
    return cast(Callable[..., Store], getattr(importlib.import_module(f"perdure.stores.{module}"), name))


def _options(schema: str | None, table_prefix: str, pool: Any) -> dict[str, Any]:
    """What the stores of servers take."""
    options: dict[str, Any] = {"schema": schema, "table_prefix": table_prefix}
    if isinstance(pool, int):
        options["pool_size"] = pool
    elif pool is not None:
        options["sqlalchemy" if hasattr(pool, "raw_connection") else "pool"] = pool
    return {name: value for name, value in options.items() if value not in (None, "")}


def _by_scheme(url: str, options: dict[str, Any]) -> Store:
    scheme, found, rest = url.partition("://")
    if not found:
        shown = "what was given" if "@" in url else repr(url)  # it may hold a password, nobody knows where
        raise PerdureError(f"{shown} is no URL of a store. Those known are: {KNOWN}")
    kind = scheme.lower().partition("+")[0]
    if options and kind in ("memory", "sqlite", "file"):
        raise PerdureError(f"{' and '.join(options)}: {kind}:// has none; this is for databases on servers")
    match kind:
        case "memory":
            return MemoryStore()
        case "sqlite":
            return store_class("SqliteStore")(_sqlite_path(url, rest))
        case "postgres" | "postgresql":
            return store_class("PostgresStore")(url, **options)
        case "file":
            return store_class("FileStore")(_folder_path(url, rest))
        case "mysql" | "mariadb":
            return store_class("MysqlStore")(url, **options)
        case _:
            raise PerdureError(f"No store goes by {scheme + '://'!r}. Those known are: {KNOWN}")


def _sqlite_path(url: str, rest: str) -> str:
    if not rest.startswith("/") or rest == "/" or rest.startswith("/:memory:"):
        raise PerdureError(f"{url!r} names no file. Write sqlite:///file.db, or memory:// for a store without one")
    if "?" in rest:
        raise PerdureError(f"{url!r}: an SQLite store takes no parameters after a question mark")
    return rest[1:]


def _folder_path(url: str, rest: str) -> str:
    if not rest.startswith("/") or not rest.strip("/"):
        raise PerdureError(
            f"{url!r} names no folder. Write file:///absolute/folder, or give a Path, which may be relative"
        )
    if "?" in rest:
        raise PerdureError(f"{url!r}: a folder of files takes no parameters after a question mark")
    return rest


def store_class(kind: str) -> Callable[..., Store]:
    """The class of a store by its name. Raises `PerdureError` if its driver is not installed."""
    return _CLASSES[kind]()


def _server(name: str, kind: str, server: str, driver: str) -> Callable[..., Store]:
    """The store of a server, whose driver is an extra: so its module is imported only now."""
    try:
        return _of(name, kind)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != driver:
            raise
        message = f"The driver {driver} of {server} is not installed: pip install 'perdure[{name}]'"
        raise PerdureError(message) from error


_CLASSES: Mapping[str, Callable[[], Callable[..., Store]]] = {
    "SqliteStore": lambda: _of("sqlite", "SqliteStore"),
    "FileStore": lambda: _of("files", "FileStore"),
    "PostgresStore": lambda: _server("postgres", "PostgresStore", "PostgreSQL", "asyncpg"),
    "MysqlStore": lambda: _server("mysql", "MysqlStore", "MariaDB and MySQL", "asyncmy"),
}
LAZY = frozenset(_CLASSES)
"""The names of those stores whose modules are imported only when they are asked for."""
