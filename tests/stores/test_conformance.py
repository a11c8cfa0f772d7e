"""Every promise of `perdure.store`, over every store."""

from __future__ import annotations

import pytest

from perdure.stores.memory import MemoryStore
from perdure.testing.check_store import CHECKS, Check, MakeStore, check_store, run_check


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_conformance(check: Check, make_store: MakeStore) -> None:
    await run_check(check, make_store)


async def test_all_checks_may_share_one_database(make_store: MakeStore) -> None:
    await check_store(make_store)


class Forgetful(MemoryStore):
    """Loses what comes while nobody looks."""

    async def nudged(self, worker: int) -> dict[str, int]:
        return {}


async def test_a_store_that_breaks_a_promise_is_told_which() -> None:
    store = Forgetful()
    with pytest.raises(AssertionError, match="what is owned is told with its nudges"):
        await check_store(lambda: store)
