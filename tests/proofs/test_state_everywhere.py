"""The complete state is the same on every store: now, behind each entry, with the code and from snapshots."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine, MemoryStore, Retry, Waiting, checkpoint, current, gather, interrupt, step, usage, workflow
from perdure.snapshots import restored


@step(name="se_tries", retry=Retry(attempts=2, initial=0.001))
async def tries(n: int) -> int:
    if current().attempt == 1:
        raise OSError("once more")
    usage(model="m", input_tokens=n, output_tokens=1)
    return n


@checkpoint(name="se_pack")
async def pack(n: int) -> dict[str, Any]:
    return {"packed": ["x" * 100] * n}


async def side(name: str, n: int) -> str:
    mine = {"name": name, "umlaut": "äöü \ud83c", "n": n, "half": n / 2}
    return str(await interrupt(f"{name}?", details=mine["name"]))


@workflow(name="se_flow")
async def flow(n: int) -> list[str]:
    total = await tries(n)
    packed = []
    for k in range(3):
        packed.append(await pack(k + total))
    return await gather(side("a", n), side("b", n), side("c", n))


@workflow(name="se_other")
async def other() -> None:
    return None


KINDS = ["sqlite", "file", pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("mysql", marks=pytest.mark.mysql)]  # noqa: E501  # fmt: skip


def timeless(tree: Any) -> Any:
    """Without what differs from run to run."""
    if isinstance(tree, dict):
        return {name: timeless(value) for name, value in tree.items() if name not in ("traceback", "build", "builds")}
    if isinstance(tree, list | tuple):
        return [timeless(item) for item in tree]
    return "a time" if isinstance(tree, datetime) else tree


async def observed(url: Any) -> list[Any]:
    seen: list[Any] = []
    async with Engine(url, workflows=[flow], build="b") as engine:
        handle = await engine.start(flow.options(execution_id="x", by="ann", attributes={"a": 1}), 2)
        assert isinstance(await handle.outcome(), Waiting)
        await engine.answer("x:t2/interrupt#1", "yes", by="ben")
        assert isinstance(await handle.outcome(), Waiting)
        last = (await handle.inspect()).at
        seen += [asdict(await handle.inspect(at=at)) for at in (None, "se_pack", "se_pack#1", *range(last + 1))]
        rows = (await engine.store.dossiers(["x"], snapshots=True))["x"].snapshots
        seen += [[row.seq, row.cause, row.kind, row.digest, restored(rows, row)] for row in rows]
    async with Engine(url, workflows=[other], worker=False) as engine:
        state = await engine.get("x").inspect(at="se_pack#2")
        assert state.source == "snapshot"
        seen.append(asdict(state))
    return [timeless(each) for each in seen]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_state_is_that_of_the_memory_store(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    url = {"sqlite": f"sqlite:///{folder}/perdure.db", "file": f"file://{folder}/perdure"}.get(kind)
    wanted = await observed(MemoryStore())
    found = await observed(url or request.getfixturevalue(f"{kind}_url"))
    assert len(found) == len(wanted)
    for a, b in zip(wanted, found, strict=True):
        assert a == b
