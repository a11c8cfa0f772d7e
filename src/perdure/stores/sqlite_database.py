"""One connection to an SQLite file: named statements, transactions, the schema, and errors in words."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

from perdure.clock import Clock
from perdure.errors import BadBatchError, CommitUnknownError, PerdureError, SchemaVersionError, StoreUnavailableError
from perdure.stores.migrations import Migration, load_migrations
from perdure.stores.patience import Busy
from perdure.stores.queries import load_queries
from perdure.stores.sqlite_rows import holds_attributes
from perdure.stores.timestamps import to_text

Result = TypeVar("Result")
Parameters = Sequence[Any] | dict[str, Any]

log = logging.getLogger("perdure.stores.sqlite")

TRANSLATED = (sqlite3.Error, OverflowError, UnicodeEncodeError)  # what sqlite3 raises, for values too
TABLES = (
    "workflow_definitions",
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "rollback_actions",
    "approval_decisions",
    "audit_events",
    "messages",
    "workers",
    "payload_chunks",
    "schema_versions",
    "schedules",
    "outbox",
    "execution_tallies",
    "execution_attributes",
)


class Database:
    """A connection. Its statements are addressed by their names in the files `sqlite*.sql`.

    `timeout` is how many seconds a statement waits for another process's lock, blocking its thread.
    """

    def __init__(
        self, path: str, *, timeout: float = 0.0, factory: type[sqlite3.Connection] = sqlite3.Connection
    ) -> None:
        self.path = path
        parts = ("sqlite", "sqlite_lists", "sqlite_moves", "sqlite_outbox", "sqlite_reads")
        self.sql = {name: sql for part in parts for name, sql in load_queries(part).items()}
        with Translating(path):
            self.connection = sqlite3.connect(
                path,
                timeout=timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
                factory=factory,
            )
            self.connection.execute("pragma schema_version").fetchone()  # now the file exists
            self.connection.create_function("perdure_has", 2, holds_attributes, deterministic=True)
        self._file = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def check_file(self) -> None:
        """Raise if the file is another one now: SQLite would go on with one that has no name any more."""
        if self._identity() != self._file:
            raise StoreUnavailableError(
                f"{self.path} was deleted or replaced while it was open: nothing more is read from it or recorded."
                " Put the file back if it was moved away; else start this process again"
            )

    def close(self) -> None:
        self.connection.close()

    def run(self, name: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        """Execute one named statement. Raises what sqlite3 raises."""
        return self.connection.execute(self.sql[name], parameters)

    def run_many(self, name: str, rows: Iterable[Parameters]) -> None:
        self.connection.executemany(self.sql[name], rows)

    def value(self, name: str, parameters: Parameters = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.run(name, parameters).fetchone()
        return None if row is None else row[0]

    def transaction(self, work: Callable[[], Result]) -> Result:
        """Do this under the write lock, as a whole or not at all.

        Raises `Busy` at once where the lock is held, `CommitUnknownError` where COMMIT itself failed.
        """
        connection, sql = self.connection, self.sql
        self.check_file()
        try:
            connection.execute(sql["begin"])
            try:
                result = work()
            except BaseException:
                connection.rollback()
                raise
        except TRANSLATED as error:
            words = translated(error, self.path)
            if words is None:
                raise
            raise words from error
        try:
            connection.execute(sql["commit"])
        except sqlite3.Error as error:
            raise self.after_failed_commit(error) from error
        return result

    def after_failed_commit(self, error: sqlite3.Error) -> PerdureError:
        """What an error at COMMIT means."""
        if self.connection.in_transaction:
            self.run("rollback")
            words = translated(error, self.path)
            if isinstance(words, Busy):
                return words
        return CommitUnknownError(f"{self.path}: {error} at COMMIT, so that nobody knows whether it is recorded")

    # The schema -----------------------------------------------------------------------------------

    def migrate(self, clock: Clock) -> list[tuple[str, bool]]:
        """Bring the schema up to date, in one transaction. Gives (table, was created now) for each table."""
        return self.transaction(lambda: self._migrate(clock))

    def _migrate(self, clock: Clock) -> list[tuple[str, bool]]:
        migrations = load_migrations("sqlite")
        before = self._tables()
        version = self._check_version(before, known=len(migrations))
        for migration in migrations[version:]:
            self._refuse_foreign(before & migration.tables)
            self._apply(migration, clock)
        self.run("try_to_write")
        return [(table, table not in before) for table in TABLES]

    def _tables(self) -> set[str]:
        return {name for (name,) in self.run("tables")}

    def _check_version(self, tables: set[str], known: int) -> int:
        if "schema_versions" not in tables:
            self._refuse_foreign(tables & set(TABLES))
            return 0
        version, oldest_writer = self.run("schema_version").fetchone()
        if not isinstance(oldest_writer, int):
            raise SchemaVersionError(f"{self.path}: its table schema_versions is damaged: {oldest_writer!r:.100}")
        if oldest_writer > known:
            raise SchemaVersionError(
                f"{self.path} has schema {version}, which a newer Perdure wrote. It asks for a library that knows "
                f"schema {oldest_writer}; this one knows up to {known}. Nothing was changed: upgrade perdure"
            )
        return int(version)

    def _refuse_foreign(self, tables: set[str]) -> None:
        if tables:
            raise SchemaVersionError(f"{self.path} has tables of these names that are not Perdure's: {sorted(tables)}")

    def _apply(self, migration: Migration, clock: Clock) -> None:
        for statement in migration.statements:
            self.connection.execute(statement)
        self.run("record_version", (migration.version, to_text(clock.now()), migration.oldest_writer))


class Translating:
    """`with Translating(path):` what sqlite3 raises inside comes out as an error of Perdure's, in words."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, TRANSLATED) and (words := translated(error, self._path)):
            raise words from error


def translated(error: BaseException, path: str) -> PerdureError | None:
    """The error of Perdure's that says this in words; None for what is a defect."""
    if isinstance(error, OverflowError | UnicodeEncodeError | sqlite3.DataError):
        return BadBatchError(f"{path} cannot take this value: {error}")
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Busy(f"{path} is locked by another process; nothing was done")
        case sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_TOOBIG | sqlite3.SQLITE_MISMATCH:
            return BadBatchError(f"{path} refused this: {error}. Nothing of it was recorded")
        case sqlite3.SQLITE_FULL:
            return StoreUnavailableError(f"{path}: the disk, or the database's limit, is full; nothing was recorded")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StoreUnavailableError(f"{path} may not be written by this user; nothing was recorded")
        case sqlite3.SQLITE_IOERR:
            return StoreUnavailableError(f"{path}: the disk reports an error ({error})")
        case sqlite3.SQLITE_CANTOPEN:
            return StoreUnavailableError(f"{path} cannot be opened: {_why_not_opened(path)}")
        case sqlite3.SQLITE_NOTADB:
            return StoreUnavailableError(f"{path} is not an SQLite database; it was left as it is")
        case sqlite3.SQLITE_CORRUPT:
            return StoreUnavailableError(f"{path} is damaged ({error}); restore it from a backup")
        case _:
            return None


def _code(error: BaseException) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _why_not_opened(path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        return f"there is no folder {folder}; create it first"
    if os.path.isdir(path):
        return "it is a folder"
    if not os.access(folder, os.W_OK):
        return f"this user may not write to the folder {folder}, which SQLite needs for its log"
    return "this user has no right to it"


@cache
def warn_of_reset_bug(path: str) -> None:
    """Say once that several processes share a file through an SQLite that can damage it, very rarely."""
    version = sqlite3.sqlite_version_info
    if version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45):
        return
    log.warning(
        "%s is shared by several processes through SQLite %s, which has the WAL-reset bug: two of them that move the "
        "log into the database at one instant can damage it. It is very rare, and only one worker does so regularly; "
        "an SQLite from 3.51.3 on is free of it",
        path,
        sqlite3.sqlite_version,
    )
