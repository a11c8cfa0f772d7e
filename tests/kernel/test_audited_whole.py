"""The audit compares what several tables say: of the journal, rollbacks, undos, questions, cancelling."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Encryption,
    Engine,
    MemoryStore,
    Retry,
    RollbackFailed,
    RolledBack,
    current,
    interrupt,
    restart,
    rollback,
    step,
    workflow,
)
from perdure.codec import checksum
from perdure.records import Status
from tests.kernel.test_approvals_audited import Record

BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _whole() -> None:
    BROKEN.clear()


@step(name="unmake", retry=Retry(attempts=1))
async def unmake(result: Any, what: str) -> str:
    if what in BROKEN:
        raise OSError("it sticks")
    return f"no {what}"


@step(name="make", undo=unmake)
async def make(what: str) -> str:
    return what


@workflow(name="makes_two")
async def makes_two() -> bool:
    await make("one")
    await make("two")
    return await interrupt("Keep it?", schema=bool)


@workflow(name="has_two_made")
async def has_two_made() -> bool:
    await make("zero")
    return await makes_two()


@workflow(name="goes_back")
async def goes_back() -> int:
    await make("one")
    if not await interrupt("Go on?", schema=bool):
        return -1
    await make("two")
    if current().generation == 0:
        await rollback("make#1")
    return current().generation


@workflow(name="begins_anew")
async def begins_anew(n: int) -> int:
    await make("one")
    await interrupt("Go on?", schema=bool)
    if n:
        await restart(n - 1)
    return n


FLOWS = [makes_two, has_two_made, goes_back, begins_anew]


async def settled(engine: Engine) -> Record:
    """Rolled back by ana; one of its undos failed, failed again, and was done by bo."""
    BROKEN.add("one")
    handle = await engine.start(makes_two.options(execution_id="x"))
    await handle.outcome(timeout=30)
    await handle.rollback(by="ana", reason="no")
    for how in ("retry", "done"):
        assert isinstance(await handle.outcome(timeout=30), RollbackFailed)
        [request] = await handle.requests()
        opened = engine.protection.encryption is not None
        assert (await Record.of(engine.store, "x")).faults(opened=opened) == []
        await engine.resolve(request.id, how, by="bo")
        if how == "retry":
            await until_asked(engine, request.id)
    assert isinstance(await handle.outcome(timeout=30), RolledBack)
    return await Record.of(engine.store, "x")


async def until_asked(engine: Engine, before: str) -> None:
    """Wait until another question than this one is open."""
    while [request.id for request in await engine.requests()] in ([], [before]):
        await engine.clock.sleep(0.01)


def at(record: Record, kind: str, n: int = -1) -> int:
    return [i for i, entry in enumerate(record.entries) if entry.kind == kind][n]


def put(record: Record, kind: str, n: int = -1, **fields: Any) -> None:
    """Change an entry, its checksum too."""
    i = at(record, kind, n)
    entry = record.entries[i]._replace(**fields)
    record.entries[i] = entry._replace(checksum=checksum(entry.input, entry.output, entry.error))


def void(record: Record, kind: str, n: int = -1) -> None:
    """Take an entry out, so that no gap is left."""
    i = at(record, kind, n)
    record.entries[i] = record.entries[i]._replace(kind="note", key="note:0")


def cut_off(record: Record, events: int) -> None:
    """Take the last events away."""
    record.dossier.events = record.events()[:-events]


def act(record: Record, n: int, **fields: Any) -> None:
    """Change the row of an undo, its checksum too."""
    action = replace(record.dossier.actions[n], **fields)
    record.dossier.actions[n] = replace(action, checksum=checksum(None, action.output, action.error))


TWO, ONE = 0, 1

CHANGES: dict[str, tuple[Callable[[Record], Any], str]] = {
    "an entry is taken out": (lambda r: r.entries.pop(2), "entry 3 is missing"),
    "some entries are taken out": (lambda r: r.entries.__delitem__(slice(0, 3)), "entries 1 to 3 are missing"),
    "an output is changed": (
        lambda r: r.entries.__setitem__(1, r.entries[1]._replace(output='"six"')),
        "was changed: its checksum does not fit",
    ),
    "the end is cut off": (lambda r: r.entries.__delitem__(slice(3, None)), "its end is missing"),
    "another asked": (
        lambda r: put(r, "rollback", output=r.entries[at(r, "rollback")].output.replace("ana", "eva")),
        "says that eva asked for this rollback, the chain says ana",
    ),
    "all events are cut off": (lambda r: cut_off(r, len(r.events())), "ana asked for this rollback, and no event"),
    "the order is gone": (lambda r: put(r, "rollback", output="null"), "does not say what was to be rolled back"),
    "it was never begun": (lambda r: void(r, "rollback"), "no entry says that it was begun"),
    "another was done": (
        lambda r: put(r, "cut", output=r.entries[at(r, "cut")].output.replace("ana", "eva")),
        "ends another rollback",
    ),
    "it was not done": (lambda r: void(r, "cut"), "tells of no rollback that was done"),
    "it is completed": (
        lambda r: (void(r, "cut"), setattr(r, "row", replace(r.row, status=Status.COMPLETED))),
        "began a rollback of it that was not done",
    ),
    "it is stuck": (
        lambda r: setattr(r, "row", replace(r.row, status=Status.ROLLBACK_FAILED)),
        "tells of no rollback that is under way",
    ),
    "an undo is forgotten": (lambda r: void(r, "undo", 0), "the undo of make#2 in generation 0 is completed, and the"),
    "an undo's row is gone": (lambda r: r.dossier.actions.pop(TWO), "rollback_actions has no row of it"),
    "an undo failed": (lambda r: act(r, TWO, status="failed"), "make#2 in generation 0 is failed, the journal says"),
    "an undo is planned": (lambda r: act(r, TWO, status="planned"), "is planned, the journal says completed"),
    "an undo gave more": (lambda r: act(r, TWO, output='"three"'), "did not end as the journal says"),
    "an undo's text is changed": (
        lambda r: r.dossier.actions.__setitem__(TWO, replace(r.dossier.actions[TWO], output='"three"')),
        "make#2 in generation 0 was changed: its checksum does not fit",
    ),
    "an undo is of another": (lambda r: act(r, TWO, seq=2), "is of entry 2, which is make#1"),
    "another settled it": (lambda r: act(r, ONE, resolved_by="eva"), "was settled by eva, and no event says so"),
    "nobody settled it": (lambda r: cut_off(r, 1), "was settled by bo, and no event says so"),
    "no undo's question is there": (
        lambda r: setattr(r, "requests", [each for each in r.requests if each.kind != "undo"]),
        "x:undo:make#1~2 is missing: events tell of it",
    ),
    "nor its events": (
        lambda r: (
            setattr(r, "requests", [each for each in r.requests if each.kind != "undo"]),
            setattr(r.dossier, "events", r.events()[:1]),
        ),
        "was undone again, and the question that settled it is missing",
    ),
}


async def test_what_was_undone_is_whole(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        record = await settled(engine)
    assert [(row.key, row.status, row.resolved_by) for row in record.dossier.actions] == [
        ("make#2", "completed", None),
        ("make#1", "completed", "bo"),
    ]
    assert record.faults() == []


@pytest.mark.parametrize("change", CHANGES)
async def test_what_does_not_fit_together_is_found(change: str) -> None:
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        record = await settled(engine)
    assert record.faults() == []
    make_it, words = CHANGES[change]
    make_it(record)
    assert [fault for fault in record.faults() if words in fault], record.faults()


async def test_the_question_about_an_undo_that_failed_is_missed_while_nobody_has_answered() -> None:
    BROKEN.add("one")
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        handle = await engine.start(makes_two.options(execution_id="x"))
        await handle.outcome(timeout=30)
        await handle.rollback(by="ana")
        record = await Record.of(engine.store, "x")
    assert (record.row.status, record.faults()) == (Status.ROLLBACK_FAILED, [])
    record.requests = [request for request in record.requests if request.kind != "undo"]
    assert ["failed, and the question that was asked about it is missing" in fault for fault in record.faults()] == [
        True
    ]


async def test_the_question_that_was_answered_is_missed() -> None:
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        handle = await engine.start(makes_two.options(execution_id="x"))
        await handle.outcome(timeout=30)
        await engine.answer((await handle.requests())[0].id, True)
        assert await handle.result(timeout=30)
        record = await Record.of(engine.store, "x")
    assert record.faults() == []
    record.requests = []
    assert [fault.partition(")")[2] for fault in record.faults()] == [" came of a question that is missing"]


async def test_who_cancelled_it_is_one_of_those_who_asked_for_it(place: Any) -> None:
    async with Engine(place, workflows=FLOWS) as engine:
        handle = await engine.start(makes_two.options(execution_id="x"))
        await handle.outcome(timeout=30)
        await handle.cancel(by="ana")
        record = await Record.of(engine.store, "x")
    assert record.faults() == []
    record.row = replace(record.row, wish_by="eva")
    assert record.faults() == ["x says it was cancelled by eva, the chain says ana"]
    record.dossier.events = []
    assert record.faults() == []


async def test_a_journal_that_ends_before_its_life_began_is_cut_off() -> None:
    async with Engine(MemoryStore(), workflows=FLOWS) as engine:
        handle = await engine.start(begins_anew.options(execution_id="x"), 1)
        for _ in range(2):
            await handle.outcome(timeout=30)
            await engine.answer((await handle.requests())[0].id, True)
        assert await handle.result(timeout=30) == 0
        record = await Record.of(engine.store, "x")
    assert record.row.base_seq
    assert record.faults() == []
    del record.entries[record.row.base_seq - 1 :]
    assert any("its end is missing" in fault for fault in record.faults())


@pytest.mark.parametrize("namespace", [None, "shop"])
@pytest.mark.parametrize("keys", [False, True])
async def test_nothing_is_found_in_what_is_as_it_was_recorded(
    tmp_path: Path, keys: bool, namespace: str | None
) -> None:
    codec = Encryption({"k": os.urandom(32)}) if keys else None
    options: dict[str, Any] = {"namespace": namespace} if namespace else {}
    url = f"sqlite:///{tmp_path}/whole.db"
    async with Engine(url, workflows=FLOWS, codec=codec, **options) as engine:
        await settled(engine)
        BROKEN.clear()
        parent = await engine.start(has_two_made.options(execution_id="p"))
        await parent.outcome(timeout=30)
        await parent.rollback(by="ana")
        for flow, id, given in ((goes_back, "b", ()), (begins_anew, "a", (1,))):
            handle: Any = await engine.start(flow.options(execution_id=id), *given)
            for _ in range(2):
                await handle.outcome(timeout=30)
                await engine.answer((await handle.requests())[0].id, True)
            await handle.result(timeout=30)
            await (await handle.fork(execution_id=f"{id} again", by="bo")).outcome(timeout=30)
        await handle.rollback("make#1", by="ana")
        await handle.outcome(timeout=30)
        await handle.cancel(by="bo")
        ids = [row.id for row in (await engine.list()).items]
        assert len(ids) == 7
        for id in ids:
            assert (await Record.of(engine.store, id)).faults(opened=keys) == [], id
    async with Engine(url, workflows=[], worker=False, **options) as engine:
        for id in ids:
            assert (await Record.of(engine.store, id)).faults() == [], id


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("delete from step_executions where seq = 2", "entry 2 is missing"),
        ("update step_executions set output = '\"six\"' where key = 'make#1'", "its checksum does not fit"),
        ("delete from rollback_actions where key = 'make#1'", "has no row of it"),
        ("update rollback_actions set status = 'failed' where key = 'make#2'", "is failed, the journal says completed"),
        ("delete from approval_requests where kind = 'undo'", "is missing: events tell of it"),
        ("delete from audit_events", "ana asked for this rollback, and no event says so"),
    ],
)
@pytest.mark.parametrize("keys", [False, True])
async def test_rows_that_are_changed_in_the_database_are_found(
    tmp_path: Path, keys: bool, statement: str, words: str
) -> None:
    codec = Encryption({"k": os.urandom(32)}) if keys else None
    async with Engine(f"sqlite:///{tmp_path}/changed.db", workflows=FLOWS, codec=codec) as engine:
        await settled(engine)
    with closing(sqlite3.connect(tmp_path / "changed.db")) as database, database:
        assert database.execute(statement).rowcount
    async with Engine(f"sqlite:///{tmp_path}/changed.db", workflows=[], worker=False, codec=codec) as engine:
        found = (await Record.of(engine.store, "x")).faults(opened=keys)
    assert [fault for fault in found if words in fault], found
