"""`engine.verify`: which open executions an edited code would block, before any worker meets them."""

from __future__ import annotations

import sqlite3
import sys
import types
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from perdure import (
    Blocked,
    Completed,
    DecodeError,
    Engine,
    MemoryStore,
    Query,
    Secret,
    Workflow,
    interrupt,
    receive,
    restart,
    step,
    sync,
    workflow,
)
from perdure.codec import checksum
from perdure.records import Execution
from perdure.sealing import Encryption
from perdure.verifying import AT_ONCE, PAGE, Fit, Verified

CODE = """
import asyncio
from datetime import timedelta

from perdure import interrupt, now, random, receive, set_attributes, sleep, step, uuid4, workflow


@step
async def note(what: str) -> str:
    return what


@step
async def add(a: int, b: int) -> int:
    return a + b


@workflow
async def inserted(n: int) -> str:
    await note("first")
    # here
    await note("second")
    await receive("wake")
    return await interrupt("Where to?", schema=str)


@workflow
async def renamed(n: int) -> str:
    uuid4()
    await note("a")
    await sleep(timedelta(days=3))
    return "slept"


@workflow
async def swapped(n: int) -> int:
    one = await add(1, 2)
    two = await add(3, 4)
    await receive("wake")
    return one + two


@workflow
async def prompted(n: int) -> str:
    await note("kindly answer")
    answer = await interrupt("Which one, please?", schema=str)
    await receive("wake")
    return answer


@workflow
async def child(n: int) -> int:
    await receive("wake")
    return n


@workflow(timeout=timedelta(days=9))
async def untouched(n: int) -> int:
    await set_attributes(customer=n)
    random().random()
    total = 0
    for i in range(n + 3):
        total = await add(total, i)
    async with asyncio.timeout(1_000_000):
        total += sum(await asyncio.gather(add(1, 1), add(2, 2)))
    async with asyncio.TaskGroup() as group:
        one, two = group.create_task(child(n)), group.create_task(receive("wake"))
    return total + one.result()
"""

NAMES = ("inserted", "renamed", "swapped", "prompted", "untouched")
EACH = 3


def edited() -> str:
    """A call inserted in one workflow, one renamed in another, two swapped in a third, in the fourth only words."""
    code = CODE
    for old, new in (
        ("    # here", "    await add(0, 0)"),
        ('    uuid4()\n    await note("a")', '    uuid4()\n    await jot("a")'),
        ("one = await add(1, 2)\n    two = await add(3, 4)", "two = await add(3, 4)\n    one = await add(1, 2)"),
        ("kindly answer", "answer, or else"),
        ("Which one, please?", "Which?"),
        ("@step\nasync def add", "@step\nasync def jot(what: str) -> str:\n    return what\n\n\n@step\nasync def add"),
    ):
        assert code.count(old) == 1
        code = code.replace(old, new)
    return code


def module(code: str, path: Path) -> dict[str, Workflow[..., Any]]:
    """The workflows of a file with this code."""
    path.write_text(code)
    made = types.ModuleType("deployed")
    made.__file__ = str(path)
    sys.modules["deployed"] = made
    exec(compile(code, str(path), "exec"), made.__dict__)
    return {name: value for name, value in vars(made).items() if isinstance(value, Workflow)}


@pytest.fixture(autouse=True)
def _gone() -> Iterator[None]:
    yield
    sys.modules.pop("deployed", None)


def rows(path: Path) -> str:
    """All that a database holds, as SQL."""
    with closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump())


async def verified(engine: Engine, query: Query | None = None) -> dict[str, Verified]:
    return {found.id: found async for found in engine.verify(query)}


async def fill(url: str, known: dict[str, Workflow[..., Any]]) -> list[str]:
    """Open executions of all five, waiting or standing still; gives their ids, those of children too."""
    async with Engine(url, workflows=list(known.values())) as engine:
        handles = []
        for name in NAMES:
            for n in range(EACH):
                handles.append(await engine.start(known[name].options(execution_id=f"{name}-{n}"), n))
        for handle in handles:
            await handle.outcome()
        await engine.get("untouched-0").pause()
        await engine.answer("prompted-1:interrupt#1", "this one")
        await engine.get("prompted-1").outcome()
        page = await engine.list()
        return [row.id for row in page.items]


def blocked(found: dict[str, Verified]) -> set[str]:
    return {id for id, one in found.items() if one.fit is Fit.BLOCKS}


async def test_it_names_exactly_what_a_worker_then_blocks_and_writes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/open.db"
    ids = await fill(url, module(CODE, tmp_path / "code.py"))
    before = rows(tmp_path / "open.db")
    code = module(edited(), tmp_path / "code.py")
    async with Engine(url, worker=False, workflows=list(code.values())) as engine:
        found = await verified(engine)
    assert rows(tmp_path / "open.db") == before
    expected = {f"{name}-{n}" for name in ("inserted", "renamed", "swapped") for n in range(EACH)}
    assert blocked(found) == expected
    assert set(found) == set(ids)
    lines = (tmp_path / "code.py").read_text().splitlines()
    for name, line in (("inserted", "await add(0, 0)"), ("renamed", "await jot"), ("swapped", "two = await add")):
        one = found[f"{name}-0"]
        at = next(n for n, text in enumerate(lines, 1) if line in text)
        assert one.places == [f"{tmp_path}/code.py:{at}"]
        assert f"code.py:{at}" in str(one.error), one.error

    async with Engine(url, workflows=list(code.values())) as engine:
        await engine.get("untouched-0").resume()
        for id in ids:
            await engine.get(id).signal("wake")
        really = set()
        for id in ids:
            outcome = await engine.get(id).outcome()
            if isinstance(outcome, Blocked):
                really.add(id)
                assert outcome.reason == str(found[id].error)
    assert really == expected


async def test_changed_arguments_are_a_warning_with_both(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/open.db"
    await fill(url, module(CODE, tmp_path / "code.py"))
    async with Engine(url, worker=False, workflows=list(module(edited(), tmp_path / "code.py").values())) as engine:
        found = await verified(engine)
    [warning] = found["prompted-0"].warnings
    assert "the arguments of note#1" in warning
    assert "code.py:" in warning
    assert 'were {"what":"kindly answer"}, now {"what":"answer, or else"}' in warning
    assert found["untouched-1"].warnings == []


async def test_the_code_that_wrote_it_fits_all_of_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/open.db"
    code = module(CODE, tmp_path / "code.py")
    ids = await fill(url, code)
    async with Engine(url, worker=False, workflows=list(code.values())) as engine:
        found = await verified(engine)
        waiting = await verified(engine, Query(status="waiting", workflow="swapped"))
        ended = await verified(engine, Query(status="completed"))
    assert {one.fit for one in found.values()} == {Fit.FITS}
    assert set(found) == set(ids)
    assert sorted(waiting) == ["swapped-0", "swapped-1", "swapped-2"]
    assert ended == {}


# One at a time --------------------------------------------------------------------------------------------


def made(body: str) -> Workflow[..., Any]:
    """A workflow `w` with this body."""
    space: dict[str, Any] = {"one": one, "interrupt": interrupt, "receive": receive}
    exec(f"async def w(n: int = 1):\n    {body}", space)
    return workflow(space["w"])


@step(name="one")
async def one(n: int) -> int:
    return n


async def after(store: MemoryStore, before: Workflow[..., Any], now: Workflow[..., Any]) -> Verified:
    """Begin an execution with one code, and look at it with another."""
    async with Engine(store, workflows=[before]) as engine:
        await (await engine.start(before.options(execution_id="x"))).outcome()
    async with Engine(store, worker=False, workflows=[now]) as engine:
        return (await verified(engine))["x"]


ASKS = "await one(n)\n    return await interrupt('?', schema=int)"


async def test_what_this_code_does_not_know_is_said_and_not_replayed() -> None:
    store = MemoryStore()
    found = await after(store, made(ASKS), workflow(name="w", version=2)(made(ASKS).function))
    assert (found.fit, found.workflow, found.version, found.error) == (Fit.UNKNOWN, "w", 1, None)


async def test_arguments_that_the_function_does_not_take_any_more_block() -> None:
    async def w(other: int) -> None:
        pass

    found = await after(MemoryStore(), made(ASKS), workflow(name="w")(w))
    assert found.fit is Fit.BLOCKS
    assert "needs 'other'" in str(found.error)
    assert __file__ in found.places[0]


async def test_an_answer_that_waits_and_cannot_be_read_any_more_blocks() -> None:
    store, before = MemoryStore(), made(ASKS)
    async with Engine(store, workflows=[before]) as engine:
        await (await engine.start(before.options(execution_id="x"))).outcome()
    async with Engine(store, worker=False, workflows=[]) as engine:
        await engine.answer("x:interrupt#1", 7)
    now = made("await one(n)\n    return await interrupt('?', schema=list[int])")
    async with Engine(store, worker=False, workflows=[now]) as engine:
        found = (await verified(engine))["x"]
    assert found.fit is Fit.BLOCKS
    async with Engine(store, workflows=[now]) as engine:
        outcome = await engine.get("x").outcome()
        assert isinstance(outcome, Blocked)
        assert outcome.reason == str(found.error)


async def test_a_message_that_waits_and_cannot_be_read_is_a_warning_as_its_receive_raises() -> None:
    store, before = MemoryStore(), made("await one(n)\n    return await receive('note')")
    async with Engine(store, workflows=[before]) as engine:
        await (await engine.start(before.options(execution_id="x"))).outcome()
    async with Engine(store, worker=False, workflows=[]) as engine:
        await engine.get("x").signal("note", 7)
    now = made("await one(n)\n    return await receive('note', schema=list[int])")
    async with Engine(store, worker=False, workflows=[now]) as engine:
        found = (await verified(engine))["x"]
    assert found.fit is Fit.FITS
    assert "receive#1 raises DecodeError of what was sent" in str(found.warnings)


async def test_code_that_raises_behind_what_is_recorded_is_a_warning() -> None:
    found = await after(MemoryStore(), made(ASKS), made("await one(n)\n    raise TypeError('no')"))
    assert found.fit is Fit.FITS
    assert "the code ends with TypeError: no" in found.warnings[0]


async def test_what_runs_elsewhere_is_looked_at_and_not_disturbed() -> None:
    store, code = MemoryStore(), made(ASKS)
    async with Engine(store, workflows=[code]) as engine:
        handle = await engine.start(code.options(execution_id="x"))
        await handle.outcome()
        async for found in engine.verify():
            assert found.fit is Fit.FITS
        await engine.answer("x:interrupt#1", 7)
        assert await handle.outcome() == Completed(7)
        assert [entry.seq for entry in await store.history("x")] == [1, 2]


@step(name="jot")
def jot(what: str) -> str:
    return what


@workflow(name="plain")
def before_edit(n: int) -> str:
    jot("a")
    jot("b")
    return str(sync.interrupt("?"))


@workflow(name="plain")
def after_edit(n: int) -> str:
    try:
        jot("a")
        return str(sync.interrupt("?"))
    finally:
        CLOSED.append(n)


CLOSED: list[int] = []


async def test_plain_functions_are_replayed_too_and_their_frames_are_closed() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[before_edit]) as engine:
        for n in range(3):
            await (await engine.start(before_edit.options(execution_id=f"x{n}"), n)).outcome()
    async with Engine(store, worker=False, workflows=[before_edit]) as engine:
        assert {one.fit for one in (await verified(engine)).values()} == {Fit.FITS}
    async with Engine(store, worker=False, workflows=[after_edit]) as engine:
        found = await verified(engine)
    assert blocked(found) == {"x0", "x1", "x2"}
    assert "entry 2 is jot#2" in str(found["x0"].error)
    assert sorted(CLOSED) == [0, 1, 2]


@step(name="hides")
async def hides(word: Secret[str]) -> None:
    pass


@workflow(name="confides")
async def confides() -> None:
    await hides(Secret("psst"))
    await interrupt("?")


async def test_what_is_encrypted_is_replayed_with_the_keys_and_blocks_without() -> None:
    store, code, keys = MemoryStore(), confides, Encryption({"a": bytes(32)})
    async with Engine(store, workflows=[code], codec=keys) as engine:
        await (await engine.start(code.options(execution_id="x"))).outcome()
    async with Engine(store, worker=False, workflows=[code], codec=keys) as engine:
        assert (await verified(engine))["x"].fit is Fit.FITS
    async with Engine(store, worker=False, workflows=[code]) as engine:
        assert (await verified(engine))["x"].fit is Fit.BLOCKS


@workflow(name="counts")
async def counts(n: int) -> None:
    for i in range(n):
        await one(i)
    await receive("go")
    await restart(n + 2)


async def test_what_restarts_while_it_is_read_is_read_again() -> None:
    class Restarting(MemoryStore):
        moves = False

        async def load(self, ids: Any) -> Any:
            if self.moves:
                self.moves = False
                async with Engine(self, workflows=[counts]) as engine:
                    await engine.get("x").signal("go")
                    await engine.get("x").outcome()
            return await super().load(ids)

    store = Restarting()
    async with Engine(store, workflows=[counts]) as engine:
        await (await engine.start(counts.options(execution_id="x"), 1)).outcome()
    async with Engine(store, worker=False, workflows=[counts]) as engine:
        store.moves = True
        found = await verified(engine)
        assert (await engine.get("x").row()).generation == 1
    assert found["x"].fit is Fit.FITS, found["x"].error


async def test_a_journal_that_cannot_be_read_blocks_its_execution_and_no_other() -> None:
    class Damaged(MemoryStore):
        async def load(self, ids: Any) -> Any:
            if "x" in ids:
                raise DecodeError("x is damaged", execution_id="x")
            return await super().load(ids)

    store, code = Damaged(), made(ASKS)
    async with Engine(store, workflows=[code]) as engine:
        for id in ("x", "y"):
            await (await engine.start(code.options(execution_id=id))).outcome()
    async with Engine(store, worker=False, workflows=[code]) as engine:
        found = await verified(engine)
    assert {id: one.fit for id, one in found.items()} == {"x": Fit.BLOCKS, "y": Fit.FITS}
    assert str(found["x"].error) == "x is damaged"


async def everything(url: str) -> dict[str, list[Any]]:
    """All that a PostgreSQL database holds."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("select tablename from pg_tables where schemaname = 'public' order by 1")
        return {
            table: sorted(map(str, await connection.fetch(f'select t.*, t.xmin from "{table}" t')))
            for (table,) in tables
        }
    finally:
        await connection.close()


@pytest.mark.postgres
async def test_on_postgresql_it_finds_the_same_and_touches_no_row(postgres_url: str, tmp_path: Path) -> None:
    ids = await fill(postgres_url, module(CODE, tmp_path / "code.py"))
    before = await everything(postgres_url)
    code = module(edited(), tmp_path / "code.py")
    async with Engine(postgres_url, worker=False, workflows=list(code.values())) as engine:
        found = await verified(engine)
    assert await everything(postgres_url) == before
    assert set(found) == set(ids)
    assert blocked(found) == {f"{name}-{n}" for name in ("inserted", "renamed", "swapped") for n in range(EACH)}


async def test_no_more_than_a_page_is_in_memory() -> None:
    code = made(ASKS)
    counts: list[int] = []

    class Counting(MemoryStore):
        async def load(self, ids: Any) -> Any:
            counts.append(len(ids))
            return await super().load(ids)

    store = Counting()
    for n in range(PAGE + 70):
        store.put(
            Execution(
                id=f"x{n}", workflow="w", input='{"n":1}', checksum=checksum('{"n":1}', None, None), created_at=n
            ),
            [],
        )
    async with Engine(store, worker=False, workflows=[code]) as engine:
        found = await verified(engine)
    assert len(found) == PAGE + 70
    assert {one.fit for one in found.values()} == {Fit.FITS}
    assert max(counts) == AT_ONCE
