"""What pruning and schedules promise: nothing that somebody still needs is removed, and nothing is moved twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from perdure.deliveries import Post
from perdure.records import ENDED, Schedule, Status, Verdict
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal


async def what_has_ended_is_removed_with_all_that_is_its_own(store: Store) -> None:
    scene = await Scene.begin(store)
    for suffix in ("x", "stays"):
        await scene.run(suffix)
        await scene.post(f"m-{suffix}", suffix)
        await scene.commit(
            entries=[scene.entry(suffix)],
            requests=[scene.request(f"r-{suffix}", suffix)],
            changes=[scene.change(suffix)],
        )
    kept = await scene.row("stays")
    equal(await store.prune([scene.id(), scene.id("absent"), scene.id()]), [scene.id()])
    equal(await store.get([scene.id(), scene.id("stays")]), {scene.id("stays"): kept})
    equal(await store.load([scene.id()]), {scene.id(): []})
    equal((await store.requests(ids=[scene.id("r-x")], status=None), await store.inbox([scene.id()])), ([], {}))
    equal((await scene.seqs("stays"), (await scene.one_request("r-stays")).status), ([1], "open"))
    await scene.create(scene.execution())
    equal((await store.deliver(Post(scene.message("m-x")), scene.now)).verdict, Verdict.OK, "its message is forgotten")
    equal((await store.deliver(Post(scene.message("m-stays", "stays")), scene.now)).verdict, Verdict.REPEAT)
    equal(await store.prune([scene.id()]), [])


async def only_what_has_ended_is_removed(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(*(scene.execution(status, status=status) for status in Status))
    removed = await store.prune([scene.id(status) for status in Status])
    equal(removed, [scene.id(status) for status in Status if status in ENDED])
    equal(set(await store.get([scene.id(s) for s in Status])), {scene.id(s) for s in Status if s not in ENDED})
    equal(await store.prune([]), [])


async def what_an_open_parent_or_child_needs_is_kept(store: Store) -> None:
    scene = await Scene.begin(store)
    done = Status.COMPLETED
    await scene.create(
        scene.execution("open"),
        scene.execution("of open", status=done, parent_id=scene.id("open")),
        scene.execution("over", status=done),
        scene.execution("of over", status=Status.FAILED, parent_id=scene.id("over")),
        scene.execution("grandchild", status=done, parent_id=scene.id("of over")),
        scene.execution("half", status=done),
        scene.execution("half done", status=done, parent_id=scene.id("half")),
        scene.execution("half open", status=Status.WAITING, parent_id=scene.id("half")),
        scene.execution("orphan", status=done, parent_id=scene.id("nobody")),
    )
    names = ["of open", "over", "of over", "grandchild", "half", "half done", "orphan"]
    removed = await store.prune([scene.id(name) for name in names])
    equal(removed, [scene.id(name) for name in ("over", "of over", "grandchild", "half done", "orphan")])
    equal([row.id for row in await store.tree(scene.id("half"))], [scene.id("half open")])


# Schedules ------------------------------------------------------------------------------------------------


def _schedule(scene: Scene, suffix: str = "s", **fields: Any) -> Schedule:
    defaults: dict[str, Any] = {
        "workflow": "nightly",
        "version": 2,
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "overlap": "skip",
        "backfill": False,
        "input": '{"x":"\\u0000"}',
        "created_at": scene.now,
    }
    return Schedule(scene.id(suffix), **(defaults | fields))


async def _schedules(scene: Scene) -> list[Schedule]:
    return [schedule for schedule in await scene.store.schedules() if schedule.name.startswith(scene.name)]


async def a_schedule_is_kept_as_it_is_and_replaced_by_its_name(store: Store) -> None:
    scene = await Scene.begin(store)
    full = _schedule(
        scene,
        "b",
        overlap="queue",
        backfill=True,
        queue="slow",
        paused=True,
        next_at=scene.now + 1,
        last_at=scene.now - HOUR,
        last_id="x",
    )
    bare = _schedule(scene, "a")
    await store.put_schedule(full)
    await store.put_schedule(bare)
    equal(await _schedules(scene), [bare, full], "by name")
    changed = _schedule(scene, "b", overlap="allow", workflow="hourly", version=3, cron="0 * * * *", input="{}")
    await store.put_schedule(changed)
    equal(await _schedules(scene), [bare, changed])
    (await _schedules(scene))[0].cron = "changed"
    changed.cron = "changed"
    equal([schedule.cron for schedule in await _schedules(scene)], ["0 3 * * *", "0 * * * *"], "copies")


async def a_schedule_moves_on_only_from_where_it_was_known_to_be(store: Store) -> None:
    scene = await Scene.begin(store)
    first = _schedule(scene)
    equal(await store.move_schedule(first, None), False, "there is none of this name")
    await store.put_schedule(first)
    second = replace(first, next_at=scene.now + HOUR, last_at=scene.now, last_id="x")
    equal(await store.move_schedule(second, scene.now), False)
    equal(await _schedules(scene), [first])
    equal(await store.move_schedule(second, None), True)
    equal(await store.move_schedule(first, None), False, "it has moved on")
    equal(await store.move_schedule(first, scene.now + HOUR + 1), False)
    equal(await _schedules(scene), [second])
    equal(await store.move_schedule(replace(first, paused=True), scene.now + HOUR), True)
    equal(await _schedules(scene), [replace(first, paused=True)])


async def of_those_who_move_a_schedule_at_once_one_does(store: Store, other: Store) -> None:
    scene = await Scene.begin(store)
    await store.put_schedule(_schedule(scene, next_at=scene.now))
    moved = [_schedule(scene, next_at=scene.now + n, last_id=str(n)) for n in range(1, 11)]
    handles = [store, other] * 5
    done = await asyncio.gather(*(h.move_schedule(s, scene.now) for h, s in zip(handles, moved, strict=True)))
    equal(done.count(True), 1)
    equal(await _schedules(scene), [moved[done.index(True)]])


async def a_schedule_is_removed_once(store: Store) -> None:
    scene = await Scene.begin(store)
    await store.put_schedule(_schedule(scene))
    await store.put_schedule(_schedule(scene, "other"))
    equal([await store.remove_schedule(scene.id("s")) for _ in range(2)], [True, False])
    equal([schedule.name for schedule in await _schedules(scene)], [scene.id("other")])
