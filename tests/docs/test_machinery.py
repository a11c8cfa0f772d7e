"""What runs the pages notices what is wrong in them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.docs.pages import missing, run_page


def play(text: str, folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(text)
    run_page(page, folder)


@pytest.mark.parametrize(
    "wrong",
    [
        "```console\n$ echo one\ntwo\n```\n",
        "```console\n$ printf 'two\\none\\n'\none\ntwo\n```\n",
        "```console\n$ false\n```\n",
        "```console 3\n$ true\n```\n",
        "```console\n$ false\n$ true\n```\n",
        "```console\n$ echo $PERDURE_DATABASE_URL$DATABASE_URL | grep .\n```\n",
        "```python\nprint(1)\n```\n",
        "```console\nno command\n```\n",
    ],
)
def test_a_page_that_is_wrong_fails(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///elsewhere.db")
    with pytest.raises(AssertionError):
        play(wrong, tmp_path)


def test_a_page_that_is_right_passes(tmp_path: Path) -> None:
    play(
        "```console\n$ mkdir -p a && cd a\n```\n"
        "```python\n# one.py\nimport sys\n\nprint('one')\nsys.exit(3)\n```\n"
        "```console 3\n$ here=1\n$ test $here = 1\n$ python one.py\no...\n```\n",
        tmp_path,
    )
    assert (tmp_path / "a" / "one.py").exists()


def test_a_second_terminal_goes_on_and_ends_with_the_page(tmp_path: Path) -> None:
    began = time.monotonic()
    second = "```console terminal 2\n$ echo begun; sleep 300; echo over > over\nbegun\n```\n"
    play(f"{second}```console\n$ test ! -e over\n```\n", tmp_path)
    assert time.monotonic() - began < 60


def test_what_is_not_printed_is_named() -> None:
    assert missing("one\n\nthree ... five\n", "zero\n  one\ntwo\nthree  four five\n") is None
    assert missing("one\ntwo\n", "two\none\n") == "two"
    assert missing("one\n", "one and more\n") == "one"
