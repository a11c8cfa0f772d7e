"""The stores, and `open_store`, which finds the one that a URL means."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from perdure.errors import PerdureError
from perdure.store import Store
from perdure.stores.files import FileStore
from perdure.stores.memory import MemoryStore
from perdure.stores.sqlite import SqliteStore

KNOWN = (
    "memory://, sqlite:///file.db, sqlite:////absolute/file.db, file:///absolute/folder,"
    " postgresql://user@host/database, mysql://user@host/database"
)


def open_store(url: str | Path | Store | None) -> Store:
    """The store that a URL means, not yet connected; a `Store` object is given back as it is, None is memory.

    Raises `PerdureError` for what is no URL of a store, in words and without a password.

    >>> open_store("sqlite:///orders.db").url
    'sqlite:///orders.db'
    """
    match url:
        case None:
            return MemoryStore()
        case Path():
            return FileStore(url)
        case str():
            return _by_scheme(url)
        case _ if hasattr(url, "commit"):
            return url
        case _:
            raise PerdureError(f"{url!r:.100} is no URL, Path or Store. Known URLs are: {KNOWN}")


def _by_scheme(url: str) -> Store:
    scheme, found, rest = url.partition("://")
    if not found:
        shown = "what was given" if "@" in url else repr(url)  # it may hold a password, nobody knows where
        raise PerdureError(f"{shown} is no URL of a store. Those known are: {KNOWN}")
    match scheme.lower().partition("+")[0]:
        case "memory":
            return MemoryStore()
        case "sqlite":
            return SqliteStore(_sqlite_path(url, rest))
        case "postgres" | "postgresql":
            return _driven(url, "postgres", "PostgresStore", "PostgreSQL", "asyncpg")
        case "file":
            return FileStore(_folder_path(url, rest))
        case "mysql" | "mariadb":
            return _driven(url, "mysql", "MysqlStore", "MariaDB and MySQL", "asyncmy")
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


def _driven(url: str, name: str, kind: str, server: str, driver: str) -> Store:
    """The store of a server, whose driver is an extra: so its module is imported only now."""
    try:
        module = importlib.import_module(f"perdure.stores.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != driver:
            raise
        message = f"The driver {driver} of {server} is not installed: pip install 'perdure[{name}]'"
        raise PerdureError(message) from error
    return cast(Store, getattr(module, kind)(url))
