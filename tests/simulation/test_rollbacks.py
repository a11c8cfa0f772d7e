"""Rollbacks under everything that goes wrong."""

from __future__ import annotations

import os
from typing import Any

import pytest

from perdure import rolling
from tests.simulation.rollbacks import run

FIRST, _, LAST = os.environ.get("PERDURE_SEEDS", "0:120").rpartition(":")
SEEDS = range(int(FIRST or 0), int(LAST))
AT_ONCE = 20


@pytest.mark.parametrize("first", SEEDS[::AT_ONCE])
def test_nothing_is_broken(first: int) -> None:
    broken = []
    for seed in range(first, min(first + AT_ONCE, SEEDS.stop)):
        broken += [f"seed {seed}: {line}" for line in run(seed)]
    assert not broken, "\n".join(broken)


def test_undos_that_are_forgotten_are_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Any = rolling._Rollback._note

    def note(self: Any, entry: Any) -> None:
        if entry.kind != "undo" or entry.fence == self.run.fence:
            known(self, entry)

    monkeypatch.setattr(rolling._Rollback, "_note", note)
    assert any("I28" in line for seed in range(40) for line in run(seed))


def test_a_skipped_undo_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = rolling.plan

    def plan(*given: Any) -> Any:
        found = real(*given)
        return type(found)(found.to, found.tasks[:-1], found.pivot, found.voided)

    monkeypatch.setattr(rolling, "plan", plan)
    assert any("I29" in line for seed in range(10) for line in run(seed))
