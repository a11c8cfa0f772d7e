"""The `.sql` files and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.stores import migrations, queries
from perdure.stores.migrations import Migration, load_migrations
from perdure.stores.queries import load_queries

FILES = sorted(Path(queries.__path__[0]).glob("*.sql"))
DIALECTS = sorted(path.parent.name for path in Path(migrations.__path__[0]).glob("*/0001_*.sql"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_statement_has_a_name_and_a_line_that_says_what_it_does(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    named = [at for at, line in enumerate(lines) if line.startswith("-- name: ")]
    assert len(named) == len(load_queries(path.stem))
    for at in named:
        assert lines[at + 1].startswith("-- "), lines[at]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_statements_come_without_comments_and_semicolon(path: Path) -> None:
    for name, sql in load_queries(path.stem).items():
        assert sql, name
        assert not sql.endswith(";"), name
        assert not sql.startswith("--"), name


@pytest.mark.parametrize("dialect", DIALECTS)
def test_migrations_are_numbered_and_say_who_may_still_write(dialect: str) -> None:
    found = load_migrations(dialect)
    assert [migration.version for migration in found] == list(range(1, len(found) + 1))
    for migration in found:
        assert 1 <= migration.oldest_writer <= migration.version
        assert migration.statements


def test_a_migration_is_cut_into_its_statements() -> None:
    text = "-- oldest writer: 1\n\n-- why; so\ncreate table a (x, -- this; that\n y);  \n\ncreate index b\n on a (x);\n"
    assert Migration(1, "first", 1, text, frozenset()).statements == [
        "-- oldest writer: 1\n\n-- why; so\ncreate table a (x, -- this; that\n y)",
        "create index b\n on a (x)",
    ]


def _files(monkeypatch: pytest.MonkeyPatch, module: Any, folder: Path, load: Callable[..., Any]) -> Callable[..., Any]:
    monkeypatch.setattr(module, "FOLDER", folder)
    return load.__wrapped__  # type: ignore[attr-defined, no-any-return]


def test_two_statements_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_text("-- name: a\n-- One.\nselect 1;\n-- name: a\n-- Two.\nselect 2;\n")
    with pytest.raises(ValueError, match="two statements of one name"):
        _files(monkeypatch, queries, tmp_path, load_queries)("x")


def test_a_gap_between_migrations_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    load = _files(monkeypatch, migrations, tmp_path, load_migrations)
    for number in (1, 3):
        (tmp_path / "x" / f"000{number}_some.sql").write_text("-- oldest writer: 1\nselect 1;\n")
    with pytest.raises(ValueError, match="without a gap"):
        load("x")
    (tmp_path / "x" / "0002_some.sql").write_text("select 1;\n")
    with pytest.raises(ValueError, match=r"0002_some\.sql does not say its oldest writer"):
        load("x")
