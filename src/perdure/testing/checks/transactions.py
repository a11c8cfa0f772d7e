"""What transactions of users' own promise: all that is in one is recorded, or none of it; who folds delivers once.

On a store that is no database these verbs refuse. Rows of a user's are those that ask for starts and messages here.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.errors import PerdureError
from perdure.records import Execution, Folded, Message, Status, Verdict
from perdure.store import Store
from perdure.stores import own_connections
from perdure.testing.checks.scene import Scene, equal, true

SECONDS = 20.0


async def a_store_without_transactions_says_so(store: Store) -> None:
    if store.own_transactions:
        return
    scene = await Scene.begin(store)
    for what in ("begin", "outgoing"):
        try:
            if what == "begin":
                await store.begin(SECONDS)
            else:
                store.outgoing(scene.execution())
        except PerdureError:
            continue
        raise AssertionError(f"`{what}` gave something on a store whose `own_transactions` is false")


async def a_batch_and_what_a_body_wrote_are_recorded_together(store: Store) -> None:
    scene = await Scene.begin(store)
    if not store.own_transactions:
        return
    await scene.run("a")
    transaction = await store.begin(SECONDS)
    try:
        await _ask(scene, transaction.connection, [scene.execution("started")])
        verdicts = await transaction.commit(scene.batch(entries=[scene.entry("a")]))
    finally:
        await transaction.roll_back()
    true(verdicts.alive, "the worker was refused although it lives")
    equal(await scene.seqs("a"), [1], "the journal")
    equal(await _folded(scene), [(scene.id("started"), Verdict.OK)])
    equal((await scene.row("started")).status, Status.PENDING)


async def what_is_rolled_back_was_never_there(store: Store) -> None:
    scene = await Scene.begin(store)
    if not store.own_transactions:
        return
    await scene.run("a")
    transaction = await store.begin(SECONDS)
    await _ask(scene, transaction.connection, [scene.execution("started")])
    await transaction.roll_back()
    equal(await scene.seqs("a"), [], "the journal")
    equal(await _folded(scene), [])
    await scene.commit(entries=[scene.entry("a")])
    equal(await scene.seqs("a"), [1], "the journal")


async def a_dead_worker_s_transaction_comes_to_nothing(store: Store) -> None:
    scene = await Scene.begin(store)
    if not store.own_transactions:
        return
    await scene.run("a")
    await scene.die()
    transaction = await store.begin(SECONDS)
    try:
        await _ask(scene, transaction.connection, [scene.execution("started")])
        verdicts = await transaction.commit(scene.batch(entries=[scene.entry("a")]))
    finally:
        await transaction.roll_back()
    true(not verdicts.alive, "a dead worker's batch was recorded")
    equal(await scene.seqs("a"), [], "the journal")
    equal(await _folded(scene), [])


async def what_is_folded_is_delivered_once_and_what_cannot_be_stays(store: Store) -> None:
    scene = await Scene.begin(store)
    if not store.own_transactions:
        return
    await scene.run("a")
    await scene.create(scene.execution("there", input='"other"'))
    items: list[Execution | Message] = [
        scene.execution("new"),
        scene.message("m", "a"),
        scene.execution("there", input='"mine"'),
        scene.message("lost", "nowhere"),
    ]
    transaction = await store.begin(SECONDS)
    try:
        await _ask(scene, transaction.connection, items)
        await transaction.commit(scene.batch(entries=[scene.entry("a")]))
    finally:
        await transaction.roll_back()
    wanted = [
        (scene.id("new"), Verdict.OK),
        (scene.id("a"), Verdict.OK),
        (scene.id("there"), Verdict.EXISTS),
        (scene.id("nowhere"), Verdict.GONE),
    ]
    equal(await _folded(scene), wanted)
    equal(await _folded(scene), [], "folded again")
    equal(
        [message.id for message in (await store.inbox([scene.id("a")]))[scene.id("a")].messages],
        [scene.id("m")],
        "delivered",
    )
    kept = [row for row in await store.outbox() if row.execution_id in (scene.id("there"), scene.id("nowhere"))]
    equal([bool(row.refused) for row in kept], [True, True], "the reasons")
    equal(await store.dismiss([row.id for row in kept]), 2, "dismissed")


async def _ask(scene: Scene, connection: object, items: Sequence[Execution | Message]) -> None:
    rows = [scene.store.outgoing(item) for item in items]
    names = getattr(scene.store, "names", None)
    await own_connections.put(own_connections.recognize(connection), rows, names)


async def _folded(scene: Scene) -> list[tuple[str, Verdict]]:
    """What became of the rows of this scene, until there are no more."""
    found: list[Folded] = []
    while part := await scene.store.fold(100):
        found += part
    return [(row.execution_id, verdict) for row, verdict in found if row.execution_id.startswith(scene.name)]
