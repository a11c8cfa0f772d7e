"""Every promise of `perdure.store`, over every store."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import pytest

from perdure.records import Page, Query, Status
from perdure.store import Store
from perdure.stores.memory import MemoryStore
from perdure.testing.check_store import CHECKS, Check, MakeStore, check_store, run_check

RUNNING = Status.RUNNING


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_conformance(check: Check, make_store: MakeStore) -> None:
    await run_check(check, make_store)
    await all_is_counted(make_store)


async def test_all_checks_may_share_one_database(make_store: MakeStore) -> None:
    await check_store(make_store)
    await all_is_counted(make_store)


async def all_is_counted(make_store: MakeStore) -> None:
    """What is kept counted is what there is, whatever was done. (Some of what runs in a check is nobody's.)"""
    store = await anew(make_store)
    await store.open()
    kinds: Counter[tuple[str, str, str]] = Counter()
    page = Page([], None)
    while True:
        page = await store.list(Query(), 1000, page.cursor)
        kinds.update((row.workflow, row.queue, row.status.value) for row in page.items if row.status is not RUNNING)
        if page.cursor is None:
            break
    statuses: Counter[str] = Counter()
    for (_, _, status), number in kinds.items():
        statuses[status] += number
    tallies = [tally for tally in await store.tallies() if tally.status != RUNNING]
    assert {(t.workflow, t.queue, t.status): t.number for t in tallies} == dict(kinds)
    assert {status: n for status, n in (await store.count(Query())).items() if status != RUNNING} == dict(statuses)
    await store.close()


async def anew(make_store: MakeStore) -> Store:
    made: Any = make_store()
    store: Store = await made if inspect.isawaitable(made) else made
    return store


class Forgetful(MemoryStore):
    """Loses what comes while nobody looks."""

    async def nudged(self, worker: int) -> dict[str, int]:
        return {}


async def test_a_store_that_breaks_a_promise_is_told_which() -> None:
    store = Forgetful()
    with pytest.raises(AssertionError, match="what is owned is told with its nudges"):
        await check_store(lambda: store)
