"""Executions as parcels: their rows as plain values, table by table, the same from every database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from perdure.errors import BadBatchError
from perdure.records import Parcel, Plain

OF_EXECUTIONS = (
    "workflow_executions",
    "step_executions",
    "state_snapshots",
    "approval_requests",
    "approval_decisions",
    "rollback_actions",
    "audit_events",
    "messages",
    "payload_chunks",
)
"""The tables whose rows belong to one execution each."""

OF_NONE = ("workflow_definitions", "schedules")
"""Those that belong to none, and go with the first parcel, whose id is ''."""

MOVED = 1_000_000_000
"""The number of the schema of a database whose executions were moved away: no library knows it, so none opens it."""

PART = 4 << 20
"""Characters that one statement of `unpack` takes, or else one row."""

Row = dict[str, Plain]


def tables_of(id: str | None) -> Sequence[str]:
    return OF_NONE if id == "" else OF_EXECUTIONS


def is_time(column: str) -> bool:
    """Whether it is a timestamp: an integer in a parcel."""
    return column.endswith("_at")


def group(ids: Sequence[str], found: Mapping[str, Iterable[Row]]) -> list[Parcel]:
    """Rows of tables, which say by `of_execution` whose they are, as parcels in the order of the ids."""
    parcels = {id: Parcel(id, {}) for id in ids}
    for table, rows in found.items():
        for row in rows:
            if (parcel := parcels.get(str(row.pop("of_execution")))) is not None:
                parcel.rows.setdefault(table, []).append(row)
    # An execution without its row is none: it was removed, or never there.
    return [parcel for id, parcel in parcels.items() if id == "" or "workflow_executions" in parcel.rows]


def refuse_unknown(parcels: Sequence[Parcel], known: Collection[str] = (*OF_EXECUTIONS, *OF_NONE)) -> None:
    """Raises `BadBatchError` for rows that this store has no table for."""
    for parcel in parcels:
        for table in parcel.rows:
            if parcel.rows[table] and table not in known:
                raise BadBatchError(f"this store keeps no {table}, which {parcel.id!r} has; nothing was kept")


def spread(parcels: Sequence[Parcel]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of parcels by table, in parts that a statement can take."""
    for table in (*OF_EXECUTIONS, *OF_NONE):
        part: list[Row] = []
        size = 0
        for row in (row for parcel in parcels for row in parcel.rows.get(table, ())):
            part.append(row)
            size += sum(len(value) for value in row.values() if isinstance(value, str)) + 200
            if size >= PART:
                yield table, part
                part, size = [], 0
        if part:
            yield table, part


def shared(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Of a database's columns, those that these rows have."""
    return [column for column in columns if column in rows[0]]


def moved_words(place: str, target: str) -> str:
    """What is said to whoever opens a database that is marked."""
    return (
        f"the executions of {place} were moved to {target}, or are about to be: here nothing is run or changed any "
        f"more, and nothing was deleted. Use {target}; if the move was not completed, run it again; to use this one "
        f"after all, `perdure move --reopen {place}`"
    )
