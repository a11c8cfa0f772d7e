"""When to try again, by tables."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.retry import Retry, delay

STEADY = Retry(attempts=10, jitter=0.0)


@pytest.mark.parametrize(
    "attempt, seconds", [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (9, 60.0), (10, None), (11, None)]
)
def test_waits_double_up_to_the_longest_and_end_with_the_attempts(attempt: int, seconds: float | None) -> None:
    assert delay(STEADY, attempt, ValueError(), 0.5) == seconds


def test_attempts_count_the_first_try() -> None:
    assert delay(Retry(attempts=1), 1, ValueError(), 0.0) is None
    assert delay(Retry(attempts=2), 1, ValueError(), 0.0) == 1.0
    assert delay(Retry(attempts=2), 2, ValueError(), 0.0) is None


def test_without_a_policy_nothing_is_tried_again() -> None:
    assert delay(None, 1, ValueError(), 0.0) is None


@pytest.mark.parametrize(
    "policy, error, again",
    [
        (Retry(), TimeoutError(), True),
        (Retry(), ValueError(), True),
        (Retry(), ExceptionGroup("g", [ValueError()]), True),
        (Retry(), asyncio.CancelledError(), False),
        (Retry(), KeyboardInterrupt(), False),
        (Retry(retry_on=(OSError,)), FileNotFoundError(), True),
        (Retry(retry_on=(OSError,)), ValueError(), False),
        (Retry(retry_on=OSError), ConnectionError(), True),
        (Retry(retry_on=()), ValueError(), False),
        (Retry(give_up_on=(LookupError,)), KeyError(), False),
        (Retry(give_up_on=(LookupError,)), ValueError(), True),
        (Retry(retry_on=(OSError,), give_up_on=(PermissionError,)), PermissionError(), False),
        (Retry(retry_on=(asyncio.CancelledError,)), asyncio.CancelledError(), True),
    ],
    ids=str,
)
def test_the_error_decides_and_giving_up_wins(policy: Retry, error: BaseException, again: bool) -> None:
    assert (delay(policy, 1, error, 0.0) is not None) is again


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.floats(1, 1e6))
def test_a_wait_is_never_longer_than_the_longest_nor_shorter_than_jitter_allows(
    attempt: int, random: float, jitter: float, factor: float
) -> None:
    wait = delay(Retry(attempts=10_000, jitter=jitter, factor=factor), attempt, ValueError(), random)
    whole = delay(Retry(attempts=10_000, jitter=0, factor=factor), attempt, ValueError(), random)
    assert wait is not None and whole is not None
    assert whole * (1 - jitter) <= wait <= whole <= 60.0


def test_a_wait_of_nothing_stays_nothing_however_many_attempts() -> None:
    assert delay(Retry(attempts=10_000, initial=0), 9_000, ValueError(), 0.3) == 0.0


def test_durations_are_seconds_or_timedeltas() -> None:
    assert Retry(initial=timedelta(milliseconds=500), max_interval=timedelta(hours=1)) == Retry(
        initial=0.5, max_interval=3600
    )


def test_a_policy_is_a_frozen_hashable_value() -> None:
    assert len({Retry(), Retry(), Retry(attempts=4)}) == 2
    with pytest.raises(FrozenInstanceError):
        Retry().attempts = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    "arguments, kind, words",
    [
        ({"attempts": 0}, ValueError, "at least 1, not 0"),
        ({"attempts": 2.0}, TypeError, "attempts"),
        ({"attempts": True}, TypeError, "attempts"),
        ({"initial": -1}, ValueError, "initial"),
        ({"initial": "1"}, TypeError, "initial"),
        ({"initial": float("nan")}, TypeError, "initial"),
        ({"max_interval": timedelta(-1)}, ValueError, "max_interval"),
        ({"max_interval": float("inf")}, TypeError, "max_interval"),
        ({"factor": 0.5}, ValueError, "factor"),
        ({"jitter": 1.5}, ValueError, "jitter"),
        ({"jitter": -0.1}, ValueError, "jitter"),
        ({"retry_on": (5,)}, TypeError, "retry_on"),
        ({"retry_on": ["x"]}, TypeError, "retry_on"),
        ({"give_up_on": int}, TypeError, "give_up_on"),
    ],
)
def test_a_wrong_policy_says_which_argument_is_wrong(arguments: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Retry(**arguments)
