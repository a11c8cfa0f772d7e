"""What only MariaDB can break: other parties whose transactions are in flight, and networks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from perdure.deliveries import Answer, Settle
from perdure.deliveries import Cut as CutOff
from perdure.errors import CommitUnknownError
from perdure.records import Batch, Limit, Status, Verdict, Verdicts
from perdure.stores.mysql import MysqlStore
from perdure.stores.mysql_address import read_address
from perdure.stores.mysql_sessions import Session, connect
from perdure.testing.checks.scene import Scene
from tests.proxy import Cut, Proxy
from tests.servers import MariaDbServer

pytestmark = pytest.mark.mysql

Result = TypeVar("Result")

WAITING = "select count(*) from information_schema.innodb_trx where trx_state = 'LOCK WAIT'"


@pytest.fixture
async def store(mysql_url: str) -> AsyncIterator[MysqlStore]:
    opened = MysqlStore(mysql_url)
    await opened.open()
    yield opened
    await opened.close()


@dataclass
class Party:
    """Somebody else, whose transaction is in flight for as long as its block lasts."""

    session: Session
    watch: Session

    async def run(self, name: str, /, **values: object) -> None:
        await self.session.run(self.session.sql.fill(name, **values))

    async def say(self, statement: str) -> None:
        await self.session.run(statement)

    async def waiters(self, number: int = 1) -> None:
        """Return once so many transactions wait for a lock."""
        async with asyncio.timeout(15):
            while (await self.watch.run(WAITING))[0].value < number:
                await asyncio.sleep(0.12)  # what is asked more often is answered from memory


@asynccontextmanager
async def party(url: str) -> AsyncIterator[Party]:
    session, watch = await connect(read_address(url)), await connect(read_address(url))
    try:
        await session.run("start transaction")
        yield Party(session, watch)
        await session.run("commit")
    finally:
        await session.close()
        await watch.close()


async def after(url: str, act: Callable[[Party], Awaitable[None]], work: Callable[[], Awaitable[Result]]) -> Result:
    """Do the work while the act is in flight: it has to wait, and ends after the act has been committed."""
    async with party(url) as other:
        await act(other)
        task = asyncio.ensure_future(work())
        await other.waiters()
        assert not task.done()
    return await task


async def three_running(store: MysqlStore) -> Scene:
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
    store: MysqlStore, mysql_url: str, asks: bool
) -> None:
    scene = await three_running(store)

    async def deliver(other: Party) -> None:
        for suffix in ("e0", "e1"):
            await other.run("nudge", id=scene.id(suffix), times=1, at=None)

    batch = mixed_batch(scene, asks=asks)
    verdicts = await after(mysql_url, deliver, lambda: store.commit(batch))
    assert verdicts == Verdicts(True, [], [Verdict.NUDGED, Verdict.OK, Verdict.OK])
    assert await recorded(scene) == {"e0", "e1", "e2"}
    assert [(await scene.row(s)).status for s in ("e0", "e1", "e2")] == ["running", "running", "completed"]
    assert (await scene.row("e1")).nudges == 1, "the change kept the nudge that it could not know"
    assert len(await store.requests(ids=[scene.id("r")])) == int(asks)


@BATCHES
async def test_a_claim_in_flight_fences_the_change_and_its_entries(
    store: MysqlStore, mysql_url: str, asks: bool
) -> None:
    scene = await three_running(store)

    async def claim(other: Party) -> None:
        await other.say(f"update workflow_executions set fence = 2 where id = '{scene.id('e0')}'")

    batch = mixed_batch(scene, asks=asks)
    verdicts = await after(mysql_url, claim, lambda: store.commit(batch))
    assert verdicts == Verdicts(True, [], [Verdict.FENCED, Verdict.OK, Verdict.OK])
    assert await recorded(scene) == {"e1", "e2"}
    assert (await scene.row("e0")).status is Status.RUNNING
    assert await store.requests(ids=[scene.id("r")]) == []


@BATCHES
async def test_a_row_deleted_in_flight_is_gone(store: MysqlStore, mysql_url: str, asks: bool) -> None:
    scene = await three_running(store)

    async def delete(other: Party) -> None:
        await other.say(f"delete from workflow_executions where id = '{scene.id('e2')}'")

    batch = mixed_batch(scene, asks=asks)
    verdicts = await after(mysql_url, delete, lambda: store.commit(batch))
    assert verdicts == Verdicts(True, [], [Verdict.OK, Verdict.OK, Verdict.GONE])
    assert await recorded(scene) == {"e0", "e1"}


SHAPES: dict[str, Callable[[Scene], Batch]] = {
    "entry": lambda scene: scene.batch(entries=[scene.entry("e0")]),
    "entries": lambda scene: scene.batch(entries=[scene.entry("e0"), scene.entry("e1")]),
    "creates": lambda scene: scene.batch(creates=[scene.execution("new")]),
    "changes": lambda scene: mixed_batch(scene, asks=False),
    "everything": lambda scene: mixed_batch(scene, asks=True),
    "created and changed": lambda scene: scene.batch(
        creates=[scene.execution("new")], changes=[scene.change("new", fence=0)]
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("one_statement", [True, False], ids=["one statement", "one packet"])
async def test_a_death_in_flight_refuses_everything(
    store: MysqlStore, mysql_url: str, shape: str, one_statement: bool
) -> None:
    scene = await three_running(store)
    batch = SHAPES[shape](scene)
    (await store._commits.ready()).mariadb = one_statement  # MySQL's way must hold here, too
    verdicts = await after(
        mysql_url,
        lambda other: other.run("declare_dead", worker=scene.worker.id, anyway=True, here=""),
        lambda: store.commit(batch),
    )
    assert verdicts == Verdicts(alive=False)
    assert await recorded(scene) == set()
    assert await store.get([scene.id("new")]) == {}
    assert {(await scene.row(suffix)).status for suffix in ("e0", "e1", "e2")} == {Status.RUNNING}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("one_statement", [True, False], ids=["one statement", "one packet"])
async def test_a_heartbeat_in_flight_only_delays(
    store: MysqlStore, mysql_url: str, shape: str, one_statement: bool
) -> None:
    scene = await three_running(store)
    batch = SHAPES[shape](scene)
    (await store._commits.ready()).mariadb = one_statement
    verdicts = await after(
        mysql_url,
        lambda other: other.run("heartbeat", worker=scene.worker.id, epoch=1, lease=60_000_000),
        lambda: store.commit(batch),
    )
    assert verdicts.alive
    assert {*verdicts.creates, *verdicts.changes} <= {Verdict.OK}
    assert await recorded(scene) == {entry.execution_id.rpartition("/")[2] for entry in batch.entries}


async def test_a_worker_that_was_never_there_commits_nothing(store: MysqlStore) -> None:
    scene = await three_running(store)
    for shape in SHAPES.values():
        batch = shape(scene)
        batch.worker += 1000
        assert await store.commit(batch) == Verdicts(alive=False)
    assert await recorded(scene) == set()


async def test_a_death_waits_for_the_commit_under_way_and_the_heir_sees_it(store: MysqlStore, mysql_url: str) -> None:
    scene = await three_running(store)
    heir = await scene.other_worker()
    async with party(mysql_url) as other:
        await other.run("lock_family", id=scene.id("e2"))  # the commit has its worker's row, and waits for this one
        commit = asyncio.ensure_future(store.commit(mixed_batch(scene, asks=False)))
        await other.waiters(1)
        death = asyncio.ensure_future(store.declare_dead(scene.worker.id, anyway=True))
        await other.waiters(2)
        assert not death.done()
    assert (await commit).alive
    assert await death
    assert [row.id for row in await heir.claim()] == [scene.id("e1")]
    assert await recorded(scene) == {"e0", "e1", "e2"}


async def test_a_claim_passes_over_what_another_one_takes_and_finds_the_next(store: MysqlStore, mysql_url: str) -> None:
    scene = await Scene.begin(store)
    suffixes = [f"e{n}" for n in range(8)]
    await scene.commit(creates=[scene.execution(s, created_at=scene.now + n) for n, s in enumerate(suffixes)])
    async with party(mysql_url) as other:
        wanted = {"queue": scene.name, "workflows": [(scene.name, 1)], "build": '""', "limit": 3}
        await other.run("take_ready", **wanted)
        claimed = await scene.claim(limit=3)
        assert [row.id for row in claimed] == [scene.id(suffix) for suffix in ("e3", "e4", "e5")]
        # Nothing that was only looked at is locked: new ones come in meanwhile.
        await scene.commit(creates=[scene.execution("new")])
    assert len(await scene.claim(limit=10)) == 6


async def test_many_who_claim_at_once_take_everything_once(store: MysqlStore) -> None:
    scene = await Scene.begin(store)
    crew = [scene, *[await scene.other_worker() for _ in range(5)]]
    await scene.commit(creates=[scene.execution(f"e{n}", created_at=scene.now + n) for n in range(60)])
    taken: list[str] = []
    async with asyncio.timeout(30):
        while len(taken) < 60:
            for rows in await asyncio.gather(*[one.claim(limit=4) for one in crew]):
                taken += [row.id for row in rows]
    assert len(set(taken)) == 60


async def test_a_claim_of_a_limited_queue_waits_for_the_one_in_flight(store: MysqlStore, mysql_url: str) -> None:
    scene = await Scene.begin(store)
    limit = Limit(scene.name, concurrency=1)
    await scene.commit(creates=[scene.execution("e0"), scene.execution("e1")])
    await store._pool.run(f"insert into queues values ('{scene.name}')")

    async def take(other: Party) -> None:
        await other.run("lock_queues", queues=[scene.name])
        await other.run("claim", worker=scene.worker.id, ids=[scene.id("e0")])

    assert await after(mysql_url, take, lambda: scene.claim(limits=[limit])) == []
    assert (await scene.row("e1")).status is Status.PENDING


async def test_a_settled_wish_withdraws_what_a_park_in_flight_asked(store: MysqlStore, mysql_url: str) -> None:
    scene = await three_running(store)

    async def park(other: Party) -> None:
        await other.run("lock_family", id=scene.id("e0"))
        await other.say(
            f"update workflow_executions set status = 'waiting', owner = null, wish = 'cancel'"
            f" where id = '{scene.id('e0')}'"
        )
        request = scene.request("r", "e0")
        await other.say(
            "insert into approval_requests (id, execution_id, `key`, generation, kind, message, status, checksum,"
            f" created_at) values ('{request.id}', '{request.execution_id}', 'k', 0, 'input', 'm', 'open', 0, now(6))"
        )

    receipt = await after(mysql_url, park, lambda: store.deliver(Settle(scene.id("e0")), 0))
    assert receipt.verdict is Verdict.OK
    assert [request.status for request in await store.requests(ids=[scene.id("r")], status=None)] == ["withdrawn"]


async def test_a_cut_frees_the_messages_that_the_end_in_flight_took(store: MysqlStore, mysql_url: str) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    await scene.post("m", "e0")

    async def end(other: Party) -> None:
        await other.run("lock_family", id=scene.id("e0"))
        await other.say(f"update messages set taken_seq = 1 where execution_id = '{scene.id('e0')}'")
        await other.say(
            "update workflow_executions set status = 'failed', owner = null, ended_at = now(6)"
            f" where id = '{scene.id('e0')}'"
        )

    entry = scene.entry("e0", 2, kind="cut")
    cut = CutOff(scene.id("e0"), 1, entry, 1, 0)
    receipt = await after(mysql_url, end, lambda: store.deliver(cut, 0))
    assert receipt.verdict is Verdict.OK
    assert len((await store.inbox([scene.id("e0")]))[scene.id("e0")].messages) == 1


async def test_what_a_cut_in_flight_revives_is_not_removed(store: MysqlStore, mysql_url: str) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    await scene.commit(changes=[scene.change("e0", Status.FAILED)])

    async def revive(other: Party) -> None:
        await other.run("lock_family", id=scene.id("e0"))
        await other.run("revive", id=scene.id("e0"), checksum=0)

    assert await after(mysql_url, revive, lambda: store.prune([scene.id("e0")])) == []


async def test_the_answer_that_was_first_in_flight_stands(store: MysqlStore, mysql_url: str) -> None:
    scene = await Scene.begin(store)
    await scene.run("e0")
    await scene.commit(requests=[scene.request("r", "e0")])

    async def answer(other: Party) -> None:
        await other.run("lock_family", id=scene.id("e0"))
        decided: dict[str, Any] = {"status": "decided", "answer": '"a"', "by": "ana", "via": "cli", "checksum": 1}
        await other.run("decide_request", id=scene.id("r"), **decided)
        await other.run("nudge", id=scene.id("e0"), times=1, at=None)

    late = Answer(scene.id("r"), '"b"', "bob", "api", 2)
    receipt = await after(mysql_url, answer, lambda: store.deliver(late, 0))
    assert receipt.verdict is Verdict.DECIDED
    assert receipt.request is not None
    assert (receipt.request.answer, receipt.request.answered_by) == ('"a"', "ana")
    assert (await scene.row("e0")).nudges == 1


async def test_a_deadlock_that_is_resolved_against_us_is_tried_again(store: MysqlStore, mysql_url: str) -> None:
    scene = await three_running(store)
    async with party(mysql_url) as other:
        # It has written much, so that the server rolls back the other one: us.
        await other.say("insert into queues (name) select concat('heavy', seq) from seq_1_to_2000")
        await other.run("lock_family", id=scene.id("e1"))
        commit = asyncio.ensure_future(store.commit(mixed_batch(scene, asks=False)))
        await other.waiters()
        await other.run("lock_worker", worker=scene.worker.id)  # ours has it, and waits for e1
    assert (await commit).alive
    assert await recorded(scene) == {"e0", "e1", "e2"}


# Commits whose answer is lost -------------------------------------------------------------------------


@asynccontextmanager
async def behind_proxy(server: MariaDbServer, url: str) -> AsyncIterator[tuple[Proxy, MysqlStore]]:
    async with Proxy(server.port) as proxy:
        store = MysqlStore(server.url(url.rsplit("/", 1)[1], port=proxy.port))
        await store.open()
        try:
            yield proxy, store
        finally:
            await store.close()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
async def test_settle_tells_whether_a_commit_was_recorded(
    mariadb_server: MariaDbServer, mysql_url: str, cut: Cut, shape: str
) -> None:
    async with behind_proxy(mariadb_server, mysql_url) as (proxy, store):
        scene = await three_running(store)
        batch = SHAPES[shape](scene)
        proxy.cut, proxy.marker = cut, b"insert into step_executions" if shape in ("entry", "entries") else b"commit"
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


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
async def test_settle_tells_it_of_a_commit_of_which_something_was_refused(
    mariadb_server: MariaDbServer, mysql_url: str, cut: Cut
) -> None:
    async with behind_proxy(mariadb_server, mysql_url) as (proxy, store):
        scene = await three_running(store)
        await scene.post("m", "e0")  # the park will be refused: the commit takes two packets
        batch = mixed_batch(scene, asks=True)
        proxy.cut, proxy.marker = cut, b"insert into step_executions"
        session = await store._commits.ready()
        original = session.run

        async def judged_only(*statements: str, **options: Any) -> Any:
            if any("from dual" in statement for statement in statements):
                proxy.cut = None  # not the first, supposing packet
                try:
                    return await original(*statements, **options)
                finally:
                    proxy.cut = cut
            return await original(*statements, **options)

        session.run = judged_only  # type: ignore[method-assign]
        with pytest.raises(CommitUnknownError):
            await store.commit(batch)
        settled = await store.settle(batch)
        await proxy.release()
        if cut is not Cut.AFTER:
            assert settled is None
            settled = await store.commit(batch)
        assert settled == Verdicts(True, [], [Verdict.NUDGED, Verdict.OK, Verdict.OK])
        assert await recorded(scene) == {"e0", "e1", "e2"}


async def test_settle_ends_a_commit_that_is_still_running(mariadb_server: MariaDbServer, mysql_url: str) -> None:
    async with behind_proxy(mariadb_server, mysql_url) as (proxy, store):
        scene = await three_running(store)
        batch = mixed_batch(scene, asks=True)
        async with party(mysql_url) as other:
            await other.run("lock_family", id=scene.id("e1"))
            commit = asyncio.ensure_future(store.commit(batch))
            await other.waiters(1)
            await proxy.sever()
            with pytest.raises(CommitUnknownError):
                await commit
            assert await store.settle(batch) is None
        assert await store.commit(batch) == Verdicts(True, [], [Verdict.OK, Verdict.OK, Verdict.OK])
        assert await recorded(scene) == {"e0", "e1", "e2"}


async def test_a_commit_that_is_repeated_late_does_no_harm(store: MysqlStore) -> None:
    scene = await three_running(store)
    batch = mixed_batch(scene, asks=True)
    batch.entries.clear()
    await store.commit(batch)
    await scene.post("m", "e0")
    again = await store.commit(batch)
    assert again.changes == [Verdict.NUDGED, Verdict.OK, Verdict.OK]
    assert (await scene.row("e0")).status is Status.PENDING


async def test_a_commit_that_is_cancelled_leaves_nothing_half_done(store: MysqlStore, mysql_url: str) -> None:
    scene = await three_running(store)
    async with party(mysql_url) as other:
        await other.run("lock_family", id=scene.id("e1"))
        commit = asyncio.ensure_future(store.commit(mixed_batch(scene, asks=False)))
        await other.waiters()
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
    assert (await store.commit(scene.batch(entries=[scene.entry("e0", 7)]))).alive
    assert await recorded(scene) in ({"e0"}, {"e0", "e1", "e2"})
