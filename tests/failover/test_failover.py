"""The server that writes dies for good; what was acknowledged is on the other one, and work goes on there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine, StoreUnavailableError
from tests.crash import ledger
from tests.crash.flows import FLOWS, compact
from tests.crash.host import answer_to
from tests.crash.promises import broken
from tests.crash.rows import Tables
from tests.failover.galera import Node, cluster
from tests.failover.standby import Standby
from tests.proxy import Proxy
from tests.servers import NoServerError, PostgresServer

pytestmark = pytest.mark.slow

EXECUTIONS = 30


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ledger.VARIABLE, str(tmp_path / "ledger"))
    return tmp_path / "ledger"


def ack(execution: str, key: str, value: Any = "") -> None:
    ledger.write(ledger.ACK, execution, key, json.dumps(value))


async def insist(act: Callable[[], Awaitable[Any]]) -> Any:
    while True:
        try:
            return await act()
        except StoreUnavailableError:
            await asyncio.sleep(0.05)


async def accompany(engine: Engine, n: int) -> None:
    """Start one, send it what it waits for, and be told of its end; say what was acknowledged."""
    id = f"e{n}"
    handle = engine.get(id)
    await insist(lambda: engine.start(compact.options(execution_id=id), n))
    ack(id, "start")
    await insist(lambda: handle.signal("note", n, id=id))
    ack(id, "signal 1", n)
    result = await insist(handle.result)
    ack(id, "result", result)


async def answer(engine: Engine) -> None:
    """Answer until cancelled."""
    while True:
        for request in await insist(engine.requests):
            value = answer_to(request, request.execution_id)
            await insist(lambda id=request.id, value=value: engine.answer(id, value))
            ack(request.id, "answer", value)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def answered(engine: Engine) -> AsyncIterator[None]:
    task = asyncio.create_task(answer(engine))
    yield
    task.cancel()
    await asyncio.wait([task])


async def work_through(url: str, book: Path, fail_over: Callable[[], None]) -> None:
    """Work, and when it is under way, have the server die."""
    async with Engine(url, workflows=FLOWS, concurrency=EXECUTIONS, lease=2.0, poll=0.1) as engine, answered(engine):
        all_of_it = asyncio.gather(*[accompany(engine, n) for n in range(EXECUTIONS)])
        while sum(line.what == ledger.ACK for line in ledger.read(book)) < 2 * EXECUTIONS:
            await asyncio.sleep(0.01)
        assert not all_of_it.done()
        await asyncio.to_thread(fail_over)
        await all_of_it


def nothing_is_lost(url: str, book: Path) -> None:
    with Tables(url) as tables:
        rows = tables.read()
    assert [row["status"] for row in rows.executions if row["workflow"] == "compact"] == ["completed"] * EXECUTIONS
    assert broken(ledger.read(book), rows) == []


def need(error: NoServerError) -> None:
    if os.environ.get("PERDURE_TESTS_REQUIRE_ALL") == "1":
        pytest.fail(str(error))
    pytest.skip(str(error))


# PostgreSQL -------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, Standby]]:
    """A primary, and the standby that it waits for."""
    try:
        primary = PostgresServer()
    except NoServerError as error:
        need(error)
    with primary, Standby(primary) as standby:
        standby.is_waited_for()
        yield primary, standby


@pytest.mark.postgres
async def test_postgres_with_a_synchronous_standby_loses_nothing_acknowledged(
    pair: tuple[PostgresServer, Standby], book: Path
) -> None:
    primary, standby = pair
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"

    def fail_over() -> None:
        primary.stop(signal.SIGKILL)
        standby.promote()

    await work_through(f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write", book, fail_over)
    await asyncio.to_thread(nothing_is_lost, standby.url(), book)


# MariaDB ----------------------------------------------------------------------------------------------


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    """A cluster of two, of which the second one outlives the first."""
    try:
        with cluster() as made:
            yield made
    except NoServerError as error:
        need(error)


@pytest.mark.mysql
async def test_galera_with_one_writer_loses_nothing_acknowledged(nodes: tuple[Node, Node], book: Path) -> None:
    first, second = nodes
    first.execute("create database orders")
    async with Proxy(first.port) as proxy:

        def fail_over() -> None:
            first.stop(signal.SIGKILL)
            proxy.target = second.port

        await work_through(first.url("orders", port=proxy.port), book, fail_over)
    await asyncio.to_thread(nothing_is_lost, second.url("orders"), book)
