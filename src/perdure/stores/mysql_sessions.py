"""Sessions with a MariaDB or MySQL server: one for the commits, one for the heartbeats, a pool for everything else.

What is sent is a packet of statements, of which each gives a result. The first that fails ends the packet; then all
since `start transaction` is rolled back at once, as the server itself does not do it for every error.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import asyncmy
import asyncmy.errors
from asyncmy.constants import CLIENT, FIELD_TYPE
from asyncmy.converters import conversions
from asyncmy.cursors import Cursor

from perdure.errors import BadBatchError, PerdureError, StoreUnavailableError
from perdure.stores.gate import Gate
from perdure.stores.mysql_address import Address
from perdure.stores.mysql_columns import Statements
from perdure.stores.mysql_errors import DEADLOCK, DRIVER_ERRORS, error_code, is_answered, is_elsewhere, sort_error
from perdure.stores.sockets import keep_alive, local_port

Value = TypeVar("Value")

END_SECONDS = 1.0
"""How long is waited at once for the end of a session that was given up."""

END_PAUSE = 0.02
NO_THREAD = 1094
STATEMENT_SECONDS = 30.0  # longer, and the connection counts as broken
CLOSE_SECONDS = 5.0
DEADLOCKS = 10  # in a row, until the caller hears of it
OLDEST_MARIADB = (10, 6)
OLDEST_MYSQL = (8, 0, 17)
# Booleans are the only columns of one byte.
_DECODERS = {**conversions, FIELD_TYPE.TINY: lambda value: int(value) != 0}


class _Cursor(Cursor):
    async def _show_warnings(self, conn: object) -> None:
        """Not asked for: it would be one round trip more, perhaps inside a transaction."""


class Result(NamedTuple):
    """What a statement gave: rows, or how many rows it met, and the id that it made, or made up."""

    names: Sequence[str]
    tuples: Sequence[tuple[Any, ...]]
    met: int
    made: int = 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """By the names of the columns: a newer schema may have more of them."""
        return [dict(zip(self.names, row, strict=True)) for row in self.tuples]

    @property
    def value(self) -> Any:
        """The first column of the first row, or None."""
        return self.tuples[0][0] if self.tuples else None


class Session:
    """One connection. Used by one task at a time."""

    def __init__(self, address: Address, connection: Any, most_bytes: int, mariadb: bool) -> None:
        self._address = address
        self._connection = connection
        self.sql = address.sql
        self.most_bytes = most_bytes
        self.mariadb = mariadb
        self.thread: int = connection.thread_id()
        self._here: str | None = None

    async def here(self) -> str:
        """Which start of which server the session is with. It never changes: sessions end with their server."""
        if self._here is None:
            found = await self.run(self.sql["here_mariadb" if self.mariadb else "here_mysql"])
            self._here = str(found[0].value)
        return self._here

    @property
    def port(self) -> int | None:
        """The own end's; None for a unix socket."""
        return local_port(_transport(self._connection).get_extra_info("sockname"))

    async def lost(self) -> None:
        """Return once the server, or the network, has ended the session. Nothing may be run meanwhile."""
        if not self.is_broken:
            await _transport(self._connection).get_protocol().wait_closed()

    @property
    def is_broken(self) -> bool:
        return not self._connection.connected or bool(getattr(self._connection, "_stream_broken", False))

    async def run(self, *statements: str, timeout: float = STATEMENT_SECONDS) -> list[Result]:
        """Send these as one packet. Gives the results, one each. Raises the driver's errors; then nothing is open."""
        packet = self._encode(statements)
        try:
            async with asyncio.timeout(timeout):
                return await self._send(packet)
        except DRIVER_ERRORS as error:
            await self._roll_back(is_answered(error))
            raise
        except BaseException:
            self.terminate()  # an answer may still be on its way: it must not be taken for the next one
            raise

    def _encode(self, statements: Sequence[str]) -> bytes:
        try:
            packet = ";".join(statements).encode()
        except UnicodeError as error:
            raise BadBatchError(
                f"a text that UTF-8 cannot hold was to be written ({error}); nothing was recorded"
            ) from error
        if len(packet) >= self.most_bytes:
            raise BadBatchError(
                f"{self._address.shown} takes at most {self.most_bytes:,} bytes at once (max_allowed_packet); this is "
                f"{len(packet):,} as the server reads it, with quotes and backslashes escaped. Nothing was recorded"
            )
        return packet

    async def _send(self, packet: bytes) -> list[Result]:
        cursor: Any = _Cursor(self._connection)
        await cursor.execute(packet)
        results = []
        while True:
            names = [column[0] for column in cursor.description or ()]
            results.append(Result(names, cursor._rows or () if names else (), cursor.rowcount, cursor.lastrowid))
            if not await cursor.nextset():
                return results

    async def _roll_back(self, whole: bool) -> None:
        if not whole:
            return self.terminate()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(b"rollback")
        except DRIVER_ERRORS:
            self.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A block that says `start transaction` first and `commit` last. Whatever leaves it early is rolled back."""
        try:
            yield
        except DRIVER_ERRORS:
            raise  # rolled back as it came
        except PerdureError:
            await self._roll_back(not self.is_broken)
            raise
        except BaseException:
            self.terminate()
            raise

    async def roll_back(self) -> None:
        """End a transaction that has found nothing to do."""
        await self.run("rollback")

    @property
    def connection(self) -> Any:
        """The driver's."""
        return self._connection

    def terminate(self) -> None:
        self._connection.close()

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.ensure_closed()
        except DRIVER_ERRORS:
            self.terminate()


async def connect(address: Address, *, plain: bool = False) -> Session:
    """A session with the settings that the rules rest on. Raises the driver's errors.

    `plain`: for somebody else, who expects what the driver does by itself; it takes one statement at once.
    """
    options = {name: value for name, value in address.options.items() if value is not None}
    flags = 0 if plain else CLIENT.MULTI_STATEMENTS | CLIENT.FOUND_ROWS
    decoders = conversions if plain else _DECODERS
    async with asyncio.timeout(address.options["connect_timeout"]):
        connection = await asyncmy.connect(
            **options, charset="utf8mb4", autocommit=None, client_flag=flags, conv=decoders, program_name="perdure"
        )
        try:
            session = Session(address, connection, 1 << 30, False)
            server, cluster = await _say(session, plain, session.sql["server"], session.sql["cluster"])
            ((version, most_bytes),) = server.tuples
            session.most_bytes, session.mariadb = most_bytes, "mariadb" in version.lower()
            _check_version(address, version, session.mariadb)
            await _say(session, plain, *_settings(session.sql, session.mariadb))
            if ("wsrep_on", "ON") in cluster.tuples:
                # After a failover this node may have more to apply, and would take for lost what is on its way.
                await _say(
                    session,
                    plain,
                    session.sql["wait_for_cluster"],
                    session.sql["caught_up"],
                    session.sql["wait_no_more"],
                )
            keep_alive(_transport(connection).get_extra_info("socket"))
        except BaseException:
            connection.close()
            raise
    return session


async def _say(session: Session, plain: bool, *statements: str) -> list[Result]:
    packets = [[each] for each in statements] if plain else [statements]
    return [result for packet in packets for result in await session.run(*packet)]


def _transport(connection: Any) -> Any:
    """What the driver has no word for is asked of the event loop's own transport."""
    return connection._transport


def _settings(sql: Statements, mariadb: bool) -> list[str]:
    if mariadb:
        return [sql["read_committed"], sql["prepare_session"], sql["names_mariadb"], sql["idle_mariadb"]]
    return [sql["read_committed"], sql["prepare_session"], sql["names_mysql"]]


def _check_version(address: Address, version: str, mariadb: bool) -> None:
    # Old proxies and replicas see "5.5.5-10.11.4-MariaDB".
    numbers = tuple(map(int, re.findall(r"\d+", version.removeprefix("5.5.5-"))[:3]))
    if numbers < (OLDEST_MARIADB if mariadb else OLDEST_MYSQL):
        needed = "MariaDB 10.6, or MySQL 8.0.17, or newer"
        raise StoreUnavailableError(f"{address.shown} is {version}; Perdure needs {needed}")


def in_words(address: Address, error: BaseException) -> PerdureError:
    """The error of Perdure's for one of the driver's, without a password."""
    found = sort_error(error, address.shown)
    return type(found)(address.hide(str(found)))


def new_gate(address: Address) -> Gate:
    return Gate(address.pace, DRIVER_ERRORS, lambda error: in_words(address, error))


class Pool:
    """For everything but commits and heartbeats: sessions made as they are needed, kept when they are not."""

    def __init__(self, address: Address, gate: Gate, size: int = 10) -> None:
        self._address = address
        self._gate = gate
        self._places = asyncio.Semaphore(size)
        self._idle: list[Session] = []
        self.sql = address.sql
        self._closed = True

    async def open(self) -> None:
        self._closed = False
        async with self.session():
            pass

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session for a while. The driver's errors leave the block as Perdure's."""
        if self._closed:
            raise StoreUnavailableError(f"{self._address.shown} is not open")
        async with self._places:
            session = await self._take()
            try:
                yield session
            except DRIVER_ERRORS as error:
                if is_elsewhere(error):
                    session.terminate()
                raise in_words(self._address, error) from error
            finally:
                if not session.is_broken and not self._closed:
                    self._idle.append(session)
                else:
                    session.terminate()

    async def _take(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if not session.is_broken:
                return session
            session.terminate()
        return await self._gate.attempt(lambda: connect(self._address))

    async def run(self, *statements: str) -> list[Result]:
        """The results of statements, each a transaction of its own. Only what may be said twice."""
        async with self.session() as session:
            return await past_deadlocks(lambda: session.run(*statements))

    async def ask(self, name: str, /, **values: object) -> Result:
        """The result of a named statement."""
        return (await self.run(self._address.sql.fill(name, **values)))[0]


async def past_deadlocks(act: Callable[[], Awaitable[Value]]) -> Value:
    """Do it, and again where a deadlock was resolved against it: nothing was done."""
    for _ in range(DEADLOCKS):
        try:
            return await act()
        except asyncmy.errors.MySQLError as error:
            if error_code(error) != DEADLOCK:
                raise
    return await act()


class CommitSession:
    """The session that commits, and nothing else."""

    def __init__(self, address: Address, gate: Gate) -> None:
        self._address = address
        self._gate = gate
        self._session: Session | None = None
        self._here: str | None = None
        self._given_up: list[tuple[str, int]] = []

    async def ready(self) -> Session:
        """The session, opened (again) where needed. Raises `StoreUnavailableError`: nothing was sent."""
        if self._session is None or self._session.is_broken:
            self.drop()
            self._session = await self._gate.attempt(self._connect)
        return self._session

    async def _connect(self) -> Session:
        session = await connect(self._address)
        (found,) = await session.run(session.sql["own_thread"])
        if found.value == session.thread:  # else something in between shares sessions out
            self._here = await session.here()
        return session

    def drop(self) -> None:
        """Give a session up that may be broken."""
        session, self._session = self._session, None
        if session is not None:
            session.terminate()
            if self._here is not None:
                self._given_up.append((self._here, session.thread))
        self._here = None

    async def end_others(self) -> None:
        """Return once all sessions that were given up have ended: what they had not read they will never carry out.

        Raises the driver's errors, and `StoreUnavailableError` where one does not end.
        """
        session = await self.ready()
        while self._given_up:
            here, thread = self._given_up[0]
            if here == await session.here():  # a number is given once by each start of a server
                await self._end(session, thread)
            del self._given_up[0]

    async def _end(self, session: Session, thread: int) -> None:
        for _ in range(round(END_SECONDS / END_PAUSE)):
            (found,) = await session.run(session.sql.fill("has_thread", thread=thread))
            if not found.value:
                return
            try:
                await session.run(session.sql.fill("end_thread", thread=thread))
            except DRIVER_ERRORS as error:
                if error_code(error) != NO_THREAD:
                    raise
            await asyncio.sleep(END_PAUSE)
        raise StoreUnavailableError(
            f"{self._address.shown}: the session of a commit whose answer is missing does not end; until then"
            " nobody knows whether it is recorded"
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class HeartbeatSessions:
    """A session for each event loop that beats: threads of heartbeats have loops of their own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._guard = threading.Lock()
        self._sessions: dict[asyncio.AbstractEventLoop, _HeartbeatSession] = {}
        self._closed = False

    async def run(self, *statements: str, timeout: float) -> list[Result]:
        """The results of statements. Raises `StoreUnavailableError`."""
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._closed:
                raise StoreUnavailableError(f"{self._address.shown} is closed")
            if loop not in self._sessions:
                self._sessions = {other: kept for other, kept in self._sessions.items() if not other.is_closed()}
                self._sessions[loop] = _HeartbeatSession(self._address)
            session = self._sessions[loop]
        return await session.run(*statements, timeout=timeout)

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
        self._gate = new_gate(address)
        self._turn = asyncio.Lock()
        self._session: Session | None = None
        self._keeper: AsyncGenerator[None, None] | None = None

    async def run(self, *statements: str, timeout: float) -> list[Result]:
        async with self._turn:
            if self._session is None or self._session.is_broken:
                self._session = await self._gate.attempt(self._connect)
            try:
                return await self._session.run(*statements, timeout=timeout)
            except DRIVER_ERRORS as error:
                self.terminate()
                raise in_words(self._address, error) from error

    async def _connect(self) -> Session:
        session = await connect(self._address)
        # Nobody tells this store that the heartbeats' loop ends; but a loop that ends closes its generators.
        self._keeper = _closed_with_loop(session)
        await anext(self._keeper)
        return session

    async def close(self) -> None:
        if self._keeper is not None:
            await self._keeper.aclose()

    def terminate(self) -> None:
        if self._session is not None:
            self._session.terminate()


async def _closed_with_loop(session: Session) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()
