"""Hints between processes, by LISTEN and NOTIFY. What is not told, or is lost, is found by polling.

Telling is apart from commits, and coalesced: at once where nothing was told lately, else a little later for all that
has come meanwhile. Listening takes a session of its own, on direct connections only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from perdure.errors import PerdureError
from perdure.stores.postgres_address import Address
from perdure.stores.postgres_errors import DRIVER_ERRORS
from perdure.stores.postgres_presence import is_direct
from perdure.stores.postgres_sessions import Gate, Pool, connect

APART = 0.01
"""Seconds between two hints of one process."""

AGAIN = 1.0
"""Seconds until listening is tried again."""

CLOSE_SECONDS = 1.0


class Notifier:
    """Tells other processes, from one event loop. `name`: whose hints these are."""

    def __init__(self, pool: Pool, name: str) -> None:
        self._pool = pool
        self._name = name
        self._more = False
        self._telling: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Have others look, soon."""
        self._more = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        while self._more:
            self._more = False
            with suppress(PerdureError):
                await self._pool.rows("notify", self._name)
            await asyncio.sleep(APART)

    async def close(self) -> None:
        """Tell what is to be told, and no more."""
        task, self._telling = self._telling, None
        if task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await asyncio.wait([task])
            task.cancel()
            await asyncio.wait([task])


class Listener:
    """Hears what all others but `name` tell, as long as it is open."""

    def __init__(self, address: Address, name: str, heard: Callable[[], None]) -> None:
        self._address = address
        self._name = name
        self._gate = Gate(address)
        self._heard = heard
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Listen from now on, or go on listening."""
        if self._task is None and not self._address.pooled:
            self._task = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        while True:
            connection: Any = None
            try:
                connection = await self._gate.attempt(lambda: connect(self._address))
                if not await is_direct(connection, self._address):
                    return
                await self._hear(connection)
            except (PerdureError, *DRIVER_ERRORS):
                pass
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(AGAIN)

    async def _hear(self, connection: Any) -> None:
        """Until the connection ends."""
        over = asyncio.Event()
        connection.add_termination_listener(lambda connection: over.set())
        await connection.fetch(self._address.sql["prepare_presence"], "0")
        channel = await connection.fetchval(self._address.sql["channel"])
        if channel is not None:
            await connection.add_listener(channel, self._hears)
            self._heard()  # what was told before
            await over.wait()

    def _hears(self, _connection: object, _process: int, _channel: str, name: object) -> None:
        if name != self._name:
            self._heard()
