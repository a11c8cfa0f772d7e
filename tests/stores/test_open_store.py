"""Which store a URL means, and what is said about those that are none."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from perdure.errors import PerdureError
from perdure.stores import open_store
from perdure.stores.files import FileStore
from perdure.stores.memory import MemoryStore
from perdure.stores.mysql import MysqlStore
from perdure.stores.sqlite import SqliteStore


def test_memory() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)
    assert isinstance(open_store(None), MemoryStore)
    assert open_store("memory://") is not open_store("memory://")


def test_a_store_is_given_back_as_it_is() -> None:
    store = MemoryStore()
    assert open_store(store) is store


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///orders.db", "orders.db"),
        ("sqlite:///data/orders.db", "data/orders.db"),
        ("sqlite:////var/orders.db", "/var/orders.db"),
        ("sqlite+aiosqlite:////var/orders.db", "/var/orders.db"),
        ("SQLite:////var/with%20percent.db", "/var/with%20percent.db"),
    ],
)
def test_sqlite(url: str, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    assert isinstance(store, SqliteStore)
    assert Path(store.path) == tmp_path / path
    assert store.url == f"sqlite:///{path}"
    assert list(tmp_path.iterdir()) == [], "opening connects to nothing yet"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///var/perdure", "/var/perdure"),
        ("FILE:///var/with%20percent", "/var/with%20percent"),
        (Path("data/orders"), "data/orders"),
        (Path("/var/orders"), "/var/orders"),
    ],
)
def test_a_folder_of_files(url: str | Path, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    assert isinstance(store, FileStore)
    assert Path(store.path) == tmp_path / path
    assert store.url == f"file://{store.path}"
    assert list(tmp_path.iterdir()) == [], "opening connects to nothing yet"


class Postgres:
    def __init__(self, url: str) -> None:
        self.url = url


@pytest.mark.parametrize(
    "url", ["postgres://ana:geheim@h/d", "postgresql://ana:geheim@h/d", "postgresql+asyncpg://ana:geheim@h/d"]
)
def test_postgres_is_imported_when_a_url_asks_for_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("perdure.stores.postgres")
    module.PostgresStore = Postgres  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "perdure.stores.postgres", module)
    store = open_store(url)
    assert isinstance(store, Postgres)
    assert store.url == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://ana:geheim@h/d", "mysql://ana:***@h/d"),
        ("mysql+asyncmy://ana:geheim@h/d", "mysql://ana:***@h/d"),
        ("MySQL+aiomysql://ana:geheim@h/d", "mysql://ana:***@h/d"),
        ("mariadb://ana:geheim@h/d", "mariadb://ana:***@h/d"),
        ("mariadb+asyncmy://ana:geheim@h/d", "mariadb://ana:***@h/d"),
    ],
)
def test_mysql(url: str, shown: str) -> None:
    store = open_store(url)
    assert isinstance(store, MysqlStore)
    assert store.url == shown


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://ana:geheim@h/d", "asyncpg", "postgres"),
        ("mysql://ana:geheim@h/d", "asyncmy", "mysql"),
        ("mariadb://ana:geheim@h/d", "asyncmy.errors", "mysql"),
    ],
)
def test_a_missing_driver_is_told_with_its_extra(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(PerdureError, match=rf"perdure\[{extra}\]") as caught:
        open_store(url)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://ana:geheim@h", "names no database"),
        ("file://", "names no folder"),
        ("file:///", "names no folder"),
        ("file://data", "names no folder"),
        ("file:///data?mode=ro", "no parameters"),
        ("redis://ana:geheim@h", "No store goes by 'redis://'"),
        ("orders.db", "no URL"),
        ("ana:geheim@h", "no URL"),
        ("", "no URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://orders.db", "names no file"),
        ("sqlite:///orders.db?mode=ro", "no parameters"),
    ],
)
def test_others_are_refused_in_words(url: str | Path, words: str) -> None:
    with pytest.raises(PerdureError, match=words) as caught:
        open_store(url)
    assert "geheim" not in str(caught.value)


def test_stores_are_had_from_perdure_when_they_are_asked_for() -> None:
    program = (
        "import sys, perdure\n"
        "assert not {'asyncpg', 'asyncmy', 'perdure.stores.sqlite'} & set(sys.modules)\n"
        "names = perdure.SqliteStore, perdure.FileStore, perdure.PostgresStore, perdure.MysqlStore\n"
        "print([name.__name__ for name in names], hasattr(perdure, 'NoStore'))"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said == "['SqliteStore', 'FileStore', 'PostgresStore', 'MysqlStore'] False\n"
