"""Checks that convict nobody prove nothing: each planted bug is convicted, by the promise it breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.processes import Servers
from tests.crash.trials import Trial

# The plant; the boundaries at which its host is killed; whether the one after it has it, too; what convicts it.
CASES = [
    ("ack_before_commit", range(9, 33, 4), False, "I1"),
    ("enter_twice", [70], False, "I3"),
    ("forget_outcome", [12], True, "I33"),
    ("keep_fence", [12, 30], True, "I9"),
    ("answer_in_memory", [90, 100, 110], False, "I18"),
]


@pytest.mark.parametrize(("plant", "boundaries", "again", "promise"), CASES, ids=[case[0] for case in CASES])
def test_a_planted_bug_is_convicted(
    servers: Servers, folder: Path, plant: str, boundaries: list[int], again: bool, promise: str
) -> None:
    wrong = []
    for n in boundaries:
        trial = Trial(servers, folder, "sqlite:///", f"at-{n}")
        assert trial.run(plant=plant, kill=f"after:{n}").killed
        trial.look()
        trial.run(plant=plant if again else None, patience=10.0)
        wrong += trial.wrong()
    assert [line for line in wrong if promise in line.split(": ")[1]], wrong
