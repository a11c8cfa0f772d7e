"""What deliveries promise: the first stands, none is lost, and each is told what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from perdure.deliveries import Answer, Delivery, Expiry, Post, Resume, Settle, Wish
from perdure.records import ENDED, Status, Verdict
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true


def _answer(scene: Scene, suffix: str = "r", value: str = '"yes"', **fields: Any) -> Answer:
    defaults: dict[str, Any] = {"by": "ana", "via": "cli", "checksum": 7}
    return Answer(scene.id(suffix), value, **(defaults | fields))


async def _verdict(scene: Scene, delivery: Delivery) -> Verdict:
    receipt = await scene.store.deliver(delivery, scene.now)
    return receipt.verdict


async def an_answer_closes_its_request_and_wakes_its_execution(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(wake_at=scene.now + HOUR, requests=[scene.request()])
    asked = await scene.one_request()
    receipt = await store.deliver(_answer(scene, value=r'"\u0000\ud800"'), scene.now)
    request = await scene.one_request()
    true(request.decided_at is not None, "when it was decided")
    wanted = replace(
        asked,
        status="decided",
        answer=r'"\u0000\ud800"',
        answered_by="ana",
        answered_via="cli",
        checksum=7,
        decided_at=request.decided_at,
    )
    equal(request, wanted)
    equal((receipt.verdict, receipt.execution_id, receipt.request), (Verdict.OK, scene.id(), request))
    row = await scene.row()
    equal((row.status, row.nudges, row.wake_at, row.fence), (Status.PENDING, 1, None, 1))


async def an_equal_answer_is_a_repeat_and_another_one_comes_too_late(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request()])
    await store.deliver(_answer(scene), scene.now)
    decided, row = await scene.one_request(), await scene.row()
    for answer, verdict in (
        (_answer(scene, by="bob", via=None, checksum=9), Verdict.REPEAT),
        (_answer(scene, value='"no"'), Verdict.DECIDED),
        (_answer(scene, value='"YES"'), Verdict.DECIDED),
    ):
        receipt = await store.deliver(answer, scene.now + 1)
        equal((receipt.verdict, receipt.execution_id, receipt.request), (verdict, scene.id(), decided))
    equal(await scene.one_request(), decided)
    equal(await scene.row(), row, "what came too late nudges nobody")


async def an_expiry_closes_its_request_and_wakes_its_execution(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request(), scene.request("decided")])
    receipt = await store.deliver(Expiry(scene.id("r")), scene.now)
    request = await scene.one_request()
    equal((request.status, request.answer, request.decided_at is not None), ("expired", None, True))
    equal((receipt.verdict, receipt.execution_id, receipt.request), (Verdict.OK, scene.id(), request))
    equal(((await scene.row()).status, (await scene.row()).nudges), (Status.PENDING, 1))
    await store.deliver(_answer(scene, "decided"), scene.now)
    late = await store.deliver(Expiry(scene.id("decided")), scene.now)
    equal((late.verdict, late.request), (Verdict.DECIDED, await scene.one_request("decided")))
    equal(await _verdict(scene, Expiry(scene.id("r"))), Verdict.DECIDED, "expired twice")


async def an_answer_to_a_closed_request_comes_too_late(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request("expired"), scene.request("withdrawn")])
    await store.deliver(Expiry(scene.id("expired")), scene.now)
    await scene.commit(closes=[scene.id("withdrawn")])
    nudges = (await scene.row()).nudges
    for suffix in ("expired", "withdrawn"):
        receipt = await store.deliver(_answer(scene, suffix), scene.now)
        equal((receipt.verdict, receipt.request), (Verdict.DECIDED, await scene.one_request(suffix)), suffix)
        equal((await scene.one_request(suffix)).status, suffix)
    equal((await scene.row()).nudges, nudges)


async def what_ended_takes_no_answer(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(requests=[scene.request()], changes=[scene.change()])
    row = await scene.row()
    for delivery in (_answer(scene), Expiry(scene.id("r"))):
        verdict = await _verdict(scene, delivery)
        true(verdict in (Verdict.DECIDED, Verdict.ENDED), f"an answer after the end: {verdict}")
    equal((await scene.one_request()).answer, None)
    equal(await scene.row(), row)


async def what_is_not_there_is_gone(store: Store) -> None:
    scene = await Scene.begin(store)
    for delivery in (
        _answer(scene),
        Expiry(scene.id("r")),
        Post(scene.message()),
        Wish(scene.id(), "cancel", None, None),
        Settle(scene.id()),
        Resume(scene.id(), None),
    ):
        equal(await _verdict(scene, delivery), Verdict.GONE, type(delivery).__name__)
    equal(await store.inbox([scene.id()]), {})


async def messages_are_kept_in_order_and_once(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution(), scene.execution("other"))
    for suffix in ("m3", "m1", "m2"):
        message = scene.message(suffix, value=r'"\u0000"', checksum=4294967295, sent_by="bob")
        equal(await _verdict(scene, Post(message)), Verdict.OK)
    await scene.post("n", "other")
    again = scene.message("m1", value='"another value"')
    equal(await _verdict(scene, Post(again)), Verdict.REPEAT)
    box = (await store.inbox([scene.id()]))[scene.id()]
    equal([m.id for m in box.messages], [scene.id(suffix) for suffix in ("m3", "m1", "m2")])
    ordinals = [m.ordinal for m in box.messages]
    equal(ordinals, sorted(set(ordinals)), "ordinals that rise")
    first = box.messages[0]
    equal((first.name, first.value, first.checksum), ("news", r'"\u0000"', 4294967295))
    equal((first.sent_by, first.taken_seq), ("bob", None))
    equal((box.nudges, (await scene.row()).nudges), (3, 3))


async def a_message_wakes_who_waits(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(wake_at=scene.now + HOUR)
    receipt = await store.deliver(Post(scene.message()), scene.now)
    equal((receipt.verdict, receipt.execution_id), (Verdict.OK, scene.id()))
    row = await scene.row()
    equal((row.status, row.nudges, row.wake_at), (Status.PENDING, 1, None))


async def a_message_to_what_ended_is_refused_but_a_repeat_is_a_repeat(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.post("before")
    await scene.commit(changes=[scene.change()])
    equal(await _verdict(scene, Post(scene.message("after"))), Verdict.ENDED)
    equal(await _verdict(scene, Post(scene.message("before"))), Verdict.REPEAT)
    equal(await scene.message_ids(), ["before"])


async def only_so_many_messages_wait_and_those_received_do_not_count(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    for suffix in ("m1", "m2", "m3"):
        equal(await _verdict(scene, Post(scene.message(suffix), most=3)), Verdict.OK)
    row = await scene.row()
    receipt = await store.deliver(Post(scene.message("m4"), most=3), scene.now)
    equal((receipt.verdict, receipt.execution_id), (Verdict.FULL, scene.id()))
    equal(await scene.row(), row, "what was refused nudges nobody")
    equal(await _verdict(scene, Post(scene.message("m2"), most=3)), Verdict.REPEAT)
    await scene.commit(entries=[scene.entry()], takes=[(scene.id("m2"), 1)])
    equal(await _verdict(scene, Post(scene.message("m4"), most=3)), Verdict.OK)
    equal(await _verdict(scene, Post(scene.message("m5"), most=3)), Verdict.FULL)
    equal(await scene.message_ids(), ["m1", "m3", "m4"])
    await scene.create(scene.execution("other"))
    equal(await _verdict(scene, Post(scene.message("n", "other"), most=3)), Verdict.OK, "each has its own room")


async def of_messages_sent_at_once_only_so_many_are_taken(store: Store, other: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park()
    handles = [store, other] * 10
    posts = [Post(scene.message(f"m{n}"), most=7) for n in range(20)]
    receipts = await asyncio.gather(*(h.deliver(p, scene.now) for h, p in zip(handles, posts, strict=True)))
    verdicts = [receipt.verdict for receipt in receipts]
    equal((verdicts.count(Verdict.OK), verdicts.count(Verdict.FULL)), (7, 13))
    equal(len(await scene.message_ids()), 7)


async def a_message_taken_is_still_a_repeat(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.post()
    await scene.commit(entries=[scene.entry()], takes=[(scene.id("m"), 1)])
    equal(await _verdict(scene, Post(scene.message())), Verdict.REPEAT)
    equal(await scene.message_ids(), [])


async def a_delivery_leaves_every_other_status_as_it_is(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in Status:
        if status in ENDED or status is Status.WAITING:
            continue
        wake_at = scene.now + HOUR if status is Status.PENDING else None
        owner = scene.worker.id if status is Status.RUNNING else None
        await scene.create(scene.execution(status, status=status, wake_at=wake_at, owner=owner))
        await scene.post(f"m-{status}", status)
        row = await scene.row(status)
        equal((row.status, row.nudges, row.owner), (status, 1, owner))
        equal(row.wake_at, wake_at, "a delayed start stays delayed")


async def a_wish_is_left_for_the_owner(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("runs")
    await scene.park("waits", wake_at=scene.now + HOUR)
    for suffix, status in (("runs", Status.RUNNING), ("waits", Status.PENDING)):
        equal(await _verdict(scene, Wish(scene.id(suffix), "cancel", "ana", "no more")), Verdict.OK)
        row = await scene.row(suffix)
        equal((row.status, row.wish, row.wish_by, row.wish_reason), (status, "cancel", "ana", "no more"))
        box = (await store.inbox([scene.id(suffix)]))[scene.id(suffix)]
        equal((box.nudges, box.wish, box.wish_by, box.wish_reason), (1, "cancel", "ana", "no more"))


async def the_first_who_wishes_to_cancel_is_who_did_it(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    for wish, by in (("pause", "cleo"), ("cancel", "ana"), ("cancel", None)):
        equal((await store.deliver(Wish(scene.id(), wish, by, by), scene.now)).verdict, Verdict.OK)
    row = await scene.row()
    equal((row.wish, row.wish_by, row.wish_reason, row.nudges), ("cancel", "ana", "ana", 3))
    await store.deliver(Wish(scene.id(), "pause", "bo", None), scene.now)
    equal(((await scene.row()).wish, (await scene.row()).wish_by), ("pause", "bo"))


async def settling_a_wish_needs_that_nobody_owns_it(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await store.deliver(Wish(scene.id(), "cancel", "ana", None), scene.now)
    equal(await _verdict(scene, Settle(scene.id())), Verdict.OWNED)
    equal((await scene.row()).status, Status.RUNNING)
    await scene.die()
    equal(await _verdict(scene, Settle(scene.id())), Verdict.OK)
    row = await scene.row()
    equal((row.status, row.owner, row.fence), (Status.CANCELLED, None, 2))


async def settling_cancels_withdraws_and_tells_the_parent(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park("parent")
    await scene.park(
        requests=[scene.request("open"), scene.request("decided")],
        parent_id=scene.id("parent"),
        wake_at=scene.now + HOUR,
    )
    await store.deliver(_answer(scene, "decided"), scene.now)
    await store.deliver(Wish(scene.id(), "cancel", "ana", "no more"), scene.now)
    receipt = await store.deliver(Settle(scene.id()), scene.now)
    equal((receipt.verdict, receipt.execution_id), (Verdict.OK, scene.id()))
    row = await scene.row()
    equal((row.status, row.owner, row.fence, row.wake_at), (Status.CANCELLED, None, 2, None))
    equal((row.wish_by, row.wish_reason, row.reason), ("ana", "no more", "no more"))
    true(row.ended_at is not None, "when it ended")
    withdrawn = await scene.one_request("open")
    equal((withdrawn.status, withdrawn.decided_at is not None), ("withdrawn", True))
    equal((await scene.one_request("decided")).status, "decided")
    parent = await scene.row("parent")
    equal((parent.status, parent.nudges), (Status.PENDING, 1))
    equal(await scene.claim(), [await scene.row("parent")], "a cancelled one is not claimed")


async def what_can_be_cancelled_by_settling(store: Store) -> None:
    scene = await Scene.begin(store)
    settled = {
        Status.PENDING: Verdict.OK,
        Status.WAITING: Verdict.OK,
        Status.PAUSED: Verdict.OK,
        Status.BLOCKED: Verdict.OK,
        Status.ROLLING_BACK: Verdict.OWNED,
    }
    for status in Status:
        if status is Status.RUNNING:
            continue
        await scene.create(scene.execution(status, status=status, wish="cancel"))
        wanted = Verdict.ENDED if status in ENDED else settled[status]
        equal(await _verdict(scene, Settle(scene.id(status))), wanted, status)
        equal((await scene.row(status)).status, Status.CANCELLED if wanted is Verdict.OK else status)


async def what_ended_takes_no_wish(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in ENDED:
        await scene.create(scene.execution(status, status=status))
        row = await scene.row(status)
        for delivery in (Wish(scene.id(status), "cancel", None, None), Resume(scene.id(status), None)):
            equal(await _verdict(scene, delivery), Verdict.ENDED)
        equal(await scene.row(status), row)


async def resuming_makes_a_paused_or_blocked_one_pending(store: Store) -> None:
    scene = await Scene.begin(store)
    for status in (Status.PAUSED, Status.BLOCKED):
        fields = {"reason": "why", "crashes": 5, "refused": '["b1"]', "wake_at": scene.now + HOUR}
        await scene.create(scene.execution(status, status=status, **fields))
        receipt = await store.deliver(Resume(scene.id(status), "ana"), scene.now)
        equal((receipt.verdict, receipt.execution_id), (Verdict.OK, scene.id(status)))
        row = await scene.row(status)
        equal((row.status, row.reason, row.crashes, row.wake_at), (Status.PENDING, None, 0, None))
        equal(row.refused, None, "the builds that it refused")
    equal(len(await scene.claim()), 2)


async def resuming_takes_back_a_wish_to_pause_and_no_other(store: Store) -> None:
    scene = await Scene.begin(store)
    for wish, left in (("pause", None), ("cancel", "cancel")):
        await scene.create(scene.execution(wish, status=Status.PAUSED))
        await store.deliver(Wish(scene.id(wish), wish, "ana", "hm"), scene.now)
        await store.deliver(Resume(scene.id(wish), "ana"), scene.now)
        row = await scene.row(wish)
        equal((row.wish, row.wish_by, row.wish_reason), (left, left and "ana", left and "hm"))


async def resuming_what_is_neither_says_so(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run("runs")
    await scene.park("waits")
    await scene.create(scene.execution("pending"), scene.execution("rolls", status=Status.ROLLING_BACK))
    for suffix in ("runs", "waits", "pending", "rolls"):
        row = await scene.row(suffix)
        equal(await _verdict(scene, Resume(scene.id(suffix), None)), Verdict.OWNED, suffix)
        equal(await scene.row(suffix), row)


async def of_answers_at_once_one_stands(store: Store, other: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request()])
    answers = [_answer(scene, value=str(n)) for n in range(10)]
    handles = [store, other] * 5
    receipts = await asyncio.gather(*(h.deliver(a, scene.now) for h, a in zip(handles, answers, strict=True)))
    verdicts = [receipt.verdict for receipt in receipts]
    equal((verdicts.count(Verdict.OK), verdicts.count(Verdict.DECIDED)), (1, 9))
    standing = (await scene.one_request()).answer
    equal({receipt.request.answer for receipt in receipts if receipt.request}, {standing}, "what each was shown")
    equal((await scene.row()).nudges, 1)


async def messages_sent_at_once_are_all_kept(store: Store, other: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park()
    handles = [store, other] * 10
    posts = [Post(scene.message(f"m{n}")) for n in range(20)]
    await asyncio.gather(*(h.deliver(p, scene.now) for h, p in zip(handles, posts, strict=True)))
    equal(sorted(await scene.message_ids()), sorted(f"m{n}" for n in range(20)))
    equal(((await scene.row()).nudges, (await scene.row()).status), (20, Status.PENDING))
