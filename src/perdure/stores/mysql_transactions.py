"""Transactions of users' steps on MariaDB and MySQL: each on a session of its own, READ COMMITTED."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.errors import CommitUnknownError, PerdureError
from perdure.records import Batch, Verdicts
from perdure.stores.gate import Gate
from perdure.stores.mysql_address import Address
from perdure.stores.mysql_commits import record_within
from perdure.stores.mysql_errors import DRIVER_ERRORS, sort_commit_error
from perdure.stores.mysql_sessions import Session, connect, in_words

MOST = 10
"""Transactions open at once in one process; more wait."""


class Transactions:
    """Opens them."""

    def __init__(self, address: Address, gate: Gate) -> None:
        self._address = address
        self._gate = gate
        self._places = asyncio.Semaphore(MOST)

    async def begin(self, seconds: float) -> MysqlTransaction:
        """See `perdure.store.Store.begin`."""
        await self._places.acquire()
        try:
            session = await self._gate.attempt(lambda: connect(self._address, plain=True))
            transaction = MysqlTransaction(self._address, session, self._places)
            try:
                if session.mariadb:
                    await session.run(session.sql.fill("limit_transaction", seconds=max(1, round(seconds))))
                await session.run(session.sql["begin"])
            except DRIVER_ERRORS as error:
                session.terminate()
                raise in_words(self._address, error) from error
        except BaseException:
            self._places.release()
            raise
        return transaction


class MysqlTransaction:
    """See `perdure.store.Transaction`."""

    is_async = True

    def __init__(self, address: Address, session: Session, places: asyncio.Semaphore) -> None:
        self.connection: Any = session.connection
        self._address = address
        self._session = session
        self._places = places

    async def commit(self, batch: Batch) -> Verdicts:
        session = self._session
        if not session.is_broken and not self.connection.get_transaction_status():
            # A deadlock ends it, too; what came then in the body was a transaction of its own.
            raise PerdureError(
                "the transaction of a step was ended in its body, by a statement, or by an error that it swallowed;"
                " its outcome is not recorded"
            )
        try:
            verdicts = await record_within(session, batch)
        except DRIVER_ERRORS as error:
            raise in_words(self._address, error) from error
        if not verdicts.alive:
            return verdicts
        try:
            await session.run(session.sql["commit"])
        except DRIVER_ERRORS as error:
            found = sort_commit_error(error, self._address.shown)
            if isinstance(found, CommitUnknownError):
                session.terminate()
            raise type(found)(self._address.hide(str(found))) from error
        return verdicts

    async def roll_back(self) -> None:
        try:
            await self._session.close()  # which ends what is open
        finally:
            self._places.release()

    def expire(self) -> None:
        """The body is a task, and cancelled."""
