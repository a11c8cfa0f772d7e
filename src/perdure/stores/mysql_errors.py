"""What MariaDB, MySQL and the driver raise, sorted, in this one place, into Perdure's errors.

Transient (the connection, a deadlock, a lock not had in time, a server that stops, is full or is read-only):
`StoreUnavailableError`, and the caller tries again; where the answer to a delivery was lost, the delivery may have been
made, and repeating it does no harm. At a commit whose answer is missing: `CommitUnknownError`. What a value or a
duplicate caused: `BadBatchError`. Tables that are not as this library knows them: `SchemaVersionError`. Rows that the
server cannot read: `DecodeError`.
"""

from __future__ import annotations

import asyncmy.errors

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
DRIVER_ERRORS: tuple[type[BaseException], ...] = (asyncmy.errors.MySQLError, OSError, EOFError, TimeoutError)

DUPLICATE = 1062
NOT_NULL = 1048
DEADLOCK = 1213
# A statement that makes what a killed migration made already.
ALREADY_MADE = (1050, 1060, 1061)

# The client's own: nothing was sent. 2002 to 2005: not reached; 0: closed before; 2006: found closed at the write.
_UNSENT = (0, 2002, 2003, 2004, 2005, 2006)
# The server gives up in the middle: a commit just made may be unanswered.
_UNANSWERED = (1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1180, 1184, 1317, 1927, 3169)
# A server that writes may be reached by a new connection: read-only, or a node outside of its cluster.
_ELSEWHERE = (1047, 1290, 1792, 1836)
_MISSING = (1054, 1146)
_DAMAGED = (1034, 1194, 1195, 1712, 1877, 1932)
_REFUSED = (
    *(1022, 1048, 1062, 1071, 1118, 1153, 1162, 1230, 1264, 1265, 1292, 1301, 1364, 1366, 1406, 1411, 1441),
    *(1525, 1586, 1690, 1713, 3140, 3141, 3819, 4025),
)
_DEFECTS = (1064, 1093, 1136, 1210, 1222, 1242, 1267, 1271, 1305, 1327)
_REASONS = {
    1020: "another transaction was in the way",
    1021: "the disk is full",
    1040: "it has no connection left",
    1041: "it is out of memory",
    1044: "this user lacks the rights",
    1045: "the login was refused",
    1047: "this node is not part of its cluster",
    1049: "there is no such database: `perdure db init --create` makes it",
    1053: "it is shutting down",
    1114: "a table is full",
    1129: "it blocks this host after too many failed connections",
    1130: "this host may not connect",
    1142: "this user lacks the rights",
    1143: "this user lacks the rights",
    1203: "this user has no connection left",
    1205: "a lock was not to be had in time",
    1213: "a deadlock was resolved against us",
    1226: "this user has used up what it may use",
    1227: "this user lacks the rights",
    1290: "this server is read-only: a replica, or set so",
    1698: "the login was refused",
    1792: "this server is read-only: a replica, or set so",
    1836: "this server is read-only: a replica, or set so",
    1969: "the statement took too long",
    3024: "the statement took too long",
}


def sort_error(error: BaseException, place: str) -> PerdureError:
    """The error of Perdure's for one of `DRIVER_ERRORS`. `place` is the URL without its password."""
    code = error_code(error)
    if code in _MISSING:
        return SchemaVersionError(
            f"{place}: Perdure's tables are not here, or not as this version knows them ({_says(error)}). "
            "Nothing was done. Run `perdure db upgrade`"
        )
    if code in _REFUSED:
        return BadBatchError(f"{place} refused a value: {_says(error)}. Nothing was recorded")
    if code in _DAMAGED:
        return DecodeError(f"{place} holds a damaged row: {_says(error)}. Restore it from a backup")
    if code in _DEFECTS:
        return PerdureError(f"{place}: {_says(error)}. This is a defect of Perdure: please report it")
    return StoreUnavailableError(f"{place} cannot be reached, or refuses to work: {_reason(error)}")


def sort_commit_error(error: BaseException, place: str) -> PerdureError:
    """The same for a commit that was sent: where no answer came, nobody knows whether it is recorded."""
    code = error_code(error)
    if code in _UNANSWERED or (code not in _UNSENT and not is_answered(error)):
        return CommitUnknownError(
            f"{place}: the connection broke at a commit ({_reason(error)}). "
            "The batch may be recorded or not: settle tells"
        )
    if code == DUPLICATE:
        return BadBatchError(f"{place}: an entry of this batch is recorded already; nothing of the batch was")
    return sort_error(error, place)


def is_elsewhere(error: BaseException) -> bool:
    """This server will not serve us any more, as after a failover: only a new connection finds the one that does."""
    return error_code(error) in _ELSEWHERE


def error_code(error: BaseException) -> int | None:
    """The number that server or driver gave it."""
    if isinstance(error, asyncmy.errors.MySQLError) and error.args and type(error.args[0]) is int:
        return error.args[0]
    return None


def is_answered(error: BaseException) -> bool:
    """The server said so itself: the connection is whole, and the statement was not carried out."""
    code = error_code(error)
    return code is not None and not 2000 <= code < 3000 and code != 0 and code not in _UNANSWERED


def _reason(error: BaseException) -> str:
    return _REASONS.get(error_code(error) or 0) or network_reason(error) or _says(error)


def _says(error: BaseException) -> str:
    code = error_code(error)
    if code in (DUPLICATE, 1264, 1265, 1292, 1366, 1406, 1411, 1525):
        return "a value does not fit its column, or is there already"  # the server's own words would show the value
    if isinstance(error, TimeoutError):
        return "no answer in time"
    words = str(error.args[-1]) if isinstance(error, asyncmy.errors.MySQLError) and error.args else str(error)
    return words.strip().rstrip(".") or type(error).__name__
