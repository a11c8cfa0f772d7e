"""Timestamps as text: exact, and in the order of time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.stores.timestamps import from_text, to_text

LAST = 253402300799_999999  # the end of the year 9999
MOMENTS = st.integers(min_value=0, max_value=LAST)


@given(MOMENTS)
def test_what_is_written_is_read(when: int) -> None:
    assert from_text(to_text(when)) == when


@given(MOMENTS, st.integers(min_value=-2_000_000, max_value=2_000_000))
def test_text_is_ordered_as_time_is(when: int, apart: int) -> None:
    other = min(max(when + apart, 0), LAST)
    assert (to_text(when) < to_text(other)) == (when < other)


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1795293180_123456, "2026-11-21T20:33:00.123456Z"),
        (1795293180_000007, "2026-11-21T20:33:00.000007Z"),
        (LAST, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_how_it_looks(when: int, text: str) -> None:
    assert to_text(when) == text


@pytest.mark.parametrize("text", ["", "soon", "2026-11-21T20:33:00Z", "2026-11-21 20:33:00.123456+00:00", "x" * 27])
def test_other_text_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(text)
