"""What beginning anew promises: a restart moves the base of the journal, a cut voids its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perdure.deliveries import Cut, Settle, Wish
from perdure.records import Status, Verdict
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true


async def a_change_replaces_what_it_gives_and_leaves_the_rest(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run(input="1", attributes='{"a":1}', checksum=3, started_at=scene.now)
    await scene.commit(changes=[scene.change(status=Status.RUNNING)])
    row = await scene.row()
    equal((row.input, row.generation, row.base_seq, row.attributes, row.refused), ("1", 0, 0, '{"a":1}', None))
    given: dict[str, Any] = {
        "input": '{"\\u0000":2}',
        "generation": 3,
        "base_seq": 7,
        "attributes": "{}",
        "refused": '["b1"]',
    }
    await scene.commit(changes=[scene.change(status=Status.PENDING, checksum=9, **given)])
    row = await scene.row()
    equal({name: getattr(row, name) for name in given}, given)
    equal((row.status, row.owner, row.checksum, row.started_at), (Status.PENDING, None, 9, scene.now))
    (row,) = await scene.claim()
    await scene.commit(changes=[scene.change(fence=row.fence, generation=0, base_seq=0)], requests=[scene.request()])
    row = await scene.row()
    equal((row.input, row.generation, row.base_seq, row.refused), ('{"\\u0000":2}', 0, 0, '["b1"]'), "nought is given")


async def a_fenced_change_replaces_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    before = await scene.row()
    change = scene.change(fence=7, input="2", generation=1, base_seq=1, attributes="{}", refused="[]")
    equal((await scene.commit(changes=[change])).changes, [Verdict.FENCED])
    equal(await scene.row(), before)


async def what_stands_before_the_base_is_not_loaded(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution("a", base_seq=3), scene.execution("b"), scene.execution("c", base_seq=9))
    for suffix in "abc":
        entries = [scene.entry(suffix, seq) for seq in (1, 3, 4, 6)]
        entries[0] = entries[0]._replace(key="done#1")  # an outcome before the base of a: it folds nothing behind it
        entries[2] = entries[2]._replace(key="done#1/inner#1", parent_key="done#1")
        await scene.commit(entries=[*entries, scene.entry(suffix, 7, key="late#1")])
        inner = scene.entry(suffix, 8, key="late#1/inner#1", parent_key="late#1")
        await scene.commit(entries=[inner])
    journals = await store.load([scene.id(suffix) for suffix in "abc"])
    found = {id.removeprefix(scene.name + "/"): [entry.seq for entry in journal] for id, journal in journals.items()}
    equal(found, {"a": [4, 6, 7], "b": [1, 3, 6, 7], "c": []})
    equal(await scene.seqs("a"), [1, 3, 4, 6, 7, 8], "the history shows all")


# Cuts -----------------------------------------------------------------------------------------------------


async def _failed(scene: Scene) -> Cut:
    """An execution of three entries that failed; a cut of the last two."""
    await scene.run(attributes='{"a":1}')
    for suffix in ("m1", "m2", "m3"):
        await scene.post(suffix)
    await scene.commit(
        entries=[scene.entry(seq=seq) for seq in (1, 2, 3)],
        takes=[(scene.id("m1"), 1), (scene.id("m2"), 2)],
    )
    await scene.store.deliver(Wish(scene.id(), "cancel", "ana", "no more"), scene.now)
    change = scene.change(status=Status.FAILED, error='"broken"', output="1", reason="why", refused='["b1"]')
    await scene.commit(changes=[change])
    entry = scene.entry(seq=4, key="cut#4", kind="cut", output='{"from":2}', checksum=5)
    return Cut(scene.id(), 1, entry, from_seq=2, checksum=77)


async def a_cut_is_recorded_and_makes_the_execution_pending(store: Store) -> None:
    scene = await Scene.begin(store)
    cut = await _failed(scene)
    before = await scene.row()
    receipt = await store.deliver(cut, scene.now)
    equal((receipt.verdict, receipt.execution_id), (Verdict.OK, scene.id()))
    row = await scene.row()
    cleared: Any = dict.fromkeys(("output", "error", "reason", "refused", "wish", "wish_by", "wish_reason"))
    wanted = replace(
        before,
        status=Status.PENDING,
        fence=2,
        nudges=before.nudges + 1,
        checksum=77,
        ended_at=None,
        updated_at=row.updated_at,
        **cleared,
    )
    equal(row, wanted)
    equal((await store.history(scene.id()))[3:], [cut.entry])
    equal([row.fence for row in await scene.claim()], [3])


async def messages_that_void_entries_took_are_deliverable_again(store: Store) -> None:
    scene = await Scene.begin(store)
    cut = await _failed(scene)
    await scene.run("other")
    await scene.post("other", "other")
    await scene.commit(takes=[(scene.id("other"), 3)])
    await store.deliver(cut, scene.now)
    equal(await scene.message_ids(), ["m2", "m3"], "what the first entry took stays taken")
    equal(await scene.message_ids("other"), [])


async def a_cut_of_what_has_changed_since_is_refused(store: Store) -> None:
    scene = await Scene.begin(store)
    cut = await _failed(scene)
    before, journal = await scene.row(), await store.history(scene.id())
    for wrong in (replace(cut, fence=2), replace(cut, entry=scene.entry(seq=3, kind="cut"))):
        equal((await store.deliver(wrong, scene.now)).verdict, Verdict.OWNED)
        equal((await scene.row(), await store.history(scene.id())), (before, journal))
    equal((await store.deliver(cut, scene.now)).verdict, Verdict.OK)
    equal((await store.deliver(cut, scene.now)).verdict, Verdict.OWNED, "twice")
    equal(await scene.seqs(), [1, 2, 3, 4])


async def only_what_ended_and_may_go_on_is_cut(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in Status:
        await scene.create(scene.execution(status, status=status))
        cut = Cut(scene.id(status), 0, scene.entry(status, 1, kind="cut"), 1, 0)
        goes_on = status in (Status.FAILED, Status.CANCELLED, Status.ROLLED_BACK)
        verdict = (await store.deliver(cut, scene.now)).verdict
        equal(verdict, Verdict.OK if goes_on else Verdict.OWNED, status)
        equal(await scene.seqs(status), [1] if goes_on else [])
    nowhere = Cut(scene.id("nowhere"), 0, scene.entry("nowhere", 1, kind="cut"), 1, 0)
    equal((await store.deliver(nowhere, scene.now)).verdict, Verdict.GONE)
    equal(await scene.seqs("nowhere"), [])


# Pausing --------------------------------------------------------------------------------------------------


async def settling_a_wish_to_pause_pauses(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park("parent")
    await scene.park("waits", requests=[scene.request(of="waits")], parent_id=scene.id("parent"))
    await scene.create(scene.execution("pending", fence=1, wake_at=scene.now + HOUR))
    await scene.run("runs")
    for suffix in ("waits", "pending", "runs"):
        await store.deliver(Wish(scene.id(suffix), "pause", "ana", "holiday"), scene.now)
    equal((await store.deliver(Settle(scene.id("runs")), scene.now)).verdict, Verdict.OWNED)
    await scene.die()
    for suffix in ("waits", "pending", "runs"):
        receipt = await store.deliver(Settle(scene.id(suffix)), scene.now)
        equal((receipt.verdict, receipt.execution_id), (Verdict.OK, scene.id(suffix)))
        row = await scene.row(suffix)
        equal((row.status, row.owner, row.fence, row.wake_at), (Status.PAUSED, None, 2, None))
        equal((row.wish, row.reason, row.ended_at), ("pause", "holiday", None))
    equal((await scene.one_request()).status, "open", "it may still be answered")
    parent = await scene.row("parent")
    equal((parent.status, parent.nudges), (Status.WAITING, 0), "its parent need not know")
    heir = await scene.other_worker()
    equal(await heir.claim(), [])


async def settling_needs_a_wish_and_a_legal_move(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("no wish"),
        scene.execution("odd wish", wish="dance"),
        scene.execution("blocked", status=Status.BLOCKED, wish="pause"),
        scene.execution("rolls", status=Status.ROLLING_BACK, wish="pause"),
    )
    for suffix in ("no wish", "odd wish", "blocked", "rolls"):
        row = await scene.row(suffix)
        equal((await store.deliver(Settle(scene.id(suffix)), scene.now)).verdict, Verdict.OWNED, suffix)
        equal(await scene.row(suffix), row)
    true((await scene.row("blocked")).fence == 0, "its fence stays")
