"""A start or a message is part of the user's own transaction: it happens if that is committed, and only then."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from perdure import (
    AlreadyExistsError,
    Encryption,
    Engine,
    NotFoundError,
    PerdureError,
    Query,
    Signal,
    Waiting,
    generate_key,
    receive,
    step,
    sync,
    workflow,
)
from tests.own_transactions import drivers
from tests.own_transactions.conftest import DATABASES
from tests.own_transactions.drivers import Own

Open = Callable[[str], AbstractAsyncContextManager[Own]]


@step
async def pack(what: str) -> str:
    return f"{what} in a box"


@workflow(name="own_order")
async def order(what: str) -> str:
    return await pack(what)


@workflow(name="own_paid")
async def paid(what: str) -> list[Any]:
    return [what, await receive("money"), await receive("money")]


WORKFLOWS = [order, paid]


def engine_on(url: str, **settings: Any) -> Engine:
    return Engine(url, workflows=WORKFLOWS, **settings)


def combinations() -> list[Any]:
    found = []
    for database, own in (("sqlite", drivers.SQLITE), ("postgresql", drivers.POSTGRES), ("mysql", drivers.MYSQL)):
        marks = {"sqlite": (), "postgresql": pytest.mark.postgres, "mysql": pytest.mark.mysql}[database]
        for opens in [*own, *drivers.ALCHEMY]:
            found.append(pytest.param(database, opens, id=f"{database}-{opens.__name__[3:]}", marks=marks))
    return found


@pytest.mark.parametrize(("database", "opens"), combinations())
async def test_with_every_driver_what_is_committed_happens_and_what_is_rolled_back_leaves_nothing(
    database: str, opens: Open, url: str
) -> None:
    async with engine_on(url) as engine:
        waiting = await engine.start(paid.options(execution_id="waits"), "a lamp")
        assert isinstance(await waiting.outcome(), Waiting)
        async with opens(url) as own:
            for how in ("rollback", "commit"):
                await own.do(drivers.ROW)
                handle = await engine.start(order.options(execution_id=how, connection=own.connection), "a lämp\0")
                await waiting.signal("money", how, connection=own.connection)
                if database != "sqlite":  # there the lock of the transaction keeps others from looking
                    with pytest.raises(NotFoundError, match="not committed, or was rolled back"):
                        await handle.outcome()
                await own.end(how)
            assert await handle.result(30) == "a lämp\0 in a box"
        with pytest.raises(NotFoundError):
            await engine.get("rollback").status()
        await waiting.signal("money", "plain")
        assert await waiting.result(30) == ["a lamp", "commit", "plain"]
        assert await engine.outbox() == []
        assert (await engine.count(Query())) == {"completed": 2}


@pytest.mark.parametrize("database", DATABASES)
async def test_a_start_with_a_signal_and_an_id_of_its_own_goes_through_together(database: str, url: str) -> None:
    async with engine_on(url) as engine:
        async with _any(database)(url) as own:
            options = paid.options(signal=Signal("money", 1, id="p1"), connection=own.connection)
            handle = await engine.start(options, "a lamp")
            await handle.signal("money", 2, id="p2", connection=own.connection)
            await handle.signal("money", 2, id="p2", connection=own.connection)  # delivered once
            await own.end("commit")
        assert await handle.result(30) == ["a lamp", 1, 2]
        assert await engine.outbox() == []


@pytest.mark.parametrize("database", DATABASES)
async def test_the_same_start_twice_is_one_execution_and_another_input_is_kept_and_told(
    database: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine_on(url, worker=False) as client:
        async with _any(database)(url) as own:
            options = order.options(execution_id="o1", connection=own.connection)
            for what in ("a lamp", "a lamp", "a rug"):
                handle = await client.start(options, what)
            await client.get("nobody").signal("money", 5, connection=own.connection)
            await own.end("commit")
        with caplog.at_level(logging.ERROR, "perdure"):
            assert str(await handle.status()) == "pending"
        assert "o1 exists already, with another workflow or input" in caplog.text
        refused = await client.outbox()
        assert [(row.kind, row.execution_id) for row in refused] == [("start", "o1"), ("message", "nobody")]
        assert [row.refused for row in refused] == [
            "o1 exists already, with another workflow or input; nothing was started",
            "there is no execution nobody to take the message",
        ]
        async with _any(database)(url) as own:
            with pytest.raises(AlreadyExistsError):  # what is known is told at once
                await client.start(order.options(execution_id="o1", connection=own.connection), "a rug")
        async with engine_on(url) as engine:
            assert await engine.get("o1").result(30) == "a lamp in a box"
        assert await client.dismiss(*refused) == 2
        assert await client.outbox() == []


@pytest.mark.parametrize("database", DATABASES)
async def test_a_message_for_what_has_ended_is_kept_and_goes_with_it(database: str, url: str) -> None:
    async with engine_on(url) as engine:
        handle = await engine.start(order.options(execution_id="o1"), "a lamp")
        await handle.result(30)
        async with _any(database)(url) as own:
            await handle.signal("money", 5, connection=own.connection)
            await own.end("commit")
        await handle.status()
        assert [row.refused for row in await engine.outbox()] == ["o1 has ended; the message was not delivered"]
        checked = await asyncio.to_thread(_perdure, "--db", url, "db", "check")
        assert "0 to deliver, 1 refused and kept, the first: o1 has ended" in checked
        await engine.prune(Query())
        assert await engine.outbox() == []


@pytest.mark.parametrize("database", DATABASES)
async def test_a_row_that_nobody_can_read_is_kept_and_is_not_in_the_way_of_others(database: str, url: str) -> None:
    async with engine_on(url) as engine:
        async with _any(database)(url) as own:
            await own.do("insert into outbox (kind, execution_id, content) values ('start', 'bad', 'no json')")
            handle = await engine.start(order.options(connection=own.connection), "a lamp")
            await own.end("commit")
        assert await handle.result(30) == "a lamp in a box"
        (bad,) = await engine.outbox()
        assert bad.refused is not None and "is damaged" in bad.refused


@pytest.mark.parametrize("database", DATABASES)
async def test_what_is_encrypted_is_so_in_the_outbox_and_its_repeats_are_known(database: str, url: str) -> None:
    codec = Encryption.from_text(f"k1:{generate_key()}")
    async with engine_on(url, codec=codec, worker=False) as client:
        async with _any(database)(url) as own:
            for what in ("hunter2", "hunter2", "another"):
                await client.start(paid.options(execution_id="s1", connection=own.connection), what)
            for n in (1, 2):
                await client.get("s1").signal("money", f"hunter{n}", connection=own.connection)
            async with client._outbox._turn:  # it delivers nothing until it was looked at
                await own.end("commit")
                rows = await client.outbox()
        assert len(rows) == 5
        assert not any("hunter" in row.content for row in rows)
        async with engine_on(url, codec=codec) as engine:
            assert await client.get("s1").result(30) == ["hunter2", "hunter1", "hunter2"]
            assert [row.execution_id for row in await engine.outbox()] == ["s1"]


@pytest.mark.parametrize("database", DATABASES)
def test_a_plain_program_writes_in_its_own_thread(database: str, url: str) -> None:
    with sync.Engine(url, workflows=WORKFLOWS) as engine:
        own = drivers.django(url)
        waiting = engine.start(paid.options(execution_id="waits"), "a lamp")
        assert isinstance(waiting.outcome(), Waiting)
        for how in ("rollback", "commit"):
            own.execute(drivers.ROW)
            handle = engine.start(order.options(execution_id=how, connection=own.connection), "a lamp")
            waiting.signal("money", how, connection=own.connection)
            getattr(own, how)()
        own.connection.close()
        assert handle.result(30) == "a lamp in a box"
        waiting.signal("money", "plain")
        assert waiting.result(30) == ["a lamp", "commit", "plain"]
        with pytest.raises(NotFoundError):
            engine.get("rollback").status()


async def test_what_is_no_connection_to_this_kind_of_database_is_refused_before_anything_is_written(
    tmp_path: Any,
) -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    async with Engine("memory://", workflows=WORKFLOWS) as engine:
        with pytest.raises(PerdureError, match="no database that you could have a transaction in"):
            await engine.start(order.options(connection=connection), "a lamp")
        handle = await engine.start(paid, "a lamp")
        with pytest.raises(PerdureError, match="no database that you could have a transaction in"):
            await handle.signal("money", connection=connection)
    async with Engine(f"sqlite:///{tmp_path}/own.db", workflows=WORKFLOWS) as engine:
        with pytest.raises(TypeError, match=r"connection= is a builtins\.str\. Those known are asyncpg"):
            await engine.start(order.options(connection="postgresql://"), "a lamp")
        with pytest.raises(ValueError, match="use start"):
            await engine.run(order.options(connection=connection), "a lamp")
        postgres = drivers.sqlalchemy.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
        with pytest.raises(PerdureError, match="of the kind postgresql, and the engine's is sqlite"):
            await engine.start(order.options(connection=drivers.sqlalchemy.orm.Session(postgres)), "a lamp")
        with pytest.raises(TypeError, match="give a connection of it"):
            await engine.start(order.options(connection=postgres), "a lamp")
        assert await engine.count() == {}
    connection.close()


def test_a_plain_program_is_told_that_it_needs_a_plain_connection(tmp_path: Any) -> None:
    connection = drivers.aiosqlite.connect(tmp_path / "own.db")
    with sync.Engine(f"sqlite:///{tmp_path}/own.db", workflows=WORKFLOWS) as plain:
        with pytest.raises(TypeError, match="is async: a plain program needs a sync connection"):
            plain.start(order.options(connection=connection), "a lamp")
        assert plain.count() == {}


def _perdure(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "perdure", *words], capture_output=True, text=True, check=True).stdout


def _any(database: str) -> Open:
    return {"sqlite": drivers.by_sqlite3, "postgresql": drivers.by_psycopg_async, "mysql": drivers.by_pymysql}[database]
