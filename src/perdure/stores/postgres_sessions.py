"""Sessions with a PostgreSQL server: one for the commits, one for the heartbeats, a pool for everything else.

Where the server cannot be reached, a store tries at most five times a second, however many ask (stores/gate.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from perdure.errors import PerdureError, StoreUnavailableError
from perdure.stores.gate import Gate as AnyGate
from perdure.stores.postgres_address import Address
from perdure.stores.postgres_errors import DRIVER_ERRORS, is_elsewhere, sort_error
from perdure.stores.sockets import keep_alive

END_SECONDS = 1.0
"""How long is waited at once for the end of a session that was given up."""

END_PAUSE = 0.02

STATEMENT_SECONDS = 30.0  # longer, and the connection counts as broken
CLOSE_SECONDS = 5.0
OLDEST_SERVER = 12


class Gate(AnyGate):
    """Paces attempts to reach this server, once one has failed."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.pace, DRIVER_ERRORS, lambda error: in_words(address, error))


def in_words(address: Address, error: BaseException) -> PerdureError:
    """The error of Perdure's for one of the driver's, without a password."""
    found = sort_error(error, address.shown)
    return type(found)(address.hide(str(found)))


class _PoolerFoundError(Exception):
    """A pooler is in between, of which nobody had said anything: connect again, in its way."""


async def connect(address: Address) -> Any:
    """A connection with the settings that the rules rest on. Raises the driver's errors."""
    connection = await asyncpg.connect(**connection_options(address), timeout=address.connect_seconds)
    try:
        await prepare(address, connection)
    except _PoolerFoundError:
        connection.terminate()
        return await connect(address)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def prepare(address: Address, connection: Any) -> None:
    """Settings of a new session; none are left in one that is shared out by a pooler."""
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise StoreUnavailableError(
            f"{address.shown} is PostgreSQL {version.major}; Perdure needs {OLDEST_SERVER} or newer"
        )
    await _look(address, connection)
    if not address.pooled:
        await connection.fetchrow(address.sql["prepare_session"])
    keep_alive(connection._transport.get_extra_info("socket"))


async def _look(address: Address, connection: Any) -> None:
    """What the first session tells. Behind a pooler, another process serves us than the one that greeted us."""
    known = address.pooled
    if known is False or address.lazy is not None:
        return
    try:
        async with pinned(address, connection):
            seen = await connection.fetchrow(address.sql["look"])
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        if known:
            raise
        seen = None  # statements that others prepared here, or none of ours: sessions are shared out
    if seen is not None:
        address.lazy = seen["lazy"]
    if known is None:
        address.pooled = seen is None or seen["process"] != connection.get_server_pid()
        if address.pooled:
            raise _PoolerFoundError


def connection_options(address: Address) -> dict[str, Any]:
    """What the driver is told."""
    options: dict[str, Any] = {"dsn": address.dsn, "command_timeout": STATEMENT_SECONDS}
    if address.pooled:
        options["statement_cache_size"] = 0
    if "application_name=" not in address.dsn:
        options["server_settings"] = {"application_name": "perdure"}
    return options


@asynccontextmanager
async def pinned(address: Address, connection: Any, foreign: bool = False) -> AsyncIterator[None]:
    """Behind a pooler a statement and its preparation meet one server only inside a transaction.

    `foreign`: the session is somebody else's, with settings that are not ours.
    """
    if (address.pooled or foreign) and not connection.is_in_transaction():
        async with connection.transaction(isolation="read_committed"):
            if address.lazy:
                await connection.fetchval(address.sql["prepare_transaction"])
            yield
    else:
        yield


class Pool:
    """For everything but commits and heartbeats: connections as needed, up to ten; or a pool that the user has."""

    def __init__(self, address: Address, gate: Gate, given: Any = None, size: int = 10) -> None:
        self._address = address
        self._gate = gate
        self._given = given
        self._size = size
        self._pool: Any = given
        self.sql = address.sql

    async def open(self) -> None:
        if self._pool is None:
            self._pool = await self._gate.attempt(self._create)
        elif self._address.pooled is None:
            await _close(await self._gate.attempt(lambda: connect(self._address)))  # it looks

    async def _create(self) -> Any:
        return await asyncpg.create_pool(
            **connection_options(self._address),
            timeout=self._address.connect_seconds,
            min_size=0,  # with a floor the driver would try by itself to keep it, whatever the gate says
            max_size=self._size,
            init=lambda connection: prepare(self._address, connection),
            reset=_keep_settings,
        )

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None or pool is self._given:
            return
        try:
            await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
        except (*DRIVER_ERRORS, TimeoutError):
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection for a while. The driver's errors leave the block as Perdure's."""
        pool, connection = await self._gate.attempt(self._acquire)
        try:
            async with pinned(self._address, connection, pool is self._given):
                yield connection
        except DRIVER_ERRORS as error:
            if is_elsewhere(error):
                connection.terminate()
            raise in_words(self._address, error) from error
        finally:
            with suppress(*DRIVER_ERRORS):
                await pool.release(connection)

    async def _acquire(self) -> tuple[Any, Any]:
        """A connection, and the pool that it is of."""
        pool = self._pool
        if pool is None:
            raise StoreUnavailableError(f"{self._address.shown} is not open")
        try:
            return pool, await pool.acquire()
        except _PoolerFoundError:
            self._pool = pool = await self._create()  # the first one's way is another, and it holds nothing yet
            return pool, await pool.acquire()

    async def rows(self, name: str, *values: object) -> list[Any]:
        """The rows of a named statement."""
        async with self.connection() as connection:
            rows: list[Any] = await connection.fetch(self.sql[name], *values)
            return rows

    async def value(self, name: str, *values: object) -> Any:
        """The first column of the first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(self.sql[name], *values)


async def _keep_settings(connection: Any) -> None:
    # The driver would reset the session between two uses: one round trip more, and our settings gone.
    pass


class CommitSession:
    """The connection that commits, and nothing else: its plans are made once and kept."""

    NAMES = ("commit_entry", "commit_entries", "commit_plain", "commit_creates", "commit_changes", "commit_batch")

    def __init__(self, address: Address, gate: Gate) -> None:
        self._address = address
        self._gate = gate
        self._prepared: dict[str, Any] = {}
        self._session: tuple[int, Any] | None = None
        self._given_up: list[tuple[int, Any]] = []
        self.connection: Any = None

    async def ready(self) -> Any:
        """The connection, opened (again) where needed. Raises `StoreUnavailableError`: nothing was sent."""
        if self.connection is None or self.connection.is_closed():
            self.connection = await self._gate.attempt(self._connect)
        return self.connection

    async def _connect(self) -> Any:
        connection = await connect(self._address)
        try:
            if not self._address.pooled:
                _, process, since = await connection.fetchrow(self._address.sql["prepare_commits"])
                self._session = None if process is None else (process, since)
                self._prepared = {name: await connection.prepare(self._address.sql[name]) for name in self.NAMES}
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def row(self, name: str, *values: object) -> Any:
        """The row that a commit statement gives. Raises the driver's errors."""
        if not self._address.pooled:
            return await self._prepared[name].fetchrow(*values)
        async with pinned(self._address, self.connection):
            return await self.connection.fetchrow(self._address.sql[name], *values)

    def drop(self) -> None:
        """Give a connection up that may be broken."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.terminate()
            if self._session is not None:
                self._given_up.append(self._session)
                self._session = None

    async def end_others(self) -> None:
        """Return once all sessions that were given up have ended: what they had not read they will never carry out.

        Raises the driver's errors, and `StoreUnavailableError` where one does not end.
        """
        connection = await self.ready()
        while self._given_up:
            for _ in range(round(END_SECONDS / END_PAUSE)):
                if not await connection.fetch(self._address.sql["end_session"], *self._given_up[0]):
                    break
                await asyncio.sleep(END_PAUSE)
            else:
                raise StoreUnavailableError(
                    f"{self._address.shown}: the session of a commit whose answer is missing does not end; until then"
                    " nobody knows whether it is recorded"
                )
            del self._given_up[0]

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        await _close(connection)


class HeartbeatSessions:
    """A connection for each event loop that beats: threads of heartbeats have loops of their own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._guard = threading.Lock()
        self._sessions: dict[asyncio.AbstractEventLoop, _HeartbeatSession] = {}
        self._closed = False

    async def row(self, name: str, *values: object, timeout: float) -> Any:
        """The row of a named statement. Raises `StoreUnavailableError`."""
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._closed:
                raise StoreUnavailableError(f"{self._address.shown} is closed")
            if loop not in self._sessions:
                self._sessions = {other: kept for other, kept in self._sessions.items() if not other.is_closed()}
                self._sessions[loop] = _HeartbeatSession(self._address)
            session = self._sessions[loop]
        return await session.row(name, *values, timeout=timeout)

    async def close(self) -> None:
        with self._guard:
            self._closed = True
            sessions, self._sessions = self._sessions, {}
        for loop, session in sessions.items():
            if loop is asyncio.get_running_loop():
                await session.close()
            else:
                with suppress(RuntimeError):  # that loop has ended, and closed its connection
                    loop.call_soon_threadsafe(session.terminate)


class _HeartbeatSession:
    def __init__(self, address: Address) -> None:
        self._address = address
        self._gate = Gate(address)
        self._turn = asyncio.Lock()
        self._connection: Any = None
        self._keeper: AsyncGenerator[None, None] | None = None

    async def row(self, name: str, *values: object, timeout: float) -> Any:
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._gate.attempt(self._connect)
            try:
                async with pinned(self._address, self._connection):
                    return await self._connection.fetchrow(self._address.sql[name], *values, timeout=timeout)
            except DRIVER_ERRORS as error:
                self.terminate()
                raise in_words(self._address, error) from error

    async def _connect(self) -> Any:
        connection = await connect(self._address)
        if not self._address.pooled:
            await connection.fetchrow(self._address.sql["prepare_heartbeats"])
        # Nobody tells this store that the heartbeats' loop ends; but a loop that ends closes its generators.
        self._keeper = _closed_with_loop(connection)
        await anext(self._keeper)
        return connection

    async def close(self) -> None:
        if self._keeper is not None:
            await self._keeper.aclose()

    def terminate(self) -> None:
        if self._connection is not None:
            self._connection.terminate()


async def _closed_with_loop(connection: Any) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await _close(connection)


async def _close(connection: Any) -> None:
    if connection is not None and not connection.is_closed():
        try:
            await connection.close(timeout=CLOSE_SECONDS)
        except DRIVER_ERRORS:
            connection.terminate()
