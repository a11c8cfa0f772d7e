"""Large inputs and results: stored about once, whole after a crash, named when damaged."""

import functools
import random
import sqlite3
from pathlib import Path
from typing import Any

from perdure import Blocked, DecodeError, Engine, interrupt, step, workflow


@functools.cache
def text(n: int) -> str:
    return "".join(random.Random(n).choices("abcdefghijklmnop ", k=990))


SEEN: list[int] = []


@step
async def think(history: list[dict[str, str]], n: int) -> dict[str, str]:
    SEEN.append(len(history))
    assert all(message["content"] == text(k) for k, message in enumerate(history))
    return {"role": "user", "content": text(n)}


@step
async def grow(pages: list[str], n: int) -> list[str]:
    return [*pages, text(n)]


@workflow
async def converses(rounds: int, ask: bool) -> int:
    history: list[dict[str, str]] = []
    for n in range(rounds):
        history.append(await think(history, n))
        if ask and n == rounds // 2:
            await interrupt("go on?")
    return len(history)


@workflow
async def writes(pages: int) -> list[str]:
    book: list[str] = []
    for n in range(pages):
        book = await grow(book, n)
    await interrupt("print?")
    return book


def stored(path: Path) -> tuple[int, int]:
    """Characters of all payloads, bytes of the file."""
    with sqlite3.connect(path) as database:
        database.execute("pragma wal_checkpoint(truncate)")
        size = database.execute(
            "select sum(length(coalesce(input, '')) + length(coalesce(output, ''))) from step_executions"
        ).fetchone()[0]
        database.execute("vacuum")
    return size, path.stat().st_size


async def test_a_history_that_grows_by_a_kilobyte_in_each_of_1000_steps_is_stored_at_most_twice(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    async with Engine(f"sqlite:///{path}", workflows=[converses]) as engine:
        assert await engine.run(converses.options(execution_id="c"), 1000, False) == 1000
        final = 1000 * len('{"role":"user","content":""},' + text(0))
        last = (await engine.get("c").history())[-1]
        assert len(last.input["history"]) == 999, "any entry is read back whole"
    payloads, file = stored(path)
    assert payloads < 1.5 * final
    assert file < 2 * final


async def test_it_goes_on_from_the_middle_and_builds_on_what_was_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'large.db'}"
    async with Engine(url, workflows=[converses]) as engine:
        handle = await engine.start(converses, 40, True)
        await handle.outcome()
    SEEN.clear()
    async with Engine(url, workflows=[converses]) as engine:
        handle = engine.get(handle.id)
        await engine.answer((await handle.requests())[0].id, None)
        assert await handle.result() == 40
    assert list(range(21, 40)) == SEEN, "what was recorded does not run again"
    payloads, _ = stored(tmp_path / "large.db")
    assert payloads < 1.6 * 40 * 1020


async def test_results_that_grow_are_stored_about_once_and_replayed_whole(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'large.db'}"
    async with Engine(url, workflows=[writes]) as engine:
        handle = await engine.start(writes, 200)
        await handle.outcome()
    payloads, _ = stored(tmp_path / "large.db")
    assert payloads < 1.5 * 200 * 993
    async with Engine(url, workflows=[writes]) as engine:
        handle = engine.get(handle.id)
        await engine.answer((await handle.requests())[0].id, None)
        assert await handle.result() == [text(n) for n in range(200)]


async def test_a_damaged_link_blocks_with_the_entry_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    async with Engine(f"sqlite:///{path}", workflows=[writes]) as engine:
        handle = await engine.start(writes, 20)
        await handle.outcome()
    with sqlite3.connect(path) as database:
        rows = database.execute("select seq, output from step_executions where seq = 10").fetchall()
        assert rows[0][1].startswith("~")
        database.execute("update step_executions set output = ? where seq = 10", (rows[0][1].replace("a", "b"),))
    database.close()
    async with Engine(f"sqlite:///{path}", workflows=[writes]) as engine:
        handle = engine.get(handle.id)
        await engine.answer((await handle.requests())[0].id, None)
        outcome: Any = await handle.outcome()
        assert isinstance(outcome, Blocked)
        assert isinstance(outcome.error, DecodeError)
        assert "entry 10" in outcome.reason
