"""A TCP proxy that breaks connections at a chosen moment: what a network does to a commit.

async with Proxy(server.port) as proxy:
    store = PostgresStore(server.url("orders", port=proxy.port))
    ...
    proxy.cut = Cut.BEFORE
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum
from types import TracebackType


class Cut(Enum):
    """What becomes of the next thing that a client sends, and that holds the marker: its connection breaks."""

    BEFORE = "the server never gets it"
    AFTER = "the server gets it and answers; the answer is lost"
    LATE = "the server gets it when it is released, long after the client is gone"


class Proxy:
    """On the event loop of its block. `attempts` counts the connections that clients tried."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.cut: Cut | None = None  # once, then the proxy is a proxy again
        self.marker = b""
        self.kin = b""  # if set: only connections over which this was sent before, as that of prepared commits
        self.attempts = 0
        self._late = asyncio.Event()
        self._held: list[asyncio.Event] = []
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self.sever()

    async def sever(self) -> None:
        """Break all connections at once, whatever is on its way."""
        links = set(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.attempts += 1
        link = asyncio.create_task(self._link(client, to_client))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        ends = [to_client]
        halves: list[asyncio.Task[None]] = []
        with suppress(OSError):  # the target is down: then so is the link
            try:
                server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
                ends.append(to_server)
                mute = asyncio.Event()
                halves.append(asyncio.create_task(self._forth(client, to_client, to_server, mute)))
                halves.append(asyncio.create_task(_back(server, to_client, mute)))
                await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:  # first: this may be cancelled while it waits
                    end.transport.abort()
                for half in halves:
                    half.cancel()
                await asyncio.gather(*halves, return_exceptions=True)

    async def _forth(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
        mute: asyncio.Event,
    ) -> None:
        is_kin = False
        while data := await client.read(65536):
            cut = None
            if self.marker in data and (is_kin or not self.kin):
                cut, self.cut = self.cut, None
            is_kin = is_kin or self.kin in data
            if cut is Cut.BEFORE:
                return
            if cut is Cut.AFTER:
                mute.set()
            if cut is Cut.LATE:
                to_client.transport.abort()
                mute.set()
                return await self._hold(data, to_server)
            to_server.write(data)
            await to_server.drain()

    async def _hold(self, data: bytes, to_server: asyncio.StreamWriter) -> None:
        over = asyncio.Event()
        self._held.append(over)
        try:
            await self._late.wait()
            to_server.write(data)
            await to_server.drain()
            await asyncio.Event().wait()  # the link ends with the server's answer
        finally:
            over.set()

    async def release(self) -> None:
        """Let the server have what was held back, if it still listens, and wait for its answer."""
        self._late.set()
        for over in self._held:
            await over.wait()


async def _back(server: asyncio.StreamReader, to_client: asyncio.StreamWriter, mute: asyncio.Event) -> None:
    while data := await server.read(65536):
        if mute.is_set():
            return
        to_client.write(data)
        await to_client.drain()
