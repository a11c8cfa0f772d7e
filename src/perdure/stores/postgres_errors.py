"""What PostgreSQL and its driver raise, sorted, in this one place, into Perdure's errors.

Transient (the connection, a deadlock, a server that stops or is full): `StoreUnavailableError`, and the caller tries
again; where the answer to a delivery was lost, the delivery may have been made, and repeating it does no harm. At a
commit whose answer is missing: `CommitUnknownError`. What a value or a duplicate caused: `BadBatchError`. Tables that
are not as this library knows them: `SchemaVersionError`. Rows that the server cannot read: `DecodeError`.
"""

from __future__ import annotations

import asyncpg

from perdure.errors import (
    BadBatchError,
    CommitUnknownError,
    DecodeError,
    PerdureError,
    SchemaVersionError,
    StoreUnavailableError,
)
from perdure.stores.reaching import network_reason

# Whatever these raise is answered here; all else is a defect and passes.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

# The server says that it stops: a commit just made may be unanswered. 40003: it does not know itself.
_UNANSWERED = ("08", "57P01", "57P02", "57P03", "40003")
_BROKEN_STATEMENTS = ("26000", "42P05")  # prepared in another session: a pooler shares sessions out by transaction
_ELSEWHERE = ("25006",)  # a server that writes may be reached by a new connection
_MISSING = ("42P01", "42703", "42883", "3F000")
_DAMAGED = ("XX001", "XX002")
_REASONS = {
    "28000": "the login was refused",
    "28P01": "the password is wrong, or missing",
    "3D000": "there is no such database: `perdure db init --create` makes it",
    "42501": "this user lacks the rights",
    "25006": "this server is read-only: a standby, or set so",
    "53100": "the disk is full",
    "53300": "it has no connection left",
    "40P01": "a deadlock was resolved against us",
    "40001": "another transaction was in the way",
    "55P03": "a lock was not to be had in time",
    "57014": "the statement was cancelled",
    "57P01": "it is shutting down",
    "57P03": "it is starting up",
}


def sort_error(error: BaseException, place: str) -> PerdureError:
    """The error of Perdure's for one of `DRIVER_ERRORS`. `place` is the URL without its password."""
    code = _code(error)
    if code in _MISSING:
        return SchemaVersionError(
            f"{place}: Perdure's tables are not here, or not as this version knows them ({_says(error)}). "
            "Nothing was done. Run `perdure db upgrade`"
        )
    if code in _BROKEN_STATEMENTS:
        return StoreUnavailableError(
            f"{place}: prepared statements get lost on the way, as behind a pooler in transaction mode. "
            "Nothing was done. Add ?statement_cache_size=0 to the URL"
        )
    if code[:2] in ("22", "23", "54") or isinstance(error, UnicodeError):
        return BadBatchError(f"{place} refused a value: {_says(error)}. Nothing was recorded")
    if code in _DAMAGED:
        return DecodeError(f"{place} holds a damaged row: {_says(error)}. Restore it from a backup")
    if code.startswith("42") and code not in _REASONS:
        return PerdureError(f"{place}: {_says(error)}. This is a defect of Perdure: please report it")
    return StoreUnavailableError(f"{place} cannot be reached, or refuses to work: {_reason(error)}")


def sort_commit_error(error: BaseException, place: str) -> PerdureError:
    """The same for a commit that was sent: where no answer came, nobody knows whether it is recorded."""
    code = _code(error)
    if not isinstance(error, asyncpg.PostgresError):
        # The driver looks at the connection, and at the values, before it writes: nothing was sent. Or what broke was
        # a transaction of several statements before its COMMIT was sent, which the server then rolls back.
        unsent = isinstance(error, asyncpg.InterfaceError | UnicodeError)
        return sort_error(error, place) if unsent else _unknown(error, place)
    if code.startswith(_UNANSWERED):
        return _unknown(error, place)
    if code == "23505":
        return BadBatchError(f"{place}: an entry of this batch is recorded already; nothing of the batch was")
    if code[:2] in ("25", "26", "28", "40", "42", "53", "55", "57", "58"):
        return sort_error(error, place)
    return BadBatchError(f"{place} refused a batch: {_says(error)}. Nothing of it was recorded")


def is_elsewhere(error: BaseException) -> bool:
    """This server will not serve us any more, as after a failover: only a new connection finds the one that does."""
    return _code(error) in _ELSEWHERE


def _unknown(error: BaseException, place: str) -> CommitUnknownError:
    return CommitUnknownError(
        f"{place}: the connection broke at a commit ({_reason(error)}). The batch may be recorded or not: settle tells"
    )


def _code(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def _reason(error: BaseException) -> str:
    return _REASONS.get(_code(error)) or network_reason(error) or _says(error)


def _says(error: BaseException) -> str:
    if isinstance(error, asyncpg.DataError) and getattr(error, "severity", None) is None:
        return "a value does not fit its column"  # the driver's own words would show the value
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).strip().rstrip(".") or type(error).__name__
