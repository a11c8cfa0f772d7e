"""What rollbacks, decisions and notes promise, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perdure.deliveries import Answer, Decide, Note, Rewind, Wish
from perdure.records import AuditEvent, DecisionRow, Dossier, RollbackAction, Snapshot, Status, Verdict
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true

ALL = tuple(Status)


# Rollbacks ------------------------------------------------------------------------------------------------


async def what_is_to_be_rolled_back_is_claimed_as_it_is(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(entries=[scene.entry()], changes=[scene.change(output="7", checksum=5)])
    receipt = await store.deliver(Rewind(scene.id(), "order", "ana", "no more"), scene.now)
    equal((receipt.verdict, receipt.execution_id), (Verdict.OK, scene.id()))
    row = await scene.row()
    equal((row.status, row.owner, row.ended_at), (Status.ROLLING_BACK, None, None))
    equal((row.wish, row.wish_by, row.wish_reason, row.output), ("order", "ana", "no more", "7"))
    true(row.wake_at is not None, "it is due")
    equal((await store.deliver(Rewind(scene.id(), "again", None, None), scene.now)).verdict, Verdict.REPEAT)
    (taken,) = await scene.claim(now=scene.now + HOUR)
    equal((taken.status, taken.owner, taken.fence, taken.wake_at), (Status.ROLLING_BACK, scene.worker.id, 2, None))
    equal((taken.crashes, taken.wish), (0, "order"))
    equal(await scene.claim(now=scene.now + HOUR), [], "it has an owner")


async def who_rolls_back_stays_the_owner_until_it_says_when_to_go_on(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(changes=[scene.change(status=Status.ROLLING_BACK)])
    row = await scene.row()
    equal((row.status, row.owner), (Status.ROLLING_BACK, scene.worker.id))
    equal(await store.nudged(scene.worker.id), {scene.id(): 0})
    await scene.commit(changes=[scene.change(status=Status.ROLLING_BACK, wake_at=scene.now - 1)])
    equal((await scene.row()).owner, None)
    (taken,) = await scene.claim(now=scene.now)
    equal((taken.status, taken.fence), (Status.ROLLING_BACK, 2))


async def a_rollback_of_the_dead_is_taken_over_and_one_of_who_leaves_is_due(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("dead")
    await scene.commit(changes=[scene.change("dead", Status.ROLLING_BACK)])
    await scene.die()
    heir = await scene.other_worker()
    (taken,) = await heir.claim()
    equal((taken.status, taken.owner, taken.crashes), (Status.ROLLING_BACK, heir.worker.id, 1))
    await store.release(heir.worker.id, heir.worker.epoch)
    row = await scene.row("dead")
    equal((row.status, row.owner), (Status.ROLLING_BACK, None))
    last = await scene.other_worker()
    (again,) = await last.claim(now=scene.now + HOUR)
    equal((again.status, again.fence), (Status.ROLLING_BACK, 3))


async def what_may_be_rolled_back_depends_on_its_status(store: Store) -> None:
    scene = await Scene.begin(store)
    ours = {"owner": scene.worker.id, "fence": 1}
    for status in ALL:
        owned: dict[str, Any] = ours if status is Status.RUNNING else {}
        await scene.create(scene.execution(status, status=status, **owned))
    verdicts = {
        status: (await store.deliver(Rewind(scene.id(status), "order", None, None), scene.now)).verdict
        for status in ALL
    }
    wanted = dict.fromkeys(ALL, Verdict.OK)
    wanted |= {Status.ROLLING_BACK: Verdict.REPEAT, Status.ROLLED_BACK: Verdict.ENDED}
    wanted[Status.ROLLBACK_FAILED] = Verdict.OWNED  # it is not over
    equal(verdicts, wanted)
    running = await scene.row(Status.RUNNING)
    equal((running.status, running.owner, running.wish, running.nudges), (Status.RUNNING, scene.worker.id, "order", 1))
    equal((await store.deliver(Rewind(scene.id("none"), "order", None, None), scene.now)).verdict, Verdict.GONE)


async def what_is_to_go_back_takes_no_answer(store: Store) -> None:
    scene = await Scene.begin(store)
    cases: dict[str, tuple[str | None, Verdict]] = {
        "parked": ("order", Verdict.ENDED),
        "told": ('{"generation":0}', Verdict.ENDED),
    }
    cases |= {"before": ('{"generation":-1}', Verdict.OK), "plain": ("{}", Verdict.OK), "odd": (None, Verdict.OK)}
    for name, (wish, wanted) in cases.items():
        await scene.run(name)
        await scene.commit(requests=[scene.request(f"{name}-1", name), scene.request(f"{name}-2", name)])
        if name == "parked":
            await scene.commit(changes=[scene.change(name, Status.WAITING)])
        if wish is not None:
            equal((await store.deliver(Rewind(scene.id(name), wish, None, None), scene.now)).verdict, Verdict.OK)
        answer = Answer(scene.id(f"{name}-1"), '"yes"', "ana", None, 3)
        equal((await store.deliver(answer, scene.now)).verdict, wanted, f"an answer, {name}")
        part = Decide(scene.id(f"{name}-2"), 0, "decided", answer='"yes"', checksum=4)
        equal((await store.deliver(part, scene.now)).verdict, wanted, f"a decision, {name}")
        open_ = "open" if wanted is Verdict.ENDED else "decided"
        equal([(await scene.one_request(f"{name}-{n}")).status for n in (1, 2)], [open_, open_])


async def what_is_rolled_back_takes_no_other_wish(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution(status=Status.WAITING))
    await store.deliver(Rewind(scene.id(), "order", "ana", None), scene.now)
    before = await scene.row()
    for wish in ("cancel", "pause"):
        receipt = await store.deliver(Wish(scene.id(), wish, "bo", None), scene.now)
        equal((receipt.verdict, receipt.execution_id), (Verdict.OWNED, scene.id()))
    equal(await scene.row(), before)


async def what_is_to_be_rolled_back_takes_no_other_wish(store: Store) -> None:
    """Its owner has not heard of the rollback yet, and may never do so. Who has ended was not there to hear."""
    scene = await Scene.begin(store)
    order, other, voided = '{"generation":0,"id":"a"}', '{"generation":0,"id":"b"}', '{"generation":-1,"id":"a"}'
    ours = {"owner": scene.worker.id, "fence": 1}
    for status in (Status.PENDING, Status.RUNNING, Status.PAUSED, Status.BLOCKED, Status.COMPLETED):
        owned: dict[str, Any] = ours if status is Status.RUNNING else {}
        await scene.create(scene.execution(status, status=status, wish=order, wish_by="ana", **owned))
    for status in (Status.PENDING, Status.RUNNING):
        before = await scene.row(status)
        for wish in ("cancel", "pause"):
            receipt = await store.deliver(Wish(scene.id(status), wish, "bo", None), scene.now)
            equal((receipt.verdict, receipt.execution_id), (Verdict.OWNED, scene.id(status)), f"{wish}, {status}")
        again = await store.deliver(Rewind(scene.id(status), other, "bo", None), scene.now)
        equal(again.verdict, Verdict.REPEAT, f"another rollback, {status}")
        equal(await scene.row(status), before)
    for status in (Status.PENDING, Status.RUNNING, Status.COMPLETED):
        repeat = await store.deliver(Rewind(scene.id(status), order, "ana", None), scene.now)
        equal(repeat.verdict, Verdict.OK, f"the same rollback, {status}")
    moved = [(await scene.row(status)).status for status in (Status.PENDING, Status.RUNNING, Status.COMPLETED)]
    equal(moved, [Status.ROLLING_BACK, Status.RUNNING, Status.ROLLING_BACK])
    for status in (Status.PAUSED, Status.BLOCKED):
        receipt = await store.deliver(Wish(scene.id(status), "cancel", "bo", None), scene.now)
        equal(
            (receipt.verdict, (await scene.row(status)).wish), (Verdict.OK, "cancel"), f"nobody would do it, {status}"
        )
    await scene.create(scene.execution("earlier", status=Status.RUNNING, wish=voided, **ours))
    equal((await store.deliver(Wish(scene.id("earlier"), "pause", None, None), scene.now)).verdict, Verdict.OK)


async def who_has_not_heard_of_it_all_does_not_give_a_rollback_up(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(changes=[scene.change(status=Status.ROLLING_BACK)], requests=[scene.request(kind="undo")])
    decided = await store.deliver(Decide(scene.id("r"), 0, "decided", answer='"retry"', checksum=3), scene.now)
    equal((decided.verdict, decided.request and decided.request.answer), (Verdict.OK, '"retry"'))
    verdicts = await scene.commit(changes=[scene.change(status=Status.ROLLBACK_FAILED)])
    equal(verdicts.changes, [Verdict.NUDGED])
    equal((await scene.row()).status, Status.ROLLING_BACK)
    await scene.commit(changes=[scene.change(status=Status.ROLLBACK_FAILED, nudges=1)])
    equal((await scene.row()).status, Status.ROLLBACK_FAILED)


async def what_settles_a_failed_undo_has_it_rolled_back_further(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    undo = [scene.request(kind="undo"), scene.request("plain")]
    await scene.commit(changes=[scene.change(status=Status.ROLLING_BACK)], requests=undo)
    await scene.commit(changes=[scene.change(status=Status.ROLLBACK_FAILED)])
    equal((await store.deliver(Decide(scene.id("plain"), 0, "decided"), scene.now)).verdict, Verdict.ENDED)
    part = Decide(scene.id("r"), 0, "decided", answer='"done"', by="ana", via="cli", checksum=4)
    equal((await store.deliver(part, scene.now)).verdict, Verdict.OK)
    equal((await scene.row()).status, Status.ROLLING_BACK)
    equal(len(await scene.claim(now=scene.now + HOUR)), 1)
    equal((await store.deliver(part, scene.now)).verdict, Verdict.DECIDED)


async def what_settles_an_unknown_outcome_lets_a_blocked_execution_go_on(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(requests=[scene.request(kind="unknown")], changes=[scene.change(status=Status.BLOCKED)])
    equal((await store.deliver(Decide(scene.id("r"), 0, "decided"), scene.now)).verdict, Verdict.OK)
    row = await scene.row()
    equal((row.status, row.nudges, row.reason), (Status.PENDING, 1, None))


# Decisions ------------------------------------------------------------------------------------------------


def _decision(scene: Scene, ordinal: int, **fields: Any) -> DecisionRow:
    plain = DecisionRow(
        request_id=scene.id("r"),
        ordinal=ordinal,
        execution_id=scene.id(),
        action_id=None,
        decision="approved",
        arguments=None,
        comment=None,
        digest="d",
        decided_by="ana",
        decided_via=None,
        decided_at=scene.now,
    )
    return replace(plain, **fields)


def _event(scene: Scene, ordinal: int, **fields: Any) -> AuditEvent:
    plain = AuditEvent(
        execution_id=scene.id(),
        ordinal=ordinal,
        request_id=scene.id("r"),
        what="approved",
        actor="ana",
        via="cli",
        comment="ok \u2713",
        details='{"a":1}',
        previous="0",
        digest=f"{ordinal}",
        created_at=scene.now + ordinal,
    )
    return replace(plain, **fields)


async def parts_of_a_decision_are_kept_in_order_and_the_last_one_nudges(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request(kind="approval", policy='{"quorum":2}', digest="d", details="1")])
    (asked,) = await store.requests(ids=[scene.id("r")])
    equal((asked.policy, asked.digest, asked.kind), ('{"quorum":2}', "d", "approval"))
    rows = [_decision(scene, 1, comment="\u00e9", arguments="{}"), _decision(scene, 2, action_id="a", decided_by=None)]
    first = Decide(scene.id("r"), 0, "open", rows[:1], [_event(scene, 1)], policy='{"quorum":1}', assignee="bo")
    receipt = await store.deliver(first, scene.now)
    equal(receipt.verdict, Verdict.OK)
    true(receipt.request is not None, "the request is in the receipt")
    row = await scene.row()
    equal((row.status, row.nudges), (Status.WAITING, 0), "an open request wakes nobody")
    second = Decide(scene.id("r"), 0, "decided", rows[1:], [_event(scene, 2)], answer="5")
    equal((await store.deliver(second, scene.now)).verdict, Verdict.OWNED, "more has happened than was known")
    second = replace(second, known=1, by="cy", via="web", checksum=77, expires_at=scene.now + HOUR)
    equal((await store.deliver(second, scene.now)).verdict, Verdict.OK)
    (after,) = await store.requests(ids=[scene.id("r")], status=None)
    equal((after.status, after.answer, after.answered_by, after.answered_via), ("decided", "5", "cy", "web"))
    equal(
        (after.policy, after.assignee, after.checksum, after.expires_at), ('{"quorum":1}', "bo", 77, scene.now + HOUR)
    )
    true(after.decided_at is not None, "when it was decided")
    row = await scene.row()
    equal((row.status, row.nudges), (Status.PENDING, 1))
    late = await store.deliver(replace(second, known=2), scene.now)
    equal((late.verdict, late.request and late.request.answer), (Verdict.DECIDED, "5"))
    dossier = (await store.dossiers([scene.id()]))[scene.id()]
    equal(dossier, Dossier(rows, [_event(scene, 1), _event(scene, 2)]))


async def notes_are_kept_in_order(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    note = Note(scene.id(), 0, [_event(scene, 1, request_id=None, actor=None, via=None, comment=None, details=None)])
    equal((await store.deliver(note, scene.now)).verdict, Verdict.OK)
    equal((await store.deliver(note, scene.now)).verdict, Verdict.OWNED)
    equal((await store.deliver(replace(note, execution_id=scene.id("none")), scene.now)).verdict, Verdict.GONE)
    equal((await store.dossiers([scene.id()]))[scene.id()].events, note.events)
    equal((await store.deliver(Decide(scene.id("none"), 0, "open"), scene.now)).verdict, Verdict.GONE)


# Actions and snapshots ------------------------------------------------------------------------------------


async def actions_replace_each_other_and_snapshots_are_kept(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.run("y")
    action = RollbackAction(scene.id(), 0, 3, "charge#1", "refund")
    others = [replace(action, seq=5), replace(action, generation=1, seq=1), replace(action, execution_id=scene.id("y"))]
    state = Snapshot(scene.id(), 2, "", 0, "packed", "checkpoint", "full", None, "aa", "{}", "json", 7, scene.now)
    states = [replace(state, seq=4, kind="difference", base_digest="aa", name=None), state]
    await scene.commit(actions=[action, *others], snapshots=states)
    await scene.commit(snapshots=states[:1])  # a batch may come again
    done = replace(
        action,
        undo="refund it",
        status="completed",
        attempt=2,
        output="1",
        error='"e"',
        checksum=9,
        resolved_by="ana",
        started_at=scene.now,
        completed_at=scene.now + 1,
    )
    fenced = scene.change("y", fence=9)
    refused = replace(others[2], status="failed")
    await scene.commit(actions=[done, refused], changes=[fenced])
    found = await store.dossiers([scene.id(), scene.id("y"), scene.id("none")], snapshots=True)
    equal(sorted(found), sorted([scene.id(), scene.id("y")]))
    equal(found[scene.id()].actions, [others[0], done, others[1]])
    equal(found[scene.id()].snapshots, [state, states[0]])
    equal(found[scene.id("y")].actions, [others[2]], "of who is fenced nothing is kept")
    equal((await store.dossiers([scene.id()]))[scene.id()].snapshots, [], "they were not asked for")
    change = scene.change(status=Status.COMPLETED)
    await scene.commit(changes=[change])
    equal(await store.prune([scene.id()]), [scene.id()])
    equal(await store.dossiers([scene.id()], snapshots=True), {})
