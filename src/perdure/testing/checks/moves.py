"""What a store promises to a move: executions leave and arrive as they are, and what was moved away stays at rest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from perdure.deliveries import Post
from perdure.errors import BadBatchError, MovedError
from perdure.records import Parcel, Schedule, Status
from perdure.store import Movable
from perdure.testing.checks.scene import HOUR, Scene, equal, new_worker, true


async def ids_come_in_order_behind_one(store: Movable) -> None:
    scene = await Scene.begin(store)
    names = ["b", "a", "c ", "B", "ä"]
    await scene.create(*(scene.execution(name) for name in names))
    wanted = sorted(scene.id(name) for name in names)
    equal([id for id in await _all_ids(store) if id.startswith(scene.name)], wanted)
    equal(list(await store.ids(scene.id("a"), 2)), [id for id in wanted if id > scene.id("a")][:2])


async def _all_ids(store: Movable) -> list[str]:
    found: list[str] = []
    while part := await store.ids(found[-1] if found else "", 7):
        found += part
    return found


async def an_execution_is_packed_as_a_whole_and_kept_as_it_was(store: Movable) -> None:
    scene = await Scene.begin(store)
    parcels = await _everything(scene)
    tables = {"workflow_executions": 1, "step_executions": 2, "approval_requests": 2, "messages": 1}
    equal({table: len(rows) for table, rows in parcels[0].rows.items()}, tables)
    row = parcels[0].rows["workflow_executions"][0]
    equal((row["id"], row["created_at"], row["status"], row["owner"]), (scene.id(), scene.now, "completed", None))

    there = [_renamed(scene, parcel) for parcel in parcels]
    equal(list(await store.unpack(there)), [parcel.id for parcel in there])
    equal(_sorted(await store.pack([parcel.id for parcel in there])), _sorted(there))
    equal((await store.history(there[0].id))[1].output, '"\\u0000"')
    equal((await store.get([there[0].id]))[there[0].id].attributes, '{"customer":7}')


async def _everything(scene: Scene) -> list[Parcel]:
    """One that ended, and one that waits."""
    await scene.run(
        attributes='{"customer":7}', started_by="ana", parent_id=scene.id("y"), parent_key="k", refused='["b"]'
    )
    await scene.run("y", priority=-3, generation=2, base_seq=1)
    await scene.post()
    await scene.commit(
        entries=[scene.entry(), scene.entry(seq=2, input=None, output='"\\u0000"', parent_key="p")],
        requests=[scene.request("r", details='{"a":1}'), scene.request("other", expires_at=scene.now + HOUR)],
        takes=[(scene.id("m"), 2)],
        changes=[
            scene.change(output='"done"', checksum=2**31, reason="so"),
            scene.change("y", Status.WAITING, wake_at=scene.now + HOUR),
        ],
    )
    return list(await scene.store.pack([scene.id(), scene.id("absent"), scene.id("y")]))  # type: ignore[attr-defined]


def _renamed(scene: Scene, parcel: Parcel) -> Parcel:
    def new(value: Any) -> Any:
        return value.replace(scene.name, f"{scene.name} moved") if isinstance(value, str) else value

    rows = {table: [{c: new(v) for c, v in row.items()} for row in found] for table, found in parcel.rows.items()}
    return Parcel(new(parcel.id), rows)


def _sorted(parcels: Any) -> list[tuple[str, dict[str, list[str]]]]:
    return sorted(
        (parcel.id, {table: sorted(map(_text, rows)) for table, rows in parcel.rows.items()}) for parcel in parcels
    )


def _text(row: dict[str, Any]) -> str:
    return repr(sorted(row.items()))


async def what_is_there_already_is_left_as_it_is(store: Movable, other: Movable) -> None:
    scene = await Scene.begin(store)
    parcels = await _everything(scene)
    there = [_renamed(scene, parcel) for parcel in parcels]
    equal(await store.unpack(there[:1]), [there[0].id])
    changed = replace(there[0], rows={**there[0].rows, "step_executions": []})
    equal(list(await other.unpack([changed, *there[1:]])), [there[1].id], "and the rest is kept")
    equal(_sorted(await store.pack([there[0].id])), _sorted(there[:1]))
    equal(await store.unpack([]), [])


async def what_arrives_is_kept_as_a_whole_or_not_at_all(store: Movable) -> None:
    scene = await Scene.begin(store)
    parcel = _renamed(scene, (await _everything(scene))[0])
    broken = replace(parcel, rows={**parcel.rows, "rows_of_another_time": [{"execution_id": parcel.id}]})
    taken = replace(parcel, rows={**parcel.rows, "approval_requests": parcel.rows["approval_requests"] * 2})
    for bad in (broken, taken):
        try:
            await store.unpack([bad])
        except BadBatchError:
            continue
        raise AssertionError("what cannot be kept was not refused")
    equal((await store.get([parcel.id]), list(await store.pack([parcel.id]))), ({}, []))


async def what_belongs_to_no_execution_goes_first_and_is_not_replaced(store: Movable) -> None:
    scene = await Scene.begin(store)
    schedule = Schedule(
        scene.id("s"), "nightly", 2, "0 3 * * *", "UTC", "skip", True, "{}", next_at=scene.now, created_at=scene.now
    )
    await store.put_schedule(schedule)
    (parcel,) = await store.pack([""])
    mine = [row for row in parcel.rows["schedules"] if row["name"] == schedule.name]
    equal((parcel.id, len(mine), mine[0]["next_at"], mine[0]["backfill"]), ("", 1, scene.now, 1))
    moved = [{**mine[0], "queue": "late"}, {**mine[0], "name": scene.id("t")}]
    equal(list(await store.unpack([Parcel("", {"schedules": moved})])), [])
    found = {s.name: s for s in await store.schedules() if s.name.startswith(scene.name)}
    equal(found, {schedule.name: schedule, scene.id("t"): replace(schedule, name=scene.id("t"))})


async def what_arrives_is_claimed_and_goes_on(store: Movable) -> None:
    scene = await Scene.begin(store)
    parcel = _renamed(scene, (await _everything(scene))[1])
    row = parcel.rows["workflow_executions"][0]
    row |= {"status": "pending", "wake_at": None, "workflow": scene.name, "queue": scene.name}
    await store.unpack([parcel])
    claimed = await scene.claim()
    equal([(it.id, it.fence, it.generation) for it in claimed], [(parcel.id, 2, 2)])
    equal((await store.deliver(Post(replace(scene.message("n"), execution_id=parcel.id)), scene.now)).verdict, "ok")


async def who_was_moved_away_takes_no_worker(store: Movable, other: Movable) -> None:
    worker = await new_worker(store)
    equal(await store.moved_to(), None)
    await store.mark_moved("postgresql://there/db")
    try:
        equal(await other.moved_to(), "postgresql://there/db")
        for handle in (store, other):
            try:
                await new_worker(handle)
            except MovedError as error:
                true("postgresql://there/db" in str(error), "it says where to")
            else:
                raise AssertionError("a worker has come to a database that was moved away")
        true(worker.id in {row.id for row in await store.workers()}, "who was there before is seen")
    finally:
        await store.mark_moved(None)
    equal(await other.moved_to(), None)
    await asyncio.gather(new_worker(store), new_worker(other))
