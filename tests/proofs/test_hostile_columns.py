"""Hostile payloads where the library keeps what is its own: schedules, the outbox, wishes. See test_hostile_rows.py."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from perdure import Engine, Query, interrupt, workflow
from tests.proofs.test_hostile_rows import PAYLOADS

LONG_AGO = "2026-01-01T00:00:00.000000Z"
TICK = "2026-01-01T00:00:00Z"


@workflow(name="hostile_tick")
async def tick(x: int = 1) -> int:
    return x


@workflow(name="hostile_waits")
async def waits() -> int:
    return await interrupt("how much?", schema=int)


FLOWS = [tick, waits]


@pytest.fixture(autouse=True)
async def _nothing_is_imported(tmp_path: Path) -> Iterator[None]:
    async with Engine(f"sqlite:///{tmp_path}/warm.db", workflows=FLOWS) as engine:
        await engine.run(tick)
        await engine.outbox()
    known = set(sys.modules)
    yield
    assert set(sys.modules) - known == set()


def copies(path: Path, table: str, key: str, of: str, column: str, **fixed: str) -> list[str]:
    """One copy of a row for each payload, with it in this column. Gives their keys."""
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.row_factory = sqlite3.Row
        row = dict(base.execute(f"select * from {table} where {key} = ?", (of,)).fetchone())
        made = []
        base.execute("begin")
        for n, payload in enumerate(PAYLOADS):
            values = {**row, key: f"h{n}", column: payload, **fixed}
            names = ", ".join(values)
            base.execute(
                f"insert into {table} ({names}) values ({', '.join('?' * len(values))})", list(values.values())
            )
            made.append(f"h{n}")
        base.execute("commit")
    return made


@pytest.mark.parametrize("column", ["input", "cron", "timezone", "queue", "workflow", "last_id"])
async def test_a_hostile_schedule_harms_itself_only(tmp_path: Path, column: str) -> None:
    path = tmp_path / "x.db"
    async with Engine(f"sqlite:///{path}", worker=False, workflows=FLOWS) as client:
        for name in ("a", "z"):  # they are looked after by name
            await client.schedule(name, tick, cron="0 0 1 1 *", args=(1,))
    names = copies(path, "schedules", "name", "a", column, next_at=LONG_AGO)
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("update schedules set next_at = ? where name = 'z'", (LONG_AGO,))
    async with Engine(f"sqlite:///{path}", workflows=FLOWS, poll=0.05) as engine:
        while not (await engine.list(Query(by="schedule:z"))).items:
            await engine.store.changed(0.05)
        assert await engine.get(f"z@{TICK}").result(timeout=60) == 1
        assert len(await engine.schedules()) == len(names) + 2
        if column == "input":
            outcomes = [await engine.get(f"{name}@{TICK}").outcome(timeout=60) for name in names]
            assert Counter(type(outcome).__name__ for outcome in outcomes) == {"Blocked": len(names)}


@pytest.mark.parametrize("kind", ["start", "message"])
async def test_a_hostile_row_of_the_outbox_is_kept_with_the_reason_and_holds_up_nothing(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "x.db"
    async with Engine(f"sqlite:///{path}", workflows=FLOWS) as engine:
        wanted = await engine._outgoing(tick.options(execution_id="good"), engine._execution(tick, (2,), {}))
        with closing(sqlite3.connect(path, isolation_level=None)) as base:
            put = "insert into outbox (kind, execution_id, content) values (?, ?, ?)"
            base.executemany(put, [(kind, f"h{n}", payload) for n, payload in enumerate(PAYLOADS)])
            base.execute(put, ("start", wanted[0].execution_id, wanted[0].content))
        await engine._outbox.fold()
        assert await engine.get(wanted[0].execution_id).result(timeout=60) == 2
        left = await engine.outbox()
        assert len(left) == len(PAYLOADS)
        assert all(row.refused for row in left)
        assert await engine.count() == {"completed": 1}


@pytest.mark.parametrize("column", ["wish", "refused", "parent_key", "wish_by", "wish_reason", "reason", "started_by"])
async def test_a_hostile_wish_harms_its_own_execution_only(tmp_path: Path, column: str) -> None:
    path = tmp_path / "x.db"
    async with Engine(f"sqlite:///{path}", workflows=FLOWS) as engine:
        handle = await engine.start(waits.options(execution_id="a"))
        await handle.outcome()
    ids = copies(path, "workflow_executions", "id", "a", column, status="pending")
    async with Engine(f"sqlite:///{path}", workflows=FLOWS, poll=0.05) as engine:
        await engine.answer("a:interrupt#1", 42)
        assert await engine.get("a").result(timeout=60) == 42
        assert await engine.run(tick, 5) == 5
        found = Counter([str(await engine.get(id).status()) for id in ids])
        assert sum(found.values()) == len(ids)
        for id in ids:
            document = await engine.get(id).export()
            assert json.dumps(document)
