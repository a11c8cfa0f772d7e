"""`events`, `value`, and what `show` says of both."""

from __future__ import annotations

import pytest

from .conftest import Shell, read_until


@pytest.fixture
def told(shell: Shell) -> Shell:
    assert shell("run", "app:talks", "true", "--id", "t").code == 3
    return shell


def test_what_was_emitted_is_a_line_of_json_each(told: Shell) -> None:
    said = told("events", "t")
    first, *rest = said.out.splitlines()
    assert (said.code, rest) == (0, ['"one"', '"one"']), said.err
    assert '{"item": "lamp", "cents": 5}' in first, "its class is not known here: it has the form of the database"
    assert "speak#1: 1 of 2" in said.err
    assert "speak#1 begins anew (attempt 2)" in said.err
    assert "--follow --after" in said.err


def test_a_document_has_offsets_from_which_it_goes_on(told: Shell) -> None:
    document = told("events", "t", "--json").json
    kinds = [item["event"] for item in document["items"]]
    assert kinds.count("emitted") == 3
    assert kinds.count("restarted") == 1
    assert document["items"][0]["key"] is None
    assert document["items"][-1]["key"] == "speak#1"
    offsets = [item["offset"] for item in document["items"]]
    assert offsets == sorted(set(offsets))
    for n, offset in enumerate(offsets, 1):
        rest = told("events", "t", "--json", "--after", str(offset)).json["items"]
        assert rest == document["items"][n:]


def test_following_ends_with_the_execution(told: Shell) -> None:
    with told.running("events", "t", "--follow") as child:
        read_until(child.stdout, "one")
        told("signal", "t", "letter", '"bye"')
        assert told("run", "app:talks", "true", "--id", "t").code == 0
        assert child.stdout is not None
        assert child.stdout.read().endswith('"bye"\n')
        assert child.wait(60) == 0
    lines = told("events", "t", "--follow", "--json").lines
    assert [line["event"] for line in lines].count("emitted") == 4


def test_the_last_published_value_counts(told: Shell) -> None:
    said = told("value", "t", "mood")
    assert (said.code, said.out) == (0, '{"very": "good"}\n')
    assert told("value", "t", "mood", "--json").json == {"id": "t", "name": "mood", "value": {"very": "good"}}
    missing = told("value", "t", "weather")
    assert missing.code == 1
    assert "so far it has published: mood" in missing.err


def test_show_tells_what_was_published_and_used_and_not_every_event(told: Shell) -> None:
    said = told("show", "t")
    assert 'mood  {"very": "good"}' in said.out
    assert "Used: 6 tokens in, 8 out, cost 1.0" in said.out
    assert "stream" not in said.out
    assert "events t" in said.err
    document = told("show", "t", "--json").json
    assert document["published"] == {"mood": {"very": "good"}}
    assert document["usage"]["models"] == {"m": 14}


def test_one_that_tells_nothing_has_no_such_lines(shell: Shell) -> None:
    shell("run", "app:mail", "--id", "m")
    said = shell("show", "m")
    assert "Published" not in said.out
    assert "Used" not in said.out
    assert shell("events", "m").out == ""
