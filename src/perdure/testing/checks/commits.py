"""What a commit promises: all or nothing, one verdict each, and nothing of who is not the owner."""

from __future__ import annotations

from dataclasses import replace

from perdure.deliveries import Wish
from perdure.errors import BadBatchError
from perdure.records import Batch, Status, Verdict
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true

ODD = r'{"nul":"\u0000","half":"\ud800","umlaut":"\u00fc","quote":"\"","tab":"\t","unit":"\u001f"}'


async def a_created_row_is_kept_as_it_is_but_for_the_token(store: Store) -> None:
    scene = await Scene.begin(store)
    full = scene.execution(
        "full",
        version=7,
        status=Status.RUNNING,
        priority=-3,
        owner=scene.worker.id,
        fence=1,
        generation=2,
        input=ODD,
        encoding="zstd",
        checksum=4294967295,
        reason="why",
        wake_at=scene.now + HOUR + 1,
        parent_id=scene.id("parent"),
        parent_key="child#1",
        started_by="ana",
        attributes='{"customer":7}',
        build="b7",
        crashes=1,
        crash_seq=9,
        token="mine",
        created_at=scene.now - HOUR - 1,
        started_at=scene.now - HOUR,
        base_seq=8,
        refused='["b6"]',
    )
    batch = scene.batch(creates=[scene.execution("bare"), full])
    equal((await scene.send(batch)).creates, [Verdict.OK, Verdict.OK])
    equal(await scene.row("bare"), scene.execution("bare", token=batch.token))
    equal(await scene.row("full"), replace(full, token=batch.token))
    equal(type((await scene.row("full")).status), Status, "the type of a row's status")


async def a_create_of_a_taken_id_changes_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution("x", input="1"))
    before = await scene.row()
    verdicts = await scene.commit(creates=[scene.execution("x", input="2"), scene.execution("y")])
    equal(verdicts.creates, [Verdict.EXISTS, Verdict.OK])
    equal(await scene.row(), before)


async def two_creates_of_one_id_in_a_batch_make_one_row(store: Store) -> None:
    scene = await Scene.begin(store)
    creates = [scene.execution("x", input="1"), scene.execution("y"), scene.execution("x", input="2")]
    equal((await scene.commit(creates=creates)).creates, [Verdict.OK, Verdict.OK, Verdict.EXISTS])
    equal((await scene.row()).input, "1")


async def entries_are_kept_as_they_are(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    entries = [
        scene.entry(seq=1, input=ODD, output=None, error=ODD, status="failed", kind="attempt", attempt=3),
        scene.entry(seq=2, parent_key="node#1", generation=2, fence=9_000_000_000, encoding="zstd", output=""),
        scene.entry(seq=3, status="open", kind="intent", input=None, output=None, checksum=4294967295),
        scene.entry(seq=4, status="set", kind="timer", started_at=0, completed_at=253402300799_999999),
        scene.entry(seq=5, started_at=scene.now + 999_999, completed_at=1_000_000, output="x" * 1_000_000),
    ]
    await scene.commit(entries=entries[:1])  # one alone may take another way than several
    await scene.commit(entries=entries[1:])
    equal(await store.history(scene.id()), entries)


async def entries_of_many_executions_ride_in_one_batch(store: Store) -> None:
    scene = await Scene.begin(store)
    suffixes = [f"n{n}" for n in range(50)]
    await scene.create(*(scene.execution(suffix) for suffix in suffixes))
    await scene.commit(entries=[scene.entry(suffix, seq) for seq in range(1, 11) for suffix in suffixes])
    journals = await store.load([scene.id(suffix) for suffix in suffixes])
    equal({tuple(entry.seq for entry in journal) for journal in journals.values()}, {tuple(range(1, 11))})


async def an_empty_batch_is_a_look_at_the_worker(store: Store) -> None:
    scene = await Scene.begin(store)
    true((await scene.send(scene.batch())).alive, "an empty batch of a live worker was refused")
    await scene.die()
    true(not (await scene.send(scene.batch())).alive, "an empty batch of a dead worker was taken")


async def a_change_goes_into_the_row(store: Store) -> None:
    scene = await Scene.begin(store)
    created = await scene.run(checksum=5, build="b1")
    change = scene.change(status=Status.FAILED, output=ODD, error=ODD, checksum=77, reason="broken", nudges=99)
    batch = scene.batch(changes=[change])
    equal((await scene.send(batch)).changes, [Verdict.OK])
    ended = replace(
        created,
        status=Status.FAILED,
        owner=None,
        output=ODD,
        error=ODD,
        checksum=77,
        reason="broken",
        token=batch.token,
        updated_at=change.at,
        ended_at=change.at,
    )
    equal(await scene.row(), ended)


async def a_change_without_a_sum_leaves_the_texts_as_they_are(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run(input="1", output="2", error="3", checksum=5)
    change = scene.change(status=Status.BLOCKED, output=None, error=ODD, checksum=None, reason="unread")
    equal((await scene.commit(changes=[change])).changes, [Verdict.OK])
    row = await scene.row()
    equal((row.input, row.output, row.error, row.checksum), ("1", "2", "3", 5))
    equal((row.status, row.owner, row.reason), (Status.BLOCKED, None, "unread"))


async def a_cancelling_that_was_carried_out_says_whose_it_was(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run(checksum=5)
    await store.deliver(Wish(scene.id(), "cancel", "ana", "no more"), scene.now)
    await store.deliver(Wish(scene.id(), "pause", None, "lunch"), scene.now)
    change = scene.change(status=Status.CANCELLED, reason="no more", by="ana", nudges=2)
    equal((await scene.commit(changes=[change])).changes, [Verdict.OK])
    row = await scene.row()
    equal((row.wish, row.wish_by, row.wish_reason, row.reason), ("cancel", "ana", "no more", "no more"))


async def a_park_gives_the_execution_up(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run(checksum=5)
    change = scene.change(status=Status.WAITING, wake_at=scene.now + HOUR, checksum=6)
    equal((await scene.commit(changes=[change])).changes, [Verdict.OK])
    row = await scene.row()
    equal((row.status, row.owner, row.wake_at), (Status.WAITING, None, scene.now + HOUR))
    equal((row.fence, row.checksum, row.ended_at), (1, 6, None))


async def a_change_that_stays_running_keeps_its_owner(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    equal((await scene.commit(changes=[scene.change(status=Status.RUNNING, reason="hm")])).changes, [Verdict.OK])
    row = await scene.row()
    equal((row.owner, row.status, row.reason), (scene.worker.id, Status.RUNNING, "hm"))


async def every_move_of_an_owner_is_taken(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in Status:
        if status in (Status.ROLLED_BACK, Status.ROLLBACK_FAILED):
            continue  # these end a rollback, which later verbs bring
        await scene.run(status)
        equal((await scene.commit(changes=[scene.change(status, status)])).changes, [Verdict.OK], status)
        row = await scene.row(status)
        equal(row.status, status)
        ended = status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
        equal(row.ended_at, scene.now + 5 if ended else None, f"ended_at of one that is {status}")


async def a_fenced_change_takes_everything_of_its_execution_with_it(store: Store) -> None:
    scene = await Scene.begin(store)
    await _nothing_of_a_refused_change_is_recorded(scene, scene.change("x", fence=7), Verdict.FENCED)


async def a_change_of_nothing_takes_everything_of_its_execution_with_it(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("other")
    batch = {
        "changes": [scene.change("nowhere"), scene.change("other")],
        "entries": [scene.entry("nowhere"), scene.entry("other")],
        "requests": [scene.request("r1", "nowhere"), scene.request("r2", "other")],
    }
    equal((await scene.commit(**batch)).changes, [Verdict.GONE, Verdict.OK])
    equal((await scene.seqs("nowhere"), await scene.seqs("other")), ([], [1]))
    found = await store.requests(execution_ids=[scene.id("nowhere"), scene.id("other")])
    equal([request.id for request in found], [scene.id("r2")])


async def _nothing_of_a_refused_change_is_recorded(scene: Scene, refused: object, verdict: Verdict) -> None:
    for suffix in ("x", "other"):
        await scene.run(suffix)
        await scene.post(f"m-{suffix}", suffix)
        await scene.post(f"t-{suffix}", suffix)
        await scene.commit(requests=[scene.request(f"r-{suffix}", suffix)], takes=[(scene.id(f"t-{suffix}"), 8)])
    before = await scene.row("x")
    verdicts = await scene.commit(
        changes=[refused, scene.change("other", nudges=2)],
        entries=[scene.entry("x"), scene.entry("other"), scene.entry("x", 2), scene.entry("other", 2)],
        requests=[scene.request("q-x", "x"), scene.request("q-other", "other")],
        closes=[scene.id("r-x"), scene.id("r-other")],
        takes=[(scene.id("m-x"), 9), (scene.id("m-other"), 9)],
        untakes=[(scene.id("x"), 8), (scene.id("other"), 8)],
    )
    equal(verdicts.changes, [verdict, Verdict.OK])
    equal(await scene.row("x"), before)
    equal((await scene.seqs("x"), await scene.seqs("other")), ([], [1, 2]))
    open_ones = await scene.store.requests(execution_ids=[scene.id("x"), scene.id("other")])
    equal({request.id for request in open_ones}, {scene.id("r-x"), scene.id("q-other")}, "open requests")
    equal(await scene.message_ids("x"), ["m-x"], "messages of the refused one")
    equal(await scene.message_ids("other"), ["t-other"], "messages of the other one")


async def a_nudged_park_is_refused_alone(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.post()
    before = await scene.row()
    verdicts = await scene.commit(
        entries=[scene.entry()],
        changes=[scene.change(status=Status.WAITING, nudges=0)],
        requests=[scene.request()],
    )
    equal(verdicts.changes, [Verdict.NUDGED])
    equal(await scene.row(), before)
    equal(await scene.seqs(), [1], "the entries of a refused park")
    equal((await scene.one_request()).status, "open", "the request of a refused park")
    parked = await scene.commit(changes=[scene.change(status=Status.WAITING, nudges=1)])
    equal(parked.changes, [Verdict.OK])


async def only_a_park_depends_on_nudges(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in (Status.RUNNING, Status.PENDING, Status.PAUSED, Status.COMPLETED, Status.CANCELLED, Status.BLOCKED):
        await scene.run(status)
        await scene.post(f"m-{status}", status)
        equal((await scene.commit(changes=[scene.change(status, status, nudges=0)])).changes, [Verdict.OK], status)


async def another_epoch_records_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await _is_refused(scene, replace(scene.batch(), epoch=scene.worker.epoch + 1))
    await _is_refused(scene, replace(scene.batch(), worker=scene.worker.id + 1_000_000))


async def a_zombie_records_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(entries=[scene.entry(seq=1)])
    await scene.die()
    await _is_refused(scene, scene.batch())


async def a_zombie_records_nothing_wherever_it_was_declared_dead(store: Store, other: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(entries=[scene.entry(seq=1)])
    true(await other.declare_dead(scene.worker.id, anyway=True), "declare_dead(anyway=True) refused")
    await _is_refused(scene, scene.batch())
    heir = await scene.other_worker(other)
    equal([(row.id, row.fence) for row in await heir.claim()], [(scene.id(), 2)])
    await _is_refused(scene, scene.batch())
    await heir.commit(entries=[scene.entry(seq=2, fence=2)], changes=[scene.change(fence=2)])
    equal(await scene.seqs(), [1, 2])


async def who_has_left_records_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await store.release(scene.worker.id, scene.worker.epoch)
    await _is_refused(scene, scene.batch())


async def _is_refused(scene: Scene, batch: Batch) -> None:
    before, seqs = await scene.row(), await scene.seqs()
    batch.creates = [scene.execution("new")]
    batch.entries = [scene.entry(seq=90)]
    batch.changes = [scene.change(fence=before.fence)]
    batch.requests = [scene.request("new")]
    true(not (await scene.send(batch)).alive, "a batch of who is not alive was taken")
    equal(await scene.row(), before)
    equal(await scene.seqs(), seqs)
    equal(await scene.store.get([scene.id("new")]), {})
    equal(await scene.store.requests(ids=[scene.id("new")]), [])


async def a_seq_that_is_there_is_a_bad_batch_of_which_nothing_is_recorded(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.run("other")
    await scene.commit(entries=[scene.entry(seq=1)])
    for entries in (
        [scene.entry(seq=1, output="2")],
        [scene.entry("other", 1), scene.entry(seq=1, output="2")],
        [scene.entry("other", 1), scene.entry("other", 1)],
    ):
        bad = scene.batch(
            creates=[scene.execution("new")], entries=entries, changes=[scene.change()], requests=[scene.request()]
        )
        try:
            await scene.send(bad)
        except BadBatchError:
            pass
        else:
            raise AssertionError("a second entry with one seq was taken")
        equal([entry.output for entry in await store.history(scene.id())], ["1"])
        equal(await scene.seqs("other"), [])
        equal((await scene.row()).status, Status.RUNNING)
        equal(await store.get([scene.id("new")]), {})
        equal(await store.requests(execution_ids=[scene.id()]), [])
    await scene.commit(entries=[scene.entry(seq=2)])
    equal(await scene.seqs(), [1, 2], "after a bad batch the next one is taken")


async def a_request_is_kept_as_it_is_and_asked_once(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    request = scene.request(
        kind="approval",
        generation=2,
        message="Überweisen? \U0001f4b6",
        details=ODD,
        schema='{"type":"object"}',
        default_answer="null",
        assignee="role:finance",
        checksum=4294967295,
        expires_at=scene.now + HOUR,
        created_at=scene.now - 1,
    )
    await scene.commit(requests=[request])
    await scene.commit(requests=[replace(request, message="again"), scene.request("r2")])
    equal(await scene.one_request(), request)
    equal((await scene.one_request("r2")).status, "open")


async def closes_withdraw_open_requests_only(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(requests=[scene.request("r1"), scene.request("r2", status="expired")])
    batch = scene.batch(closes=[scene.id("r1"), scene.id("r2"), scene.id("absent")])
    await scene.send(batch)
    first = await scene.one_request("r1")
    equal((first.status, first.answer, first.decided_at is not None), ("withdrawn", None, True))
    equal((await scene.one_request("r2")).status, "expired")


async def takes_mark_messages_and_untakes_free_them(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.run("other")
    for suffix in ("m1", "m2", "m3"):
        await scene.post(suffix)
    await scene.post("n1", "other")
    await scene.commit(entries=[scene.entry(seq=4)], takes=[(scene.id("m1"), 4), (scene.id("n1"), 4)])
    equal((await scene.message_ids(), await scene.message_ids("other")), (["m2", "m3"], []))
    await scene.commit(untakes=[(scene.id("x"), 4)], takes=[(scene.id("m2"), 4)])
    equal(await scene.message_ids(), ["m1", "m3"], "freed first, taken then")
    equal(await scene.message_ids("other"), [], "another execution's message of the same seq")


async def the_end_of_a_child_nudges_its_parent(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park("parent", wake_at=scene.now + HOUR)
    await scene.run("child", parent_id=scene.id("parent"))
    await scene.commit(changes=[scene.change("child", Status.FAILED, parent_id=scene.id("parent"))])
    parent = await scene.row("parent")
    equal((parent.status, parent.nudges, parent.wake_at), (Status.PENDING, 1, None))
    equal([row.id for row in await scene.claim()], [scene.id("parent")])


async def a_running_parent_learns_of_it_by_its_nudges(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("parent")
    await scene.run("child", parent_id=scene.id("parent"))
    await scene.commit(changes=[scene.change("child", parent_id=scene.id("parent"))])
    parent = await scene.row("parent")
    equal((parent.status, parent.nudges, parent.owner), (Status.RUNNING, 1, scene.worker.id))
    equal((await scene.commit(changes=[scene.change("parent", Status.WAITING)])).changes, [Verdict.NUDGED])


async def a_child_that_only_parks_or_was_refused_does_not_nudge(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park("parent")
    for suffix in ("child", "refused"):
        await scene.run(suffix, parent_id=scene.id("parent"))
    changes = [
        scene.change("child", Status.WAITING, parent_id=scene.id("parent")),
        scene.change("refused", fence=9, parent_id=scene.id("parent")),
    ]
    equal((await scene.commit(changes=changes)).changes, [Verdict.OK, Verdict.FENCED])
    parent = await scene.row("parent")
    equal((parent.status, parent.nudges), (Status.WAITING, 0))


async def settle_knows_a_batch_that_was_recorded(store: Store) -> None:
    scene = await Scene.begin(store)
    for suffix in ("ends", "nudged", "fenced", "steps"):
        await scene.run(suffix)
    await scene.create(scene.execution("taken"))
    await store.deliver(Wish(scene.id("nudged"), "cancel", None, None), scene.now)
    for batch in (
        scene.batch(entries=[scene.entry("steps", 1), scene.entry("steps", 2)]),
        scene.batch(creates=[scene.execution("new"), scene.execution("taken")]),
        scene.batch(
            entries=[scene.entry("ends"), scene.entry("nudged"), scene.entry("fenced")],
            changes=[
                scene.change("ends"),
                scene.change("nudged", Status.WAITING, nudges=0),
                scene.change("fenced", fence=7),
                scene.change("absent"),
            ],
        ),
        scene.batch(entries=[scene.entry("nudged", 2)], changes=[scene.change("fenced", fence=7)]),
    ):
        verdicts = await scene.send(batch)
        equal(await store.settle(batch), verdicts)
        equal(await scene.seqs("steps"), [1, 2])


async def settle_knows_a_batch_that_was_not(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.run("ends")
    await scene.run("parks")
    await scene.commit(entries=[scene.entry(seq=1)], requests=[scene.request(), scene.request("asked", "parks")])
    for batch in (
        scene.batch(  # that its request is there says nothing: it was asked before
            entries=[scene.entry("parks")],
            changes=[scene.change("parks", Status.WAITING)],
            requests=[scene.request("asked", "parks")],
        ),
        scene.batch(entries=[scene.entry(seq=2)], requests=[scene.request()]),
        scene.batch(creates=[scene.execution("new")]),
        scene.batch(changes=[scene.change("ends")]),
        scene.batch(entries=[scene.entry(seq=3)], changes=[scene.change("ends", fence=7)]),
    ):
        equal(await store.settle(batch), None)
        true((await scene.send(batch)).alive, "a batch that was not recorded is committed again")
    equal(await scene.seqs(), [1, 2, 3])


async def settle_knows_a_batch_whose_worker_was_declared_dead_since(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    recorded, lost = scene.batch(entries=[scene.entry(seq=1)]), scene.batch(entries=[scene.entry(seq=2)])
    await scene.send(recorded)
    await scene.die()
    settled = await store.settle(recorded)
    true(settled is not None and settled.alive, "what was recorded before its worker's death stays recorded")
    settled = await store.settle(lost)
    true(settled is None or not settled.alive, "what was not recorded before its worker's death is lost")
