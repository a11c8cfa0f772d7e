"""The conformance suite of stores: `await check_store(make_store)` for yours, which is how ours are tested.

With pytest, one test a promise:

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    async def test_conformance(check): await run_check(check, make_store)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from perdure.store import Store
from perdure.testing.checks import (
    claims,
    commits,
    deliveries,
    keeping,
    limits,
    moves,
    people,
    queries,
    reads,
    restarts,
    starts,
    transactions,
    workers,
)

MakeStore = Callable[[], Store | Awaitable[Store]]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: a coroutine function that takes a store, or two handles on the same data."""

    group: str
    promise: Callable[..., Awaitable[None]]

    @property
    def handles(self) -> int:
        """How many handles it takes."""
        return len(inspect.signature(self.promise).parameters)

    def __str__(self) -> str:
        return f"{self.group}-{self.promise.__name__}"


def _promises(*groups: ModuleType) -> list[Check]:
    """The public coroutine functions of these modules, in the order in which they stand there."""
    return [
        Check(group.__name__.rpartition(".")[2], value)
        for group in groups
        for name, value in vars(group).items()
        if inspect.iscoroutinefunction(value) and value.__module__ == group.__name__ and not name.startswith("_")
    ]


CHECKS = _promises(
    commits, workers, claims, limits, deliveries, starts, people, restarts, reads, queries, keeping, moves, transactions
)


async def check_store(make_store: MakeStore) -> None:
    """Check every promise of `perdure.store` on a store of yours; raises `AssertionError` at the first one broken.

    `make_store` gives a store that is not yet open (or an awaitable of one). Called again it gives another handle
    on the same data, or the same object where the data live in it. The data may be there before and stay behind:
    each check uses names of its own.
    """
    for check in CHECKS:
        await run_check(check, make_store)


async def run_check(check: Check, make_store: MakeStore) -> None:
    """Check one promise, on handles that are opened and closed here."""
    handles: list[Store] = []
    opened: list[Store] = []
    try:
        for _ in range(check.handles):
            store = await _made(make_store)
            handles.append(store)
            if not any(store is known for known in opened):
                opened.append(store)
                await store.open()
        await check.promise(*handles)
    except AssertionError as error:
        words = check.promise.__name__.replace("_", " ")
        raise AssertionError(f"broken promise ({check.group}): {words}: {error}") from error
    finally:
        for store in opened:
            await store.close()


async def _made(make_store: MakeStore) -> Store:
    made: Any = make_store()
    store: Store = await made if inspect.isawaitable(made) else made
    return store
