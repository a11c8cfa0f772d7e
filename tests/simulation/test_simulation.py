"""The kernel under everything that goes wrong: every seed is clean, and is the same history each time.

`PERDURE_SEEDS=1000:3000 pytest tests/simulation` runs others. A seed that fails stays failing: run it alone.
"""

from __future__ import annotations

import os

import pytest

from perdure.testing.faults import Faults
from perdure.testing.simulation import simulate

FIRST, _, LAST = os.environ.get("PERDURE_SEEDS", "0:200").rpartition(":")
SEEDS = range(int(FIRST or 0), int(LAST))
AT_ONCE = 20

# Branches that end before they began leave coroutines of the plan behind that nobody awaited.


@pytest.mark.parametrize("first", SEEDS[::AT_ONCE])
def test_nothing_is_broken(first: int) -> None:
    broken = []
    for seed in range(first, min(first + AT_ONCE, SEEDS.stop)):
        report = simulate(seed)
        broken += [f"seed {seed}: {line}" for line in report.violations]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("seed", [0, 7, 23])
def test_the_same_seed_is_the_same_history(seed: int) -> None:
    assert simulate(seed).digest == simulate(seed).digest


def test_another_seed_is_another_history() -> None:
    assert simulate(0).digest != simulate(1).digest


def test_without_faults_nothing_is_broken_either() -> None:
    for seed in range(5):
        assert not simulate(seed, faults=Faults.none()).violations
