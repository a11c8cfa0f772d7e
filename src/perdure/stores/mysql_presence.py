"""Presence on MariaDB and MySQL: a session that holds a worker's lock, and one that waits for a neighbour's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from perdure.stores.attendance import Attendance, Watchpost
from perdure.stores.mysql_address import Address
from perdure.stores.mysql_errors import DRIVER_ERRORS
from perdure.stores.mysql_sessions import Result, Session, connect, in_words, new_gate

Value = TypeVar("Value")

ANSWER = 5.0
"""Seconds for what waits for nothing."""

PATIENCE = 15.0
"""Seconds to wait for the own lock: as long as the server may need to find out that an older session is gone."""


def attendance(address: Address) -> Attendance:
    gate = new_gate(address)

    async def enter() -> Watchpost:
        return MysqlPost(address, await gate.attempt(lambda: connect(address)))

    return Attendance(enter)


async def is_direct(session: Session) -> bool:
    """Nothing stands between the session and its server: each knows the other by the same numbers."""
    route, cluster = await session.run(session.sql["route"], session.sql["is_cluster"], timeout=ANSWER)
    if any(value.upper() in ("ON", "1") for _, value in cluster.tuples):
        return False
    id, host = route.tuples[0] if route.tuples else (None, "")
    port = host.rpartition(":")[2] if ":" in host else ""
    return bool(id == session.thread and port == ("" if session.port is None else str(session.port)))


class MysqlPost:
    """See `Watchpost`."""

    def __init__(self, address: Address, session: Session) -> None:
        self._address = address
        self._session = session

    async def is_direct(self) -> bool:
        return await self._in_words(lambda: is_direct(self._session))

    async def hold(self, worker: int, epoch: int) -> bool:
        whose = {"worker": worker, "epoch": epoch}
        while True:
            take = self._session.sql.fill("take_presence", **whose, seconds=int(PATIENCE))
            _, taken = await self._run(self._session.sql["prepare_presence"], take, timeout=2 * PATIENCE)
            if not taken.tuples:
                return False
            if taken.value == 1:
                break
        (told,) = await self._run(
            self._session.sql.fill("tell_presence", **whose, here=await self._here()), timeout=2 * PATIENCE
        )
        return told.met == 1

    async def lost(self) -> None:
        await self._session.lost()

    async def ring(self) -> list[int]:
        (ring,) = await self._run(self._session.sql.fill("presence_ring", here=await self._here()))
        return [id for (id,) in ring.tuples]

    async def free(self, me: int) -> list[int]:
        (free,) = await self._run(self._session.sql.fill("free_presences", me=me, here=await self._here()))
        return [id for (id,) in free.tuples]

    async def wait_for(self, worker: int, seconds: float) -> bool:
        wait = self._session.sql.fill("await_presence", worker=worker, seconds=int(seconds))
        return bool((await self._run(wait, timeout=seconds + ANSWER))[0].value == 1)

    async def _here(self) -> str:
        return await self._in_words(self._session.here)

    async def _run(self, *statements: str, timeout: float = ANSWER) -> list[Result]:
        return await self._in_words(lambda: self._session.run(*statements, timeout=timeout))

    async def _in_words(self, act: Callable[[], Awaitable[Value]]) -> Value:
        try:
            return await act()
        except DRIVER_ERRORS as error:
            raise in_words(self._address, error) from error

    def terminate(self) -> None:
        self._session.terminate()
