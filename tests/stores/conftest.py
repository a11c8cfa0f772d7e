"""The stores that the conformance suite runs over. A new one is one more line in `STORES`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.stores.files import FileStore
from perdure.stores.memory import MemoryStore
from perdure.stores.mysql import MysqlStore
from perdure.stores.postgres import PostgresStore
from perdure.stores.sqlite import SqliteStore
from perdure.testing.check_store import MakeStore


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is such a place: thousands of flushes would keep a disk busy."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="perdure-files-", dir=memory) as folder:
        yield Path(folder)


def memory(request: pytest.FixtureRequest) -> MakeStore:
    store = MemoryStore()
    return lambda: store


def sqlite(request: pytest.FixtureRequest) -> MakeStore:
    folder: Path = request.getfixturevalue("tmp_path")
    return lambda: SqliteStore(folder / "perdure.db")


def files(request: pytest.FixtureRequest) -> MakeStore:
    folder: Path = request.getfixturevalue("memory_folder")
    return lambda: FileStore(folder / "perdure")


def postgres(request: pytest.FixtureRequest) -> MakeStore:
    url: str = request.getfixturevalue("postgres_url")
    return lambda: PostgresStore(url)


def mysql(request: pytest.FixtureRequest) -> MakeStore:
    url: str = request.getfixturevalue("mysql_url")
    return lambda: MysqlStore(url)


# Each takes the fixture's request and gives a `make_store` on fresh data of its own.
STORES: list[Callable[[pytest.FixtureRequest], MakeStore]] = [
    pytest.param(memory, id="memory"),
    pytest.param(sqlite, id="sqlite"),
    pytest.param(files, id="file"),
    pytest.param(postgres, id="postgres", marks=pytest.mark.postgres),
    pytest.param(mysql, id="mysql", marks=pytest.mark.mysql),
]


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    made: MakeStore = request.param(request)
    return made
