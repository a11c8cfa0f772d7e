"""`lint`: files, folders and modules are read, and nothing of them runs."""

from __future__ import annotations

import pytest

from .conftest import Shell

BAD = """
import time
from perdure import step, workflow

raise SystemExit("this must not run")


@workflow
async def flow():
    for name in {"a", "b"}:
        await flow()
    return time.time()
"""
CLEAN = "from perdure import workflow\n\n\n@workflow\nasync def flow():\n    {}\n"


def test_without_a_target_it_reads_the_files_of_the_folder(shell: Shell) -> None:
    (shell.folder / "bad.py").write_text(BAD)
    (shell.folder / "below").mkdir()
    (shell.folder / "below" / "worse.py").write_text("def (")
    said = shell("lint")
    assert said.code == 1
    first, second = said.out.splitlines()
    assert first.startswith("bad.py:10:17: warning P005 ")
    assert second.startswith("bad.py:12:12: error P001 time.time() ")
    assert "1 error, 1 warning in " in said.err


def test_clean_code_is_exit_code_0(shell: Shell) -> None:
    said = shell("lint", "app.py")
    assert (said.code, said.out) == (0, "")
    assert "Nothing to say about" in said.err


def test_information_alone_is_exit_code_0(shell: Shell) -> None:
    (shell.folder / "says.py").write_text(CLEAN.format("print(1)"))
    said = shell("lint", "says.py")
    assert said.code == 0
    assert "says.py:6:5: info P013 print()" in said.out


def test_json_has_every_finding_and_the_counts(shell: Shell) -> None:
    (shell.folder / "bad.py").write_text(BAD)
    said = shell("lint", "bad.py", "--json")
    assert said.code == 1
    document = said.json
    assert {name: document[name] for name in ("files", "workflows", "errors", "warnings", "infos")} == {
        "files": 1,
        "workflows": 1,
        "errors": 1,
        "warnings": 1,
        "infos": 0,
    }
    message = document["findings"][1].pop("message")
    assert "perdure.now()" in message
    assert document["findings"][1] == {
        "file": "bad.py",
        "line": 12,
        "column": 12,
        "code": "P001",
        "severity": "error",
        "function": "flow",
    }


def test_a_folder_is_read_with_all_below_but_no_environment(shell: Shell) -> None:
    for name in ("src/shop/orders.py", "venv/lib/x.py", ".hidden/x.py", "src/node_modules/x.py"):
        path = shell.folder / name
        path.parent.mkdir(parents=True)
        path.write_text(BAD)
    (shell.folder / "venv" / "pyvenv.cfg").write_text("")
    document = shell("lint", ".", "--json").json
    assert document["files"] == 2
    assert {finding["file"] for finding in document["findings"]} == {"src/shop/orders.py"}


def test_a_module_is_found_as_an_import_would_find_it_and_not_imported(shell: Shell) -> None:
    package = shell.folder / "shop"
    package.mkdir()
    (package / "__init__.py").write_text('raise SystemExit("this must not run")')
    (package / "orders.py").write_text(BAD)
    for target in ("shop", "shop.orders", "shop.orders:flow", "shop/orders.py:flow"):
        said = shell("lint", target)
        assert said.code == 1, said.err
        assert all(line.startswith("shop/orders.py:") for line in said.out.splitlines())
    assert shell("lint", "perdure.demo.flow").code == 0


def test_a_file_is_read_once_however_often_it_is_named(shell: Shell) -> None:
    assert shell("lint", "app.py", "app", "./app.py", "--json").json["files"] == 1


@pytest.mark.parametrize("content", [b"def f(:", b"\xff\xfe", b"# coding: nope\n", b"x = '\0'"])
def test_a_file_that_is_no_python_is_a_finding(shell: Shell, content: bytes) -> None:
    (shell.folder / "broken.py").write_bytes(content)
    said = shell("lint", "broken.py")
    assert said.code == 1
    assert said.out.startswith("broken.py:1:")
    assert "error P000 this " in said.out
    assert "Traceback" not in said.err


def test_a_file_in_another_encoding_is_read(shell: Shell) -> None:
    (shell.folder / "old.py").write_bytes("# coding: latin-1\nx = 'ä'\n".encode("latin-1"))
    assert shell("lint", "old.py").code == 0


@pytest.mark.parametrize("target", ["nope", "nope.py", "app.nope", "sys", "no/such", "nope.py:flow", "a-b", ""])
def test_what_is_not_there_is_a_usage_error(shell: Shell, target: str) -> None:
    said = shell("lint", target)
    assert said.code == 2
    assert "Traceback" not in said.err


def test_a_folder_without_python_files_is_a_usage_error(shell: Shell) -> None:
    empty = shell.folder / "empty"
    empty.mkdir()
    assert shell("lint", cwd=empty).code == 2
    assert shell("lint", "empty").code == 2


def test_no_database_is_needed(shell: Shell) -> None:
    shell("lint", "app.py")
    assert sorted(path.name for path in shell.folder.iterdir()) == ["app.py"]
