"""`answer` and `signal`."""

from __future__ import annotations

import sqlite3

from .conftest import Shell


def test_a_wrong_answer_is_refused_with_the_reason_and_changes_nothing(shell: Shell) -> None:
    shell("run", "app:order", "--id", "o")
    for text, words in [
        ('{"item": "x"}', "'cents' is missing"),
        ('{"item": "x", "cents": "1"}', "expected an integer"),
        ("a lamp", "this is not JSON"),
        ("NaN", "this is not JSON"),
    ]:
        said = shell("answer", "o", text)
        assert said.code == 1
        assert words in said.err
        assert "nothing was changed" in said.err
    assert shell("answer", "o", '{"item": "x", "cents": 1}').code == 0


def test_a_bare_text_is_an_answer_only_where_a_text_is_asked_for(shell: Shell) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "x")
    number = shell("answer", "x", "42")
    assert number.code == 1
    assert "write '\"42\"'" in number.err
    assert shell("answer", "x", "Main Street 1", "--json").json["request"]["answer"] == "Main Street 1"
    shell("run", "app:anything", "--id", "y")
    assert shell("answer", "y", '{"a": 1').code == 1
    assert shell("answer", "y", '{"a": 1}', "--json").json["request"]["answer"] == {"a": 1}


def test_the_first_answer_stands_and_is_shown(shell: Shell) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "x")
    assert shell("answer", "x", '"here"', "--by", "ana").code == 0
    for id in ("x", "x:interrupt#1", "x:int"):
        second = shell("answer", id, '"there"', "--by", "bob")
        assert second.code == 1
        assert "answered by ana" in second.err
        assert '"here"' in second.err
        assert shell("answer", id, '"here"').code == 0
    assert shell("run", "app:fulfil", '"a lamp"', "--id", "x", "--json").json["output"] == "a lamp to here"


def test_who_answers_is_recorded_as_unverified(shell: Shell) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "x")
    shell("answer", "x", "here", "--by", "ana")
    with sqlite3.connect(shell.folder / "perdure.db") as database:
        rows = database.execute("select answered_by, answered_via from approval_requests").fetchall()
    database.close()
    assert rows == [("ana", "cli")]


def test_an_execution_that_asks_nothing_takes_no_answer(shell: Shell) -> None:
    shell("run", "app:mail", "--id", "m")
    said = shell("answer", "m", "1")
    assert said.code == 1
    assert "m (waiting) asks nothing of anybody" in said.err
    assert shell("answer", "nope", "1").code == 1


def test_the_question_of_a_child_is_answered_by_the_parents_id(shell: Shell) -> None:
    shell("run", "app:family", "--id", "smiths")
    assert shell("answer", "smiths", "here").code == 0
    assert shell("run", "app:family", "--id", "smiths", "--json").json["output"] == "a lamp to here"


def test_a_message_is_delivered_once_for_its_id(shell: Shell) -> None:
    shell("run", "app:mail", "--id", "m")
    assert shell("signal", "m", "letter", "not json").code == 2
    for _ in range(2):
        assert shell("signal", "m", "letter", '"hi"', "--id", "1").code == 0
    done = shell("run", "app:mail", "--id", "m")
    assert done.out == '"hi"\n'
    late = shell("signal", "m", "letter", '"late"')
    assert late.code == 1
    assert "has ended" in late.err
