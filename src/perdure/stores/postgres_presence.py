"""Presence on PostgreSQL: a session that holds a worker's advisory lock, and one that waits for a neighbour's."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from perdure.stores.attendance import Attendance, Watchpost
from perdure.stores.postgres_address import Address
from perdure.stores.postgres_errors import DRIVER_ERRORS
from perdure.stores.postgres_sessions import Gate, connect, in_words
from perdure.stores.sockets import local_port

ANSWER = 5.0
"""Seconds for what waits for nothing."""

PATIENCE = 15.0
"""Seconds to wait for the own lock: as long as the server may need to find out that an older session is gone."""


def attendance(address: Address) -> Attendance:
    gate = Gate(address)

    async def enter() -> Watchpost:
        return PostgresPost(address, await gate.attempt(lambda: connect(address)))

    return Attendance(enter)


async def is_direct(connection: Any, address: Address) -> bool:
    """Nothing stands between this connection and its server: each knows the other by the same numbers."""
    route = await connection.fetchrow(address.sql["route"], timeout=ANSWER)
    own = local_port(connection._transport.get_extra_info("sockname"))
    return bool(route["pid"] == connection.get_server_pid() and route["port"] == own)


class PostgresPost:
    """See `Watchpost`."""

    def __init__(self, address: Address, connection: Any) -> None:
        self._address = address
        self._connection = connection
        self._lost = asyncio.Event()
        self._lock_seconds: float | None = None
        connection.add_termination_listener(lambda connection: self._lost.set())

    async def is_direct(self) -> bool:
        if self._address.pooled:
            return False
        try:
            return await is_direct(self._connection, self._address)
        except DRIVER_ERRORS as error:
            raise in_words(self._address, error) from error

    async def hold(self, worker: int, epoch: int) -> bool:
        await self._prepare(PATIENCE)
        if not await self._rows("take_presence", worker, epoch, timeout=2 * PATIENCE):
            return False
        return bool(await self._rows("tell_presence", worker, epoch, timeout=2 * PATIENCE))

    async def lost(self) -> None:
        if not self._connection.is_closed():
            await self._lost.wait()

    async def ring(self) -> list[int]:
        return [row["id"] for row in await self._rows("presence_ring", timeout=ANSWER)]

    async def free(self, me: int) -> list[int]:
        return [row["id"] for row in await self._rows("free_presences", me, timeout=ANSWER)]

    async def wait_for(self, worker: int, seconds: float) -> bool:
        await self._prepare(seconds)
        try:
            await self._connection.fetch(self._address.sql["await_presence"], worker, timeout=seconds + ANSWER)
        except asyncpg.LockNotAvailableError:
            return False
        except DRIVER_ERRORS as error:
            raise in_words(self._address, error) from error
        return True

    async def _prepare(self, seconds: float) -> None:
        """Wait for locks for so long."""
        if self._lock_seconds != seconds:
            await self._rows("prepare_presence", str(round(seconds * 1000)), timeout=ANSWER)
            self._lock_seconds = seconds

    async def _rows(self, name: str, *values: object, timeout: float) -> list[Any]:
        try:
            rows: list[Any] = await self._connection.fetch(self._address.sql[name], *values, timeout=timeout)
            return rows
        except DRIVER_ERRORS as error:
            raise in_words(self._address, error) from error

    def terminate(self) -> None:
        self._connection.terminate()
