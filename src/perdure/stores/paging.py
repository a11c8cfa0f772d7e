"""The cursor of a list: the key of the last row shown, so that new rows neither repeat nor hide others."""

from __future__ import annotations

from perdure.errors import PerdureError
from perdure.records import Execution


def cursor_after(row: Execution) -> str:
    """The cursor that continues behind this row."""
    return f"{row.created_at}/{row.id}"


def read_cursor(cursor: str) -> tuple[int, str]:
    """(created_at, id) of the last row shown. Raises `PerdureError` for what is no cursor."""
    created_at, slash, id = cursor.partition("/")
    if not slash or not created_at.lstrip("-").isdecimal():
        raise PerdureError(f"{cursor!r} is no cursor of a list: pass on the one that the last page gave")
    return int(created_at), id
