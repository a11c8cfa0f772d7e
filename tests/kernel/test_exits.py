"""An execution that ends its process counts as what crashed it; a call that nobody awaits is told by name and line."""

import asyncio
import sys
import warnings
from pathlib import Path

import pytest

from perdure import CrashLoopError, Engine, Status, step, workflow


@workflow
async def exits() -> None:
    sys.exit(3)


def test_an_exit_in_workflow_code_takes_five_workers_and_then_no_more(tmp_path: Path) -> None:
    async def life() -> Status:
        async with Engine(f"sqlite:///{tmp_path}/exits.db", workflows=[exits]) as engine:
            handle = await engine.start(exits.options(execution_id="x"))
            with pytest.raises(CrashLoopError):
                await handle.result()
            return await handle.status()

    for _ in range(5):
        with pytest.raises(SystemExit):
            asyncio.run(life())
    assert asyncio.run(life()) is Status.BLOCKED


@step
async def work(n: int) -> int:
    return n


@workflow
async def forgets() -> int:
    work(1)  # LINE
    kept = work(2)
    del kept  # KEPT
    return await work(3)


async def test_a_call_that_is_never_awaited_is_told_with_its_key_and_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with Engine("memory://", workflows=[forgets]) as engine:
            assert await engine.run(forgets) == 3
    told = [(str(w.message), w.filename, w.lineno) for w in caught]
    lines = Path(__file__).read_text().splitlines()
    assert told == [
        (f"work#{n} was called and never awaited, so it did not run: write `await work(...)`", __file__, 1 + line)
        for n, line in ((1, _line(lines, "# LINE")), (2, _line(lines, "# KEPT")))
    ]


def _line(lines: list[str], mark: str) -> int:
    return next(n for n, line in enumerate(lines) if line.endswith(mark))
