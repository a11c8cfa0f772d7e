"""Two hundred hostile payloads in every column of every table, in every database, through every face.

Which tables and columns there are is asked of the database: a new one without victims fails here. What a database
refuses to store is refused; all else is stored, with checksums and digests that fit, and read in every way there is.
On SQLite each column gets all payloads; elsewhere, unless `PERDURE_TESTS_ALL_PAYLOADS` is set, a sixth, in turns.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Action,
    Engine,
    PerdureError,
    Query,
    RollbackFailed,
    SchemaVersionError,
    Waiting,
    approval,
    checkpoint,
    emit,
    gather,
    interrupt,
    publish,
    receive,
    set_attributes,
    step,
    usage,
    uuid4,
    workflow,
)
from perdure.approvals import digest_of
from perdure.cli import main
from perdure.codec import checksum
from perdure.records import Request
from perdure.stores.parcels import OF_EXECUTIONS
from perdure.timeline import faults, timeline
from tests.proofs.hostile_bases import Base, Row, renamed, texts, turns, writing
from tests.proofs.test_hostile_rows import PAYLOADS
from tests.unit import test_values_hostile

ran: list[str] = []
END = 900.0  # seconds, however slow the machine is
SHOWN = 8  # so many of them by the command line, which reads everything anew each time where it reads files


@step(name="ht_back")
async def back(result: Any, *args: Any) -> None:
    if args == ("stuck",):
        raise OSError("it does not go back")


@step(name="ht_work", undo=back)
async def work(x: Any) -> Any:
    await emit({"at": "work"})
    usage(model="m", input_tokens=1)
    return x


@checkpoint(name="ht_pack")
async def pack(x: Any) -> Any:
    return {"packed": x}


@workflow(name="ht_victim")
async def victim(x: Any) -> list[Any]:
    told = [await work(x), await pack(x), await receive("early")]
    await publish("mood", "good")
    await set_attributes(b=2)
    uuid4()
    acts = [Action("pay", {"cents": 5}), Action("mail", {"to": "ann"})]
    told += await gather(
        interrupt("go on?", details={"a": 1}, schema=Any, default="none", expires=1e6),
        approval("Pay?", actions=acts, details={"for": "x"}, approvers=["ana", "ben"], quorum=2),
    )
    ran.append("the end of a victim")
    return told


@workflow(name="ht_undone")
async def undone(x: Any) -> None:
    await work(x)
    await work("well")
    await receive("never")


@workflow(name="ht_well")
async def well(x: int) -> int:
    return await work(x) + await interrupt("how much?", schema=int)


FLOWS = [victim, undone, well]

# Where -----------------------------------------------------------------------------------------------------

SUMS = {
    "workflow_executions": ("input", "output", "error"),
    "step_executions": ("input", "output", "error"),
    "rollback_actions": ("output", "error"),
    "state_snapshots": ("state",),
    "messages": ("value",),
}
OWNER = {table: "id" if table == "workflow_executions" else "execution_id" for table in OF_EXECUTIONS}
PARTS = {"workflow_executions": 5, "step_executions": 3, "approval_requests": 3}
"""In how many parts the columns of large tables are looked at: each is a test."""
OTHERS = {
    "workflow_definitions": "name",
    "workers": "id",
    "schedules": "name",
    "outbox": "id",
    "queues": "name",
    "execution_tallies": "id",
    "execution_attributes": "name",
    "schema_versions": "version",
}
"""Tables that belong to no execution, and what tells their rows apart."""
SERVERS = ("postgres", "mysql")
ONLY = {
    "queues": SERVERS,
    "execution_tallies": ("sqlite", *SERVERS),
    "execution_attributes": ("sqlite",),
    **dict.fromkeys(("workflow_definitions", "outbox", "schema_versions", "payload_chunks"), ("sqlite", *SERVERS)),
}
"""Tables that are not everywhere."""
KINDS = ["sqlite", "file", *(pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in SERVERS)]
SHARES = 1 if os.environ.get("PERDURE_TESTS_ALL_PAYLOADS") else 6
"""Of how many parts a column of a server or a file gets one."""
MOST = 150
"""So many payloads a column for texts must have taken at least, where it was given all."""
GUARDED = {
    ("workflow_executions", "status"),
    ("step_executions", "status"),
    ("state_snapshots", "cause"),
    ("state_snapshots", "kind"),
    ("approval_requests", "status"),
    ("approval_decisions", "decision"),
    ("rollback_actions", "status"),
    ("workers", "state"),
    ("schedules", "overlap"),
    ("outbox", "kind"),
    ("execution_tallies", "status"),
}
"""Columns that take only what a CHECK lists, or, on MariaDB, twenty characters."""
PLACES = [(table, part) for table in (*OF_EXECUTIONS, *OTHERS) for part in range(PARTS.get(table, 1))]


@dataclass
class Forged:
    """What was put into a database: the executions that are hostile, and of each column how many payloads it took."""

    ids: list[str]
    taken: Counter[str]
    textual: set[str]


async def victims(url: str) -> None:
    """An execution of each kind, and something in every other table."""
    async with Engine(url, workflows=FLOWS, poll=0.05) as engine:
        waits = await engine.start(victim.options(execution_id="v", attributes={"a": 1}), "x")
        await waits.signal("early", "e", id="m1")
        found = await waits.outcome(timeout=END)
        while not (isinstance(found, Waiting) and len(found.requests) == 2):
            await engine.store.changed(0.05)
            found = await waits.outcome(timeout=END)
        await waits.signal("late", "l", id="m2")
        [asked] = [request for request in found.requests if request.kind == "approval"]
        await engine.approve(asked.id, by="ana", comment="well")
        await engine.comment(asked.id, "look at it", by="ben")
        stuck = await engine.start(undone.options(execution_id="u"), "stuck")
        await stuck.outcome(timeout=END)
        await stuck.rollback(by="ana", reason="wrong", wait=False)
        assert isinstance(await stuck.outcome(timeout=END), RollbackFailed)
        await engine.schedule("s", well, cron="0 0 1 1 *", args=(1,))
        await engine.run(work_only, 1)
    async with Engine(url, worker=False, workflows=FLOWS) as client:
        await client.start(well.options(execution_id="control", priority=-100), 20)


@workflow(name="ht_only")
async def work_only(x: int) -> int:
    return await work(x)


FLOWS.append(work_only)


async def fill(base: Base, table: str) -> None:
    """A row in each table that no verb of ours writes here."""
    if table == "payload_chunks":
        await base.put(table, [{"execution_id": "v", "digest": "d", "data": "x", "encoding": "json"}])
    elif table == "outbox":
        await base.run("insert into outbox (kind, execution_id, content) values ('start', 'o', '{}')")
    elif table == "queues" and not await base.rows(table):
        await base.put(table, [{"name": "limited"}])


def fitting(table: str, row: Row) -> Row:
    """With the checksum or the digest that somebody would compute who wants it to be believed."""
    if table in SUMS:
        return row | {"checksum": checksum(*texts(row, SUMS[table]))}
    if table == "approval_requests":
        asked = None if row["answer"] is None else [row["answer"]]
        return row | {"checksum": checksum(*(asked or texts(row, ("details", "schema", "default_answer"))))}
    return row


def bound(row: Row) -> Row:
    """A request with the digest of what it asks."""
    if row["policy"] is None:
        return row
    names = {field.name for field in fields(Request)}
    try:
        return row | {"digest": digest_of(Request(**{name: row[name] for name in names}))}
    except Exception:  # of what is no question there is none
        return row


async def copies(base: Base, of: str, ids: list[str]) -> dict[str, dict[str, list[Row]]]:
    """The rows of an execution as those of others, by id and table; not yet put anywhere."""
    whole = {table: await base.rows(table, **{OWNER[table]: of}) for table in OF_EXECUTIONS}
    made: dict[str, dict[str, list[Row]]] = {}
    for id in ids:
        tables = {table: [renamed(row, of, id) for row in rows] for table, rows in whole.items()}
        known = {row["digest"]: bound(row)["digest"] for row in tables["approval_requests"] if row["policy"]}
        for rows in tables.values():
            for row in rows:
                if row.get("digest") in known:
                    row["digest"] = known[row["digest"]]
        made[id] = tables
    return made


def payloads(at: int, share: int) -> list[Any]:
    """Those that this column is given."""
    return PAYLOADS[at % share :: share]


async def forge(base: Base, table: str, part: int, share: int) -> Forged:
    """Executions with a payload in a column of this table: one for each column and payload."""
    columns = (await base.catalog())[table][part :: PARTS.get(table, 1)]
    of = "u" if table == "rollback_actions" else "v"
    forged = Forged([], Counter(), {column.name for column in columns if column.texts})
    await fill(base, table)
    for at, column in enumerate(columns):
        given = payloads(at, share)
        ids = [f"h{part}.{at}.{n}" for n in range(len(given))]
        made = await copies(base, of, ids)
        there: list[str] = []
        for n, (id, payload) in enumerate(zip(ids, given, strict=True)):
            rows = made[id][table]
            assert rows, f"no row of a victim in {table}"
            where = turns(range(len(rows)), n)
            row = rows.pop(where) | {column.name: payload}
            if table == "workflow_executions" and column.name not in ("status", "wake_at"):
                row = ready(row, of)
            row = fitting(table, row)
            if table == "approval_requests" and column.name not in ("digest", "policy"):
                row = bound(row)
            if await base.takes(table, row):
                forged.taken[column.name] += 1
                there.append(id)
        for each in OF_EXECUTIONS:
            rows = [row for id in there for row in made[id][each]]
            await base.put(each, [ready(row, of) for row in rows] if each == "workflow_executions" else rows)
        forged.ids += there
    await base.run("update workflow_executions set queue = 'nobody' where id in ('v', 'u')")
    return forged


def ready(row: Row, of: str) -> Row:
    """So that a worker takes it next."""
    if of == "v":
        return row | {"status": "pending", "wake_at": None}
    return row | {"status": "rolling_back", "wake_at": row["created_at"], "ended_at": None}


async def forge_other(base: Base, table: str, share: int) -> Forged:
    """A row for each column and payload in a table whose rows belong to no execution."""
    columns, key = (await base.catalog())[table], OTHERS[table]
    forged = Forged([], Counter(), {column.name for column in columns if column.texts})
    await fill(base, table)
    [first, *_] = await base.rows(table)
    number = max((row[key] for row in await base.rows(table)), default=0) if isinstance(first[key], int) else 0
    for at, column in enumerate(columns):
        for n, payload in enumerate(payloads(at, share)):
            number = number + 1 if isinstance(number, int) else number
            own = {key: number if isinstance(first[key], int) else f"h{at}.{n}"}
            live = {"state": "live"} if table == "workers" else {}
            if await base.takes(table, {**first, **own, **live, column.name: payload}):
                forged.taken[column.name] += 1
    return forged


# How it is read --------------------------------------------------------------------------------------------

Face = Callable[[Engine, str], Any]


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def _audit(engine: Engine, id: str) -> Any:
    row = await engine.get(id).row()
    requests = await engine.store.requests(execution_ids=[id], status=None)
    dossier = (await engine.store.dossiers([id]))[id]
    entries = await engine.store.history(id)
    return list(timeline(row, requests, dossier, entries)), faults(row, requests, dossier, entries)


async def _history(engine: Engine, id: str) -> Any:
    return [(entry.input, entry.output, entry.error, entry.traceback) for entry in await engine.get(id).history()]


FACES: dict[str, Face] = {
    "history": _history,
    "inspect": lambda engine, id: engine.get(id).inspect(),
    "inspect at a checkpoint": lambda engine, id: engine.get(id).inspect(at="ht_pack"),
    "audit": _audit,
    "requests": lambda engine, id: engine.get(id).requests(),
    "plan": lambda engine, id: engine.get(id).rollback(dry_run=True, by="ann", force=True),
    "plan to a checkpoint": lambda engine, id: engine.get(id).rollback("ht_pack", dry_run=True),
    "export": lambda engine, id: engine.get(id).export(),
    "events": lambda engine, id: _all(engine.get(id).events(follow=False)),
    "value": lambda engine, id: engine.get(id).value("mood"),
    "usage": lambda engine, id: engine.get(id).usage(),
}


async def _pages(engine: Engine, query: Query) -> list[str]:
    cursor, listed = None, []
    while True:
        page = await engine.list(query, limit=500, cursor=cursor)
        listed += [row.id for row in page.items]
        cursor = page.cursor
        if cursor is None:
            return listed


class Wrong(Counter[str]):
    """Errors that are none of ours, by where they were met."""

    last: Exception | None = None

    @asynccontextmanager
    async def at(self, where: str) -> AsyncIterator[None]:
        try:
            yield
        except PerdureError as error:
            assert str(error)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self[f"{where}: {type(error).__name__} in {Path(place.filename).name}:{place.lineno}"] += 1
            self.last = error


async def looked_at(url: str, ids: list[str]) -> Wrong:
    wrong = Wrong()
    async with Engine(url, worker=False, workflows=FLOWS) as engine:
        async with wrong.at("list"):
            assert {"v", "u", "control"} <= set(await _pages(engine, Query()))
            assert set(await _pages(engine, Query(workflow="ht_well"))) >= {"control"}
            await _pages(engine, Query(attributes={"a": 1}))
        bulk = {
            "count": engine.count,
            "stats": engine.stats,
            "inbox": engine.requests,
            "schedules": engine.schedules,
            "outbox": engine.outbox,
            "workers": engine.store.workers,
            "tallies": engine.store.tallies,
            "verify": lambda: _all(engine.verify(Query(workflow="ht_well"))),
            "verify all": lambda: _all(engine.verify()),
        }
        for name, read in bulk.items():
            async with wrong.at(name):
                await read()
        names = list(FACES)
        for n, id in enumerate(ids):
            for name in {turns(names, n), turns(names, n // len(names) + 5)}:
                async with wrong.at(name):
                    await FACES[name](engine, id)
        # Nobody else is concerned.
        for name, face in FACES.items():
            for id in ("v", "u"):
                if (id, name) not in {("u", "inspect at a checkpoint"), ("u", "plan to a checkpoint")}:
                    await face(engine, id)
        assert (await _audit(engine, "v"))[1] == (await _audit(engine, "u"))[1] == []
        assert [request.id for request in await engine.get("v").requests()] != []
    return wrong


async def served(url: str, ids: list[str]) -> Counter[str]:
    """A worker takes them all, the control last; each comes to rest. Gives how they stand."""
    async with Engine(url, workflows=FLOWS, poll=0.05) as engine:
        handle = engine.get("control")
        await handle.outcome(timeout=END)
        [request] = await handle.requests()
        await engine.answer(request.id, 22)
        assert await handle.result(timeout=END) == 42
        assert await engine.run(work_only, 7) == 7
        async with asyncio.timeout(END):
            while (stand := await engine.count(Query(id_prefix="h"))).get("running"):
                await engine.store.changed(0.05)
    return Counter(stand)


@pytest.fixture(autouse=True)
def _nothing_is_run_and_nothing_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("perdure.registering.REGISTRY", {})  # the command line's engine takes all that are imported
    ran.clear()
    test_values_hostile.ran.clear()
    yield
    assert ran == test_values_hostile.ran == []


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match kind:
        case "sqlite":
            return f"sqlite:///{tmp_path}/hostile.db"
        case "file":
            return f"file://{tmp_path}/hostile"
        case server:
            given: str = request.getfixturevalue(f"{server}_url")
            return given


def moved(url: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """To another database: it arrives as it is, or the move says which row does not, and leaves all as it was."""
    capfd.readouterr()
    code = main(["move", url, f"sqlite:///{folder}/moved.db"])
    told = capfd.readouterr()
    assert "Traceback" not in told.err
    assert code == 0 or told.err.strip(), told


def loaded() -> set[str]:
    return {name for name in sys.modules if not name.startswith(("perdure.", "asyncpg", "asyncmy"))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("table", "part"), PLACES)
def test_hostile_payloads_harm_their_own_execution_only(
    kind: str, table: str, part: int, url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind not in ONLY.get(table, (kind,)):
        pytest.skip(f"there is no {table}")
    asyncio.run(victims(url))
    main(["--db", url, "show", "v", "--json"])  # whatever is imported when something is used for the first time
    asyncio.run(looked_at(url, []))
    before = loaded()

    async def forging() -> Forged:
        async with writing(url) as base:
            if table in OF_EXECUTIONS:
                return await forge(base, table, part, share)
            return await forge_other(base, table, share)

    share = 1 if kind == "sqlite" else SHARES
    forged = asyncio.run(forging())
    for name in forged.textual:
        assert forged.taken[name] >= (MOST // share if (table, name) not in GUARDED else 0), (name, forged.taken)
    if table == "schema_versions" and kind == "sqlite":  # there it takes texts for numbers
        with pytest.raises(SchemaVersionError, match="damaged"):
            asyncio.run(looked_at(url, []))
        return
    wrong = asyncio.run(looked_at(url, forged.ids))
    assert dict(wrong) == {}
    stand = asyncio.run(served(url, forged.ids))
    if table in OF_EXECUTIONS:
        assert not stand.get("completed"), "nobody has answered them"
    assert dict(asyncio.run(looked_at(url, []))) == {}
    for id in forged.ids[:: max(1, len(forged.ids) // SHOWN)]:
        capfd.readouterr()
        code = main(["--db", url, "show", id])
        told = capfd.readouterr()
        assert code in (0, 1) and "Traceback" not in told.err
        assert code == 0 or told.err.strip()
    moved(url, tmp_path, capfd)
    assert loaded() - before == set()


@pytest.mark.parametrize("kind", KINDS)
def test_no_table_is_left_out(kind: str, url: str) -> None:
    async def tables() -> set[str]:
        async with Engine(url, workflows=FLOWS), writing(url) as base:
            return set(await base.catalog())

    assert asyncio.run(tables()) == {t for t, _ in PLACES if kind in ONLY.get(t, (kind,))}
