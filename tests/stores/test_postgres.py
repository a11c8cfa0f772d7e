"""What only PostgreSQL can break: other parties whose transactions are in flight, networks, servers that go."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import pytest

from perdure.deliveries import Answer, Post, Settle
from perdure.deliveries import Cut as CutOff
from perdure.errors import CommitUnknownError, StoreUnavailableError
from perdure.records import Batch, Limit, Query, Status, Verdict, Verdicts
from perdure.stores.naming import Names, load_statements
from perdure.stores.postgres import PostgresStore
from perdure.stores.postgres_address import PARTS
from perdure.stores.postgres_columns import pack_batch
from perdure.testing.checks.scene import Scene
from tests.proxy import Cut, Proxy
from tests.servers import PostgresServer

pytestmark = pytest.mark.postgres

Result = TypeVar("Result")
SQL = load_statements(PARTS, Names("postgres"))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    await opened.open()
    yield opened
    await opened.close()


@dataclass
class Party:
    """Somebody else, whose transaction is in flight for as long as its block lasts."""

    connection: Any
    pid: int

    async def run(self, name: str, *values: object) -> None:
        await self.connection.fetch(SQL[name], *values)

    async def waiter(self, *, of: int | None = None) -> int:
        """The process at the server that waits for this party (or for another process): once there is one."""
        blocked = "select pid from pg_locks where not granted and $1::integer = any(pg_blocking_pids(pid))"
        async with asyncio.timeout(30):
            while True:
                pid: int | None = await self.connection.fetchval(blocked, of or self.pid)
                if pid is not None:
                    return pid


@asynccontextmanager
async def party(url: str) -> AsyncIterator[Party]:
    connection = await asyncpg.connect(url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        yield Party(connection, connection.get_server_pid())
        await transaction.commit()
    finally:
        await connection.close()


async def after(url: str, act: Callable[[Party], Awaitable[None]], work: Callable[[], Awaitable[Result]]) -> Result:
    """Do the work while the act is in flight: it has to wait, and ends after the act has been committed."""
    async with party(url) as other:
        await act(other)
        task = asyncio.ensure_future(work())
        await other.waiter()
        assert not task.done()
    return await task


async def three_running(store: PostgresStore) -> Scene:
    scene = await Scene.begin(store)
    for suffix in ("e0", "e1", "e2"):
        await scene.run(suffix)
    return scene


def mixed_batch(scene: Scene, *, asks: bool) -> Batch:
    """Parks e0, keeps e1, ends e2, with an entry each; `asks` makes it a batch that holds a request, too."""
    statuses = {"e0": Status.WAITING, "e1": Status.RUNNING, "e2": Status.COMPLETED}
    return scene.batch(
        changes=[scene.change(suffix, status) for suffix, status in statuses.items()],
        entries=[scene.entry(suffix) for suffix in statuses],
        requests=[scene.request("r", "e0")] if asks else [],
    )


async def recorded(scene: Scene) -> set[str]:
    return {suffix for suffix in ("e0", "e1", "e2") if await scene.seqs(suffix)}


BATCHES = pytest.mark.parametrize("asks", [False, True], ids=["changes", "everything"])


# Trials with the other party in flight ----------------------------------------------------------------


@BATCHES
async def test_a_delivery_in_flight_refuses_the_park_and_keeps_its_entries(
    store: PostgresStore, postgres_url: str, asks: bool
) -> None:
    scene = await three_running(store)

    async def deliver(other: Party) -> None:
        for suffix in ("e0", "e1"):
            await other.run("deliver_message", scene.id("m-" + suffix), scene.id(suffix), "news", "1", 0, None, 10_000)

    batch = mixed_batch(scene, asks=asks)
    verdicts = await after(postgres_url, deliver, lambda: store.commit(batch))
    assert verdicts == Verdicts(True, [], [Verdict.NUDGED, Verdict.OK, Verdict.OK])
    assert await recorded(scene) == {"e0", "e1", "e2"}
    assert [(await scene.row(s)).status for s in ("e0", "e1", "e2")] == ["running", "running", "completed"]
    assert (await scene.row("e1")).nudges == 1, "the change kept the nudge that it could not know"
    assert len(await store.requests(ids=[scene.id("r")])) == int(asks)


@BATCHES
async def test_a_claim_in_flight_fences_the_change_and_its_entries(
    store: PostgresStore, postgres_url: str, asks: bool
) -> None:
    scene = await three_running(store)

    async def claim(other: Party) -> None:
        await other.connection.execute("update workflow_executions set fence = 2 where id = $1", scene.id("e0"))

    batch = mixed_batch(scene, asks=asks)
    verdicts = await after(postgres_url, claim, lambda: store.commit(batch))
    assert verdicts == Verdicts(True, [], [Verdict.FENCED, Verdict.OK, Verdict.OK])
    assert await recorded(scene) == {"e1", "e2"}
    assert (await scene.row("e0")).status is Status.RUNNING
    assert await store.requests(ids=[scene.id("r")]) == []


@BATCHES
async def test_a_row_deleted_in_flight_is_gone(store: PostgresStore, postgres_url: str, asks: bool) -> None:
    scene = await three_running(store)

    async def delete(other: Party) -> None:
        await other.connection.execute("delete from workflow_executions where id = $1", scene.id("e2"))

    batch = mixed_batch(scene, asks=asks)
    verdicts = await after(postgres_url, delete, lambda: store.commit(batch))
    assert verdicts == Verdicts(True, [], [Verdict.OK, Verdict.OK, Verdict.GONE])
    assert await recorded(scene) == {"e0", "e1"}


SHAPES: dict[str, Callable[[Scene], Batch]] = {
    "entry": lambda scene: scene.batch(entries=[scene.entry("e0")]),
    "entries": lambda scene: scene.batch(entries=[scene.entry("e0"), scene.entry("e1")]),
    "creates": lambda scene: scene.batch(creates=[scene.execution("new")]),
    "changes": lambda scene: mixed_batch(scene, asks=False),
    "everything": lambda scene: mixed_batch(scene, asks=True),
    "in two": lambda scene: scene.batch(creates=[scene.execution("new")], changes=[scene.change("new", fence=0)]),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_death_in_flight_refuses_everything(store: PostgresStore, postgres_url: str, shape: str) -> None:
    scene = await three_running(store)
    batch = SHAPES[shape](scene)
    verdicts = await after(
        postgres_url,
        lambda other: other.run("declare_dead", scene.worker.id, True),
        lambda: store.commit(batch),
    )
    assert verdicts == Verdicts(alive=False)
    assert await recorded(scene) == set()
    assert await store.get([scene.id("new")]) == {}
    assert {(await scene.row(suffix)).status for suffix in ("e0", "e1", "e2")} == {Status.RUNNING}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_heartbeat_in_flight_only_delays(store: PostgresStore, postgres_url: str, shape: str) -> None:
    scene = await three_running(store)
    batch = SHAPES[shape](scene)
    verdicts = await after(
        postgres_url,
        lambda other: other.run("heartbeat", scene.worker.id, 1, 60_000_000),
        lambda: store.commit(batch),
    )
    assert verdicts.alive
    assert {*verdicts.creates, *verdicts.changes} <= {Verdict.OK}


async def test_a_death_waits_for_the_commit_under_way_and_the_heir_sees_it(
    store: PostgresStore, postgres_url: str
) -> None:
    scene = await three_running(store)
    heir = await scene.other_worker()
    async with party(postgres_url) as other:
        await other.run("lock_family", scene.id("e2"))  # the commit has its worker's row, and waits for this one
        commit = asyncio.ensure_future(store.commit(mixed_batch(scene, asks=False)))
        committing = await other.waiter()
        death = asyncio.ensure_future(store.declare_dead(scene.worker.id, anyway=True))
        await other.waiter(of=committing)
        assert not death.done()
    assert (await commit).alive
    assert await death
    assert [row.id for row in await heir.claim()] == [scene.id("e1")]
    assert await recorded(scene) == {"e0", "e1", "e2"}


async def test_a_claim_passes_over_what_another_one_takes_and_never_takes_it_after(
    store: PostgresStore, postgres_url: str
) -> None:
    first = await Scene.begin(store)
    second = await first.other_worker()
    await first.create(*(first.execution(f"n{n}", created_at=first.now + n) for n in range(4)))
    wanted = ([first.name], "{1}", [first.name], "")
    async with party(postgres_url) as other:
        await other.run("claim", first.worker.id, 1, 2, *wanted)
        assert [row.id for row in await second.claim()] == [first.id("n2"), first.id("n3")]
    assert await second.claim() == []


async def test_a_worker_born_after_the_claim_began_is_not_taken_for_dead(
    store: PostgresStore, postgres_url: str
) -> None:
    # The claimer's view is older than the new owner's registration: whom it cannot see, it must not call dead.
    scene = await three_running(store)
    await scene.die()
    taker = await scene.other_worker()
    async with party(postgres_url) as other:
        await other.connection.execute("select from workers where id = $1 for update", taker.worker.id)
        claim = asyncio.ensure_future(taker.claim())  # its view is taken; it waits for its own worker's row
        await other.waiter()
        heir = await scene.other_worker()
        assert len(await heir.claim()) == 3
    assert await claim == []
    assert {(await scene.row(s)).owner for s in ("e0", "e1", "e2")} == {heir.worker.id}


async def test_a_settled_wish_withdraws_what_a_park_in_flight_asked(store: PostgresStore, postgres_url: str) -> None:
    scene = await Scene.begin(store)
    for suffix in ("e0", "e1", "e2"):
        await scene.run(suffix, wish="cancel")

    async def park(other: Party) -> None:
        batch = mixed_batch(scene, asks=True)
        await other.connection.fetch(SQL["commit_batch"], *pack_batch(batch))

    receipt = await after(postgres_url, park, lambda: store.deliver(Settle(scene.id("e0")), 0))
    assert receipt.verdict is Verdict.OK
    assert (await scene.one_request()).status == "withdrawn"


async def test_a_cut_frees_the_messages_that_the_end_in_flight_took(store: PostgresStore, postgres_url: str) -> None:
    scene = await three_running(store)
    await scene.post("m", "e0")

    async def end(other: Party) -> None:
        change = scene.change("e0", Status.FAILED)
        batch = scene.batch(changes=[change], entries=[scene.entry("e0")], takes=[(scene.id("m"), 1)])
        await other.connection.fetch(SQL["commit_batch"], *pack_batch(batch))

    cut = CutOff(scene.id("e0"), 1, scene.entry("e0", 2, kind="cut"), from_seq=1, checksum=0)
    receipt = await after(postgres_url, end, lambda: store.deliver(cut, 0))
    assert receipt.verdict is Verdict.OK
    assert await scene.message_ids("e0") == ["m"]


async def test_what_a_cut_in_flight_revives_is_not_removed(store: PostgresStore, postgres_url: str) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("parent", status=Status.FAILED),
        scene.execution("child", status=Status.COMPLETED, parent_id=scene.id("parent")),
    )
    entry = scene.entry("parent", 1, kind="cut")

    async def revive(other: Party) -> None:
        await other.run("lock_family", scene.id("parent"))
        await other.run("deliver_cut", *entry, 0, 1, 0)

    removed = await after(postgres_url, revive, lambda: store.prune([scene.id("child"), scene.id("parent")]))
    assert removed == []
    assert await scene.seqs("parent") == [1]


async def test_a_claim_of_a_limited_queue_waits_for_the_one_in_flight(store: PostgresStore, postgres_url: str) -> None:
    first = await Scene.begin(store)
    second = await first.other_worker()
    await first.create(*(first.execution(f"n{n}", created_at=first.now + n) for n in range(4)))

    async def claim(other: Party) -> None:
        await other.run("make_queues", [first.name])
        await other.run("lock_queues", [first.name])
        await other.run("claim_these", first.worker.id, 1, [first.id("n0")])

    limits = [Limit(first.name, concurrency=2)]
    rows = await after(postgres_url, claim, lambda: second.claim(limits=limits))
    assert [row.id for row in rows] == [first.id("n1")]


async def test_while_a_limited_queue_is_full_a_claim_waits_for_nobody(store: PostgresStore, postgres_url: str) -> None:
    scene = await three_running(store)
    await scene.create(scene.execution("new"))
    async with party(postgres_url) as other:
        await other.run("make_queues", [scene.name])
        await other.run("lock_queues", [scene.name])
        assert await scene.claim(limits=[Limit(scene.name, concurrency=3)]) == []


async def test_two_workers_at_once_never_run_more_than_a_queue_may(store: PostgresStore, postgres_url: str) -> None:
    first = await Scene.begin(store)
    beside = PostgresStore(postgres_url)
    await beside.open()
    scenes = [first, await first.other_worker(beside)]
    ids = [f"n{n:02}" for n in range(50)]
    await first.create(*(first.execution(id) for id in ids))
    limits = [Limit(first.name, concurrency=3)]
    done: list[str] = []
    most = 0

    async def work(scene: Scene) -> None:
        nonlocal most
        while len(done) < len(ids):
            rows = await scene.claim(limits=limits, limit=2)
            running = await scene.store.count(Query(queue=first.name, status=(Status.RUNNING,)))
            most = max(most, running.get("running", 0))
            changes = [scene.change(row.id.rpartition("/")[2], Status.COMPLETED) for row in rows]
            if changes:
                await scene.commit(changes=changes)
                done.extend(row.id for row in rows)

    await asyncio.gather(*map(work, scenes))
    await beside.close()
    assert sorted(done) == [first.id(id) for id in ids]
    assert most <= 3, "how near it comes depends on who is faster; that three may run is a promise of `check_store`"


async def test_messages_in_flight_together_keep_an_order(store: PostgresStore, postgres_url: str) -> None:
    scene = await three_running(store)

    async def deliver(other: Party) -> None:
        await other.run("deliver_message", scene.id("first"), scene.id("e0"), "news", "1", 0, None, 10_000)

    second = Post(scene.message("second", "e0"))
    await after(postgres_url, deliver, lambda: store.deliver(second, 0))
    assert await scene.message_ids("e0") == ["first", "second"]


async def test_the_answer_that_was_first_in_flight_stands(store: PostgresStore, postgres_url: str) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request()])

    async def answer(other: Party) -> None:
        await other.run("deliver_decision", scene.id("r"), True, '"a"', "ana", "cli", 1)

    late = Answer(scene.id("r"), '"b"', "bob", "api", 2)
    receipt = await after(postgres_url, answer, lambda: store.deliver(late, 0))
    assert receipt.verdict is Verdict.DECIDED
    assert receipt.request is not None
    assert (receipt.request.answer, receipt.request.answered_by) == ('"a"', "ana")
    assert (await scene.row()).nudges == 1


# Commits whose answer is lost -------------------------------------------------------------------------


@asynccontextmanager
async def behind_proxy(server: PostgresServer, url: str) -> AsyncIterator[tuple[Proxy, PostgresStore]]:
    async with Proxy(server.port) as proxy:
        store = PostgresStore(server.url(url.rsplit("/", 1)[1], port=proxy.port))
        await store.open()
        try:
            yield proxy, store
        finally:
            await store.close()


async def cut_and_settle(proxy: Proxy, store: PostgresStore, shape: str, cut: Cut, marker: bytes) -> None:
    scene = await three_running(store)
    batch = SHAPES[shape](scene)
    proxy.cut, proxy.marker = cut, marker
    with pytest.raises(CommitUnknownError):
        await store.commit(batch)
    assert proxy.cut is None
    settled = await store.settle(batch)
    await proxy.release()
    if cut is not Cut.AFTER:
        assert settled is None
        settled = await store.commit(batch)
    assert settled is not None
    assert settled.alive
    assert {*settled.creates, *settled.changes} <= {Verdict.OK}
    assert len(settled.creates) == len(batch.creates)
    assert len(settled.changes) == len(batch.changes)
    assert await recorded(scene) == {entry.execution_id.rpartition("/")[2] for entry in batch.entries}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
async def test_settle_tells_whether_a_commit_was_recorded(
    postgres_server: PostgresServer, postgres_url: str, cut: Cut, shape: str
) -> None:
    async with behind_proxy(postgres_server, postgres_url) as (proxy, store):
        await cut_and_settle(proxy, store, shape, cut, b"COMMIT;" if shape == "in two" else b"")


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER], ids=lambda cut: cut.name.lower())
async def test_settle_tells_it_behind_a_pooler_too(
    postgres_server: PostgresServer, postgres_url: str, cut: Cut
) -> None:
    async with behind_proxy(postgres_server, postgres_url + "?statement_cache_size=0") as (proxy, store):
        await cut_and_settle(proxy, store, "everything", cut, b"COMMIT;")


async def test_settle_ends_a_commit_that_is_still_running(postgres_server: PostgresServer, postgres_url: str) -> None:
    async with behind_proxy(postgres_server, postgres_url) as (proxy, store):
        scene = await three_running(store)
        batch = mixed_batch(scene, asks=True)
        async with party(postgres_url) as other:
            await other.run("lock_family", scene.id("e1"))
            commit = asyncio.ensure_future(store.commit(batch))
            await other.waiter()
            await proxy.sever()
            with pytest.raises(CommitUnknownError):
                await commit
            assert await store.settle(batch) is None
        assert await store.commit(batch) == Verdicts(True, [], [Verdict.OK, Verdict.OK, Verdict.OK])
        assert await recorded(scene) == {"e0", "e1", "e2"}


async def test_nothing_is_said_of_a_commit_whose_session_may_read_it_yet(store: PostgresStore) -> None:
    scene = await three_running(store)
    batch = scene.batch(entries=[scene.entry("e0", 1)])
    connection = await store._commits.ready()
    process = connection.get_server_pid()
    os.kill(process, signal.SIGSTOP)
    try:
        commit = asyncio.ensure_future(store.commit(batch))
        await asyncio.sleep(0)  # it is sent, and lies there
        connection.terminate()
        with pytest.raises(CommitUnknownError):
            await commit
        with pytest.raises(StoreUnavailableError, match="does not end"):
            await store.settle(batch)
    finally:
        os.kill(process, signal.SIGCONT)
    assert await store.settle(batch) is None
    assert (await store.commit(batch)).alive
    assert await scene.seqs("e0") == [1]


async def test_settle_knows_a_release_that_another_worker_has_built_upon(store: PostgresStore) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    batch = scene.batch(changes=[scene.change("e0", Status.PENDING)], creates=[scene.execution("child")])
    await store.commit(batch)
    heir = await scene.other_worker()
    assert len(await heir.claim()) == 2
    ends = [heir.change("e0", Status.COMPLETED, fence=2), heir.change("child", Status.FAILED)]
    assert (await heir.commit(changes=ends)).changes == [Verdict.OK, Verdict.OK]
    assert await store.settle(batch) == Verdicts(True, [Verdict.OK], [Verdict.OK])


async def test_settle_of_a_dead_worker_does_not_take_an_heir_s_claim_for_its_own_change(store: PostgresStore) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    batch = scene.batch(changes=[scene.change("e0", Status.COMPLETED)])
    await scene.die()
    heir = await scene.other_worker()
    assert len(await heir.claim()) == 1
    assert await store.settle(batch) is None
    assert not (await store.commit(batch)).alive


async def test_a_commit_that_is_repeated_late_does_no_harm(store: PostgresStore) -> None:
    # A statement may still lie in a buffer of the network when settle has said that nothing is recorded.
    scene = await three_running(store)
    batch = mixed_batch(scene, asks=True)
    batch.entries.clear()
    await store.commit(batch)
    await scene.post("m", "e0")
    again = await store.commit(batch)
    assert again.changes == [Verdict.NUDGED, Verdict.OK, Verdict.OK]
    assert (await scene.row("e0")).status is Status.PENDING
