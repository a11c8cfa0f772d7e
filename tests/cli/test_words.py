"""What a person reads, without a process: tables that fit, values in JSON, examples of answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest

from perdure.cli import words
from perdure.cli.example import example
from perdure.cli.times import parse_span
from perdure.cli.working import limit_words
from perdure.records import Limit
from perdure.schema import check, schema_of


@dataclass
class Address:
    street: str
    number: int
    kind: Literal["home", "work"]
    inner: Address | None


@pytest.mark.parametrize(
    "hint",
    [
        str,
        int,
        float,
        bool,
        None,
        list[int],
        dict[str, int],
        tuple[int, str],
        Address,
        int | str,
        str | None,
        Literal["yes", "no"],
        Decimal,
        timedelta,
        Annotated[int, msgspec.Meta(ge=5)],
        Annotated[int, msgspec.Meta(gt=5)],
        Annotated[int, msgspec.Meta(le=-5)],
        Annotated[str, msgspec.Meta(min_length=9)],
        Annotated[list[int], msgspec.Meta(min_length=2)],
        Any,
    ],
    ids=repr,
)
def test_an_example_fits_its_schema(hint: Any) -> None:
    schema = schema_of(hint)
    made = example(schema)
    assert made != "JSON"
    assert check(schema, made) is None


def test_where_no_example_is_found_none_is_invented() -> None:
    assert example('{"type": "string", "pattern": "^[0-9]{9}$"}') == "JSON"


@pytest.mark.parametrize("room", [40, 60, 80, 300])
def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(words, "columns", lambda: room)
    rows = [
        ["01a1fffa-bd3c-7802-ae5e-90c0d83e189a", "a_workflow_of_a_very_long_name" * 3, "running"],
        ["x", "早" * 40, "w"],
    ]
    lines = words.table(("ID", "WORKFLOW", "STATUS"), rows, narrow=(0, 1))
    assert max(map(words.width, lines)) <= room
    assert all("running" in line or "w" in line.lower() for line in lines)


@pytest.mark.parametrize("room", [10, 25, 45])
def test_where_nothing_fits_lines_are_cut_and_never_wrapped(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(words, "columns", lambda: room)
    rows = [["01a1fffa-bd3c-7802", "fulfil", "running", "2026-11-22 08:00:00"]]
    lines = words.table(("ID", "WORKFLOW", "STATUS", "CREATED (UTC)"), rows, narrow=(0, 1))
    assert max(map(words.width, lines)) <= room


def test_ids_keep_their_beginning_and_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"{'order-' * 30}{n}" for n in (1, 2)]
    rows = [[id, "fulfil", "running"] for id in ids]
    monkeypatch.setattr(words, "columns", lambda: 60)
    lines = words.table(("ID", "WORKFLOW", "STATUS"), rows, narrow=(0, 1), ids=(0,))
    assert max(map(words.width, lines)) <= 60
    shown = [line.split()[0] for line in lines[1:]]
    for id, whole in zip(shown, ids, strict=True):
        beginning, ellipsis, end = id.partition("…")
        assert ellipsis and len(beginning) > len(end) > 9
        assert whole.startswith(beginning) and whole.endswith(end)
    monkeypatch.setattr(words, "columns", lambda: None)
    assert [line.split()[0] for line in words.table(("ID", "W", "S"), rows, narrow=(0, 1), ids=(0,))[1:]] == ids


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("only with force=True", "only with --force"),
        ("say who decides, by=; nothing was changed", "say who decides, --by; nothing was changed"),
        ("say who, by=", "say who, --by"),
        ("order=True, wants by=7 and byby= and x.by=ana", "order=True, wants by=7 and byby= and x.by=ana"),
    ],
)
def test_at_the_shell_arguments_are_options(message: str, shown: str) -> None:
    assert words.at_shell(message, {"force": "--force", "by": "--by"}) == shown


def test_elsewhere_a_table_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "columns", lambda: None)
    lines = words.table(("ID", "NAME"), [["x" * 300, "a\nb\tc"]], narrow=(0, 1))
    assert lines[1] == f"{'x' * 300}  a b c"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (float("nan"), "nan"),
        ([float("inf")], ["inf"]),
        ({1: {2}}, {"1": [2]}),
        (Decimal("1.50"), "1.50"),
        (b"\x00", "AA=="),
        (2**70, 2**70),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
        (Address("x", 1, "home", None), {"street": "x", "number": 1, "kind": "home", "inner": None}),
        (object, str(object)),
        ("\ud800", "\ud800"),
    ],
    ids=repr,
)
def test_every_value_has_a_form_in_json(value: Any, data: Any) -> None:
    assert words.to_data(value) == data
    assert json.loads(words.to_json(value)) == data
    assert words.to_json(value).isprintable()


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202egnp.exe", "\ud800"])
def test_plain_text_cannot_drive_a_terminal(text: str) -> None:
    shown = words.plain(text)
    assert shown.isprintable()
    assert re.search(r"\\[xu]", shown)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0124, "12 ms"), (3.44, "3.4 s"), (300, "5 min"), (7200, "2.0 h"), (-1, "0 ms")]
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert words.took(start, start + timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("1.5h", timedelta(minutes=90)),
        ("30D", timedelta(days=30)),
        ("4w", timedelta(weeks=4)),
        ("30", None),
        ("-1d", None),
        ("1e9d", None),
        ("99999999999999d", None),
    ],
)
def test_a_span_is_a_number_and_a_unit(text: str, span: timedelta | None) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (Limit("q"), ""),
        (Limit("q", 10), " (at most 10 at once)"),
        (Limit("q", 10, 100, 60_000_000, "customer"), " (at most 10 at once, 100 starts in 60 s, for each customer)"),
    ],
)
def test_a_queues_limit_in_words(limit: Limit, said: str) -> None:
    assert limit_words(limit) == said
