"""A checker that never finds anything is worth nothing: each planted bug must be caught by some seed."""

from __future__ import annotations

import pytest

from perdure.testing.simulation import simulate
from tests.simulation.plants import PLANTS

SEEDS = 40

# Branches that end before they began leave coroutines of the plan behind that nobody awaited.


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_caught(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PLANTS[plant](monkeypatch)
    factory = None if store is None else (lambda clock: store(clock=clock))
    for seed in range(SEEDS):
        found = simulate(seed, store_factory=factory).violations
        if found:
            print(f"{plant}: caught by seed {seed}: {found[0][:200]}")
            return
    pytest.fail(f"{plant} was not caught by {SEEDS} seeds")
