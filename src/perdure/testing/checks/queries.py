"""What looking for executions and entries promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perdure.records import Query, Status, Tally
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal


async def _found(scene: Scene, **fields: Any) -> list[str]:
    """The names of what a query finds: oldest first, newest first, page by page, and counted, all the same."""
    query = Query(**({"id_prefix": scene.name + "/", "order": "oldest"} | fields))
    rows = (await scene.store.list(query, 100, None)).items
    for order, wanted in (("oldest", rows), ("newest", rows[::-1])):
        listed, cursor = [], None
        while True:
            page = await scene.store.list(replace(query, order=order), 2, cursor)
            listed += page.items
            cursor = page.cursor
            if cursor is None:
                break
        equal(listed, wanted, f"{fields}, {order}, by two")
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status.value] = counts.get(row.status.value, 0) + 1
    equal(await scene.store.count(query), counts, f"count of {fields}")
    for at_most in (1, 3, 100):
        found = await scene.store.count(query, at_most)
        seen = dict(found) == counts if found.complete else found.total <= at_most and found.items() <= _up_to(counts)
        equal(seen and (found.complete or at_most < 100), True, f"count of {fields} among {at_most}: {found}")
    return [row.id.removeprefix(scene.name + "/") for row in rows]


def _up_to(counts: dict[str, int]) -> set[tuple[str, int]]:
    return {(status, number) for status, most in counts.items() for number in range(1, most + 1)}


async def executions_are_found_by_queue(store: Store) -> None:
    scene = await Scene.begin(store)
    queues = {"a": "q1", "b": "q2", "c": "q1", "d": "Q1", "e": "q1 ", "f": "q1"}
    await scene.create(*(scene.execution(s, queue=q, created_at=scene.now + ord(s)) for s, q in queues.items()))
    equal(await _found(scene, queue="q1"), ["a", "c", "f"])
    equal(await _found(scene, queue="q1", since=scene.now + ord("b"), until=scene.now + ord("f")), ["c"])
    equal(await _found(scene, queue="q%"), [])


async def executions_are_found_by_their_end(store: Store) -> None:
    scene = await Scene.begin(store)
    ends = {"a": 5, "b": None, "c": 3, "d": 4, "e": 1, "f": 4}
    for suffix, end in ends.items():
        status = Status.RUNNING if end is None else Status.COMPLETED if end < 5 else Status.FAILED
        ended_at = None if end is None else scene.now + end
        created_at = scene.now + ord(suffix) * HOUR
        await scene.create(scene.execution(suffix, status=status, created_at=created_at, ended_at=ended_at))
    equal(await _found(scene, ended_before=scene.now + 4), ["c", "e"])
    equal(await _found(scene, ended_before=scene.now + 9), ["a", "c", "d", "e", "f"])
    equal(await _found(scene, ended_before=scene.now + 9, status=(Status.FAILED,)), ["a"])
    equal(await _found(scene, ended_before=scene.now + 9, since=scene.now + ord("e") * HOUR), ["e", "f"])
    equal(await _found(scene, ended_before=scene.now + 1), [])


async def executions_are_found_by_attributes(store: Store) -> None:
    scene = await Scene.begin(store)
    texts = {
        "a": '{"customer":7,"vip":true}',
        "b": '{"customer":"7"}',
        "c": '{"customer":70}',
        "d": None,
        "e": '{"Customer":7}',
        "f": '{"vip":true,"customer":7}',
        "g": '{"in":{"customer":7},"customer":[7,{"x":null}]}',
        "h": '{"customer":7.0}',
        "i": '{"n\\u00fc":"\\u0000\\ud800","it\'s \\"it\\"":null,"%":"_"}',
        "j": '{"\\\\u0041":"\\\\u0041"}',
        "k": '{"A":"A"}',
        "l": "{}",
    }
    await scene.create(*(scene.execution(s, attributes=t, created_at=scene.now + ord(s)) for s, t in texts.items()))
    for wanted, names in (
        ([("customer", "7")], ["a", "f"]),
        ([("customer", "7"), ("vip", "true")], ["a", "f"]),
        ([("customer", "7"), ("vip", "false")], []),
        ([("customer", '"7"')], ["b"]),
        ([("customer", '[7,{"x":null}]')], ["g"]),
        ([("customer", "7.0")], ["h"]),
        ([("customer", "null")], []),
        ([("n\u00fc", '"\\u0000\\ud800"')], ["i"]),
        ([('it\'s "it"', "null"), ("%", '"_"')], ["i"]),
        ([("\\u0041", '"\\\\u0041"')], ["j"]),
        ([("A", '"A"')], ["k"]),
        ([("_", '"_"')], []),
    ):
        equal(await _found(scene, attributes=tuple(wanted)), names, f"{wanted}")


async def executions_are_found_by_a_part_of_their_texts(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("in the Id", created_at=scene.now + 1),
        scene.execution("b", created_at=scene.now + 2, workflow=scene.name + "-Invoice"),
        scene.execution("c", created_at=scene.now + 3, reason="100% of INVOICES_lost \u00dc"),
        scene.execution("d", created_at=scene.now + 4, started_by="ana@invoices.example"),
        scene.execution("e", created_at=scene.now + 5, input='"invoice"', reason="nothing"),
    )
    for text, names in (
        ("INvoice", ["b", "c", "d"]),
        ("iN THE i", ["in the Id"]),
        ("invoices", ["c", "d"]),
        ("0% o", ["c"]),
        ("%", ["c"]),
        ("invoices_", ["c"]),
        ("\u00dc", ["c"]),
        ("\u00fc", []),
        ("'", []),
        ("", ["in the Id", "b", "c", "d", "e"]),
    ):
        equal(await _found(scene, text=text), names, repr(text))


async def the_tail_of_a_journal_is_read_by_kind(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution(), scene.execution("other"))
    kinds = ["step", "event", "event", "timer", "event"]
    await scene.commit(entries=[scene.entry(seq=n, kind=kind) for n, kind in enumerate(kinds, 1)])
    await scene.commit(entries=[scene.entry("other", 9, kind="event")])

    async def seqs(after: int, kinds: list[str], limit: int = 10) -> list[int]:
        return [entry.seq for entry in await store.tail(scene.id(), after, kinds, limit)]

    equal(await seqs(0, ["event"]), [2, 3, 5])
    equal(await seqs(2, ["event"]), [3, 5])
    equal(await seqs(0, ["event", "timer"], limit=3), [2, 3, 4])
    equal(await seqs(5, ["event"]), [])
    equal(await seqs(0, []), [])
    equal(await store.tail(scene.id(), 3, ["timer"], 1), [scene.entry(seq=4, kind="timer")])
    equal(await store.tail(scene.id("absent"), 0, ["event"], 1), [])


async def the_latest_entry_of_a_key_is_found(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution(), scene.execution("other"))
    keys = ["a", "b", "a", "c"]
    entries = [scene.entry(seq=n, key=key, output=str(n)) for n, key in enumerate(keys, 1)]
    await scene.commit(entries=[*entries, scene.entry("other", 8, key="a")])
    equal(await store.latest(scene.id(), "a"), entries[2])
    equal(await store.latest(scene.id(), "b"), entries[1])
    equal(await store.latest(scene.id(), "A"), None)
    equal(await store.latest(scene.id("absent"), "a"), None)


async def tallies_count_all_by_workflow_queue_and_status(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("a", created_at=scene.now + 1),
        scene.execution("b", created_at=scene.now),
        scene.execution("c", status=Status.COMPLETED),
        scene.execution("d", queue=scene.name + "-2", created_at=scene.now + 4),
        scene.execution("e", workflow=scene.name + "-2", version=5),
    )
    one, two = scene.name, scene.name + "-2"
    found = [tally for tally in await store.tallies() if tally.workflow in (one, two)]
    wanted = [
        Tally(one, one, "completed", 1, None),
        Tally(one, one, "pending", 2, scene.now),
        Tally(one, two, "pending", 1, scene.now + 4),
        Tally(two, one, "pending", 1, scene.now),
    ]
    equal(found, wanted)
