"""People who decide, under everything that goes wrong."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from perdure import approving, asking, auditing, deciding, votes, waits
from perdure.deliveries import Decide, Receipt
from perdure.stores.memory import MemoryStore
from perdure.votes import State, Vote
from tests.simulation.approvals import WORLD, run

FIRST, _, LAST = os.environ.get("PERDURE_SEEDS", "0:80").rpartition(":")
SEEDS = range(int(FIRST or 0), int(LAST))
AT_ONCE = 20
TRIED = 40
"""Seeds within which a planted bug must be seen."""


@pytest.mark.parametrize("first", SEEDS[::AT_ONCE])
def test_nothing_is_broken(first: int) -> None:
    broken = []
    for seed in range(first, min(first + AT_ONCE, SEEDS.stop)):
        broken += [f"seed {seed}: {line}" for line in run(seed)]
    assert not broken, "\n".join(broken)


def test_the_same_seed_is_the_same_history() -> None:
    run(3)
    first = list(WORLD.seen), WORLD.history.digest()
    run(3)
    assert (WORLD.seen, WORLD.history.digest()) == first


def seen(mark: str, store: type[MemoryStore] = MemoryStore) -> bool:
    """Does the checker see it?"""
    return any(mark in line for seed in range(TRIED) for line in run(seed, store=lambda clock: store(clock=clock)))


# Planted bugs ---------------------------------------------------------------------------------------------


class LastWord(MemoryStore):
    """A decision is taken whatever was decided before."""

    def _take_part(self, delivery: Decide, now: int) -> Receipt:
        request = self._requests[delivery.request_id]
        if request.status == "decided" and delivery.status == "decided":
            request.status = "open"
        return super()._take_part(self._knowing(delivery), now)

    def _knowing(self, delivery: Decide) -> Decide:
        id = self._requests[delivery.request_id].execution_id
        return replace(delivery, known=len(self._events.get(id, ())))


class LastMoment(LastWord):
    """Time is over, whatever was decided before."""

    def _take_part(self, delivery: Decide, now: int) -> Receipt:
        request = self._requests[delivery.request_id]
        if delivery.status != "expired":
            return MemoryStore._take_part(self, delivery, now)
        if request.status == "decided":
            request.status = "open"
        return MemoryStore._take_part(self, self._knowing(delivery), now)


class Unlocked(LastWord):
    """Nobody looks whether somebody was quicker."""

    def _take_part(self, delivery: Decide, now: int) -> Receipt:
        return MemoryStore._take_part(self, self._knowing(delivery), now)


def test_a_second_decision_that_overwrites_the_first_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "_check_first", lambda *given: None)
    assert seen("after it had been decided", LastWord)


def test_an_expiry_that_wins_after_a_decision_is_convicted() -> None:
    assert seen("was expired by expiry, after it had been decided", LastMoment)


def test_decisions_that_do_not_look_at_one_another_are_convicted() -> None:
    assert seen("and was left open", Unlocked)


def test_a_digest_that_is_not_checked_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    def bound_to_nothing(run: Any, call: Any) -> None:
        request = run.requests.get(call.key)
        approving.enter(run, call) if request is None else approving._take_up(run, call, request)

    monkeypatch.setitem(waits._ENTER, "approval", bound_to_nothing)
    assert seen("the code asks for")


def test_a_quorum_of_one_person_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = votes.count

    def count(state: State, policy: Any, vote: Vote) -> None:
        real(state, policy, replace(vote, by=f"{vote.by} at {vote.at}"))
        state.last = vote

    monkeypatch.setattr(votes, "count", count)
    monkeypatch.setattr(deciding, "count", count)
    monkeypatch.setattr(deciding, "_check_first", lambda *given: None)
    assert seen("without its quorum")


def test_a_request_read_before_its_events_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def take_part(store: Any, clock: Any, request_id: str, part: Any) -> Any:
        while True:
            [request] = await store.requests(ids=[request_id], status=None)
            dossiers = await store.dossiers([request.execution_id])
            receipt = await store.deliver(part(request, dossiers[request.execution_id]), clock.now())
            if receipt.verdict != "owned":
                return receipt

    monkeypatch.setattr(auditing, "take_part", take_part)
    assert any("and may not" in line for seed in (232, *range(80)) for line in run(seed))


def test_an_edit_that_does_not_run_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = asking._permitted

    def permitted(spec: Any, decision: Any, text: str, key: str | None) -> str:
        found = json.loads(real(spec, decision, text, key))
        return json.dumps({**found, "n": found["n"] + 1 if 'edited":true' in text else found["n"]})

    monkeypatch.setattr(asking, "_permitted", permitted)
    assert seen("ran with")


def test_a_rejection_that_does_not_keep_it_from_running_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = asking.raw_arguments

    def raw_arguments(text: str, action_id: str) -> str | None:
        return real(text, action_id) or json.dumps({"order": "e0.0.0", "n": 5, "seconds": 0.0})

    monkeypatch.setattr(asking, "raw_arguments", raw_arguments)
    assert seen(" ran with 5")
