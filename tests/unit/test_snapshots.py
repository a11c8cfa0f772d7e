"""States as differences: what is read back is what was recorded, or a named error."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from perdure.codec import checksum
from perdure.errors import DecodeError
from perdure.records import Snapshot
from perdure.snapshots import Chain, applied, difference, latest, restored, same, text_of

scalars = some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False)
trees = some.recursive(
    scalars | some.text(),
    lambda inner: some.lists(inner, max_size=5) | some.dictionaries(some.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)
states = some.dictionaries(some.text(max_size=4), trees, max_size=6)


def recorded(found: list[Any], branch: str = "1") -> list[Snapshot]:
    chain = Chain()
    rows = []
    for seq, state in enumerate(found, 1):
        link = chain.add(state)
        rows.append(
            Snapshot("x", seq, branch, 0, None, "wait", link.kind, link.base_digest, link.digest, link.text, "json",
                     checksum(link.text), int(branch))
        )  # fmt: skip
    return rows


@given(trees, trees)
def test_a_difference_makes_the_new_of_the_old(old: Any, new: Any) -> None:
    before = copy.deepcopy(old)
    made = applied(old, difference(old, new))
    assert same(made, new)
    assert same(old, before), "the old one was changed"


@given(some.lists(states, min_size=1, max_size=8))
def test_each_state_of_a_chain_is_read_back(found: list[Any]) -> None:
    rows = recorded(found)
    assert rows[0].kind == "full"
    for row, state in zip(rows, found, strict=True):
        assert same(restored(rows, row), state)


def test_what_python_takes_for_equal_is_told_apart() -> None:
    rows = recorded([{"a": 1, "b": [1, 0]}, {"a": True, "b": [1.0, False]}])
    assert text_of(restored(rows, rows[1])) == '{"a":true,"b":[1.0,false]}'


def test_a_growing_state_costs_at_most_half_more_than_its_final_size() -> None:
    state: dict[str, Any] = {"documents": []}
    found = []
    for n in range(1000):
        state = {"documents": [*state["documents"], f"{n:06}" + "x" * 1018]}
        found.append(state)
    rows = recorded(found)
    stored = sum(len(row.state) for row in rows)
    assert stored <= 1.5 * len(text_of(state)), f"{stored / len(text_of(state)):.2f} times"
    for row, wanted in zip(rows, found, strict=True):
        if row.seq % 37 == 0 or row.seq > 997:
            assert restored(rows, row) == wanted


def test_a_growing_text_costs_at_most_half_more_than_its_final_size() -> None:
    found = [{"text": "".join(f"{k:06}" + "x" * 1018 for k in range(n))} for n in range(1, 200)]
    rows = recorded(found)
    assert sum(len(row.state) for row in rows) <= 1.5 * len(text_of(found[-1]))
    assert all(restored(rows, row) == state for row, state in zip(rows, found, strict=True))


def damaged(rows: list[Snapshot], n: int, **changes: Any) -> list[Snapshot]:
    changed = replace(rows[n], **changes)
    if "state" in changes:
        changed.checksum = checksum(changed.state)
    return [*rows[:n], changed, *rows[n + 1 :]]


def test_a_broken_link_is_an_error_that_names_execution_and_entry() -> None:
    rows = recorded([{"a": "x" * 200, "n": n} for n in range(5)])
    assert [row.kind for row in rows[1:]] == ["difference"] * 4
    whole = '{"a":"","n":0}'
    for broken, seq in (
        ([*rows[:2], *rows[3:]], 4),  # a link is missing
        (rows[1:], 5),  # the full one is missing
        (damaged(rows, 2, state='["d",{"n":["=",9]},[]]')[:3], 3),
        (damaged(rows, 2, state='["d",{"a":["=",""]},[]]'), 5),
        (damaged(rows, 2, state="[]"), 3),
        (damaged(rows, 2, state="{"), 3),
        (damaged(rows, 0, state=whole), 5),
        ([*rows[:3], replace(rows[3], state=rows[3].state + " "), rows[4]], 4),
    ):
        with pytest.raises(DecodeError, match=rf"snapshot of x at entry {seq} is damaged") as found:
            restored(broken, broken[-1])
        assert found.value.execution_id == "x"


def test_chains_of_different_owners_do_not_touch() -> None:
    first, second = recorded([{"a": 1}, {"a": 2}], "1"), recorded([{"b": 1}, {"b": 2}, {"b": 3}], "10")
    rows = [*first, *second]
    assert restored(rows, first[1]) == {"a": 2}
    assert restored(rows, second[1]) == {"b": 2}
    assert latest(rows, 2) is second[1]
    assert latest(rows) is second[2]
    assert latest(rows, 0) is None
