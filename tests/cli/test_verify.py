"""`verify`: before a deploy, from the command line."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import APP, Shell, read_until

EDITED = APP.replace("    await note(item)\n", "    await sleep(0.001)\n", 1)


def rows(path: Path) -> str:
    """All that the database holds, as SQL."""
    with closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump())


@pytest.fixture
def opened(shell: Shell) -> Shell:
    """Two executions that an edit of `fulfil` concerns, and three that it does not."""
    for id in ("x", "y"):
        shell("run", "app:fulfil", '"a lamp"', "--id", id)
    shell("run", "app:mail", "--id", "m")
    shell("run", "app:add", "1", "--id", "done")
    shell("start", "app:order", "--id", "new")
    return shell


def test_code_that_fits_is_exit_code_0(opened: Shell) -> None:
    said = opened("verify", "app")
    assert said.code == 0, said.err
    assert "4 of 4 open executions fit this code" in said.err
    document = opened("verify", "app", "--json").json
    assert (document["checked"], document["fits"], document["blocks"], document["unknown"]) == (4, 4, 0, 0)


def test_what_would_block_is_named_with_the_place_and_nothing_is_touched(opened: Shell) -> None:
    before = rows(opened.folder / "perdure.db")
    (opened.folder / "app.py").write_text(EDITED)
    line = next(n for n, text in enumerate(EDITED.splitlines(), 1) if text == "    await sleep(0.001)")
    said = opened("verify", "app")
    assert said.code == 1
    for id in ("x", "y"):
        assert f"{id}  fulfil (version 1), waiting: would block" in said.out
    assert f"app.py:{line}" in said.out
    assert "2 of 4 open executions would block" in said.err
    assert opened.paste(said.err).code == 0
    document = opened("verify", "app", "--json").json
    assert {one["id"] for one in document["blocking"]} == {"x", "y"}
    assert document["blocking"][0]["places"] == [f"{opened.folder}/app.py:{line}"]
    assert document["workflows"][0] == {"workflow": "fulfil", "version": 1, "fits": 0, "blocks": 2, "unknown": 0}
    assert rows(opened.folder / "perdure.db") == before
    for id in ("x", "y"):
        opened("answer", id, "here")
        assert opened("run", "app:fulfil", '"a lamp"', "--id", id).code == 1
    blocked = opened("list", "--status", "blocked", "--json").json["items"]
    assert {item["id"] for item in blocked} == {"x", "y"}


def test_filters_choose_what_is_looked_at(opened: Shell) -> None:
    (opened.folder / "app.py").write_text(EDITED)
    assert opened("verify", "app", "--workflow", "mail").code == 0
    assert opened("verify", "app", "--workflow", "fulfil", "--status", "waiting").code == 1
    assert opened("verify", "app", "--status", "pending", "--json").json["checked"] == 1
    assert opened("verify", "app", "--status", "completed").code == 2
    assert opened("verify", "app", "--status", "paused").out == "No such open executions.\n"


def test_what_this_code_does_not_know_is_counted_and_let_be(opened: Shell) -> None:
    (opened.folder / "apps.py").write_text("from app import mail\nsome = [mail]\n")
    said = opened("verify", "apps:some")
    assert said.code == 0
    assert "3 are of workflows or versions that this code does not have" in said.err
    assert opened("verify", "apps:some", "--json").json["unknown"] == 3


def test_an_engine_of_ones_own_is_looked_at_in_its_own_store(opened: Shell) -> None:
    (opened.folder / "apps.py").write_text(
        "from perdure import Engine\nimport app\n"
        "engine = Engine('sqlite:///perdure.db', workflows=[app.mail])\n"
        "other = Engine('sqlite:///other.db', workflows=[app.mail])\n"
    )
    assert opened("verify", "apps:engine", "--json").json["fits"] == 1
    none = opened("verify", "apps:other")
    assert none.code == 1
    assert "there is no database" in none.err
    assert not (opened.folder / "other.db").exists()


def test_changed_arguments_are_told_and_no_reason_to_stop(opened: Shell) -> None:
    (opened.folder / "app.py").write_text(APP.replace("await note(item)", 'await note(f"one {item}")', 1))
    said = opened("verify", "app")
    assert said.code == 0
    assert "x  fulfil (version 1), waiting: fits, but" in said.out
    assert '{"what":"a lamp"}, now {"what":"one a lamp"}' in said.out
    assert len(opened("verify", "app", "--json").json["warnings"]) == 2


def test_what_the_code_prints_stays_out_of_what_was_asked_for(opened: Shell) -> None:
    code = "print('imported')\n" + APP.replace(
        "    await note(item)\n", "    print('replayed')\n    await note(item)\n"
    )
    (opened.folder / "app.py").write_text(code)
    said = opened("verify", "app", "--json")
    assert said.json["fits"] == 4
    assert said.err.count("replayed") == 2
    assert "imported" in said.err


def test_executions_of_a_live_worker_are_looked_at_and_go_on(shell: Shell) -> None:
    code = APP.replace(
        "    await asyncio.Event().wait()", "    while not Path('go').exists():\n        await asyncio.sleep(0.01)"
    )
    (shell.folder / "app.py").write_text(code)
    shell("start", "app:hangs", "--id", "h")
    with shell.running("worker", "app") as child:
        read_until(child.stdout, "hanging")
        before = shell("export", "h").json
        assert shell("verify", "app", "--json").json["fits"] == 1
        assert shell("export", "h").json == before
        (shell.folder / "go").touch()
        assert shell("watch", "h").code == 0


def test_on_a_terminal_a_bar_says_how_far_it_is(opened: Shell) -> None:
    said = opened.terminal("verify", "app")
    assert said.code == 0
    assert "4 of 4" in said.out
    assert "[####" in said.out
    assert "[####" not in opened("verify", "app").err


def test_without_a_database_or_a_module_nothing_is_made(shell: Shell) -> None:
    assert shell("verify", "app").code == 1
    assert shell("verify", "nope").code == 2
    assert [path.name for path in shell.folder.iterdir()] == ["app.py"]
