"""What a store promises about workers: who lives, who is suspected, and that the dead stay dead."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from perdure.clock import SECOND
from perdure.records import Status, WorkerRecord
from perdure.store import Store
from perdure.testing.checks.scene import Scene, equal, new_worker, true


async def a_worker_gets_an_id_and_a_lease(store: Store) -> None:
    wanted = WorkerRecord(
        0, host="h", pid=7, process="p", build="b", workflows='[["f\\u00fcr",1],["f\\u00fcr",2]]', queues='["q"]'
    )
    first, second = await store.register(wanted, 60.0), await store.register(wanted, 60.0)
    true(first.id != second.id, "two workers with one id")
    equal((first.epoch, first.state), (1, "live"))
    equal(first.lease_until - first.started_at, 60 * SECOND, "the lease")
    given = replace(
        first, id=0, started_at=0, lease_until=0, process="p"
    )  # a store may have its own word for a process
    equal(given, wanted)
    listed = {row.id: row for row in await store.workers()}
    equal((listed.get(first.id), listed.get(second.id)), (first, second))


async def a_heartbeat_renews_the_lease(store: Store) -> None:
    worker = await new_worker(store, lease=-1.0)
    alive, now = await store.heartbeat(worker.id, worker.epoch, 60.0)
    true(alive, "a lease that is over is renewed as long as nobody declared the worker dead")
    row = next(row for row in await store.workers() if row.id == worker.id)
    true(now >= worker.started_at, "the store's time goes back")
    true(row.lease_until >= now + 59 * SECOND, "the lease was not renewed")
    true(not await store.declare_dead(worker.id), "a worker with a fresh lease was declared dead")


async def a_heartbeat_has_a_thread_and_a_loop_of_its_own(store: Store) -> None:
    worker = await new_worker(store, lease=-1.0)

    def beat() -> tuple[bool, int]:
        return asyncio.run(_heartbeat(store, worker))

    for _ in range(2):
        alive, _now = await asyncio.to_thread(beat)
        true(alive, "a heartbeat from another thread")
    true(not await store.declare_dead(worker.id), "the heartbeat of another thread did not count")


async def _heartbeat(store: Store, worker: WorkerRecord) -> tuple[bool, int]:
    return await store.heartbeat(worker.id, worker.epoch, 60.0)


async def the_dead_stay_dead(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.die()
    for epoch in (scene.worker.epoch, scene.worker.epoch + 5):
        alive, _ = await store.heartbeat(scene.worker.id, epoch, 60.0)
        true(not alive, "a heartbeat brought a dead worker back")
    true(await store.declare_dead(scene.worker.id), "declared dead twice: it is dead")
    true(not (await scene.send(scene.batch())).alive, "a dead worker commits")


async def a_heartbeat_of_another_epoch_does_not_count(store: Store) -> None:
    worker = await new_worker(store, lease=-1.0)
    alive, _ = await store.heartbeat(worker.id, worker.epoch + 1, 60.0)
    true(not alive, "a heartbeat of another epoch was taken")
    true(await store.declare_dead(worker.id), "it renewed the lease")


async def a_lease_that_is_over_is_suspect(store: Store) -> None:
    watcher, late = await new_worker(store, lease=-1.0), await new_worker(store, lease=-1.0)
    fresh = await new_worker(store, lease=60.0)
    suspects = await store.suspects(watcher.id)
    true(late.id in suspects, "a lease that is over is not suspect")
    true(watcher.id not in suspects, "a worker suspects itself")
    true(fresh.id not in suspects, "a fresh lease is suspect")
    await store.declare_dead(late.id)
    true(late.id not in await store.suspects(watcher.id), "a dead worker is suspected for ever")


async def only_a_suspect_is_declared_dead(store: Store) -> None:
    fresh, late = await new_worker(store, lease=60.0), await new_worker(store, lease=-1.0)
    true(not await store.declare_dead(fresh.id), "a live worker was declared dead")
    true((await store.heartbeat(fresh.id, fresh.epoch, 60.0))[0], "it lives on")
    true(await store.declare_dead(late.id), "a lease that is over is enough")
    true(await store.declare_dead(fresh.id, anyway=True), "`anyway` asks nobody")
    true(not await store.declare_dead(late.id + 1_000_000), "there is no such worker")


async def a_death_raises_the_epoch_once(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()  # so that it stays on the list
    await scene.die()
    await scene.die()
    row = next(row for row in await store.workers() if row.id == scene.worker.id)
    equal((row.state, row.epoch), ("dead", scene.worker.epoch + 1))


async def who_leaves_gives_back_what_it_owns(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await store.release(scene.worker.id, scene.worker.epoch)
    row = await scene.row()
    equal((row.status, row.owner, row.fence, row.crashes), (Status.PENDING, None, 1, 0))
    true(not (await store.heartbeat(scene.worker.id, scene.worker.epoch, 60.0))[0], "who left has no heartbeat")
    heir = await scene.other_worker()
    equal([(row.id, row.fence, row.crashes) for row in await heir.claim()], [(scene.id(), 2, 0)])


async def the_dead_give_nothing_back(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.die()
    await store.release(scene.worker.id, scene.worker.epoch)
    equal((await scene.row()).status, Status.RUNNING)


async def the_list_shows_the_live_and_the_dead_that_still_own_something(store: Store) -> None:
    live, owner, idle, gone = [await Scene.begin(store) for _ in range(4)]
    await owner.run()
    await owner.die()
    await idle.die()
    await store.release(gone.worker.id, gone.worker.epoch)
    listed = {row.id: row.state for row in await store.workers()}
    equal(listed.get(live.worker.id), "live")
    equal(listed.get(owner.worker.id), "dead")
    true(idle.worker.id not in listed, "a dead worker that owns nothing is listed")
    true(gone.worker.id not in listed, "a worker that has left is listed")
    heir = await owner.other_worker()
    await heir.claim()
    true(owner.worker.id not in {row.id for row in await store.workers()}, "it owns nothing any more")


async def another_handle_sees_the_same_workers(store: Store, other: Store) -> None:
    worker = await new_worker(store, lease=-1.0)
    watcher = await new_worker(other)
    true(worker.id in {row.id for row in await other.workers()}, "not listed by the other handle")
    true(worker.id in await other.suspects(watcher.id), "not suspected by the other handle")
    true(await other.declare_dead(worker.id), "not declared dead by the other handle")
    true(not (await store.heartbeat(worker.id, worker.epoch, 60.0))[0], "declared dead by the other handle, it lives")
