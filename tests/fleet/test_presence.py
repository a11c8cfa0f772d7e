"""The death of a worker is seen at once on a server, however long its lease; and no live one is taken for dead."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine, step, workflow
from perdure.records import WorkerRecord
from perdure.stores import open_store
from tests.crash import ledger
from tests.crash.processes import Host, until
from tests.fleet.presence import cut, holder, workers
from tests.servers import PgBouncer, PostgresServer

HOUR = ("--flow", "gated", "--argument", '"x"', "--lease", "3600", "--poll", "0.5")
PATIENCE = 60.0


def entered(folder: Path, execution: str, fence: int) -> list[ledger.Line]:
    wanted = (ledger.ENTER, "gate#1", execution, fence)
    return [
        line for line in ledger.read(folder / "ledger") if (line.what, line.key, line.execution, line.fence) == wanted
    ]


async def until_true(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (found := await look()):
            await asyncio.sleep(0.01)
    return found


def there(url: str, count: int) -> None:
    """So many live workers hold their locks."""

    def look() -> bool:
        rows = asyncio.run(workers(url))
        return sum(state == "live" and presence is not None for _, _, state, presence in rows) >= count

    until(look, f"{count} workers to be there")


def test_what_a_killed_worker_ran_goes_on_however_long_its_lease(folder: Path, url: str) -> None:
    (folder / "gate-2").touch()
    with Host(folder, "first", url, "one", *HOUR) as first:
        until(lambda: entered(folder, "one", 1), "the first worker to be at work")
        with Host(folder, "second", url, "one", *HOUR) as second:
            there(url, 2)
            first.kill()
            [result] = second.results()
    assert result["value"] == ["X", "x", "x!"]
    assert {line.pid for line in entered(folder, "one", 2)} == {second.pid}
    states = {pid: state for _, pid, state, _ in asyncio.run(workers(url))}
    assert states == {first.pid: "dead", second.pid: "gone"}


def test_of_three_workers_the_one_that_is_left_takes_over_from_both(folder: Path, url: str) -> None:
    (folder / "gate-2").touch()
    with Host(folder, "a", url, "one", *HOUR) as a, Host(folder, "b", url, "two", *HOUR) as b:
        until(lambda: entered(folder, "one", 1) and entered(folder, "two", 1), "two workers to be at work")
        with Host(folder, "c", url, "one", "two", *HOUR) as c:
            there(url, 3)
            a.send(signal.SIGKILL)
            b.send(signal.SIGKILL)
            results = c.results()
    assert [result["value"] for result in results] == [["X", "x", "x!"]] * 2
    assert {line.pid for id in ("one", "two") for line in entered(folder, id, 2)} == {c.pid}


def test_a_stopped_worker_is_overtaken_when_its_lease_is_over_and_records_nothing_after(folder: Path, url: str) -> None:
    short = (*HOUR, "--lease", "1")

    async def recorded() -> Any:
        store = open_store(url)
        await store.open()
        try:
            return await store.history("one"), await store.get(["one"])
        finally:
            await store.close()

    with Host(folder, "first", url, "one", *short) as first:
        until(lambda: entered(folder, "one", 1), "the first worker to be in the step")
        first.send(signal.SIGSTOP)
        with Host(folder, "second", url, "one", *short) as second:
            until(lambda: entered(folder, "one", 2), "the second worker to be in the step")
            (folder / "gate-2").touch()
            [result] = second.results()
        before = asyncio.run(recorded())
        (folder / "gate-1").touch()
        first.send(signal.SIGCONT)
        [woken] = first.results()
        assert asyncio.run(recorded()) == before
    assert result["value"] == woken["value"] == ["X", "x", "x!"]
    assert [told for told in first.log() if "LeaseLostError" in told["errors"]]


@step(name="fleet_wait")
async def wait_for_release() -> str:
    await GATES["now"].wait()
    return "released"


@workflow(name="fleet_patient")
async def patient() -> str:
    return await wait_for_release()


GATES: dict[str, asyncio.Event] = {}
"""The gate of the test that runs now, on its event loop."""


async def test_a_live_worker_whose_presence_is_cut_is_not_declared_dead(url: str) -> None:
    GATES["now"] = asyncio.Event()
    async with Engine(url, workflows=[patient], lease=3600) as cut_off, Engine(url, workflows=[], lease=3600) as other:
        assert cut_off.worker is not None and other.worker is not None
        me, them = cut_off.worker.record.id, other.worker.record.id
        handle = await cut_off.start(patient)
        for worker in (me, them, me):
            session = await holder(url, worker)
            assert session is not None
            await cut(url, session)

            async def again(worker: int = worker, session: int = session) -> bool:
                return await holder(url, worker) not in (None, session)

            await until_true(again, "the lock to be held again")
        # Whoever doubted would look again, and find the lock held.
        for store in (cut_off.store, other.store):
            assert await store.suspects(0) == []
            assert not await store.declare_dead(me)
        GATES["now"].set()
        assert await handle.result(timeout=PATIENCE) == "released"
        assert cut_off.worker.lost_leases == other.worker.lost_leases == 0
        assert {state for _, _, state, _ in await workers(url)} == {"live"}


@pytest.mark.postgres
async def test_a_server_that_was_restarted_is_not_full_of_dead_workers() -> None:
    with PostgresServer() as server:
        url = server.create_database()
        async with (
            Engine(url, workflows=[patient], lease=3600) as one,
            Engine(url, workflows=[patient], lease=3600) as two,
        ):
            before = {presence for _, _, _, presence in await workers(url)}
            assert len(before) == 1 and None not in before
            server.crash()
            server.start()
            store = open_store(url)
            await store.open()
            assert await store.suspects(0) == [], "their locks are free, and say nothing about this start of the server"
            await store.close()

            async def back() -> bool:
                rows = await workers(url)
                return not {presence for _, _, _, presence in rows} & before

            await until_true(back, "both to hold their locks again")
            assert one.worker is not None and two.worker is not None
            assert one.worker.lost_leases == two.worker.lost_leases == 0
            assert {state for _, _, state, _ in await workers(url)} == {"live"}


@pytest.mark.postgres
def test_through_a_pooler_the_lease_alone_tells(folder: Path, transaction_pooler: PgBouncer, postgres_url: str) -> None:
    url = f"{transaction_pooler.url(postgres_url)}?pgbouncer=true"
    short = (*HOUR, "--lease", "2")
    (folder / "gate-2").touch()
    with Host(folder, "first", url, "one", *short) as first:
        until(lambda: entered(folder, "one", 1), "the first worker to be at work")
        with (
            Host(folder, "second", url, "one", "other", *short) as second,
            Host(folder, "direct", postgres_url, "none", *short),
        ):
            until(lambda: entered(folder, "other", 1), "the second worker to be at work")
            rows = asyncio.run(workers(postgres_url))
            assert {presence for _, pid, _, presence in rows if pid in (first.pid, second.pid)} == {None}
            first.kill()
            until(lambda: entered(folder, "one", 2), "the lease to be over")
            (folder / "gate-1").touch()
            second.results()
    states = {pid: state for _, pid, state, _ in asyncio.run(workers(postgres_url))}
    assert (states[first.pid], states[second.pid]) == ("dead", "gone")


@pytest.mark.postgres
@pytest.mark.parametrize("pooler", ["transaction_pooler", "session_pooler"])
async def test_a_pooler_that_nobody_told_of_is_noticed(
    request: pytest.FixtureRequest, pooler: str, postgres_url: str
) -> None:
    through: PgBouncer = request.getfixturevalue(pooler)
    store = open_store(
        f"{through.url(postgres_url)}?statement_cache_size=0" if "trans" in pooler else through.url(postgres_url)
    )
    direct = open_store(postgres_url)
    await direct.open()
    await store.open()
    worker = await store.register(WorkerRecord(0), 3600.0)
    settled = asyncio.Event()
    await store.attend(worker.id, 1, settled=settled.set, seen=lambda: None, gone=lambda: None)
    assert settled.is_set(), "it holds nothing, and says so"
    assert await holder(postgres_url, worker.id) is None
    assert not await direct.declare_dead(worker.id)
    await store.close()
    await direct.close()
