"""Engines on a folder of files: damage stays with its execution, and two engines of a process share the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import DecodeError, Engine, interrupt, step, workflow
from perdure.records import Status
from perdure.stores.files_names import file_of


@step(name="files-double")
async def double(n: int) -> int:
    return 2 * n


@workflow(name="files-asks")
async def asks(n: int) -> int:
    return await double(n) + await interrupt("how many more?", schema=int)


async def test_a_damaged_execution_is_blocked_with_the_place_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "perdure"
    async with Engine(path, workflows=[asks]) as engine:
        for id in ("good", "bad"):
            await (await engine.start(asks.options(execution_id=id), 4)).outcome()
    file = path / file_of("bad")
    file.write_bytes(file.read_bytes().replace(b'"output":"8"', b'"output":"9"'))
    async with Engine(path, workflows=[asks]) as engine:
        for id in ("good", "bad"):
            [request] = await engine.requests(id)
            await engine.answer(request.id, 1)
        assert await engine.get("good").result(timeout=30) == 9
        with pytest.raises(DecodeError, match=r"executions/bad\.jsonl: line \d+ is damaged"):
            await engine.get("bad").result(timeout=30)
        assert await engine.get("bad").status() is Status.BLOCKED
    async with Engine(f"file://{path}", workflows=[asks]) as engine:
        assert (await engine.get("good").status(), await engine.get("bad").status()) == ("completed", "blocked")


async def test_two_engines_of_a_process_share_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "perdure"
    async with Engine(path, workflows=[asks]) as runs, Engine(path, workflows=[asks], worker=False) as submits:
        started = await submits.start(asks, 3)
        await runs.get(started.id).outcome(timeout=30)
        [request] = await submits.requests(started.id)
        await submits.answer(request.id, 5)
        assert await started.result(timeout=30) == 11
