"""Pages that look at so many executions only: together they are the whole list, whatever a page looks at."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from perdure.records import Execution, Query, Status
from perdure.stores import searching
from perdure.stores.memory import MemoryStore
from perdure.stores.mysql import MysqlStore
from perdure.stores.mysql_reads import SHARE
from perdure.testing.check_store import MakeStore
from perdure.testing.checks.scene import Scene

MANY = 60
QUERIES = [
    Query(text="left"),
    Query(text="NEEDLE"),
    Query(text="nobody"),
    Query(text="left", workflow="w1"),
    Query(text="left", status=(Status.FAILED,)),
    Query(id_prefix="x-"),
    Query(id_prefix="x-0"),
    Query(id_prefix="x-", text="left"),
    Query(id_prefix="x-0", text="left"),
    Query(id_prefix="x-", attributes=(("tenant", '"a"'),)),
    Query(attributes=(("tenant", '"a"'),)),
    Query(attributes=(("tenant", '"a"'), ("n", "7"))),
    Query(attributes=(("n", "7"),)),
    Query(attributes=(("n", "7"), ("tenant", '"a"'))),
    Query(attributes=(("n", "7.0"),)),
    Query(attributes=(("n", '"7"'),)),
    Query(attributes=(("never", "null"),)),
    Query(attributes=(("list", "[1,2]"),), text="left"),
    Query(ended_before=1_000_000),
    Query(ended_before=500),
    Query(ended_before=130),
    Query(ended_before=30),
    Query(ended_before=500, workflow="w1", queue="default"),
    Query(ended_before=500, text="left"),
    Query(ended_before=130, id_prefix="x-", since=20, until=200),
    Query(since=50, text="left", queue="q"),
    Query(by="ana", text="left"),
    Query(status=(Status.FAILED,), workflow="w1", queue="default"),
]


def crowd(scene: Scene, seed: int) -> list[Execution]:
    """Executions of all kinds. Their ages are few, so that ids decide; some end before they are made."""
    chance = random.Random(seed)
    rows = []
    for n in range(MANY):
        status = chance.choice([Status.COMPLETED] * 4 + [Status.FAILED, Status.PENDING, Status.WAITING])
        created_at = chance.randrange(1, 20) * 10
        early = chance.random() < 0.1
        ended_at = max(1, created_at + (-15 if early else chance.choice([0, 5, 400, 2_000_000])))
        rows.append(
            scene.execution(
                "",
                workflow=f"w{n % 2}",
                queue=chance.choice(["default", "default", "q"]),
                status=status,
                created_at=created_at,
                ended_at=None if status in (Status.PENDING, Status.WAITING) else ended_at,
                reason=chance.choice([None, "he Left", "needle" if n == 7 else "left over"]),
                started_by=chance.choice([None, "ana"]),
                attributes=chance.choice(
                    [None, '{"tenant":"a","n":7}', '{"tenant":"a"}', '{"n":7}', '{"n":"7"}', '{"n":7.0,"list":[1,2]}']
                ),
            )
        )
        rows[-1].id = f"{'y' if n % 9 == 0 else 'x'}-{n:02}"
    return rows


async def listed(store: Scene, query: Query, limit: int) -> list[str]:
    """All pages of a list, one after the other."""
    ids: list[str] = []
    cursor = None
    for _ in range(10 * MANY):
        page = await store.store.list(query, limit, cursor)
        assert len(page.items) <= limit
        ids += [row.id for row in page.items]
        cursor = page.cursor
        if cursor is None:
            return ids
    raise AssertionError("the list has no end")


async def expected(rows: Sequence[Execution], query: Query) -> list[str]:
    scene = await Scene.begin(MemoryStore())
    await scene.create(*map(replace, rows))
    return await listed(scene, query, 1000)


@pytest.mark.parametrize("looked_at", [1, 3, 25])
async def test_pages_that_look_at_few_are_together_the_whole_list(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr(searching, "LOOKED_AT", looked_at)
    store = make_store()
    await store.open()
    try:
        scene = await Scene.begin(store)
        rows = crowd(scene, looked_at)
        await scene.create(*map(replace, rows))
        for query in QUERIES:
            for order in ("newest", "oldest"):
                asked = replace(query, order=order)
                wanted = await expected(rows, asked)
                assert await listed(scene, asked, 3) == wanted, asked
            assert (await store.count(query)).total == len(wanted), query
            for at_most in (1, 3, MANY - 1, MANY):
                found = await store.count(query, at_most=at_most)
                assert (found.total == len(wanted)) if found.complete else (found.total <= min(at_most, len(wanted)))
                assert found.complete or at_most < MANY, "it may look at all of them"
    finally:
        await store.close()


@pytest.mark.parametrize("looked_at", [3])
async def test_a_page_ends_where_it_has_looked_at_enough(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    store = make_store()
    if isinstance(store, MemoryStore) or store.url.startswith("file:"):
        pytest.skip("reads everything anyway")
    # MariaDB looks at fewer.
    monkeypatch.setattr(searching, "LOOKED_AT", looked_at * (SHARE if isinstance(store, MysqlStore) else 1))
    await store.open()
    try:
        scene = await Scene.begin(store)
        await scene.create(*(scene.execution(f"{n}", created_at=n + 1) for n in range(10)))
        page = await store.list(Query(text=scene.id("6")), 5, None)
        assert (page.items, page.cursor is None) == ([], False)
        page = await store.list(Query(text=scene.id("6")), 5, page.cursor)
        assert ([row.id for row in page.items], page.cursor is None) == ([scene.id("6")], False)
    finally:
        await store.close()


async def test_a_count_that_may_not_look_at_all_says_so(make_store: MakeStore) -> None:
    store = make_store()
    await store.open()
    try:
        scene = await Scene.begin(store)
        ended = [
            scene.execution(f"{n:02}", created_at=n + 1, ended_at=n + 2, status=Status.COMPLETED, started_by="ana")
            for n in range(30)
        ]
        await scene.create(*ended, scene.execution("x", parent_id=scene.id("00"), parent_key="a#1", created_at=100))
        looks = not (isinstance(store, MemoryStore) or store.url.startswith("file:"))
        for query in (
            Query(id_prefix=scene.id("")),
            Query(since=1),
            Query(until=50),
            Query(by="ana"),
            Query(ended_before=50),
            Query(since=1, workflow=scene.name),
            Query(since=1, queue=scene.name),
        ):
            found = await store.count(query, at_most=7)
            assert (found.complete, found.total) == ((False, 7) if looks else (True, found.total)), query
            assert found.words == (f"{found.total}" if found.complete else "7+")
            assert ("+" in repr(found)) is not found.complete
            assert (await store.count(query)).total in (30, 31), query
        # One condition that few meet is enough, whatever the others are.
        for query, wanted in (
            (Query(parent=scene.id("00"), since=1, queue=scene.name), {"pending": 1}),
            (Query(id_prefix=scene.id("x"), since=1, workflow=scene.name), {"pending": 1}),
            (Query(ended_before=5, since=1, by="ana", workflow=scene.name), {"completed": 3}),
            (Query(since=28, by="ana"), {"completed": 3}),
            (Query(until=4, queue=scene.name, by="ana"), {"completed": 3}),
        ):
            found = await store.count(query, at_most=7)
            assert (found, found.complete) == (wanted, True), query
    finally:
        await store.close()


async def test_what_has_ended_is_known_even_where_more_wait_than_may_be_looked_at(make_store: MakeStore) -> None:
    store = make_store()
    await store.open()
    try:
        scene = await Scene.begin(store)
        for status, number in ((Status.COMPLETED, 30), (Status.PENDING, 9), (Status.WAITING, 4)):
            ended_at = 5 if status is Status.COMPLETED else None
            rows = [
                scene.execution(f"{status}{n}", created_at=1, ended_at=ended_at, status=status) for n in range(number)
            ]
            await scene.create(*rows)
        found = await store.count(Query(workflow=scene.name), at_most=8)
        if not found.complete:
            assert (found["completed"], found.total, found.words) == (30, 38, "38+")
        assert found.complete is (isinstance(store, MemoryStore) or store.url.startswith("file:"))
        everything = {"completed": 30, "pending": 9, "waiting": 4}
        for enough in (13, None):
            found = await store.count(Query(workflow=scene.name), at_most=enough)
            assert (found, found.complete) == (everything, True)
    finally:
        await store.close()
