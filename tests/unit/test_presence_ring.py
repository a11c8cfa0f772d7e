"""Who watches whom, and when a free lock is believed."""

from __future__ import annotations

import pytest

from perdure.stores.presence_ring import GAP, MISTRUST, Sightings, neighbour


@pytest.mark.parametrize(
    ("me", "ring", "watched"),
    [(1, [], None), (1, [1], None), (1, [1, 2, 3], 2), (3, [1, 2, 3], 1), (2, [9, 1, 2], 9), (5, [1, 9], 9)],
)
def test_each_watches_the_next_one_and_the_last_the_first(me: int, ring: list[int], watched: int | None) -> None:
    assert neighbour(me, ring) == watched


def test_in_a_ring_everybody_is_watched_by_exactly_one() -> None:
    ring = [3, 14, 15, 92, 65]
    assert sorted(str(neighbour(me, ring)) for me in ring) == sorted(map(str, ring))


def test_a_free_lock_is_believed_at_the_second_look() -> None:
    seen = Sightings()
    assert seen.see([7], 10.0) == []
    assert seen.is_unsure()
    assert seen.see([7], 10.0 + GAP / 2) == []
    assert seen.see([7, 8], 10.0 + GAP) == [7]
    assert seen.see([7, 8], 10.0 + 3 * GAP) == [7, 8]


def test_a_lock_that_was_held_in_between_begins_anew() -> None:
    seen = Sightings()
    seen.see([7], 10.0)
    assert seen.see([], 10.1) == []
    assert not seen.is_unsure()
    assert seen.see([7], 10.0 + GAP) == []
    assert seen.see([7], 10.0 + 3 * GAP) == [7]


def test_who_was_cut_off_itself_believes_nothing_for_a_while() -> None:
    seen = Sightings()
    seen.see([7], 10.0)
    seen.doubt(10.1)
    assert seen.see([7], 10.1 + GAP) == []
    assert seen.see([7], 10.1 + MISTRUST) == []
    assert seen.see([7], 10.1 + MISTRUST + 2 * GAP) == [7]
