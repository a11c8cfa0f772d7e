"""Whoever can write into the database writes two hundred hostile payloads into every column, with fitting checksums.

Each one concerns its own execution: that is blocked with an error that says why, or shows it as a text. Nothing is
imported, nothing is run, and all other executions in the same database go on.

One victim of each kind is made by an engine. It is then copied by SQL, once for each payload, with the payload in the
place of what stood in one column.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Engine,
    PerdureError,
    Query,
    Retry,
    emit,
    interrupt,
    publish,
    random,
    receive,
    set_attributes,
    sleep,
    step,
    usage,
    uuid4,
    workflow,
)
from perdure.cli import main
from perdure.codec import checksum
from perdure.records import Status
from tests.unit.test_values_hostile import TEXTS

PAYLOADS = [text for text in dict.fromkeys(TEXTS) if text.isascii() or text == text.encode("utf-8", "ignore").decode()]
ran: list[str] = []
PATIENCE = 5.0
CONTROL = 90.0  # for those that must come to an end, however slow the machine is


@step
async def work(x: Any) -> Any:
    return x


@step(retry=Retry(attempts=2, initial=0.0))
async def fails(x: Any) -> None:
    await emit("said")
    usage(model="m", input_tokens=1)
    raise ValueError("no")


@workflow
async def victim(x: Any) -> list[Any]:
    told = await work(x)
    await emit({"at": "work"})
    await publish("mood", "good")
    await set_attributes(b=2)
    uuid4()
    random().random()
    await sleep(0.001)
    try:
        await fails(x)
    except ValueError as error:
        told = [told, str(error)]
    answer = await interrupt("go on?", details={"a": 1}, schema=Any, default="none", expires=1e6)
    message = await receive("word")
    ran.append("the end of a victim")
    return [told, answer, message]


@workflow
async def well(x: int) -> int:
    first = await work(x)
    return first + await interrupt("how much?", schema=int)


@workflow
async def breaks() -> None:
    await fails(1)


# Where ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column, in the row that this condition finds; `of`: the victim that is copied."""

    table: str
    name: str
    of: str
    where: str = "true"
    ready: str = "status = 'pending', wake_at = null"
    besides: str = ""
    wrap: str = "{}"

    def __str__(self) -> str:
        more = [part.split("'")[1] for part in (self.where, self.besides) if "'" in part]
        wrapped = ["in the object"] if self.wrap != "{}" else []
        return " ".join([f"{self.table.split('_')[0]}.{self.name} of {self.of}", *more, *wrapped])


DECIDED = "update approval_requests set status = 'decided', answer = '1' where execution_id = :id"
ANSWERED = "update approval_requests set status = 'decided' where execution_id = :id"
EXPIRED = "update approval_requests set status = 'expired' where execution_id = :id"
LEFT = ""  # as it stood
# What a worker reads when it takes them over: each blocks.
READ = [
    Column("workflow_executions", "input", "fresh"),
    Column("workflow_executions", "input", "fresh", wrap='{{"x":{}}}'),
    Column("workflow_executions", "attributes", "fresh"),
    Column("workflow_executions", "attributes", "waits"),
    Column("step_executions", "output", "waits", "key = 'work#1' and kind = 'step'"),
    Column("step_executions", "error", "waits", "key = 'fails#1' and kind = 'step'"),
    Column("approval_requests", "answer", "waits", besides=ANSWERED),
    Column("approval_requests", "default_answer", "waits", besides=EXPIRED),
    Column("messages", "value", "waits", besides=DECIDED),
]
# What only people see, or what nobody decodes: it is shown, and hinders nothing.
SHOWN = [
    Column("workflow_executions", "output", "ended", ready=LEFT),
    Column("workflow_executions", "error", "failed", ready=LEFT),
    Column("step_executions", "input", "waits", "key = 'work#1' and kind = 'step'"),  # the code's own is what counts
    Column("approval_requests", "details", "waits"),
    Column("approval_requests", "schema", "waits"),
    Column("approval_requests", "answer", "waits", ready=LEFT, besides=ANSWERED),
    Column("messages", "value", "waits", ready=LEFT),
    Column("step_executions", "output", "ended", "kind = 'stream'", ready=LEFT),
    Column("step_executions", "output", "ended", "kind = 'usage'", ready=LEFT),
]
# What the library writes for itself into columns of payloads.
CUT = "update step_executions set kind = 'cut' where execution_id = :id and key = 'uuid4#1'"
OWN = [
    *[
        Column("step_executions", "output", "waits", f"kind = '{kind}'")
        for kind in ("emit", "publish", "stream", "usage", "attempt", "attributes", "uuid4", "random", "timer")
    ],
    Column("step_executions", "error", "waits", "kind = 'attempt'"),
    Column("step_executions", "output", "waits", "key = 'uuid4#1'", besides=CUT),
]
COVERED = {
    "workflow_executions": ("input", "output", "error"),
    "step_executions": ("input", "output", "error"),
    "approval_requests": ("details", "schema", "default_answer"),
    "messages": ("value",),
}
OWNERS = {"workflow_executions": "id"}


class Forger:
    """Copies victims, and puts something into one of their columns."""

    def __init__(self, path: Path) -> None:
        self.base = sqlite3.connect(path, isolation_level=None)
        self.base.row_factory = sqlite3.Row

    def copy(self, of: str, id: str) -> None:
        for table in COVERED:
            owner = OWNERS.get(table, "execution_id")
            for row in self.base.execute(f"select * from {table} where {owner} = ?", (of,)).fetchall():
                made = {**dict(row), owner: id}
                if table in ("approval_requests", "messages"):
                    made["id"] = f"{id}:{row['id']}"
                names = ", ".join(made)
                self.base.execute(
                    f"insert into {table} ({names}) values ({', '.join('?' * len(made))})", list(made.values())
                )

    def forge(self, column: Column, id: str, payload: str) -> None:
        """A copy with the payload in it, and everything recomputed that depends on it."""
        self.copy(column.of, id)
        owner = OWNERS.get(column.table, "execution_id")
        where = f"{owner} = :id and {column.where}"
        text = column.wrap.format(payload)
        changed = self.base.execute(
            f"update {column.table} set {column.name} = :text where {where}", {"id": id, "text": text}
        ).rowcount
        assert changed >= 1, f"{column} is nowhere"
        if column.besides:
            self.base.execute(column.besides, {"id": id})
        for row in self.base.execute(f"select rowid, * from {column.table} where {where}", {"id": id}).fetchall():
            crc = checksum(*[row[name] for name in COVERED[column.table]])
            self.base.execute(f"update {column.table} set checksum = ? where rowid = ?", (crc, row["rowid"]))
        if column.ready:
            self.base.execute(f"update workflow_executions set {column.ready} where id = ?", (id,))


async def _victims(url: str) -> None:
    async with Engine(url, workflows=[victim, well, breaks], poll=0.05) as engine:
        waits = await engine.start(victim.options(execution_id="waits", attributes={"a": 1}), "x")
        ended = await engine.start(victim.options(execution_id="ended"), "x")
        failed = await engine.start(breaks.options(execution_id="failed"))
        for handle in (waits, ended):
            await handle.outcome()
        await waits.signal("word", "w")
        await ended.signal("word", "w")
        await engine.answer((await ended.requests())[0].id, 1)
        await ended.outcome()
        await failed.outcome()
        await (await engine.start(well.options(execution_id="control"), 20)).outcome()
    async with Engine(url, worker=False, workflows=[]) as client:
        await client.start(victim.options(execution_id="fresh", attributes={"a": 1}), "x")
        await client.start(well.options(execution_id="control after"), 20)


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """The command line's engine takes all workflows that are imported: not those of other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.registering.REGISTRY", {})
        yield


@pytest.fixture(scope="module")
def prepared(_alone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one victim of each kind."""
    path = tmp_path_factory.mktemp("hostile") / "prepared.db"
    asyncio.run(_victims(f"sqlite:///{path}"))
    with closing(sqlite3.connect(path)) as base:
        base.execute("pragma wal_checkpoint(truncate)")
    _show(path, "ended")  # whatever the command line imports when it is used for the first time
    return path


@pytest.fixture
def path(prepared: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "hostile.db"
    copy.write_bytes(prepared.read_bytes())
    return copy


def _show(path: Path, id: str) -> int:
    code = main(["--db", f"sqlite:///{path}", "show", id, "--json"])
    assert sys.__stdout__ is not None
    sys.__stdout__.flush()
    return code


@pytest.fixture(autouse=True)
def _nothing_is_run_and_nothing_imported(prepared: Path) -> Iterator[None]:
    ran.clear()
    known = set(sys.modules)
    yield
    assert set(sys.modules) - known == set()
    assert ran == []


# What ------------------------------------------------------------------------------------------------------


def forged(path: Path, column: Column, payloads: Iterable[str]) -> list[str]:
    ids = []
    with closing(Forger(path).base) as base:
        forger = Forger(path)
        forger.base.execute("begin immediate")
        for n, payload in enumerate(payloads):
            ids.append(f"forged {n}")
            forger.forge(column, ids[-1], payload)
        for left in ("waits", "fresh"):  # the real ones take no part
            forger.base.execute("update workflow_executions set queue = 'nobody' where id = ?", (left,))
        forger.base.execute("commit")
        forger.base.close()
        base.execute("pragma wal_checkpoint(truncate)")
    return ids


async def served(url: str, ids: list[str]) -> dict[str, Status]:
    """Let a worker have all of them, and wait for each. Gives how they stand."""
    found = {}
    async with Engine(url, workflows=[victim, well, breaks], poll=0.05) as engine:
        # The controls: one stood in the middle, one comes behind all the hostile ones.
        for id in ("control", "control after"):
            handle = engine.get(id)
            await handle.outcome(timeout=CONTROL)
            await engine.answer((await handle.requests())[0].id, 22)
            assert await handle.result(timeout=CONTROL) == 42
        patience = PATIENCE
        for id in ids:
            try:
                await engine.get(id).outcome(timeout=patience)
            except PerdureError:
                pass
            except TimeoutError:  # the others had as long
                patience = 0.001
            found[id] = await engine.get(id).status()
    return found


async def looked_at(url: str, ids: list[str]) -> list[str]:
    """Look at each in every way. Gives the errors that are none of ours: by what, and of which class."""
    wrong: Counter[str] = Counter()
    async with Engine(url, worker=False, workflows=[victim, well, breaks]) as engine:
        cursor, listed = None, []
        while True:
            page = await engine.list(limit=100, cursor=cursor)
            listed += [row.id for row in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        assert set(ids) <= set(listed)
        await engine.list(Query(attributes={"a": 1}))
        assert {"control", "control after"} <= {row.id for row in (await engine.list(Query(workflow="well"))).items}
        await engine.requests()
        await engine.stats()
        for id in ids:
            handle = engine.get(id)
            looks: dict[str, Awaitable[Any]] = {
                "history": _history(handle),
                "requests": handle.requests(),
                "value": handle.value("mood"),
                "usage": handle.usage(),
                "events": _events(handle),
                "export": handle.export(),
            }
            if await handle.status() != Status.PENDING:
                looks["outcome"] = handle.outcome(timeout=PATIENCE)
            for name, look in looks.items():
                try:
                    await look
                except PerdureError as error:
                    assert str(error)
                except Exception as error:
                    wrong[f"{name}: {type(error).__name__}"] += 1
    return [f"{n} times {what}" for what, n in wrong.items()]


async def _history(handle: Any) -> list[Any]:
    return [(entry.input, entry.output, entry.error, entry.traceback) for entry in await handle.history()]


async def _events(handle: Any) -> list[Any]:
    return [item async for item in handle.events(follow=False)]


COLUMNS = [pytest.param(column, id=str(column)) for column in (*READ, *SHOWN, *OWN)]


def forge_all(path: Path, column: Column) -> list[str]:
    """One for each payload. Without a payload there are no attributes: that is none of them."""
    return forged(path, column, [payload for payload in PAYLOADS if payload or column.name != "attributes"])


@pytest.mark.parametrize("column", COLUMNS)
def test_a_hostile_payload_harms_its_own_execution_only(path: Path, column: Column) -> None:
    ids = forge_all(path, column)
    found = asyncio.run(served(f"sqlite:///{path}", ids))
    stand = Counter(found.values())
    if column in READ and column.table == "messages":
        assert stand == {Status.FAILED: len(ids)}, "the workflow itself hears of what it cannot read"
    elif column in READ:
        assert stand == {Status.BLOCKED: len(ids)}
        with closing(sqlite3.connect(path)) as base:
            rows = base.execute("select error, reason from workflow_executions where id like 'forged %'").fetchall()
        assert {json.loads(error)["type"] for error, _ in rows} == {"perdure.errors:DecodeError"}
        assert all(reason for _, reason in rows)
    elif column in SHOWN:
        assert set(stand) <= {Status.WAITING, Status.COMPLETED, Status.FAILED}
    else:
        assert set(stand) <= {Status.WAITING, Status.BLOCKED}


@pytest.mark.parametrize("column", COLUMNS)
def test_looking_at_a_hostile_payload_is_an_error_of_ours_or_shows_a_text(path: Path, column: Column) -> None:
    ids = forge_all(path, column)
    assert asyncio.run(looked_at(f"sqlite:///{path}", ids)) == []


@pytest.mark.parametrize("column", COLUMNS)
def test_the_command_line_shows_a_hostile_payload_or_says_what_is_wrong(
    path: Path, column: Column, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = forge_all(path, column)
    wrong: Counter[str] = Counter()
    for id in ids[::3]:
        capfd.readouterr()
        try:
            code = _show(path, id)
        except Exception as error:
            wrong[type(error).__name__] += 1
            continue
        told = capfd.readouterr()
        document = json.loads(told.out)
        assert (code, document.get("id")) == (0, id) or (code == 1 and document["error"]["message"])
        assert "Traceback" not in told.err
    assert dict(wrong) == {}


def test_all_of_them_are_two_hundred() -> None:
    assert len(PAYLOADS) >= 200
