"""As test_rollbacks.py, in memory: there a process's end is played within this one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import MemoryStore, rolling
from perdure.records import Query
from perdure.timeline import faults
from tests.crash import ledger
from tests.crash.host import Job
from tests.crash.mortal import live, rows_of
from tests.crash.plants import forget_undone, undo_forwards
from tests.crash.rolled_back import broken, wrong
from tests.crash.rows import Rows

Check = Callable[[str, Path, Rows, int], Iterator[str]]

OF = {"undone": "any", "journey": "rollback"}
WHEN = ("before", "after")


async def trial(folder: Path, job: Job, kill: str, check: Check) -> tuple[int, int, list[str]]:
    """How often it was killed, how many writes there were, and what does not hold."""
    book = folder / f"ledger-{kill.replace(':', '-')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ledger.VARIABLE, str(book))
        store = MemoryStore()
        results, writes = await live(store, job, kill)
        kills = int(results is None)
        if results is None:
            results, _ = await live(store, job)
            assert results is not None
    [id] = job.executions
    found = [*check(id, book, await rows_of(store), kills), *await audited(store)]
    return kills, writes, [f"{kill}: {line}" for line in found]


async def audited(store: MemoryStore) -> list[str]:
    """What an audit of each of its executions finds."""
    found = []
    for row in (await store.list(Query(), 1000, None)).items:
        requests = await store.requests(execution_ids=[row.id], status=None)
        dossier = (await store.dossiers([row.id]))[row.id]
        wrong = faults(row, requests, dossier, await store.history(row.id))
        found += [f"audit of {row.id}: {fault}" for fault in wrong]
    return found


async def everywhere(folder: Path, job: Job, check: Check) -> list[str]:
    """Kill it before and after each of its writes: what does not hold then."""
    none, writes, found = await trial(folder, job, "before:1000000", check)
    if found:
        return found
    ends = [await trial(folder, job, f"{when}:{n}", check) for n in range(1, writes + 1) for when in WHEN]
    kills = sum(killed for killed, _, _ in ends)
    print(f"{writes} writes, {kills} kills")
    assert (none, kills) == (0, 2 * writes)
    return [line for _, _, lines in ends for line in lines]


def check_of(flow: str, trouble: str) -> Check:
    if flow == "undone":
        return broken
    return lambda id, book, rows, kills: wrong(id, book, rows, trouble, kills)


FLOWS = [("undone", ""), ("journey", ""), ("journey", "twice"), ("journey", "never")]


@pytest.mark.parametrize(("flow", "trouble"), FLOWS)
def test_killed_at_any_write_of_a_rollback_it_is_undone_all_the_same(tmp_path: Path, flow: str, trouble: str) -> None:
    job = Job("memory://", ["memory"], flow=flow, argument=json.dumps(trouble), of=OF[flow])
    assert asyncio.run(everywhere(tmp_path, job, check_of(flow, trouble))) == []


@pytest.mark.parametrize("flow", ["undone", "journey"])
@pytest.mark.parametrize(("plant", "promise"), [(forget_undone, "I28"), (undo_forwards, "")])
def test_a_planted_bug_is_convicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: str, plant: Callable[[Any], None], promise: str
) -> None:
    monkeypatch.setattr(rolling._Rollback, "_note", rolling._Rollback._note)  # both are as before afterwards
    monkeypatch.setattr(rolling, "plan", rolling.plan)
    plant(None)
    job = Job("memory://", ["memory"], flow=flow, argument='""', of=OF[flow])
    found = asyncio.run(everywhere(tmp_path, job, check_of(flow, "")))
    assert [line for line in found if promise in line]
