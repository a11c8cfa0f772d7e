"""What a claim promises: only what is due, to one worker only, in order, with a new fence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from perdure.records import Glance, Status, Verdict
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true


async def a_claim_makes_the_worker_the_owner(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution(wake_at=scene.now - HOUR, fence=4, nudges=2, input="7"))
    before = await scene.row()
    claimed = await scene.claim()
    equal(claimed, [await scene.row()], "the rows after the claim")
    wanted = replace(before, status=Status.RUNNING, owner=scene.worker.id, fence=5, wake_at=None)
    true(claimed[0].started_at is not None, "when it was first claimed")
    equal(replace(claimed[0], updated_at=before.updated_at, started_at=None), wanted)
    equal(await scene.claim(), [], "what is owned is not claimed again")


async def claims_go_by_priority_then_age(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("low", priority=-1, created_at=scene.now - HOUR),
        scene.execution("new", created_at=scene.now),
        scene.execution("old", created_at=scene.now - 1),
        scene.execution("high", priority=9, created_at=scene.now + 1),
        scene.execution("due", status=Status.WAITING, priority=5, wake_at=scene.now - HOUR),
        scene.execution("delayed", priority=3, wake_at=scene.now - 2 * HOUR),
    )
    first = await scene.claim(limit=3)
    rest = await scene.claim(limit=100)
    names = [row.id.removeprefix(scene.name + "/") for row in first + rest]
    equal(names, ["high", "due", "delayed", "old", "new", "low"])
    equal(len(first), 3, "the limit")


async def a_claim_takes_its_queues_and_workflows_only(store: Store) -> None:
    scene = await Scene.begin(store)
    mine, queue = scene.name, scene.name
    await scene.create(
        scene.execution("a"),
        scene.execution("b", version=2),
        scene.execution("c", workflow=mine + "-other"),
        scene.execution("d", queue=queue + "-other"),
        scene.execution("e", workflow=mine.upper()),
    )

    async def taken(workflows: list[tuple[str, int]], queues: list[str]) -> list[str]:
        rows = await scene.claim(workflows=workflows, queues=queues)
        return [row.id.removeprefix(scene.name + "/") for row in rows]

    equal(await taken([], [queue]), [])
    equal(await taken([(mine, 1)], []), [])
    equal(await taken([(mine, 3), (mine + "-other", 2)], [queue]), [])
    equal(await taken([(mine, 2), (mine + "-other", 1)], [queue]), ["b", "c"])
    equal(await taken([(mine, 1), (mine, 2)], ["absent", queue + "-other"]), ["d"])
    equal(await taken([(mine, 1)], [queue]), ["a"])


async def nothing_is_claimed_before_its_time(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("later", wake_at=scene.now + HOUR),
        scene.execution("earlier", wake_at=scene.now - HOUR),
        scene.execution("waits", status=Status.WAITING),
        scene.execution("sleeps", status=Status.WAITING, wake_at=scene.now + HOUR),
        scene.execution("slept", status=Status.WAITING, wake_at=scene.now - HOUR),
    )
    equal({row.id for row in await scene.claim()}, {scene.id("earlier"), scene.id("slept")})


async def only_pending_waiting_and_orphaned_ones_are_claimed(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in Status:
        if status not in (Status.PENDING, Status.WAITING, Status.RUNNING):
            await scene.create(scene.execution(status, status=status))
    await scene.run("owned")
    equal(await scene.claim(), [])
    heir = await scene.other_worker()
    equal(await heir.claim(), [], "nothing is taken from a live owner")


async def the_executions_of_the_dead_are_taken_over(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.die()
    heir = await scene.other_worker()
    rows = await heir.claim()
    equal([(row.id, row.owner, row.fence) for row in rows], [(scene.id(), heir.worker.id, 2)])


async def crashes_are_counted_until_the_journal_grows(store: Store) -> None:
    owner = await Scene.begin(store)
    await owner.run()
    seen = []
    for grows in (0, 0, 2, 0, 1):
        seqs = await owner.seqs()
        new = [owner.entry(seq=len(seqs) + n) for n in range(1, grows + 1)]
        await owner.commit(entries=new)
        await owner.die()
        owner = await owner.other_worker()
        (row,) = await owner.claim() or await owner.claim(crashed=True)
        equal((row.crashes, row.crash_seq), ((await owner.row()).crashes, (await owner.row()).crash_seq))
        seen.append((row.crashes, row.crash_seq))
    equal(seen, [(1, 0), (2, 0), (1, 2), (2, 2), (1, 3)])


async def what_was_given_up_is_no_crash(store: Store) -> None:
    owner = await Scene.begin(store)
    await owner.run()
    await owner.commit(changes=[owner.change(status=Status.PENDING)])
    await owner.die()
    heir = await owner.other_worker()
    equal([(row.crashes, row.fence) for row in await heir.claim()], [(0, 2)])


async def who_does_not_stand_claims_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution())
    wanted = ([(scene.name, 1)], [scene.name], scene.now)
    equal(await store.claim(scene.worker.id, scene.worker.epoch + 1, 10, *wanted), [])
    await scene.die()
    equal(await store.claim(scene.worker.id, scene.worker.epoch, 10, *wanted), [])
    equal(await store.claim(scene.worker.id, scene.worker.epoch + 1, 10, *wanted), [])
    equal((await scene.row()).status, Status.PENDING)


async def the_fence_of_a_former_owner_does_not_stand(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park()
    await scene.post()
    heir = await scene.other_worker()
    equal([(row.fence, row.nudges) for row in await heir.claim()], [(2, 1)])
    verdicts = await scene.commit(changes=[scene.change()], entries=[scene.entry()])
    equal(verdicts.changes, [Verdict.FENCED])
    equal(await scene.seqs(), [])
    equal((await heir.commit(changes=[scene.change(fence=2)])).changes, [Verdict.OK])


async def what_was_parked_meanwhile_is_claimed_once_nudged(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(wake_at=scene.now + HOUR)
    equal(await scene.claim(), [])
    await scene.post()
    equal([row.id for row in await scene.claim()], [scene.id()])


async def workers_that_claim_at_once_share_without_overlap(store: Store, other: Store) -> None:
    first = await Scene.begin(store)
    second = await first.other_worker(other)
    await first.create(*(first.execution(f"n{n}") for n in range(60)))
    taken: list[str] = []
    for _ in range(6):
        for rows in await asyncio.gather(*(scene.claim(limit=7) for scene in (first, second))):
            taken += [row.id for row in rows]
    equal(sorted(taken), sorted(first.id(f"n{n}") for n in range(60)))
    equal({(await first.row(f"n{n}")).fence for n in range(60)}, {1})


async def what_is_owned_is_told_with_its_nudges(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("a")
    await scene.run("b")
    await scene.park("parked")
    await scene.post("m", "b")
    equal(await store.nudged(scene.worker.id), {scene.id("a"): 0, scene.id("b"): 1})
    equal(await store.nudged((await scene.other_worker()).worker.id), {})


async def the_next_wake_is_the_earliest(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution("waits", status=Status.WAITING, wake_at=3_000_001))
    wake = await store.next_wake()
    if wake is None:
        return  # not known cheaply, which is allowed
    true(wake <= 3_000_001, "a later one was told")
    await scene.create(
        scene.execution("pending", wake_at=2_000_001),
        scene.execution("paused", status=Status.PAUSED, wake_at=1_000_001),
    )
    equal(await store.next_wake(), 2_000_001)
    await scene.claim()


async def nobody_waits_for_a_change_longer_than_he_wants(store: Store) -> None:
    await store.changed(0.0)
    await store.changed(0.01)


async def a_glance_sees_whatever_can_be_claimed(store: Store) -> None:
    # It may see what is not there, but never not see what is.
    for name, makes in _CLAIMABLE.items():
        scene = await Scene.begin(store)
        await makes(scene)
        sight = await _glance(scene)
        true(sight.crashed if name == "suspect" else sight.claimable, f"what is {name} was not seen")
        true(await scene.claim(crashed=name == "suspect"), f"nothing to claim of what is {name}")


async def _ready(scene: Scene) -> None:
    await scene.create(scene.execution(wake_at=None))


async def _due(scene: Scene) -> None:
    await scene.park(wake_at=scene.now - HOUR)


async def _orphaned(scene: Scene) -> None:
    owner = await scene.other_worker()
    await owner.run()
    await owner.die()


async def _suspect(scene: Scene) -> None:
    owner = await scene.other_worker()
    await owner.run(crashes=1)
    await owner.die()


_CLAIMABLE = {"ready": _ready, "due": _due, "orphaned": _orphaned, "suspect": _suspect}


async def _glance(scene: Scene, **fields: Any) -> Glance:
    wanted: dict[str, Any] = {"workflows": [(scene.name, 1)], "queues": [scene.name]}
    return await scene.store.glance(scene.worker.id, scene.worker.epoch, **(wanted | fields))


async def a_glance_sees_deaths_and_takes_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    late, fresh = await scene.other_worker(lease=-1.0), await scene.other_worker()
    await scene.create(scene.execution())
    for _ in range(2):
        suspects = (await _glance(scene)).suspects
        true(late.worker.id in suspects, "a lease that is over is not suspect")
        true(scene.worker.id not in suspects and fresh.worker.id not in suspects, "a fresh lease is suspect")
    equal((await scene.row()).status, Status.PENDING)
    equal([row.fence for row in await scene.claim()], [1])
    wanted: list[dict[str, Any]] = [{"queues": []}, {"workflows": []}, {"build": "b1"}]
    for fields in wanted:
        await _glance(scene, **fields)
