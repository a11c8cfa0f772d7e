"""Transactions of users' steps on PostgreSQL: on connections of their own, with settings of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from perdure.errors import CommitUnknownError, PerdureError
from perdure.records import Batch, Verdicts
from perdure.stores.postgres_address import Address
from perdure.stores.postgres_commits import statement_of, verdicts_of
from perdure.stores.postgres_errors import DRIVER_ERRORS, sort_commit_error
from perdure.stores.postgres_sessions import CLOSE_SECONDS, Gate, connection_options, in_words

MOST = 10
"""Transactions open at once in one process; more wait."""


class Transactions:
    """Opens them, on a pool of its own or on the user's. A session is reset before the next body has it."""

    def __init__(self, address: Address, gate: Gate, given: Any = None) -> None:
        self._address = address
        self._gate = gate
        self._given = given
        self._pool: Any = given

    async def begin(self, seconds: float) -> PostgresTransaction:
        """See `perdure.store.Store.begin`."""
        connection = await self._gate.attempt(self._acquire)
        pool = self._pool
        transaction = connection.transaction()
        try:
            await transaction.start()
            limit = f"{round(seconds * 1000)}ms"
            await connection.execute(self._address.sql["limit_transaction"], limit)
        except DRIVER_ERRORS as error:
            connection.terminate()
            await pool.release(connection)
            raise in_words(self._address, error) from error
        return PostgresTransaction(self._address, pool, connection, transaction)

    async def _acquire(self) -> Any:
        if self._pool is None:
            options = connection_options(self._address)
            seconds = self._address.connect_seconds
            self._pool = asyncpg.create_pool(**options, timeout=seconds, min_size=0, max_size=MOST)
            await self._pool
        return await self._pool.acquire()

    async def close(self) -> None:
        """End what is open, unless the pool is the user's."""
        pool, self._pool = self._pool, self._given
        if pool is None or pool is self._given:
            return
        try:
            await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
        except (*DRIVER_ERRORS, TimeoutError):
            pool.terminate()


class PostgresTransaction:
    """See `perdure.store.Transaction`."""

    is_async = True

    def __init__(self, address: Address, pool: Any, connection: Any, transaction: Any) -> None:
        self.connection = connection
        self._address = address
        self._pool = pool
        self._transaction = transaction
        self._done = False

    async def commit(self, batch: Batch) -> Verdicts:
        connection = self.connection
        if not connection.is_closed() and not connection.is_in_transaction():
            raise PerdureError("the transaction of a step was ended in its body; its outcome is not recorded")
        name, values = statement_of(batch)
        assert name is not None  # it creates nothing that it changes
        try:
            verdicts = verdicts_of(batch, await connection.fetchrow(self._address.sql[name], *values))
        except asyncpg.InFailedSQLTransactionError as error:
            raise PerdureError(
                "a statement in the body of a transactional step failed, and its transaction with it: a body must let"
                " such errors out, or use a savepoint (`async with connection.transaction()`)"
            ) from error
        except DRIVER_ERRORS as error:
            raise in_words(self._address, error) from error
        if not verdicts.alive:
            return verdicts
        try:
            await self._transaction.commit()
        except asyncpg.IntegrityConstraintViolationError:
            raise  # a constraint of the body's rows that is checked last
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error
        self._done = True
        return verdicts

    def _failed(self, error: BaseException) -> PerdureError:
        found = sort_commit_error(error, self._address.shown)
        if isinstance(found, CommitUnknownError):
            self.connection.terminate()  # so that the server, too, ends what may be open
        return type(found)(self._address.hide(str(found)))

    async def roll_back(self) -> None:
        connection = self.connection
        try:
            if not self._done and not connection.is_closed():
                if connection.is_in_transaction():
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._transaction.rollback()
                else:
                    connection.terminate()  # somebody else has ended it, and the driver does not know
        except BaseException as error:
            connection.terminate()
            if not isinstance(error, DRIVER_ERRORS):
                raise
        finally:
            try:
                await self._pool.release(connection)
            except DRIVER_ERRORS:
                connection.terminate()

    def expire(self) -> None:
        """The body is a task, and cancelled."""
