"""What claims of queues with limits promise, of suspects, and of builds that were refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from perdure.records import Execution, Limit, Status
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true


def _names(scene: Scene, rows: Iterable[Execution]) -> list[str]:
    return [row.id.removeprefix(scene.name + "/") for row in rows]


async def _pending(scene: Scene, number: int, **fields: Any) -> None:
    await scene.create(*(scene.execution(f"n{n}", created_at=scene.now + n, **fields) for n in range(number)))


# Concurrency --------------------------------------------------------------------------------------------


async def no_more_run_at_once_than_the_queue_may(store: Store) -> None:
    scene = await Scene.begin(store)
    limits = [Limit(scene.name, concurrency=2)]
    await _pending(scene, 4)
    await scene.create(scene.execution("urgent", priority=1, created_at=scene.now + HOUR))
    equal(_names(scene, await scene.claim(limits=limits)), ["urgent", "n0"], "the most urgent first")
    equal(await scene.claim(limits=limits), [])
    await scene.commit(changes=[scene.change("n0", Status.WAITING)])
    equal(_names(scene, await scene.claim(limits=limits)), ["n1"], "one is parked, another one may run")
    equal(len(await scene.claim()), 2, "who states no limit has none")


async def a_limit_holds_over_all_workers(store: Store, other: Store) -> None:
    first = await Scene.begin(store)
    second = await first.other_worker(other)
    limits = [Limit(first.name, concurrency=3)]
    await _pending(first, 9)
    taken: list[str] = []
    running: list[tuple[Scene, str]] = []
    for turn in range(12):
        scene = (first, second)[turn % 2]
        rows = await scene.claim(limit=2, limits=limits)
        running += [(scene, name) for name in _names(scene, rows)]
        taken += _names(scene, rows)
        true(len(running) <= 3, f"{len(running)} run")
        equal(len(running), min(3, 9 - len(taken) + len(running)) if turn else 2, "what may run is taken")
        if turn:
            owner, name = running.pop(0)
            await owner.commit(changes=[owner.change(name)])
            if not running and len(taken) == 9:
                break
    equal(taken, [f"n{n}" for n in range(9)])


async def claims_at_once_keep_the_limit(store: Store, other: Store) -> None:
    first = await Scene.begin(store)
    scenes = [first, await first.other_worker(other)]
    limits = [Limit(first.name, concurrency=3)]
    await _pending(first, 12)
    done: set[str] = set()
    for _ in range(30):
        claimed = await asyncio.gather(*(scene.claim(limits=limits) for scene in scenes))
        true(sum(map(len, claimed)) <= 3, "more than three run at once")
        for scene, rows in zip(scenes, claimed, strict=True):
            names = _names(scene, rows)
            done.update(names)
            await scene.commit(changes=[scene.change(name) for name in names])
    equal(len(done), 12)


async def whatever_runs_in_the_queue_counts(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("another workflow", workflow=scene.name + "-other")
    await scene.run("another queue", queue=scene.name + "-other")
    await _pending(scene, 3)
    equal(_names(scene, await scene.claim(limits=[Limit(scene.name, concurrency=2)])), ["n0"])


async def those_of_the_dead_keep_their_places_when_they_are_taken_over(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("a", created_at=scene.now + HOUR)
    await scene.run("other workflow", workflow=scene.name + "-other")
    await scene.die()
    heir = await scene.other_worker()
    await heir.create(heir.execution("new", created_at=heir.now + 2 * HOUR))
    limits = [Limit(scene.name, concurrency=2)]
    rows = await heir.claim(limits=limits)
    equal([(row.id, row.fence, row.crashes) for row in rows], [(scene.id("a"), 2, 1)])
    equal(await heir.claim(limits=limits), [])


async def a_limit_per_attribute_holds_for_each_value(store: Store) -> None:
    scene = await Scene.begin(store)
    texts = ['{"to":"a"}', '{"to":"a"}', '{"to":"b","n":1}', None, '{"n":1}', '{"to":["a"]}', '{"to":"b"}']
    await scene.create(
        *(scene.execution(f"n{n}", created_at=scene.now + n, attributes=text) for n, text in enumerate(texts))
    )
    limits = [Limit(scene.name, concurrency=1, per="to")]
    equal(_names(scene, await scene.claim(limits=limits)), ["n0", "n2", "n3", "n5"])
    await scene.commit(changes=[scene.change("n2")])
    equal(_names(scene, await scene.claim(limits=limits)), ["n6"])


async def a_limit_is_of_its_queue_alone(store: Store) -> None:
    scene = await Scene.begin(store)
    free = scene.name + "-free"
    for n in range(3):
        await scene.create(
            scene.execution(f"l{n}", created_at=scene.now + 2 * n),
            scene.execution(f"f{n}", created_at=scene.now + 2 * n + 1, queue=free),
        )
    limits = [Limit(scene.name, concurrency=2), Limit("no queue of ours", concurrency=0)]
    queues = [scene.name, free]
    equal(_names(scene, await scene.claim(queues=queues, limits=limits, limit=3)), ["l0", "f0", "l1"])
    equal(_names(scene, await scene.claim(queues=queues, limits=limits, limit=1)), ["f1"])
    equal(_names(scene, await scene.claim(queues=queues, limits=limits)), ["f2"])
    both = [Limit(scene.name, concurrency=9), Limit(free, concurrency=1)]
    equal(_names(scene, await scene.claim(queues=queues, limits=both)), ["l2"])


async def who_does_not_stand_claims_nothing_of_a_limited_queue(store: Store) -> None:
    scene = await Scene.begin(store)
    await _pending(scene, 1)
    await scene.die()
    equal(await scene.claim(limits=[Limit(scene.name, concurrency=1)]), [])
    equal((await scene.row("n0")).status, Status.PENDING)


# Rates --------------------------------------------------------------------------------------------------


async def the_first_claim_is_remembered(store: Store) -> None:
    scene = await Scene.begin(store)
    await _pending(scene, 1)
    (row,) = await scene.claim()
    started = row.started_at
    true(started is not None and abs(started - scene.now) < HOUR, f"started at {started}")
    await scene.commit(changes=[scene.change("n0", Status.PENDING)])
    equal([row.started_at for row in await scene.claim(now=scene.now + HOUR)], [started])


async def no_more_begin_in_a_window_than_the_rate_says(store: Store) -> None:
    scene = await Scene.begin(store)
    for suffix, ago in (("old", 2 * HOUR), ("recent", HOUR // 2)):
        await scene.create(scene.execution(suffix, status=Status.COMPLETED, started_at=scene.now - ago))
    other = scene.execution("other queue", queue=scene.name + "-other", status=Status.COMPLETED, started_at=scene.now)
    await scene.create(other)
    await _pending(scene, 4)
    limits = [Limit(scene.name, starts=3, window=HOUR)]
    equal(_names(scene, await scene.claim(limits=limits)), ["n0", "n1"])
    equal(await scene.claim(limits=limits), [])
    equal(_names(scene, await scene.claim(limits=[Limit(scene.name, starts=4, window=HOUR)])), ["n2"])
    equal(_names(scene, await scene.claim(limits=[Limit(scene.name, starts=6, window=3 * HOUR)])), ["n3"])


async def what_comes_back_from_a_wait_begins_no_more(store: Store) -> None:
    scene = await Scene.begin(store)
    await _pending(scene, 2)
    await scene.create(scene.execution("back", started_at=scene.now, created_at=scene.now + HOUR))
    limits = [Limit(scene.name, starts=1, window=HOUR)]
    equal(_names(scene, await scene.claim(limits=limits)), ["back"])


async def a_rate_per_attribute_holds_for_each_value(store: Store) -> None:
    scene = await Scene.begin(store)
    begun = scene.execution("begun", status=Status.COMPLETED, started_at=scene.now, attributes='{"to":"a"}')
    await scene.create(begun)
    for n, value in enumerate("abab"):
        await scene.create(scene.execution(f"n{n}", created_at=scene.now + n, attributes=f'{{"to":"{value}"}}'))
    limits = [Limit(scene.name, starts=2, window=HOUR, concurrency=1, per="to")]
    equal(_names(scene, await scene.claim(limits=limits)), ["n0", "n1"])
    await scene.commit(changes=[scene.change("n0"), scene.change("n1")])
    equal(_names(scene, await scene.claim(limits=limits)), ["n3"])


# Suspects, and builds that were refused -------------------------------------------------------------------


async def a_suspect_is_taken_by_who_asks_for_suspects_alone(store: Store) -> None:
    scene = await Scene.begin(store)
    past = scene.now - HOUR
    await scene.run("dead0", created_at=scene.now + 1)
    await scene.run("dead1", created_at=scene.now + 2, crashes=1)
    await scene.run("dead2", created_at=scene.now + 3, crashes=2, crash_seq=1)
    await scene.commit(entries=[scene.entry("dead2", 1)])
    await scene.die()
    scene = await scene.other_worker()
    await scene.run("alive", crashes=3)
    await scene.create(
        scene.execution("once", created_at=scene.now + 4, crashes=1),
        scene.execution("twice", created_at=scene.now + 5, crashes=2),
        scene.execution("due", created_at=scene.now + 6, crashes=2, status=Status.WAITING, wake_at=past),
        scene.execution("late", created_at=scene.now + 7, crashes=2, wake_at=past),
        scene.execution("later", crashes=2, wake_at=scene.now + HOUR),
        scene.execution("waits", crashes=2, status=Status.WAITING),
        scene.execution("blocked", crashes=5, status=Status.BLOCKED),
        scene.execution("other queue", crashes=2, queue=scene.name + "-other"),
        scene.execution("other version", crashes=2, version=2),
    )
    equal(_names(scene, await scene.claim()), ["dead0", "once"])
    equal(_names(scene, await scene.claim(crashed=True, limit=2)), ["dead1", "dead2"])
    rows = await scene.claim(crashed=True)
    equal(_names(scene, rows), ["twice", "due", "late"])
    equal([(row.status, row.owner, row.fence, row.crashes) for row in rows], [("running", scene.worker.id, 1, 2)] * 3)
    equal([(await scene.row(name)).crashes for name in ("dead0", "dead1", "dead2")], [1, 2, 3])
    equal(await scene.claim(crashed=True), [])


async def suspects_count_against_the_limits_of_their_queue(store: Store) -> None:
    scene = await Scene.begin(store)
    await _pending(scene, 3, crashes=2)
    limits = [Limit(scene.name, concurrency=2)]
    equal(await scene.claim(limits=limits), [])
    equal(_names(scene, await scene.claim(limits=limits, crashed=True)), ["n0", "n1"])
    equal(await scene.claim(limits=limits, crashed=True), [])


async def what_refused_a_build_is_not_given_to_it(store: Store) -> None:
    scene = await Scene.begin(store)
    refused = '["b1","b\\u00fc","with \\"quotes\\""]'
    await scene.run("dead", created_at=scene.now, refused=refused)
    await scene.die()
    scene = await scene.other_worker()
    await scene.create(
        scene.execution("pending", created_at=scene.now + 1, refused=refused),
        scene.execution("due", created_at=scene.now + 2, refused=refused, wake_at=scene.now - HOUR),
        scene.execution("suspect", created_at=scene.now + 3, refused=refused, crashes=2),
    )
    limits = [Limit(scene.name, concurrency=9)]
    for build in ("b1", "b\u00fc", 'with "quotes"'):
        equal(await scene.claim(build=build), [], build)
        equal(await scene.claim(build=build, limits=limits), [], build)
        equal(await scene.claim(build=build, crashed=True), [], build)
    equal(_names(scene, await scene.claim(build="b")), ["dead", "pending", "due"])
    equal(_names(scene, await scene.claim(crashed=True)), ["suspect"], "who says no build is refused nothing")
