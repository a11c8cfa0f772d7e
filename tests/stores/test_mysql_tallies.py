"""What is kept counted on MariaDB by our own statements, with those at work that keep none, and that fold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from perdure.deliveries import Settle, Wish
from perdure.records import ENDED, Query, Status, WorkerRecord
from perdure.stores.migrations import load_migrations
from perdure.stores.mysql import MysqlStore
from perdure.stores.mysql_address import read_address
from perdure.stores.mysql_sessions import connect
from perdure.testing.checks.scene import Scene
from tests.stores.test_tallies import Run, agree, some, what_was_there

pytestmark = pytest.mark.mysql


def mysql_runner(url: str) -> Run:
    """Somebody's own statements, as one transaction."""

    async def run(statements: Sequence[str]) -> list[Any]:
        session = await connect(read_address(url))
        found: list[Any] = []
        await session.run("start transaction")
        for statement in statements:
            found = list((await session.run(statement.replace("Z'", "'")))[0].tuples)
        await session.run("commit")
        await session.close()
        return found

    return run


async def opened(url: str) -> MysqlStore:
    store = MysqlStore(url)
    await store.open()
    return store


async def test_what_our_own_statements_end_and_begin_anew_is_counted(mysql_url: str) -> None:
    store, run = await opened(mysql_url), mysql_runner(mysql_url)
    scene = await Scene.begin(store)
    for n in range(6):
        await scene.run(f"{n}", workflow=f"w{n % 2}", queue="q" if n == 3 else "default")
    await agree(store, run)
    ends = [Status.COMPLETED, Status.FAILED, Status.COMPLETED, Status.WAITING, Status.PAUSED, Status.ROLLBACK_FAILED]
    await scene.commit(changes=[scene.change(f"{n}", status) for n, status in enumerate(ends)])
    await agree(store, run)
    assert (await run(["select count(*) from execution_tallies"])) == [(3,)], "one for each kind in the batch"
    await store.deliver(Wish(scene.id("4"), "cancel", "ana", None), 0)
    await store.deliver(Settle(scene.id("4")), 0)
    assert (await store.count(Query(status=(Status.CANCELLED,)))) == {"cancelled": 1}
    await agree(store, run)
    assert await store.prune([scene.id("0"), scene.id("1"), scene.id("3")]) == [scene.id("0"), scene.id("1")]
    await agree(store, run)
    await store.close()


async def test_what_an_older_library_ends_is_counted_when_its_last_worker_has_left(mysql_url: str) -> None:
    store, run = await opened(mysql_url), mysql_runner(mysql_url)
    new = await store.register(WorkerRecord(0), 60.0)
    old = await store.register(WorkerRecord(0), 60.0)
    await run([f"update workers set counts = false where id = {old.id}"])
    chance = random.Random(5)
    await run([some(chance, n) for n in range(60)])
    await agree(store, run)
    assert (await store.count(Query(), at_most=7)).words == "7+", "as long as it is there, no more are looked at"
    assert await run(["select count(*) from execution_tallies"]) == [(0,)]
    await run([f"update workers set state = 'gone' where id = {old.id}"])
    together = await asyncio.gather(*(store.count(Query()) for _ in range(8)))
    (wanted,) = await run(["select count(*) from workflow_executions"])
    assert {count.total for count in together} == {wanted[0]}
    await agree(store, run)
    assert await run(["select sum(number) from execution_tallies"]) == await run(
        [f"select count(*) from workflow_executions where status in ({ENDED_IN_SQL})"]
    )
    assert await run(["select min(counts) from workers"]) == [(1,)]
    assert (await store.count(Query(), at_most=7)).total > 3 * 7, "what has ended is known without a look"
    await store.release(new.id, new.epoch)
    await store.close()


ENDED_IN_SQL = ", ".join(f"'{status.value}'" for status in sorted(ENDED))


async def test_a_worker_that_registers_makes_up_for_older_ones(mysql_url: str) -> None:
    store, run = await opened(mysql_url), mysql_runner(mysql_url)
    old = await store.register(WorkerRecord(0), 60.0)
    chance = random.Random(6)
    await run([f"update workers set counts = false, state = 'gone' where id = {old.id}"])
    await run([some(chance, n) for n in range(30)])
    # It is not forgotten before, however long ago it left.
    await run([f"update workers set lease_until = '2000-01-01' where id = {old.id}"])
    await store.register(WorkerRecord(0), 60.0)
    await store.close()  # waits for it
    assert await run([f"select counts from workers where id = {old.id}"]) == [(1,)]
    other = await opened(mysql_url)
    await agree(other, run)
    await other.close()


async def test_mariadb_counts_what_was_there_before(mysql_url: str) -> None:
    run = mysql_runner(mysql_url)
    await run([statement for known in load_migrations("mysql")[:5] for statement in known.statements])
    await run([s for s in what_was_there() if "schema_versions values (6" not in s])
    fill = load_migrations("mysql")[5].statements
    await run(fill)
    await run(fill[-1:])  # killed, and begun again
    await run(["insert into schema_versions values (6, '2026-01-01', 1)"])
    store = await opened(mysql_url)
    await agree(store, run)
    await store.close()


async def test_rows_are_folded_while_others_add_some(mysql_url: str) -> None:
    store, run = await opened(mysql_url), mysql_runner(mysql_url)
    scenes = [await Scene.begin(store) for _ in range(4)]
    for scene in scenes:
        for n in range(25):
            await scene.run(f"{n}", workflow=f"w{n % 3}", queue="default")

    async def end(scene: Scene) -> None:
        for n in range(25):
            await scene.commit(changes=[scene.change(f"{n}", Status.COMPLETED if n % 2 else Status.FAILED)])

    async def fold() -> None:
        for _ in range(20):
            await store._tallies.fold()

    await asyncio.gather(*(end(scene) for scene in scenes), fold(), fold())
    await agree(store, run)
    await store._tallies.fold()
    assert await run(["select count(*) from execution_tallies"]) == [(6,)]
    await agree(store, run)
    await store.close()


async def test_each_500th_row_has_them_folded(mysql_url: str) -> None:
    store, run = await opened(mysql_url), mysql_runner(mysql_url)
    scene = await Scene.begin(store)
    for n in range(8):
        await scene.run(f"{n}", workflow="w1", queue="default")
    await run(["alter table execution_tallies auto_increment = 496"])
    for n in range(8):
        await scene.commit(changes=[scene.change(f"{n}", Status.COMPLETED)])
    await store.close()  # waits for it
    (row,) = await run(["select count(*), max(id) from execution_tallies"])
    assert row[1] > 500 and row[0] < 8
    other = await opened(mysql_url)
    await agree(other, run)
    await other.close()


async def test_what_somebody_changed_otherwise_is_found_and_counted_anew(mysql_url: str) -> None:
    store, run = await opened(mysql_url), mysql_runner(mysql_url)
    chance = random.Random(9)

    async def found() -> tuple[str, str]:
        looked = MysqlStore(mysql_url)
        lines = {line.check: (line.result, line.words) async for line in looked.examine()}
        await looked.close()
        return lines["counts"]

    assert (await found())[0] == "ok"
    await run([some(chance, n) for n in range(30)])
    result, words = await found()
    assert (result, "perdure db upgrade" in words) == ("warning", True)
    assert (await store.count(Query())).total < 30
    other = MysqlStore(mysql_url)
    await other.prepare(upgrade=True)
    await other.close()
    assert (await found())[0] == "ok"
    await agree(store, run)
    await store.close()
