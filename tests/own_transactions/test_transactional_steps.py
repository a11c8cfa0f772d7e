"""What a transactional step writes is there if, and only if, its record is."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from perdure import (
    CommitUnknownError,
    Encryption,
    Engine,
    PerdureError,
    StoreUnavailableError,
    generate_key,
    step,
    transaction,
)
from tests.own_transactions import steps
from tests.own_transactions.conftest import DATABASES
from tests.own_transactions.steps import WORKFLOWS, booking, by_driver, many, odd, rows

everywhere = pytest.mark.parametrize("database", DATABASES)


def engine_on(url: str, **settings: Any) -> Engine:
    return Engine(url, workflows=WORKFLOWS, **settings)


async def records(engine: Engine, id: str) -> list[tuple[int, str, str, str]]:
    """(seq, kind, status, key) of the whole journal; it has no gaps."""
    entries = await engine.store.history(id)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    return [(entry.seq, entry.kind, entry.status, entry.key) for entry in entries]


@everywhere
async def test_rows_and_record_are_one_transaction_with_the_intent_before_it(database: str, url: str) -> None:
    async with engine_on(url) as engine:
        handle = await engine.start(booking.options(execution_id="b1"), "seat 1")
        assert await handle.result(30) == "seat 1 booked"
        assert await rows(url) == [("b1", "seat 1")]
        assert [entry[1:3] for entry in await records(engine, "b1")] == [
            ("step", "completed"),
            ("intent", "open"),
            ("stream", "set"),
            ("step", "completed"),
        ]
        failed = await engine.start(booking.options(execution_id="b2"), "seat 2", "raises")
        with pytest.raises(ValueError, match="no seat 2"):
            await failed.result(30)
        again = await engine.start(booking.options(execution_id="b3"), "seat 3", "raises once")
        assert await again.result(30) == "seat 3 booked"
        await records(engine, "b3")
    assert await rows(url) == [("b1", "seat 1"), ("b3", "seat 3")]


@everywhere
async def test_each_driver_gives_its_own_connection(database: str, url: str) -> None:
    async with engine_on(url) as engine:
        assert await engine.run(by_driver, database, "seat 1") in ("sqlite3", "asyncpg", "asyncmy")
        assert await rows(url) == [("x", "seat 1")]
        other = next(kind for kind in steps.BY_DRIVER if kind != database)
        with pytest.raises(TypeError, match="the engine's store has connections of"):
            await engine.run(by_driver, other, "seat 2")


@everywhere
async def test_many_at_once_with_others_between_leave_no_gap_and_no_row_without_a_record(
    database: str, url: str
) -> None:
    async with engine_on(url) as engine:
        handles = [await engine.start(many.options(execution_id=f"m{n}"), 4) for n in range(4)]
        for n, handle in enumerate(handles):
            assert await handle.result(60) == [1, 2, 3, 4, *(f"m{n}-{k} booked" for k in range(4))]
            found = await records(engine, f"m{n}")
            assert len([entry for entry in found if entry[1:3] == ("step", "completed")]) == 8
    assert len(await rows(url)) == 16


@everywhere
async def test_who_was_declared_dead_during_the_body_leaves_neither_rows_nor_record(database: str, url: str) -> None:
    entered, may_go_on = steps.gate("z1")
    async with engine_on(url) as engine:
        worker = engine.worker
        assert worker is not None
        if database == "sqlite":  # while it holds the one lock nobody can declare it dead: so before that
            begin = engine.store.begin

            async def buried_first(seconds: float) -> Any:
                if not entered.is_set():
                    assert await engine.store.declare_dead(worker.record.id, anyway=True)
                return await begin(seconds)

            engine.store.begin = buried_first  # type: ignore[method-assign]
        handle = await engine.start(booking.options(execution_id="z1"), "seat 1")
        await entered.wait()
        if database != "sqlite":
            async with engine_on(url, worker=False) as other:
                assert await other.store.declare_dead(worker.record.id, anyway=True)
        may_go_on.set()
        assert await handle.result(60) == "seat 1 booked"  # by the worker that it comes back as
        found = await records(engine, "z1")
        fences = [entry.fence for entry in await engine.store.history("z1") if entry.kind == "step"]
    assert len([entry for entry in found if entry[3] == "book#1" and entry[1:3] == ("step", "completed")]) == 1
    assert fences[-1] == 2
    assert await rows(url) == [("z1", "seat 1")]


@everywhere
async def test_a_commit_that_the_store_did_not_take_runs_again_and_an_unknown_one_is_settled(
    database: str, url: str
) -> None:
    async with engine_on(url) as engine:
        faults: list[str] = ["before", "after", "lost"]
        _break_commits(engine, faults)
        for n in range(2):
            handle = await engine.start(booking.options(execution_id=f"c{n}"), f"seat {n}")
            assert await handle.result(60) == f"seat {n} booked"
            assert [entry[1] for entry in await records(engine, f"c{n}")].count("attempt") == 1
    assert faults == []  # c0: refused, then recorded unheard; c1: lost unheard, then recorded
    assert await rows(url) == [(f"c{n}", f"seat {n}") for n in range(2)]


def _break_commits(engine: Engine, faults: list[str]) -> None:
    """Of the next transactions one is refused, one is recorded and nobody hears of it, one is lost and nobody hears."""
    begin = engine.store.begin

    async def breaking(seconds: float) -> Any:
        opened = await begin(seconds)
        if not faults:
            return opened
        fault, commit = faults.pop(0), opened.commit

        async def broken(batch: Any) -> Any:
            if fault == "after":
                await commit(batch)
            if fault == "before":
                raise StoreUnavailableError("it went away")
            await opened.roll_back()
            opened.roll_back = _nothing  # type: ignore[method-assign]
            raise CommitUnknownError("nobody knows")

        opened.commit = broken  # type: ignore[method-assign]
        return opened

    engine.store.begin = breaking  # type: ignore[method-assign]


async def _nothing() -> None:
    return None


@everywhere
async def test_what_the_database_refuses_fails_the_step_and_a_body_may_not_end_its_transaction(
    database: str, url: str
) -> None:
    async with engine_on(url) as engine:
        await engine.run(booking, "seat 1")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await engine.run(booking, "seat 1")
        for kind, words in (
            ("nested", "transactional: call it from workflow code"),
            ("rollback", "not authorized|was ended in its body"),
        ):
            with pytest.raises(Exception, match=words):
                await engine.run(odd, kind, "seat 2")
        with pytest.raises(TimeoutError, match=r"is_slow#1 took longer than 0\.2 s"):
            await engine.run(odd, "slow", "seat 3")
        assert (await engine.count())["completed"] == 1
    assert [name for _, name in await rows(url)] == ["seat 1"]


async def test_a_plain_function_has_its_transaction_in_a_thread_on_sqlite(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/own.db"
    sqlite3.connect(tmp_path / "own.db").execute(steps.TABLE)
    async with engine_on(url) as engine:
        assert await engine.run(odd, "thread", "seat 1") == "seat 1"
        with pytest.raises(sqlite3.IntegrityError):
            await engine.run(odd, "thread", "seat 1")
    assert [name for _, name in await rows(url)] == ["seat 1"]


@everywhere
async def test_the_record_is_sealed_where_the_engine_encrypts(database: str, url: str) -> None:
    codec = Encryption.from_text(f"k1:{generate_key()}")
    async with engine_on(url, codec=codec) as engine:
        assert await engine.run(booking.options(execution_id="s1"), "seat 1") == "seat 1 booked"
    async with engine_on(url) as plain:
        assert not any("booked" in str(entry.output) for entry in await plain.store.history("s1"))
    assert await rows(url) == [("s1", "seat 1")]


async def test_a_namespace_has_its_own_records_beside_the_rows(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/own.db"
    sqlite3.connect(tmp_path / "own.db").execute(steps.TABLE)
    async with engine_on(url, namespace="shop") as engine:
        assert await engine.run(booking.options(execution_id="n1"), "seat 1") == "seat 1 booked"
        await records(engine, "n1")
    async with engine_on(url) as other:
        assert await other.count() == {}
    assert await rows(url) == [("n1", "seat 1")]


async def test_a_store_without_transactions_says_so(tmp_path: Any) -> None:
    for url in ("memory://", tmp_path / "files"):
        async with engine_on(url) as engine:
            with pytest.raises(PerdureError, match="no database that you could have a transaction in"):
                await engine.run(booking, "seat 1")


def test_what_does_not_go_together_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="once= and transactional="):

        @step(once=True, transactional=True)
        async def both(connection: Any = transaction(object)) -> None: ...

    with pytest.raises(TypeError, match="takes no connection"):

        @step(transactional=True)
        async def without() -> None: ...

    with pytest.raises(TypeError, match="asks for transaction"):

        @step
        async def not_transactional(connection: Any = transaction(object)) -> None: ...

    with pytest.raises(ValueError, match="it needs a timeout="):
        steps.book.options(timeout=None)
