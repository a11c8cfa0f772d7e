"""All stores give the same observable results on the same seeded scripts (I40)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.proofs.scripted import observe

SEEDS = range(5)

_BY_MEMORY: dict[int, dict[str, Any]] = {}


@pytest.fixture(
    params=[
        "sqlite",
        "file",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ]
)
def other(request: pytest.FixtureRequest, folder: Any) -> str:
    if request.param in ("postgres", "mysql"):
        given: str = request.getfixturevalue(f"{request.param}_url")
        return given
    return f"sqlite:///{folder}/perdure.db" if request.param == "sqlite" else f"file://{folder}/perdure"


def differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Where two documents differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            yield from differences(a.get(name), b.get(name), f"{path}.{name}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, (one, two) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, two, f"{path}[{n}]")
    elif a != b:
        yield f"{path}: {a!r} in memory, {b!r} here"


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_seeded_script_has_the_same_results_as_in_memory(other: str, seed: int) -> None:
    if seed not in _BY_MEMORY:
        _BY_MEMORY[seed] = await observe("memory://", seed)
    assert list(differences(_BY_MEMORY[seed], await observe(other, seed))) == []


async def test_scripts_do_all_there_is_to_do() -> None:
    seen: set[str] = set()
    for seed in SEEDS:
        found = await observe("memory://", seed)
        for document in found["executions"].values():
            seen.add(document["execution"]["status"])
            seen.update(entry["kind"] for entry in document["journal"])
            seen.update(request["status"] for request in document["requests"])
        seen.update(line.rpartition(": ")[2] for line in found["told"])
    wanted = {"completed", "failed", "cancelled", "step", "attempt", "intent", "timer", "interrupt", "receive", "send"}
    assert wanted | {"child", "decided", "expired", "withdrawn"} <= seen
