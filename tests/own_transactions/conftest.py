"""A database of each kind, with a table of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.stores import open_store
from tests.own_transactions import drivers, steps

DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgres", marks=pytest.mark.postgres),
    pytest.param("mysql", id="mysql", marks=pytest.mark.mysql),
]


@pytest.fixture
async def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database that has a table of the user's."""
    url = f"sqlite:///{tmp_path}/own.db"
    if database != "sqlite":
        url = request.getfixturevalue("postgres_url" if database == "postgresql" else "mysql_url")
    store = open_store(url)
    await store.open()
    await store.close()
    opened = {"sqlite": drivers.by_sqlite3, "postgresql": drivers.by_asyncpg, "mysql": drivers.by_asyncmy}[database]
    async with opened(url) as own:
        await own.do(drivers.TABLE)
        await own.do(steps.TABLE)
        await own.end("commit")
    return url
