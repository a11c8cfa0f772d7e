"""Resources: filled by the engine, never recorded, one of each kind."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from perdure import Engine, NoExecutionError, PerdureError, gather, resource, step, workflow


class Client:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name
        log.append(f"open {name}")

    def close(self) -> None:
        self.log.append(f"close {self.name}")


class Pool(Client):
    """Made by an async context manager."""


class Session(Client):
    """Made by a plain context manager."""


@step
async def uses(x: int, client: Client = resource(Client), *, pool: Pool = resource(Pool)) -> str:
    return f"{x} {client.name} {pool.name}"


@step
def in_thread(session: Session = resource(Session)) -> str:
    return session.name


@step
async def around(x: int) -> str:
    return await uses(x) + " inside"


@workflow
async def many() -> list[str]:
    first = await gather(*[uses(n) for n in range(3)])
    return [*first, await in_thread.aio(), await around(9)]


async def test_one_of_each_kind_is_made_when_asked_for_and_given_back_in_reverse() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def pool() -> AsyncIterator[Pool]:
        yield Pool(log, "pool")
        log.append("leave pool")

    @contextmanager
    def session() -> Iterator[Session]:
        yield Session(log, "session")
        log.append("leave session")

    async def client() -> Client:
        return Client(log, "client")

    factories: dict[Any, Any] = {Client: client, Pool: pool, Session: session}
    async with Engine("memory://", workflows=[many], resources=factories) as engine:
        assert log == []
        handle = await engine.start(many)
        assert await handle.result() == [*(f"{n} client pool" for n in range(3)), "session", "9 client pool inside"]
        assert (await handle.history())[0].input == {"x": 0}, "it is not recorded"
    assert log == ["open client", "open pool", "open session", "leave session", "leave pool", "close client"]


async def test_a_missing_factory_is_named() -> None:
    async with Engine("memory://", workflows=[many]) as engine:
        with pytest.raises(PerdureError, match=r"no resource Client: Engine\(resources={Client: factory}\)"):
            await engine.run(many)


async def test_outside_of_an_execution_it_is_given_by_hand() -> None:
    log: list[str] = []
    assert await uses(1, client=Client(log, "c"), pool=Pool(log, "p")) == "1 c p"
    with pytest.raises(NoExecutionError, match="give client="):
        await uses(1)


def test_resources_come_last() -> None:
    with pytest.raises(TypeError, match="come last"):

        @step
        async def wrong(client: Client = resource(Client), x: int = 1) -> None: ...
