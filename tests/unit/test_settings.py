"""Where the URL comes from, and that its password never shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.settings import find_url, hide_password, parse_env


def test_the_environment_comes_first_and_the_own_name_before_the_common_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PERDURE_DATABASE_URL=file\n")
    both = {"PERDURE_DATABASE_URL": "own", "DATABASE_URL": "common"}
    assert find_url(both, tmp_path) == ("own", "PERDURE_DATABASE_URL in the environment")
    assert find_url({"DATABASE_URL": "common"}, tmp_path) == ("common", "DATABASE_URL in the environment")
    assert find_url({"PERDURE_DATABASE_URL": "", "DATABASE_URL": "common"}, tmp_path) == (
        "common",
        "DATABASE_URL in the environment",
    )


def test_then_the_nearest_env_file_that_has_one(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / ".env").write_text("DATABASE_URL=common\nPERDURE_DATABASE_URL=own\n")
    (deep / ".env").write_text("OTHER=1\n")
    assert find_url({}, deep) == ("own", f"PERDURE_DATABASE_URL in {tmp_path / '.env'}")
    (tmp_path / "a" / ".env").write_text("DATABASE_URL=nearer\n")
    assert find_url({}, deep) == ("nearer", f"DATABASE_URL in {tmp_path / 'a' / '.env'}")


def test_without_any_there_is_none(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert find_url({}, tmp_path) is None
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / ".env").write_bytes(b"\xff\xfe\x00")
    assert find_url({"OTHER": "x"}, tmp_path / "binary") is None


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("URL=postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("  export URL = value  ", "value"),
        ("URL='single # quoted'", "single # quoted"),
        ('URL="double \\"quoted\\" # here" # a comment', 'double "quoted" # here'),
        ("URL=value # a comment", "value"),
        ("URL=value#no-comment", "value#no-comment"),
        ("URL=two words", "two words"),
        ("URL=", ""),
        ("URL=''", ""),
        ("URL=a=b", "a=b"),
    ],
)
def test_lines_of_an_env_file(line: str, value: str) -> None:
    assert parse_env(f"# first\n\n{line}\r\nbroken line\n") == {"URL": value}


def test_a_later_line_wins() -> None:
    assert parse_env("URL=1\nURL=2\n") == {"URL": "2"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ana:geheim@host/db", "postgresql://ana:***@host/db"),
        ("postgresql://ana:ge%40he/im@host:5432/db?a=1", "postgresql://ana:***@host:5432/db?a=1"),
        ("postgresql://ana:ge@heim@host/db", "postgresql://ana:***@host/db"),
        ("postgresql://:geheim@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=ana&password=geheim&x=1", "postgresql://host/db?user=ana&password=***&x=1"),
        ("mysql+aiomysql://ana:geheim@h/d?SSLPassword=geheim", "mysql+aiomysql://ana:***@h/d?SSLPassword=***"),
        ("postgresql://ana@host/db", "postgresql://ana@host/db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("sqlite:////home/ana/a:b.db", "sqlite:////home/ana/a:b.db"),
        ("memory://", "memory://"),
    ],
)
def test_a_password_is_hidden_wherever_it_stands(url: str, shown: str) -> None:
    assert hide_password(url) == shown
    assert "geheim" not in hide_password(url)
