"""Checks that convict nobody prove nothing: each planted bug is convicted, by the promise it breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.processes import Servers
from tests.crash.trials import Trial

# The plant; where its host is killed; whether the host after it has it, too; the promise that convicts it.
CASES = [
    ("ack_before_commit", [f"before:{n}" for n in range(9, 33, 4)], False, "I1"),
    ("enter_twice", ["after:70"], False, "I3"),
    ("forget_outcome", ["after:12"], True, "I33"),
    ("keep_fence", ["after:12", "after:30"], True, "I9"),
    ("answer_in_memory", [None], False, "I18"),
]


@pytest.mark.parametrize(("plant", "kills", "again", "promise"), CASES, ids=[case[0] for case in CASES])
def test_a_planted_bug_is_convicted(
    servers: Servers, folder: Path, plant: str, kills: list[str | None], again: bool, promise: str
) -> None:
    wrong = []
    for n, kill in enumerate(kills):
        trial = Trial(servers, folder, "sqlite:///", f"trial-{n}")
        assert trial.run(plant=plant, kill=kill).killed
        trial.look()
        trial.run(plant=plant if again else None, patience=4.0, must_end=False)
        wrong += trial.wrong()
    print(*wrong[:5], sep="\n")
    assert [line for line in wrong if promise in line.split(": ")[1].split(", ")]
