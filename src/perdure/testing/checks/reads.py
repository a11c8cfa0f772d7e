"""What reads promise: what replay needs and no more, lists that neither repeat nor hide, ids byte for byte."""

from __future__ import annotations

from dataclasses import replace

from perdure.records import Entry, Query, Status
from perdure.store import Store
from perdure.testing.checks.scene import HOUR, Scene, equal, true

# Each of these is another id: case, blanks, normal forms of Unicode, what SQL or JSON could take for something else.
ALIKE = [
    "a",
    "A",
    "a ",
    " a",
    "a\t",
    "\u00e9",
    "e\u0301",
    "ss",
    "\u00df",
    "%",
    "_",
    "a/b",
    "a'b",
    'a"b',
    "a\\b",
    "\U0001f4b6",
]


async def what_is_not_there_is_left_out(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution())
    equal(await store.get([scene.id(), scene.id("absent")]), {scene.id(): await scene.row()})
    equal(await store.get([]), {})
    equal(await store.inbox([scene.id("absent")]), {})
    equal(await store.history(scene.id("absent")), [])
    equal(await store.load([scene.id(), scene.id("absent")]), {scene.id(): [], scene.id("absent"): []})


async def records_given_out_are_copies(store: Store) -> None:
    scene = await Scene.begin(store)
    created = scene.execution()
    await scene.run("r")
    await scene.commit(requests=[scene.request(of="r")])
    await scene.create(created)
    created.input = "changed"
    (await scene.row()).input = "changed"
    (await scene.one_request()).status = "changed"
    equal(((await scene.row()).input, (await scene.one_request()).status), ("{}", "open"))


async def a_journal_is_read_by_seq(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution("a"), scene.execution("b"))
    entries = [scene.entry(suffix, seq) for seq in (1, 2, 10, 11, 100) for suffix in ("b", "a")]
    await scene.commit(entries=entries)
    journals = await store.load([scene.id("a"), scene.id("b"), scene.id("absent")])
    equal(
        {id: [entry.seq for entry in journal] for id, journal in journals.items() if journal},
        {scene.id("a"): [1, 2, 10, 11, 100], scene.id("b"): [1, 2, 10, 11, 100]},
    )
    equal(journals[scene.id("a")], await store.history(scene.id("a")))


def _bodies(scene: Scene, suffix: str) -> list[Entry]:
    """Four bodies with an inner entry each: completed, failed, of which only an attempt, of which an intent."""
    made: list[Entry] = []
    for key, kind, status in (
        ("done#1", "step", "completed"),
        ("lost#1", "step", "failed"),
        ("again#1", "attempt", "failed"),
        ("begun#1", "intent", "open"),
    ):
        inner = scene.entry(suffix, len(made) + 1, key=f"{key}/inner#1", parent_key=key)
        made += [inner, scene.entry(suffix, len(made) + 2, key=key, kind=kind, status=status)]
    return [*made, scene.entry(suffix, 9, key="node#1/inner#1", parent_key="node#1")]


async def what_is_folded_into_a_completed_body_is_not_loaded(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution("a"), scene.execution("b"))
    await scene.commit(entries=_bodies(scene, "a"))
    await scene.commit(entries=[scene.entry("b", 1, parent_key="done#1"), scene.entry("b", 2, key="other#1")])
    journals = await store.load([scene.id("a"), scene.id("b")])
    equal([entry.seq for entry in journals[scene.id("a")]], [2, 4, 5, 6, 7, 8, 9])
    equal([entry.seq for entry in journals[scene.id("b")]], [1, 2], "another execution's body folds nothing here")
    equal(await scene.seqs("a"), list(range(1, 10)), "the history shows all")


async def after_a_cut_everything_is_loaded(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution(generation=1))
    await scene.commit(entries=_bodies(scene, "x"))
    equal([entry.seq for entry in (await store.load([scene.id()]))[scene.id()]], list(range(1, 10)))


async def an_inbox_holds_all_that_has_come(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.park(requests=[scene.request("r2", created_at=scene.now + 1), scene.request("r1")])
    await scene.run("other")
    await scene.commit(requests=[scene.request("q", "other")], closes=[scene.id("r2")])
    await scene.post()
    await scene.create(
        scene.execution("c2", parent_id=scene.id(), created_at=scene.now + 1),
        scene.execution("c1", parent_id=scene.id(), status=Status.COMPLETED, output="7", ended_at=scene.now),
        scene.execution("grandchild", parent_id=scene.id("c1")),
    )
    boxes = await store.inbox([scene.id(), scene.id("other"), scene.id("absent")])
    equal(set(boxes), {scene.id(), scene.id("other")})
    box = boxes[scene.id()]
    equal((box.nudges, box.wish, box.wish_by, box.wish_reason), (1, None, None, None))
    equal(box.requests, [await scene.one_request("r1"), await scene.one_request("r2")])
    equal([message.id for message in box.messages], [scene.id("m")])
    equal(box.children, [await scene.row("c1"), await scene.row("c2")])
    equal([request.id for request in boxes[scene.id("other")].requests], [scene.id("q")])


async def requests_are_found_by_id_by_execution_and_by_status(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(scene.execution("a"), scene.execution("b"))
    requests = [
        scene.request("r3", "a", created_at=scene.now - 1),
        scene.request("r1", "a", created_at=scene.now, status="decided"),
        scene.request("r2", "b", created_at=scene.now),
        scene.request("r4", "b", created_at=scene.now + 1),
    ]
    await scene.commit(requests=list(reversed(requests)))

    async def found(**wanted: object) -> list[str]:
        return [r.id.removeprefix(scene.name + "/") for r in await store.requests(**wanted)]  # type: ignore[arg-type]

    a, b = scene.id("a"), scene.id("b")
    equal(await found(execution_ids=[a, b]), ["r3", "r2", "r4"], "open ones, oldest first")
    equal(await found(execution_ids=[a, b], status=None), ["r3", "r1", "r2", "r4"])
    equal(await found(execution_ids=[a, b], status="decided"), ["r1"])
    equal(await found(execution_ids=[a, b], status=None, limit=2), ["r3", "r1"])
    equal(await found(ids=[scene.id("r4"), scene.id("r1"), scene.id("absent")], status=None), ["r1", "r4"])
    equal(await found(ids=[scene.id("r1")]), [])
    equal(await found(ids=[scene.id("r3")], execution_ids=[b]), ["r3", "r2", "r4"])
    everything = await store.requests(limit=1_000_000)
    true({scene.id("r2"), scene.id("r3")} <= {r.id for r in everything}, "without ids: all")
    equal([r.created_at for r in everything], sorted(r.created_at for r in everything))


async def a_list_goes_by_age_page_by_page(store: Store) -> None:
    scene = await Scene.begin(store)
    ages = {"e": 5, "b": 2, "d2": 4, "d1": 4, "a": 1, "c": 3}
    await scene.create(*(scene.execution(suffix, created_at=age * HOUR) for suffix, age in ages.items()))
    oldest = ["a", "b", "c", "d1", "d2", "e"]
    for order, wanted in (("oldest", oldest), ("newest", oldest[::-1])):
        for limit in (1, 2, 3, 6, 7):
            pages, cursor = [], None
            while True:
                page = await store.list(Query(workflow=scene.name, order=order), limit, cursor)
                pages.append([row.id.removeprefix(scene.name + "/") for row in page.items])
                cursor = page.cursor
                if cursor is None:
                    break
            equal([name for page in pages for name in page], wanted, f"{order} by {limit}")
            equal({len(page) for page in pages[:-1]} <= {limit}, True, "full pages")
    (row,) = (await store.list(Query(id_prefix=scene.id("c")), 10, None)).items
    equal(row, await scene.row("c"))


async def what_is_created_meanwhile_neither_repeats_nor_hides_rows(store: Store) -> None:
    for order, wanted in (("newest", ["n3", "n2", "n1", "n0"]), ("oldest", ["n0", "n1", "n2", "n3"])):
        scene = await Scene.begin(store)
        await scene.create(*(scene.execution(f"n{n}", created_at=(10 + n) * HOUR) for n in range(4)))
        query = Query(workflow=scene.name, order=order)
        page = await store.list(query, 2, None)
        seen = page.items
        await scene.create(*(scene.execution(f"z{age}", created_at=age * HOUR) for age in (1, 10, 11, 12, 13, 90)))
        while page.cursor is not None:
            page = await store.list(query, 2, page.cursor)
            seen += page.items
        names = [row.id.removeprefix(scene.name + "/") for row in seen]
        equal([name for name in names if name.startswith("n")], wanted, order)
        equal(len(set(names)), len(names), "rows shown once")


async def a_query_filters_lists_and_counts_alike(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("p1", created_at=1 * HOUR, started_by="ana"),
        scene.execution("p2", created_at=2 * HOUR, version=2, parent_id=scene.id("p1")),
        scene.execution("r1", created_at=3 * HOUR, status=Status.PAUSED, started_by="bob"),
        scene.execution("c1", created_at=4 * HOUR, status=Status.COMPLETED),
        scene.execution("o1", created_at=5 * HOUR, workflow=scene.name + "-other"),
    )
    everything = Query(id_prefix=scene.name + "/", order="oldest")
    for fields, wanted in (
        ({}, ["p1", "p2", "r1", "c1", "o1"]),
        ({"status": (Status.PENDING,)}, ["p1", "p2", "o1"]),
        ({"status": (Status.PAUSED, Status.COMPLETED)}, ["r1", "c1"]),
        ({"workflow": scene.name}, ["p1", "p2", "r1", "c1"]),
        ({"workflow": scene.name.upper()}, []),
        ({"version": 2}, ["p2"]),
        ({"parent": scene.id("p1")}, ["p2"]),
        ({"by": "ana"}, ["p1"]),
        ({"id_prefix": scene.id("p")}, ["p1", "p2"]),
        ({"id_prefix": scene.id("P")}, []),
        ({"id_prefix": scene.id("%")}, []),
        ({"since": 2 * HOUR, "until": 4 * HOUR}, ["p2", "r1"]),
        ({"since": 2 * HOUR, "status": (Status.PENDING,), "workflow": scene.name}, ["p2"]),
    ):
        query = replace(everything, **fields)
        rows = (await store.list(query, 100, None)).items
        newest = (await store.list(replace(query, order="newest"), 100, None)).items
        equal(newest, rows[::-1], f"{fields}, newest first")
        equal([row.id.removeprefix(scene.name + "/") for row in rows], wanted, f"{fields}")
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.status.value] = counts.get(row.status.value, 0) + 1
        equal(await store.count(query), counts, f"count of {fields}")


async def a_tree_holds_all_descendants_that_have_not_ended(store: Store) -> None:
    scene = await Scene.begin(store)
    await scene.create(
        scene.execution("root"),
        scene.execution("a", parent_id=scene.id("root")),
        scene.execution("b", parent_id=scene.id("root"), status=Status.CANCELLED),
        scene.execution("aa", parent_id=scene.id("a"), status=Status.WAITING),
        scene.execution("ba", parent_id=scene.id("b"), status=Status.PAUSED),
        scene.execution("aaa", parent_id=scene.id("aa")),
        scene.execution("other"),
        scene.execution("other-child", parent_id=scene.id("other")),
    )
    rows = await store.tree(scene.id("root"))
    equal({row.id for row in rows}, {scene.id(suffix) for suffix in ("a", "aa", "ba", "aaa")})
    equal(next(row for row in rows if row.id == scene.id("aa")), await scene.row("aa"))
    equal(await store.tree(scene.id("aaa")), [])
    equal(await store.tree(scene.id("absent")), [])


async def ids_compare_byte_for_byte(store: Store) -> None:
    scene = await Scene.begin(store)
    verdicts = await scene.commit(creates=[scene.execution(id, input=f'"{n}"') for n, id in enumerate(ALIKE)])
    equal({str(verdict) for verdict in verdicts.creates}, {"ok"})
    await scene.commit(entries=[scene.entry(id, 1, key=id) for id in ALIKE])
    await scene.commit(requests=[scene.request(f"r{id}", id) for id in ALIKE])
    for id in ALIKE:
        await scene.post(f"m{id}", id)
    for n, id in enumerate(ALIKE):
        row = await scene.row(id)
        equal((row.id, row.input, row.nudges), (scene.id(id), f'"{n}"', 1))
        equal([entry.key for entry in await store.history(scene.id(id))], [id])
        equal([r.id for r in await store.requests(execution_ids=[scene.id(id)])], [scene.id(f"r{id}")])
        equal((await store.inbox([scene.id(id)]))[scene.id(id)].messages[0].id, scene.id(f"m{id}"))
    ids = [scene.id(id) for id in ALIKE]
    equal(set(await store.get(ids)), set(ids))
    equal({id for id, journal in (await store.load(ids)).items() if len(journal) == 1}, set(ids))
    listed = (await store.list(Query(workflow=scene.name, order="oldest"), 100, None)).items
    equal([row.id for row in listed], sorted(ids), "of one age, by the bytes of their ids")


async def workflows_and_queues_compare_byte_for_byte(store: Store) -> None:
    scene = await Scene.begin(store)
    names = [scene.id(id) for id in ALIKE]
    await scene.create(*(scene.execution(f"w{n}", workflow=name) for n, name in enumerate(names)))
    await scene.create(*(scene.execution(f"q{n}", queue=name) for n, name in enumerate(names)))
    for n, name in enumerate(names):
        equal([row.id for row in await scene.claim(workflows=[(name, 1)])], [scene.id(f"w{n}")])
        equal([row.id for row in await scene.claim(queues=[name])], [scene.id(f"q{n}")])


async def long_ids_and_large_payloads_are_kept(store: Store) -> None:
    scene = await Scene.begin(store)
    suffix = "\u00fc" * ((255 - len(scene.id(""))) // 2)
    large = '"' + "x" * 2_000_000 + '"'
    await scene.run(suffix, input=large)
    await scene.commit(entries=[scene.entry(suffix, 1, output=large)])
    equal((await scene.row(suffix)).input == large, True, "the input")
    equal((await store.load([scene.id(suffix)]))[scene.id(suffix)][0].output == large, True, "the output")


async def another_handle_reads_what_one_committed(store: Store, other: Store) -> None:
    scene = await Scene.begin(store)
    await scene.run()
    await scene.commit(entries=[scene.entry()], requests=[scene.request()])
    equal(await other.get([scene.id()]), await store.get([scene.id()]))
    equal(await other.history(scene.id()), [scene.entry()])
    equal(await other.load([scene.id()]), {scene.id(): [scene.entry()]})
    equal(await other.requests(ids=[scene.id("r")]), [await scene.one_request()])


async def migrating_again_creates_nothing(store: Store) -> None:
    tables = await store.migrate()
    equal([name for name, created in tables if created], [])
    equal(await store.migrate(), tables)
    true(bool(store.url) and store.poll > 0, "a store says where it is and how often one should look")
