"""`inbox`, `approve`, `reject`, `resolve` and `audit`: people decide, and it can be told who did."""

from __future__ import annotations

import csv
import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from .conftest import Shell

DESK = """
from perdure import Action, Approval, approval, step, workflow

@step(name="wipe", approval=Approval("Wipe {n} disks of {rack}?", when=lambda n: n > 1, approvers=["ana"]))
async def wipe(rack: str, n: int) -> str:
    with open("ledger.txt", "a") as ledger:
        ledger.write(f"{rack} {n}\\n")
    return f"wiped {n}"

@workflow
async def tidy(n: int) -> str:
    return await wipe("r1", n)

@workflow
async def spend() -> list[str]:
    decision = await approval(
        "Spend?",
        details={"budget": 7},
        actions=[Action("a", "buy", {"cents": 1}), Action("b", "sell", {"cents": 2})],
    )
    return [type(decision[id]).__name__ for id in "ab"] + [str(decision.by)]

@workflow
async def two() -> str:
    decision = await approval("Both?", approvers=["ana", "bob"], quorum=2)
    return str(decision.approved)

@workflow
async def both_spend() -> str:
    buy = [Action("buy", "buy", {"cents": 5})]
    decision = await approval("Spend?", actions=buy, approvers=["ana", "bob"], quorum=2)
    return str(decision["buy"].arguments["cents"])
"""


@pytest.fixture
def desk(shell: Shell) -> Shell:
    (shell.folder / "desk.py").write_text(DESK)
    return shell


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "perdure.db") as database:
        found = database.execute(sql).fetchall()
    database.close()
    return found


def test_a_process_exits_somebody_approves_and_a_worker_goes_on(desk: Shell) -> None:
    waits = desk("run", "desk:tidy", "3", "--id", "t")
    assert waits.code == 3
    assert "perdure approve t:wipe:approval#1 --by NAME" in waits.out.replace("'", "")
    inbox = desk("inbox", "--by", "dan")
    assert "Wipe 3 disks of r1?" in inbox.out
    assert 'wipe: wipe {"rack": "r1", "n": 3}' in inbox.out
    assert "decided by ana" in inbox.out
    refused = desk("approve", "t", "--by", "bob")
    assert (refused.code, "bob is not among those who decide" in refused.err) == (1, True)
    assert desk("answer", "t", "true").code == 1
    done = desk("approve", "t", "--by", "ana", "--comment", "they are old", "--json")
    assert (done.code, done.json["request"]["answered_by"]) == (0, "ana")
    assert desk("approve", "t:wipe:approval#1", "--by", "ana").code == 0
    late = desk("reject", "t:wipe:approval#1", "--by", "ana")
    assert (late.code, "approved by ana" in late.err) == (1, True)
    assert not (desk.folder / "ledger.txt").exists()
    with desk.worker("desk"):
        assert desk("watch", "t").code == 0
    assert desk.ledger() == ["r1 3"]
    [(by, via, comment, digest, at)] = rows(
        desk.folder, "select decided_by, decided_via, comment, digest, decided_at from approval_decisions"
    )
    assert (by, via, comment) == ("ana", "cli", "they are old")
    assert at
    assert rows(desk.folder, "select digest from approval_requests") == [(digest,)]
    told = desk("audit", "t", "--json")
    assert told.code == 0
    whats = [(m["what"], m["who"]) for m in told.json["moments"]]
    assert whats == [
        ("started", None),
        ("asked", None),
        ("seen", "dan"),
        ("approved", "ana"),
        ("consumed", None),
        ("completed", None),
    ]
    assert "ana (unverified)" in desk("audit", "t").out


def test_edited_arguments_are_what_runs_and_a_wrong_edit_changes_nothing(desk: Shell) -> None:
    desk("run", "desk:tidy", "3", "--id", "t")
    for wrong in ('{"n": "many"}', '{"disks": 2}', "[1]"):
        said = desk("approve", "t", "--by", "ana", "--edit", wrong)
        assert (said.code, "nothing was changed" in said.err) == (1, True), said
    assert desk("approve", "t", "--by", "ana", "--edit", '{"n": 1, "n": 2}').code == 2
    assert desk("approve", "t", "--by", "ana", "--edit", '{"n": 2}').code == 0
    assert desk("run", "desk:tidy", "3", "--id", "t").out == '"wiped 2"\n'
    assert desk.ledger() == ["r1 2"]


def test_several_actions_are_decided_each_for_itself(desk: Shell) -> None:
    desk("run", "desk:spend", "--id", "s")
    assert desk("approve", "s", "--except", "c").code == 1
    part = desk("approve", "s", "--except", "b", "--edit", '{"a": {"cents": 9}}', "--by", "eva")
    assert "approved in part by eva" in part.out
    assert desk("run", "desk:spend", "--id", "s", "--json").json["output"] == ["Approved", "Rejected", "eva"]


def test_a_quorum_says_who_is_still_to_decide(desk: Shell) -> None:
    desk("run", "desk:two", "--id", "q")
    first = desk("approve", "q", "--by", "ana")
    assert "still to be decided by ana or bob" in first.out
    assert desk("claim", "q", "--by", "bob").code == 0
    assert desk("comment", "q", "soon", "--by", "bob").code == 0
    assert desk("reassign", "q", "--to", "cid", "--by", "bob", "--json").json["request"]["assignee"] == "cid"
    assert desk("approve", "q", "--by", "bob").code == 1
    assert desk("approve", "q", "--by", "cid").code == 0
    assert desk("run", "desk:two", "--id", "q").out == '"True"\n'


def test_people_who_say_different_things_are_told_so_and_either_joins_the_other(desk: Shell) -> None:
    desk("run", "desk:both_spend", "--id", "q")
    desk("approve", "q", "--by", "ana", "--edit", '{"cents": 4}')
    differ = desk("approve", "q", "--by", "bob")
    words = 'ana and bob say different things (ana: edited to {"cents":4}; bob: approved)'
    assert words in differ.out
    assert words in desk("inbox").out
    assert words in desk("show", "q").out
    [item] = desk("inbox", "--json").json["items"]
    assert item["split"] == {"ana": 'edited to {"cents":4}', "bob": "approved"}
    assert "approved by bob" in desk("approve", "q", "--by", "bob", "--edit", '{"cents": 4}').out
    assert desk("audit", "q").code == 0
    assert desk("run", "desk:both_spend", "--id", "q").out == '"4"\n'


def test_a_rejected_step_never_runs(desk: Shell) -> None:
    desk("run", "desk:tidy", "3", "--id", "t")
    assert "is rejected by ana" in desk("reject", "t", "--by", "ana", "--reason", "keep them").out
    failed = desk("run", "desk:tidy", "3", "--id", "t")
    assert (failed.code, "wipe was rejected by ana: keep them" in failed.err) == (1, True)
    assert not (desk.folder / "ledger.txt").exists()


def test_at_a_terminal_the_decision_is_typed(desk: Shell) -> None:
    said = desk.terminal("run", "desk:spend", "--interactive", typed="perhaps\napprove all of it\n")
    assert "a decision is 'approve', 'reject'" in said.out
    assert said.code == 0


TAMPERED = {
    "update audit_events set actor = 'eva' where what = 'approved'": "event 2 was changed",
    "update audit_events set comment = 'no' where what = 'approved'": "event 2 was changed",
    "delete from audit_events where what = 'seen'": "event 1 is missing",
    "delete from audit_events where what = 'approved'": "the chain says dan",
    "delete from audit_events": "no event says by whom",
    "update approval_decisions set decided_by = 'eva'": "is not that of the chain",
    "update approval_decisions set decision = 'rejected'": "is not that of the chain",
    "update approval_decisions set comment = 'never'": "is not that of the chain",
    "delete from approval_decisions": "the decision of ana on",
    "update approval_requests set answered_by = 'eva'": "the chain says ana",
    "update approval_requests set message = 'Wipe 1 disk?'": "its digest does not fit",
    """update approval_requests set details = replace(details, '"n":3', '"n":1')""": "its digest does not fit",
}


def test_what_was_changed_in_the_tables_is_found(desk: Shell) -> None:
    desk("run", "desk:tidy", "3", "--id", "t")
    desk("inbox", "--by", "dan")
    desk("approve", "t", "--by", "ana")
    desk("run", "desk:tidy", "3", "--id", "t")
    assert desk("audit", "t").code == 0
    for sql, words in TAMPERED.items():
        bad = desk.folder / "bad.db"
        with sqlite3.connect(desk.folder / "perdure.db") as good, sqlite3.connect(bad) as database:
            good.backup(database)
            assert database.execute(sql).rowcount > 0, sql
        good.close()
        database.close()
        told = desk("audit", "t", "--db", "sqlite:///bad.db")
        assert told.code == 1, sql
        assert words in told.err, (sql, told.err)
        for file in desk.folder.glob("bad.db*"):
            file.unlink()


ANSWERED = """
from perdure import interrupt, workflow

@workflow
async def where() -> str:
    return await interrupt("Where to?", schema=str)
"""


def test_an_answer_that_was_changed_in_the_tables_is_found(shell: Shell) -> None:
    (shell.folder / "asks.py").write_text(ANSWERED)
    shell("run", "asks:where", "--id", "w")
    shell("answer", "w", "home", "--by", "ana")
    assert shell("audit", "w").code == 0
    with sqlite3.connect(shell.folder / "perdure.db") as database:
        database.execute("update approval_requests set answer = '\"away\"'")
    database.close()
    told = shell("audit", "w")
    assert told.code == 1
    assert "NOT WHOLE: the answer of w:interrupt#1 was changed after it was given" in told.err


def test_csv_holds_every_column_and_no_formula(desk: Shell) -> None:
    desk("run", "desk:spend", "--id", "s")
    desk("approve", "s", "--by", "=cmd()", "--comment", "+1")
    told = desk("audit", "s", "--csv")
    read = list(csv.DictReader(io.StringIO(told.out)))
    [decided] = [row for row in read if row["what"] == "approved"]
    assert (decided["who"], decided["words"], decided["via"]) == ("'=cmd()", "'+1", "cli")
    assert decided["digest"]


ODD = """
from perdure import approval, step, workflow

@step
async def first() -> None: ...

@workflow
async def odd() -> bool:
    await first()
    return (await approval("On?")).approved
"""


def test_a_blocked_execution_is_settled_from_the_inbox(shell: Shell) -> None:
    (shell.folder / "odd.py").write_text(ODD)
    shell("run", "odd:odd", "--id", "o")
    shell("approve", "o")
    (shell.folder / "odd.py").write_text(ODD.replace("    await first()\n", ""))
    assert shell("run", "odd:odd", "--id", "o").code == 1
    inbox = shell("inbox")
    assert "odd is blocked" in inbox.out
    assert "perdure resolve o resume" in inbox.out
    (shell.folder / "odd.py").write_text(ODD)
    assert shell("resolve", "o", "done").code == 1
    assert shell("resolve", "o", "resume", "--by", "ops").code == 0
    assert shell("run", "odd:odd", "--id", "o").out == "true\n"
    assert [m["who"] for m in shell("audit", "o", "--json").json["moments"] if m["what"] == "resumed"] == ["ops"]
    assert shell("resolve", "o", "resume").code == 1


def test_an_approval_takes_no_answer_and_no_hint_to_quote_one(desk: Shell) -> None:
    desk("run", "desk:tidy", "3", "--id", "t")
    said = desk("answer", "t", "true")
    assert said.code == 1
    assert "is decided (approve, reject), not answered; nothing was changed\n" in said.err


def test_resolve_says_what_can_be_resolved_or_that_nothing_is(shell: Shell) -> None:
    (shell.folder / "odd.py").write_text(ODD)
    shell("run", "odd:odd", "--id", "o")
    asks = shell("resolve", "o", "done")
    assert asks.code == 1
    assert "nothing of o (waiting) waits to be resolved" in asks.err
    assert "o:approval#1" in asks.err, "what it asks is not named"
    shell("approve", "o")
    (shell.folder / "odd.py").write_text(ODD.replace("    await first()\n", ""))
    shell("run", "odd:odd", "--id", "o")
    blocked = shell("resolve", "o", "done")
    assert blocked.code == 1
    assert "o is blocked, and is resolved by resume or by cancel: " in blocked.err
    assert "o:approval#1" not in blocked.err, "what is decided long ago is named"
    shell("resolve", "o", "cancel")
    ended = shell("resolve", "o", "done")
    assert ended.code == 1
    assert "nothing of o (cancelled) waits to be resolved" in ended.err


@pytest.mark.parametrize("store", ["file", "postgres", "mysql"])
def test_on_every_store_a_decision_outlives_the_processes(
    desk: Shell, store: str, request: pytest.FixtureRequest
) -> None:
    url = f"file://{desk.folder}/store" if store == "file" else request.getfixturevalue(f"{store}_url")
    assert desk("run", "desk:tidy", "3", "--id", "t", "--db", url).code == 3
    [item] = desk("inbox", "--db", url, "--json").json["items"]
    assert desk("approve", "t", "--by", "ana", "--db", url).code == 0
    assert desk("run", "desk:tidy", "3", "--id", "t", "--db", url).out == '"wiped 3"\n'
    assert desk.ledger() == ["r1 3"]
    told = desk("audit", "t", "--db", url, "--json")
    assert (told.code, told.json["faults"]) == (0, [])
    [approved] = [m for m in told.json["moments"] if m["what"] == "approved"]
    assert (approved["who"], approved["digest"]) == ("ana", item["digest"])
