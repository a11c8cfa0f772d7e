"""`list`, `show`, `watch` and `inbox`."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.cli import main

from .conftest import Shell


def test_pages_of_a_list_show_everything_once(shell: Shell) -> None:
    ids = [f"x{n}" for n in range(5)]
    for id in ids:
        assert shell("start", "app:mail", "--id", id).code == 0
    seen = []
    cursor: list[str] = []
    sizes = []
    while True:
        page = shell("list", "--limit", "2", *cursor, "--json").json
        seen += [item["id"] for item in page["items"]]
        sizes.append(len(page["items"]))
        if page["cursor"] is None:
            break
        cursor = ["--cursor", page["cursor"]]
    assert seen == ids[::-1]
    assert sizes == [2, 2, 1]


def test_the_next_page_is_the_command_shown(shell: Shell) -> None:
    for id in ("a", "b"):
        shell("start", "app:mail", "--id", id)
    first = shell("list", "--limit", "1", "--workflow", "mail", "--status", "pending")
    assert first.out.splitlines()[0].split() == ["ID", "WORKFLOW", "STATUS", "CREATED", "(UTC)"]
    assert first.out.splitlines()[1].startswith("b ")
    second = shell.paste(first.err)
    assert second.out.splitlines()[1].startswith("a ")


def test_a_list_is_filtered_by_status_and_workflow(shell: Shell) -> None:
    shell("run", "app:add", "1", "--id", "done")
    shell("run", "app:mail", "--id", "waits")
    shell("start", "app:order", "--id", "new")

    def ids(*words: str) -> list[str]:
        return sorted(item["id"] for item in shell("list", *words, "--json").json["items"])

    assert ids() == ["done", "new", "waits"]
    assert ids("--status", "waiting") == ["waits"]
    assert ids("--status", "completed", "--status", "PENDING") == ["done", "new"]
    assert ids("--workflow", "mail") == ["waits"]
    assert ids("--workflow", "mail", "--status", "failed") == []
    assert shell("list", "--status", "odd").code == 2
    assert shell("list", "--cursor", "odd").code == 1


def test_a_list_is_filtered_by_whatever_is_known(shell: Shell) -> None:
    (shell.folder / "tagged.py").write_text(
        "from perdure import receive, set_attributes, workflow\n\n\n"
        "@workflow\nasync def tagged(n: int) -> None:\n"
        "    await set_attributes(customer=n, tier='gold')\n    await receive('letter')\n"
    )
    for n in range(2):
        assert shell("run", "tagged:tagged", str(n), "--id", f"t{n}").code == 3
    shell("start", "app:mail", "--id", "m", "--by", "web:7", "--queue", "quick")

    def ids(*words: str) -> list[str]:
        return sorted(item["id"] for item in shell("list", *words, "--json").json["items"])

    assert ids("--attribute", "customer=1") == ["t1"]
    assert ids("--attribute", "customer=1", "--attribute", "tier=gold") == ["t1"]
    assert ids("--attribute", 'tier="gold"') == ["t0", "t1"]
    assert ids("--attribute", "tier=silver") == []
    assert ids("--by", "web:7") == ids("--started-by", "web:7") == ids("--queue", "quick") == ["m"]
    assert ids("--text", "TAGGED") == ["t0", "t1"]
    assert ids("--since", "1h") == ["m", "t0", "t1"]
    assert ids("--since", "2100-01-01") == ids("--until", "1h") == []
    assert ids("--until", "2100-01-01T08:00+01:00") == ["m", "t0", "t1"]
    more = shell("list", "--attribute", "tier=gold", "--since", "1d", "--limit", "1")
    assert shell.paste(more.err).out.splitlines()[1].startswith("t0 ")


@pytest.mark.parametrize("columns", [20, 60, 80])
def test_a_list_fits_its_terminal(shell: Shell, columns: int) -> None:
    shell("start", "app:mail", "--id", "a-very-long-id-" * 6)
    said = shell.terminal("list", columns=columns)
    assert said.code == 0
    assert max(map(len, said.out.split("One of them:")[0].splitlines())) <= columns


def test_a_beginning_that_no_other_has_is_an_id(shell: Shell) -> None:
    for id in ("order-1", "order-22", "x"):
        shell("run", "app:mail", "--id", id)
    assert shell("show", "order-2", "--json").json["id"] == "order-22"
    assert shell("signal", "order-2", "letter", '"hi"').code == 0
    assert shell("show", "order-1", "--json").json["id"] == "order-1"


def test_an_ambiguous_beginning_lists_the_candidates(shell: Shell) -> None:
    for id in ("order-1", "order-22", "x"):
        shell("run", "app:mail", "--id", id)
    for words in (["show"], ["watch"], ["cancel"], ["resume"]):
        said = shell(*words, "order")
        assert said.code == 2
        assert "order-1  mail  waiting" in said.err
        assert "order-22  mail  waiting" in said.err
        assert "\n  x " not in said.err
    missing = shell("show", "nope")
    assert missing.code == 1
    assert "there is no execution nope" in missing.err


def test_children_do_not_make_an_id_ambiguous(shell: Shell) -> None:
    assert shell("run", "app:family", "--id", "smiths").code == 3
    shown = shell("show", "smi", "--json").json
    assert shown["id"] == "smiths"
    assert [child["id"] for child in shown["children"]] == ["smiths/fulfil#1"]
    assert [request["execution_id"] for request in shown["requests"]] == ["smiths/fulfil#1"]
    assert shell("show", "smiths/", "--json").json["id"] == "smiths/fulfil#1"


READS = [["list"], ["show", "x"], ["watch", "x"], ["inbox"], ["requests"], ["db", "check"], ["stats"]]
READS += [["export", "x"], ["events", "x"], ["value", "x", "n"], ["schedule", "list"]]
ACTS = [["answer", "x", "1"], ["signal", "x", "n", "1"], ["cancel", "x"], ["pause", "x"], ["resume", "x"]]
ACTS += [["retry", "x"], ["prune", "--older-than", "30d"], ["schedule", "pause", "x"], ["pause", "--workflow", "x"]]


@pytest.mark.parametrize("words", READS + ACTS, ids=" ".join)
def test_without_a_database_there_is_nothing_to_look_at_and_none_is_made(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PERDURE_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert main(words) == 1
    none = capsys.readouterr()
    assert "there is no database to look at" in none.err
    assert "runs in memory" in none.err
    assert main([*words, "--db", "sqlite:///missing.db"]) == 1
    missing = capsys.readouterr()
    assert "there is no database" in missing.err
    assert none.out + missing.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_looks_in_vain_ends_with_1(shell: Shell) -> None:
    said = shell("list")
    assert said.code == 1
    assert "there is no database to look at" in said.err


def test_show_says_that_no_live_worker_knows_the_workflow(shell: Shell) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "x")
    assert "no live worker knows fulfil (version 1)" in shell("show", "x").out
    with shell.worker():
        shown = shell("show", "x")
    assert shown.code == 0
    assert "no live worker" not in shown.out + shown.err


def test_show_tells_what_it_was_given_what_it_did_and_what_it_asks(shell: Shell) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "x", "--by", "web:7")
    said = shell("show", "x").out
    for words in ("waiting", "by web:7", '{"item": "a lamp"}', "note#1", "Where to?", "answer x:interrupt#1"):
        assert words in said.replace("'", ""), words


def test_watch_gives_documents_line_by_line(shell: Shell) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "x")
    said = shell("watch", "x", "--json")
    assert said.code == 3
    assert [line["event"] for line in said.lines] == ["entry", "outcome"]
    assert said.lines[1]["requests"][0]["message"] == "Where to?"


def test_the_inbox_lists_questions_with_the_commands_that_answer(shell: Shell) -> None:
    shell("run", "app:mail", "--id", "m")
    assert shell("inbox").out == "Nothing waits for anybody.\n"
    shell("run", "app:order", "--id", "o")
    listed = shell("inbox")
    assert "Which?" in listed.out
    assert shell.paste(listed.out).code == 0
    assert shell("inbox", "--json").json == {"items": [], "more": False}


def test_a_message_cannot_drive_the_terminal(shell: Shell) -> None:
    ran = shell("run", "app:rude", "--id", "r")
    assert ran.code == 3
    for said in (ran, shell("show", "r"), shell("inbox"), shell("watch", "r")):
        assert "\\x1b[31mred\\x07" in said.out
        assert "\x1b" not in said.out + said.err


def test_a_reader_that_has_gone_is_no_error(shell: Shell, tmp_path: Path) -> None:
    shell("start", "app:mail")
    with shell.running("list") as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()
