"""Several applications in one database: the same names, and nobody sees another's."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Engine,
    MemoryStore,
    NotFoundError,
    Query,
    Queue,
    SqliteStore,
    current,
    interrupt,
    receive,
    send,
    step,
    workflow,
)

KEYS: list[str] = []


@step
async def pay(what: str) -> str:
    KEYS.append(current().idempotency_key)
    return what


@workflow
async def part(what: str) -> str:
    return await pay(what)


@workflow
async def asks(what: str) -> list[Any]:
    said = await interrupt("Sure?", schema=bool)
    note = await receive("note")
    await send("log", "asked", what)
    return [await part(what), said, note, current().execution_id]


@workflow
async def log() -> str:
    return str(await receive("asked"))


FLOWS = [part, asks, log]


@pytest.fixture(params=["memory", "sqlite", "files", "postgres", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    match request.param:
        case "memory":
            yield MemoryStore()
        case "sqlite":
            yield f"sqlite:///{tmp_path}/spaces.db"
        case "files":
            yield tmp_path / "spaces"
        case "postgres":
            yield request.getfixturevalue("postgres_url")
        case _:
            yield request.getfixturevalue("mysql_url")


async def ends(place: Any, namespace: str) -> list[Any]:
    """One application's life: it starts, is asked, answers, and looks at what it sees."""
    async with Engine(
        place, workflows=FLOWS, namespace=namespace, queues=("default", Queue("q", concurrency=1))
    ) as engine:
        handle = await engine.start(
            asks.options(execution_id="order", queue="q", attributes={"of": namespace}), namespace
        )
        await engine.start(log.options(execution_id="log"))
        await handle.outcome()
        (request,) = await engine.requests()
        await engine.answer(request.id, True)
        await handle.signal("note", namespace, id="n-1")
        await engine.schedule("nightly", part, cron="0 2 * * *", args=[namespace])
        result = await handle.result()
        assert await engine.get("log").result() == namespace
        return result


async def test_the_same_names_in_several_namespaces_never_meet(place: Any) -> None:
    KEYS.clear()
    names = ["default", "shop", "bank"]
    for name in names:
        assert await ends(place, name) == [name, True, name, "order"]
    assert len(set(KEYS)) == 3  # what one has paid is not paid for the others
    for name in names:
        async with Engine(place, workflows=FLOWS, namespace=name, worker=False) as engine:
            page = await engine.list()
            assert sorted(row.id for row in page.items) == ["log", "order", "order/part#1"]
            assert await engine.count() == {"completed": 3}
            assert [row.id for row in (await engine.list(Query(attributes={"of": name}, queue="q"), limit=1)).items]
            assert [row.name for row in await engine.schedules()] == ["nightly"]
            assert sum(tally.number for tally in (await engine.stats()).executions) == 3
            history = await engine.get("order").history()
            assert {entry.key for entry in history} >= {"interrupt#1", "part#1"}
            done = await engine.prune(Query(id_prefix="log"))
            assert done.ids == ["log"]
            with pytest.raises(NotFoundError):
                await engine.get("log").status()
            with pytest.raises(NotFoundError):
                await engine.get("~shop/order").status()


async def test_workers_take_only_their_own_and_pages_hold_what_they_should() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=FLOWS, namespace="shop", worker=False) as shop:
        for n in range(25):
            await shop.start(part.options(execution_id=f"s{n:02}"), "s")
        async with Engine(store, workflows=FLOWS) as engine:
            for n in range(5):
                assert await engine.run(part.options(execution_id=f"d{n}"), "d") == "d"
            found, cursor = [], None
            while True:
                page = await engine.list(limit=2, cursor=cursor)
                found += [row.id for row in page.items]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == ["d4", "d3", "d2", "d1", "d0"]
            assert len((await engine.stats()).workers) == 1
        assert await shop.count() == {"pending": 25}
    async with Engine(store, workflows=FLOWS, namespace="shop") as shop:
        assert await shop.get("s24").result() == "s"
        assert len((await shop.stats()).workers) == 1


@pytest.mark.parametrize("name", ["", "a/b", "ü", "x" * 41, "a b"])
def test_what_is_no_name_of_a_namespace_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="namespace="):
        Engine("memory://", namespace=name)


async def test_ids_leave_room_for_the_namespace() -> None:
    async with Engine("memory://", workflows=FLOWS, namespace="shop") as engine:
        assert await engine.run(part.options(execution_id="x" * 249), "a") == "a"
        with pytest.raises(ValueError, match="at most 249 bytes"):
            await engine.start(part.options(execution_id="x" * 250), "a")
        with pytest.raises(ValueError, match="does not begin with ~"):
            await engine.start(part.options(execution_id="~shop/a"), "a")
        with pytest.raises(ValueError, match="queue"):
            part.options(queue="~x")


async def test_a_start_in_ones_own_transaction_stays_in_its_namespace(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/own.db"
    async with Engine(url, workflows=FLOWS, namespace="shop") as shop, Engine(url, workflows=FLOWS) as engine:
        connection = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
        connection.execute("begin")
        handle = await shop.start(part.options(execution_id="p", connection=connection), "shop")
        other = await engine.start(part.options(execution_id="p", connection=connection), "default")
        connection.execute("commit")
        connection.close()
        assert await handle.result() == "shop" and await other.result() == "default"
        assert not await shop.outbox() and not await engine.outbox()


async def test_counts_of_a_namespace_never_hold_what_is_another_s(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "perdure.db")
    async with Engine(store, workflows=FLOWS) as engine, Engine(store, workflows=FLOWS, namespace="shop") as shop:
        for n in range(12):
            await shop.run(part.options(execution_id=f"s{n:02}", by="ana"), "s")
        for n in range(5):
            await engine.run(part.options(execution_id=f"d{n}", by="ana" if n else None), "d")
        for plain in (Query(), Query(workflow="part"), Query(queue="default"), Query(status="completed")):
            for at_most in (1, 4, None):
                counts = await engine.count(plain, at_most=at_most), await shop.count(plain, at_most=at_most)
                assert [(count, count.complete) for count in counts] == [({"completed": n}, True) for n in (5, 12)]
        for query, wanted in ((Query(by="ana"), 4), (Query(text="d"), 5), (Query(id_prefix="d"), 5)):
            for at_most in range(1, 20):
                count = await engine.count(query, at_most=at_most)
                assert (count.total == wanted) if count.complete else (count.total <= min(at_most, wanted)), query
                assert count.complete or at_most < 17
            assert (await engine.count(query, at_most=None)).total == wanted
        count = await shop.count(Query(by="ana"), at_most=5)
        assert (count.words, count.complete) == ("5+", False)
