"""What starting together with a message promises: both or neither, once, by a worker that lives."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from perdure.deliveries import Receipt, StartFrom, StartWith
from perdure.records import ENDED, Status, Verdict
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true


def _start(scene: Scene, message: str = "m", **fields: Any) -> StartWith:
    worker = scene.worker
    return StartWith(worker.id, worker.epoch, scene.execution(**fields), scene.message(message))


async def _deliver(scene: Scene, delivery: StartWith) -> Receipt:
    return await scene.store.deliver(delivery, scene.now)


async def a_start_brings_its_message_and_is_claimed_with_it(store: Store) -> None:
    scene = await Scene.begin(store)
    text = r'{"n":"\u0000\ud800"}'
    delivery = _start(scene, input=text, priority=3, attributes='{"customer":7}', started_by="ana", checksum=9)
    equal(await _deliver(scene, delivery), Receipt(Verdict.OK, scene.id(), started=True))
    row = await scene.row()
    kept = replace(delivery.execution, nudges=1, token=row.token, created_at=row.created_at, updated_at=row.updated_at)
    equal(row, kept)
    (claimed,) = await scene.claim()
    equal((claimed.id, claimed.status, claimed.fence, claimed.nudges), (scene.id(), Status.RUNNING, 1, 1))
    box = (await store.inbox([scene.id()]))[scene.id()]
    equal((box.nudges, [(m.id, m.name, m.value) for m in box.messages]), (1, [(scene.id("m"), "news", '"hello"')]))


async def a_start_from_a_journal_brings_both_or_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    worker = scene.worker

    def start(suffix: str = "x", **fields: Any) -> StartFrom:
        entries = [scene.entry(suffix, seq, output='"7"' * 300_000) for seq in (1, 2, 3)]
        return StartFrom(worker.id, worker.epoch, scene.execution(suffix, fence=1, **fields), entries)

    equal(await store.deliver(start(), scene.now), Receipt(Verdict.OK, scene.id(), started=True))
    row, journal = await scene.row(), await store.history(scene.id())
    equal((row.status, row.fence, row.owner), (Status.PENDING, 1, None))
    equal([(entry.seq, len(entry.output or "")) for entry in journal], [(1, 900_000), (2, 900_000), (3, 900_000)])
    equal(await store.deliver(start(input='{"other":1}'), scene.now), Receipt(Verdict.EXISTS, scene.id()))
    equal((await scene.row(), await store.history(scene.id())), (row, journal))
    await scene.create(scene.execution("plain"))
    before = await scene.row("plain")
    equal(await store.deliver(start("plain"), scene.now), Receipt(Verdict.EXISTS, scene.id("plain")))
    equal((await scene.row("plain"), await store.history(scene.id("plain"))), (before, []))
    await scene.die()
    equal((await store.deliver(start("late"), scene.now)).verdict, Verdict.FENCED)
    equal((await store.get([scene.id("late")]), await store.history(scene.id("late"))), ({}, []))


async def a_delayed_start_stays_delayed_though_it_has_a_message(store: Store) -> None:
    scene = await Scene.begin(store)
    equal((await _deliver(scene, _start(scene, wake_at=scene.now + HOUR))).started, True)
    equal(((await scene.row()).wake_at, await scene.claim()), (scene.now + HOUR, []))


async def what_is_there_gets_the_message_and_keeps_its_input(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(wake_at=scene.now + HOUR)
    before = await scene.row()
    equal(await _deliver(scene, _start(scene, input='{"other":1}')), Receipt(Verdict.OK, scene.id()))
    row = await scene.row()
    equal((row.status, row.nudges, row.wake_at), (Status.PENDING, 1, None))
    equal((row.input, row.fence), (before.input, before.fence))
    equal(await scene.message_ids(), ["m"])


async def the_same_again_is_a_repeat(store: Store) -> None:
    scene = await Scene.begin(store)
    await _deliver(scene, _start(scene))
    row = await scene.row()
    equal(await _deliver(scene, _start(scene)), Receipt(Verdict.REPEAT, scene.id()))
    equal((await scene.row(), await scene.message_ids()), (row, ["m"]))
    equal(await _deliver(scene, _start(scene, "m2")), Receipt(Verdict.OK, scene.id()))
    equal(await scene.message_ids(), ["m", "m2"])


async def what_ended_takes_no_message_and_is_not_started_again(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in ENDED:
        await scene.create(scene.execution(status, status=status))
        row = await scene.row(status)
        wanted = replace(_start(scene), execution=scene.execution(status), message=scene.message(f"m-{status}", status))
        equal(await _deliver(scene, wanted), Receipt(Verdict.ENDED, scene.id(status)))
        equal((await scene.row(status), await scene.message_ids(status)), (row, []))


async def an_id_that_is_taken_by_another_workflow_gets_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park()
    row = await scene.row()
    for fields in ({"workflow": f"{scene.name}-other"}, {"version": 2}):
        equal(await _deliver(scene, _start(scene, **fields)), Receipt(Verdict.EXISTS, scene.id()))
    equal((await scene.row(), await scene.message_ids()), (row, []))


async def a_worker_that_was_declared_dead_starts_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.die()
    delivery = _start(scene)
    equal((await _deliver(scene, delivery)).verdict, Verdict.FENCED)
    other = await scene.other_worker()
    for fenced in (replace(delivery, worker=other.worker.id, epoch=0), replace(delivery, worker=10**9)):
        equal((await _deliver(scene, fenced)).verdict, Verdict.FENCED)
    equal((await store.get([scene.id()]), await store.inbox([scene.id()])), ({}, {}))
    equal((await _deliver(other, _start(other))).started, True)


async def where_too_many_messages_wait_there_is_no_room_for_that_of_a_start(store: Store) -> None:
    scene = await Scene.begin(store)
    await _deliver(scene, _start(scene))
    row = await scene.row()
    full = replace(_start(scene, "m2"), most=1)
    equal(await _deliver(scene, full), Receipt(Verdict.FULL, scene.id()))
    equal((await scene.row(), await scene.message_ids()), (row, ["m"]))
    equal(await _deliver(scene, replace(full, message=scene.message("m"))), Receipt(Verdict.REPEAT, scene.id()))


async def of_starts_at_once_one_is_new_and_all_messages_are_kept(store: Store, other: Store) -> None:
    scene = await Scene.begin(store)
    handles = [scene, await scene.other_worker(other)] * 5
    receipts = await asyncio.gather(*(_deliver(h, _start(h, f"m{n}")) for n, h in enumerate(handles)))
    equal([receipt.verdict for receipt in receipts], [Verdict.OK] * 10)
    equal(sum(receipt.started for receipt in receipts), 1, "new ones")
    equal(sorted(await scene.message_ids()), sorted(f"m{n}" for n in range(10)))
    true((await scene.row()).nudges == 10, "ten nudges")
