"""Transactions of users' steps on SQLite: on a connection of their own, which holds the lock of the whole database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from perdure.errors import PerdureError
from perdure.records import Batch, Verdicts
from perdure.stores.sqlite_database import TRANSLATED, Database, translated


class TransactionConnection(sqlite3.Connection):
    """A connection whose transaction is not the body's to end."""

    def commit(self) -> None:
        raise _not_yours("commit")

    def rollback(self) -> None:
        raise _not_yours("rollback")

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        raise _not_yours("executescript (which commits)")

    def __exit__(self, *what: object) -> Any:
        """`with connection:` commits nothing here: the step does."""
        return False


def _not_yours(what: str) -> PerdureError:
    return PerdureError(
        f"{what} in a transactional step: its transaction is committed with the step's outcome when the body returns,"
        " and rolled back when it raises"
    )


def _open(what: int, first: str | None, *others: str | None) -> int:
    """While it is open the body does anything but end it."""
    ends = what == sqlite3.SQLITE_TRANSACTION and first in ("COMMIT", "ROLLBACK")
    return sqlite3.SQLITE_DENY if ends else sqlite3.SQLITE_OK


def _over(what: int, first: str | None, *others: str | None) -> int:
    """When its time is over the body does nothing more: each statement would be a transaction of its own."""
    ends = what == sqlite3.SQLITE_TRANSACTION and first == "ROLLBACK"
    return sqlite3.SQLITE_OK if ends else sqlite3.SQLITE_DENY


class SqliteTransaction:
    """See `perdure.store.Transaction`. `record` writes a batch by the same connection."""

    is_async = False

    def __init__(self, database: Database, record: Callable[[Batch], Verdicts]) -> None:
        self.connection = database.connection
        self._database = database
        self._record = record

    def begin(self) -> None:
        """Take the lock. Raises `Busy` where another process has it."""
        try:
            self._database.run("use_full")
            self._database.run("begin")
        except TRANSLATED as error:
            raise translated(error, self._database.path) or error from error
        self.connection.set_authorizer(_open)

    async def commit(self, batch: Batch) -> Verdicts:
        database = self._database
        self.connection.set_authorizer(None)
        if not self.connection.in_transaction:
            raise PerdureError("the transaction of a step was ended in its body; its outcome is not recorded")
        try:
            verdicts = self._record(batch)
        except TRANSLATED as error:
            raise translated(error, database.path) or error from error
        if not verdicts.alive:
            return verdicts
        try:
            database.run("commit")
        except sqlite3.IntegrityError:
            raise  # a constraint of the body's rows that is checked last
        except sqlite3.Error as error:
            raise database.after_failed_commit(error) from error
        return verdicts

    async def roll_back(self) -> None:
        self.expire()
        self.connection.close()

    def expire(self) -> None:
        with suppress(sqlite3.Error):
            self.connection.set_authorizer(_over)
            self.connection.interrupt()  # a statement that runs in another thread
            if self.connection.in_transaction:
                self._database.run("rollback")
