"""The complete state: what inspect() tells, now and behind any earlier entry; and that it costs no call anything."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    DecodeError,
    Encryption,
    Engine,
    Failed,
    MemoryStore,
    PerdureError,
    Protection,
    Retry,
    Secret,
    Waiting,
    checkpoint,
    gather,
    generate_key,
    interrupt,
    sleep,
    step,
    sync,
    uuid4,
    workflow,
)
from perdure.snapshots import restored
from perdure.variables import Shown

PLANTED = "xyzzy-planted-4711"


@checkpoint
async def count(n: int) -> int:
    return n + 1


@workflow(name="counts")
async def counts() -> int:
    n = 0
    marks = []
    for _ in range(3):
        mark = str(uuid4())
        n = await count(n)
        marks.append([n, mark])
    await interrupt("Well?")
    return n


async def side(name: str) -> str:
    mine = name.upper()
    asked = f"{mine}?"
    return str(await interrupt(asked))


@workflow(name="three")
async def three() -> list[str]:
    total = 3  # noqa: F841 - looked at from outside
    return await gather(side("a"), side("b"), side("c"))


async def waits(engine: Engine, flow: Any, *args: Any) -> Any:
    handle = await engine.start(flow, *args)
    assert isinstance(await handle.outcome(), Waiting)
    return handle


async def test_an_execution_that_waits_in_three_branches_lists_each_with_variables_place_and_request() -> None:
    async with Engine("memory://", workflows=[three]) as engine:
        handle = await waits(engine, three)
        state = await handle.inspect()
        assert state.source == "code"
        assert state.variables == {"total": 3}
        main, *others = state.position.branches
        assert (main.name, main.function) == ("main", "three")
        assert [(b.name, b.variables["mine"], b.requests[0].message) for b in others] == [
            ("t1", "A", "A?"),
            ("t2", "B", "B?"),
            ("t3", "C", "C?"),
        ]
        assert {b.function for b in others} == {"side"}
        assert all(b.file == __file__ and "interrupt(asked)" in _line(b.file, b.line) for b in others)
        assert [(p.key, p.kind, p.branch) for p in state.position.waiting] == [
            (f"t{n}/interrupt#1", "interrupt", f"t{n}") for n in (1, 2, 3)
        ]
        for branch in (others[2], others[0], others[1]):  # answers in any order
            await engine.answer(branch.requests[0].id, branch.name, by="ana")
        assert await handle.result() == ["t1", "t2", "t3"]
        state = await handle.inspect()
        assert state.position.waiting == [] and state.position.active == []
        assert len(state.position.completed) == 3
        assert "ana" in state.metadata["users"]


def _line(path: str, number: int) -> str:
    return Path(path).read_text().splitlines()[number - 1]


async def test_any_earlier_entry_is_seen_as_it_was() -> None:
    async with Engine("memory://", workflows=[counts]) as engine:
        handle = await waits(engine, counts)
        now = await handle.inspect()
        marks = now.variables["marks"]
        assert [n for n, _ in marks] == [1, 2, 3]
        for n in (1, 2):
            state = await handle.inspect(at=f"count#{n}")
            assert (state.variables["n"], state.source) == (n, "code")
            assert state.variables["marks"] == marks[:n], "a value that was recorded is made anew"
            assert state.position.completed == [f"count#{k}" for k in range(1, n + 1)]
            assert [place.key for place in state.position.active] == [f"count#{n + 1}"]
            assert state.requests == [], "it was asked later"
            assert await handle.inspect(at=state.at) == state
        assert (await handle.inspect(at="count")).variables["n"] == 3
        assert (await handle.inspect(at=0)).variables["n"] == 0
        for wrong in ("nowhere", "count#4", 99):
            with pytest.raises(PerdureError):
                await handle.inspect(at=wrong)


async def test_without_the_code_the_latest_snapshot_counts_and_says_of_which_entry_it_is() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[counts]) as engine:
        handle = await waits(engine, counts)
        seqs = [entry.seq for entry in await handle.history() if entry.kind == "checkpoint"]
        for code, source in ((counts, "code"), (three, "snapshot")):
            async with Engine(store, worker=False, workflows=[code]) as other:
                state = await other.get(handle.id).inspect()
                assert (state.source, state.variables["n"]) == (source, 3)
                assert [place.key for place in state.position.waiting] == ["interrupt#1"]
                assert state.position.waiting[0].request is not None
                assert "interrupt(" in _line(__file__, state.position.waiting[0].line or 0)
        async with Engine(store, worker=False, workflows=[three]) as other:
            state = await other.get(handle.id).inspect(at=seqs[1])
            assert (state.source, state.of, state.variables["n"]) == ("snapshot", seqs[1], 1)
            assert "not at hand" in (state.note or "")


@workflow(name="fails")
async def fails(n: int) -> None:
    kept = [n]
    await flaky(n)
    kept.append(7)
    divide(n)


def divide(n: int) -> None:
    return n // 0  # type: ignore[return-value]


@step(retry=Retry(attempts=3, initial=0.001))
async def flaky(n: int) -> None:
    TRIES.append(n)
    if len(TRIES) < 3:
        raise OSError(f"try {len(TRIES)}")


TRIES: list[int] = []


async def test_a_failure_keeps_the_variables_the_place_and_every_attempts_error() -> None:
    TRIES.clear()
    store = MemoryStore()
    async with Engine(store, workflows=[fails]) as engine:
        handle = await engine.start(fails, 5)
        assert isinstance(await handle.outcome(), Failed)
        dossier = (await store.dossiers([handle.id], snapshots=True))[handle.id]
        (kept,) = [row for row in dossier.snapshots if row.cause == "failure"]
        recorded = restored(dossier.snapshots, kept)["branches"][""]
        seen = await handle.inspect()
        assert recorded["variables"] == seen.variables == {"n": 5, "kept": [5, 7]}
        assert recorded["function"] == seen.position.branches[0].function == "divide"
        assert [(e.key, e.attempt, e.error) for e in seen.errors] == [
            ("flaky#1", 1, "OSError: try 1"),
            ("flaky#1", 2, "OSError: try 2"),
            (None, 1, "ZeroDivisionError: integer division or modulo by zero"),
        ]
        assert all("Traceback" in (error.traceback or "") for error in seen.errors)
        assert seen.attempts == {"flaky#1": 3}


@workflow(name="plain_three")
def plain(n: int) -> int:
    twice = 2 * n
    sync.interrupt("Well?")
    return twice


@workflow(name="generates")
async def generates() -> int:
    total = 0
    async for n in produced():
        total += n
    return total


async def produced() -> Any:
    inside = 1
    yield await interrupt("first?")
    yield inside


async def test_frames_are_found_in_threads_and_behind_async_generators() -> None:
    async with Engine("memory://", workflows=[plain, generates]) as engine:
        state = await (await waits(engine, plain, 4)).inspect()
        assert state.variables == {"n": 4, "twice": 8}
        assert "sync.interrupt" in _line(__file__, state.position.waiting[0].line or 0)
        state = await (await waits(engine, generates)).inspect()
        assert state.variables["total"] == 0
        assert "first?" in _line(__file__, state.position.waiting[0].line or 0)
        assert state.position.branches[0].function == "produced"


# What is shown --------------------------------------------------------------------------------------------


class Hostile:
    """Whoever looks at it by anything but its type is found out."""

    def __getattr__(self, name: str) -> Any:
        TOUCHED.append(name)
        raise RuntimeError(name)

    def __getattribute__(self, name: str) -> Any:
        TOUCHED.append(name)
        raise RuntimeError(name)

    def _touched(self, *args: Any) -> Any:
        TOUCHED.append("called")
        raise RuntimeError("called")

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __hash__ = __eq__ = __sizeof__ = __format__ = _touched


class HostileText(str):
    def __str__(self) -> str:
        TOUCHED.append("str")
        return "no"

    __repr__ = __len__ = __iter__ = __str__  # type: ignore[assignment]


class HostileDict(dict[str, int]):
    def items(self) -> Any:
        TOUCHED.append("items")
        return ()

    __iter__ = keys = values = __len__ = items  # type: ignore[assignment]


TOUCHED: list[str] = []


@dataclass
class Order:
    number: int
    api_key: str = PLANTED
    tags: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        TOUCHED.append("total")
        return 1


def shown(**values: Any) -> dict[str, Any]:
    picture = Shown(Protection().hiding(None))
    tree = picture.variables(values.items())
    json.dumps(tree)
    return picture.veiled(tree)  # type: ignore[no-any-return]


def test_nothing_of_a_values_own_is_called() -> None:
    TOUCHED.clear()
    tree = shown(a=Hostile(), b=[Hostile()], c=HostileText("text"), d=HostileDict(x=1), e=Order(1))
    assert TOUCHED == []
    assert tree["a"]["$type"] == "Hostile"
    assert tree["c"] == "text"
    assert tree["d"] == {"x": 1}
    assert tree["e"] == {"$type": "Order", "number": 1, "api_key": "***", "tags": []}


def test_what_is_large_is_cut_early() -> None:
    endless: list[Any] = []
    endless.append(endless)
    tree = shown(
        text="x" * 5000,
        many=list(range(10**6)),
        deep={"a": {"b": {"c": {"d": {"lowest": 1}}}}},
        endless=endless,
        huge=10**5000,
        wide={str(n): "y" * 1000 for n in range(100)},
        after=1,
    )
    assert tree["text"]["length"] == 5000 and tree["text"]["digest"]
    assert len(tree["many"]) == 101
    assert "lowest" not in json.dumps(tree["deep"])
    assert tree["huge"]["$type"] == "int"
    assert len(json.dumps(tree)) < 18_000


def test_secrets_are_hidden_by_name_by_type_and_wherever_else_they_stand() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[name-defined,misc]
        secret: Any
        plain: str = "shown"

    tree = shown(
        password=PLANTED,
        header=f"Bearer {PLANTED}",
        nested={"x": {"Authorization": PLANTED}},
        typed=Secret(PLANTED),
        listed=[pydantic.SecretStr(PLANTED)],
        model=Model(secret=pydantic.SecretStr(PLANTED)),
        line="password=" + PLANTED,
        key_of={PLANTED: 1},
    )
    assert PLANTED not in json.dumps(tree)
    assert tree["model"]["plain"] == "shown"
    assert tree["header"] == "Bearer ***"


# What is recorded -----------------------------------------------------------------------------------------


@dataclass
class Account:
    user: str
    token: str


@workflow(name="careful", redact=["pin"])
async def careful() -> str:
    password = "".join(["xyzzy-planted", "-4711"])
    url = f"https://api/?q={password}"
    account, wrapped = Account("ann", password), Secret(password)
    pin = {"deep": [password]}
    await count(1)
    await interrupt("Well?")
    return f"{len(url)} {account.user} {bool(wrapped)} {len(pin)}"


@pytest.mark.parametrize("kind", ["sqlite", "file", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_a_planted_secret_appears_nowhere_in_the_database(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = {"sqlite": f"sqlite:///{tmp_path}/p.db", "file": f"file://{tmp_path}/p"}.get(kind)
    url = url or request.getfixturevalue("postgres_url")
    async with Engine(url, workflows=[careful]) as engine:
        handle = await waits(engine, careful)
        dossier = (await engine.store.dossiers([handle.id], snapshots=True))[handle.id]
        assert [row.cause for row in dossier.snapshots] == ["checkpoint", "wait"]
        assert '"ann"' in dossier.snapshots[1].state, "there is nothing to hide"
        state = await handle.inspect()
        assert state.source == "code" and PLANTED not in repr(state)
        assert state.variables["account"] == {"$type": "Account", "user": "ann", "token": "***"}
    everything = await _everything(kind, url, tmp_path)
    assert b"careful" in everything, "the search finds nothing at all"
    assert PLANTED.encode() not in everything


async def _everything(kind: str, url: str, folder: Path) -> bytes:
    if kind == "postgres":
        import asyncpg

        connection = await asyncpg.connect(url)
        tables = await connection.fetch("select table_schema s, table_name t from information_schema.tables")
        found = [
            repr([tuple(row) for row in await connection.fetch(f'select * from "{t["s"]}"."{t["t"]}"')])
            for t in tables
            if t["s"] not in ("pg_catalog", "information_schema")
        ]
        await connection.close()
        return "\n".join(found).encode()
    if kind == "sqlite":
        with sqlite3.connect(folder / "p.db") as connection:
            names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
            rows = [repr(connection.execute(f'select * from "{name}"').fetchall()) for name in names]
        connection.close()
        return "\n".join(rows).encode() + b"".join(path.read_bytes() for path in folder.glob("p.db*"))
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@workflow(name="names", capture="names")
async def names(n: int) -> None:
    word = "shown never"
    await interrupt(word)


@workflow(name="off", capture="off")
async def off(n: int) -> None:
    await count(n)
    await interrupt("Well?")


async def test_capture_says_how_much_is_recorded() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[names, off, counts]) as engine:
        handle = await waits(engine, names, 3)
        (row,) = (await store.dossiers([handle.id], snapshots=True))[handle.id].snapshots
        assert json.loads(row.state)["branches"][""]["variables"] == {"n": {"$type": "int"}, "word": {"$type": "str"}}
        assert (await handle.inspect()).variables == {"n": {"$type": "int"}, "word": {"$type": "str"}}
        handle = await waits(engine, off, 3)
        assert (await store.dossiers([handle.id], snapshots=True))[handle.id].snapshots == []
        state = await handle.inspect()
        assert state.variables == {} and len(state.position.waiting) == 1
    with pytest.raises(ValueError, match="capture"):
        Engine("memory://", capture="some")
    with pytest.raises(ValueError, match="capture"):
        workflow(name="wrong", capture="some")(lambda: None)


@workflow(name="steps_only")
async def steps_only(n: int) -> int:
    for _ in range(n):
        await flaky_not()
    return n


@step
async def flaky_not() -> None:
    pass


async def test_plain_steps_leave_no_snapshot() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[steps_only]) as engine:
        handle = await engine.start(steps_only, 20)
        assert await handle.result() == 20
        assert (await store.dossiers([handle.id], snapshots=True))[handle.id].snapshots == []


@workflow(name="asks_locals")
async def asks_locals() -> list[str]:
    held = locals()
    later = 1
    await count(later)
    return sorted(held)


async def test_a_picture_does_not_change_what_the_code_sees() -> None:
    async with Engine("memory://", workflows=[asks_locals]) as engine:
        assert await engine.run(asks_locals) == []


@workflow(name="parks_twice")
async def parks_twice() -> list[Any]:
    asked = asyncio.ensure_future(interrupt("Well?"))
    await sleep(0)
    first = await count(1)
    found = [first, await asked]
    return [*found, await interrupt("And?")]


async def test_each_owner_has_chains_of_its_own_and_each_park_is_recorded() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[parks_twice]) as engine:
        handle = await waits(engine, parks_twice)
    async with Engine(store, workflows=[parks_twice]) as engine:
        handle = engine.get(handle.id)
        await engine.answer(f"{handle.id}:interrupt#1", "one")
        assert isinstance(await handle.outcome(), Waiting)
        rows = (await store.dossiers([handle.id], snapshots=True))[handle.id].snapshots
        assert [(row.cause, row.kind) for row in rows] == [("checkpoint", "full"), ("wait", "full"), ("wait", "full")]
        assert len({(row.seq, row.branch) for row in rows}) == 3
        assert restored(rows, rows[-1])["branches"][""]["variables"]["found"] == [2, "one"]


@workflow(name="holds_hostile")
async def holds_hostile() -> int:
    hostile = Hostile()
    n = await count(1)
    await interrupt("Well?")
    del hostile
    return n


async def test_no_value_can_make_a_call_fail() -> None:
    TOUCHED.clear()
    async with Engine("memory://", workflows=[holds_hostile]) as engine:
        handle = await waits(engine, holds_hostile)
        assert (await handle.inspect()).variables["hostile"]["$type"] == "Hostile"
        await engine.answer(f"{handle.id}:interrupt#1", None)
        assert await handle.result() == 2
    assert TOUCHED == []


async def test_snapshots_are_encrypted_with_all_the_rest() -> None:
    pytest.importorskip("cryptography")
    store = MemoryStore()
    keys = Encryption.from_text(f"k:{generate_key()}")
    async with Engine(store, workflows=[counts], codec=keys) as engine:
        handle = await waits(engine, counts)
        assert (await handle.inspect()).variables["n"] == 3
        assert all(
            "marks" not in row.state for row in (await store.dossiers([handle.id], snapshots=True))[handle.id].snapshots
        )
        async with Engine(store, workflows=[three], codec=keys, worker=False) as other:
            state = await other.get(handle.id).inspect()
            assert (state.source, state.variables["n"]) == ("snapshot", 3)
        async with Engine(store, workflows=[counts], worker=False) as blind:
            state = await blind.get(handle.id).inspect()
            assert state.variables == {} and "no keys" in (state.note or "")
        fork = await handle.fork(at="count#2")
        assert isinstance(await fork.outcome(), Waiting)
        assert (await fork.inspect()).variables["n"] == 3


async def test_a_damaged_snapshot_is_an_error_and_no_empty_state() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[counts]) as engine:
        handle = await waits(engine, counts)
        rows = store._snapshots[handle.id]
        rows[0].state = rows[0].state.replace("n", "m")
        async with Engine(store, workflows=[three], worker=False) as other:
            with pytest.raises(DecodeError, match=f"snapshot of {handle.id} at entry"):
                await other.get(handle.id).inspect(at="count#2")
        assert (await handle.inspect(at="count#2")).source == "code"


async def test_in_a_namespace_the_state_and_forks_have_the_names_of_that_namespace() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[counts], namespace="shop") as engine:
        handle = await engine.start(counts.options(execution_id="x"))
        await handle.outcome()
        fork = await handle.fork(at="count#1", execution_id="y")
        assert isinstance(await fork.outcome(), Waiting)
        state = await fork.inspect()
        assert (state.id, state.metadata["lineage"]["forked_from"]) == ("y", "x")
        assert [row.id for row in (await engine.list()).items] == ["y", "x"]
