"""Ten thousand values of every kind: equal value and equal type come back, by the annotation and without one (I7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from perdure.arguments import Arguments
from perdure.codec import ANY, Codec, Coder
from perdure.sameness import same
from tests.unit.value_kinds import HINTED, Order, leaves, picture, values

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=SLOW)


def comes_back(value: Any, hint: Any) -> None:
    coder = Coder(hint)
    text, copy = coder.record(value)
    read = coder.decode(text)
    assert text.isascii()
    json.loads(text)
    assert picture(copy) == picture(read) == picture(value), text
    assert same(read, value)
    # What was read is recorded as before: replay compares texts.
    assert coder.record(read)[0] == text


@pytest.mark.parametrize("part", range(4))
def test_every_value_comes_back_without_an_annotation(part: int) -> None:
    @seed(part)
    @examples(1000)
    @given(values)
    def check(value: Any) -> None:
        comes_back(value, ANY)

    check()


@seed(1)
@examples(2000)
@given(leaves)
def test_every_leaf_comes_back_alone_and_in_a_list(value: Any) -> None:
    comes_back(value, ANY)
    comes_back([value], list)


@pytest.mark.parametrize("strategy, hint", HINTED, ids=lambda part: repr(part)[:40])
def test_every_value_comes_back_by_its_annotation(strategy: Any, hint: Any) -> None:
    @seed(1)
    @examples(100)
    @given(strategy)
    def check(value: Any) -> None:
        comes_back(value, hint)
        comes_back(value, ANY)

    check()


@seed(1)
@examples(1000)
@given(values, st.sampled_from([hint for _, hint in HINTED]))
def test_an_annotation_that_does_not_fit_changes_no_value(value: Any, hint: Any) -> None:
    comes_back(value, hint)


@seed(1)
@examples(1000)
@given(values, HINTED[0][0])
def test_arguments_come_back_with_their_types(value: Any, many: Any) -> None:
    def call(first: Any, /, many: list[Order], *rest: Any, **named: Any) -> None: ...

    arguments = Arguments(call, Codec())
    text, _ = arguments.bind((value, many, value), {"more": value})
    args, kwargs = arguments.unbind(text)
    assert picture((args, kwargs)) == picture(((value, many, value), {"more": value}))
    assert arguments.normalize(text) == text
