"""How the memory store takes part in a move: see `perdure.store.Movable`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict, fields
from typing import Any

from perdure.errors import BadBatchError
from perdure.records import (
    AuditEvent,
    DecisionRow,
    Entry,
    Execution,
    Message,
    Parcel,
    Plain,
    Request,
    RollbackAction,
    Schedule,
    Snapshot,
    Status,
)
from perdure.stores.memory_rows import MemoryRows
from perdure.stores.parcels import refuse_unknown

KINDS: dict[str, Any] = {
    "workflow_executions": Execution,
    "step_executions": Entry,
    "approval_requests": Request,
    "approval_decisions": DecisionRow,
    "audit_events": AuditEvent,
    "rollback_actions": RollbackAction,
    "state_snapshots": Snapshot,
    "messages": Message,
    "schedules": Schedule,
}
"""What is kept here, by the names of the tables."""


class MemoryMoves(MemoryRows):
    """The verbs of a move."""

    even_if_moved = False
    _moved_to: str | None = None

    async def mark_moved(self, to: str | None) -> None:
        self._moved_to = to

    async def moved_to(self) -> str | None:
        return self._moved_to

    async def ids(self, after: str, limit: int) -> Sequence[str]:
        return sorted(id for id in self._executions if id > after)[:limit]

    async def pack(self, ids: Sequence[str]) -> Sequence[Parcel]:
        return [Parcel(id, self._rows(id)) for id in dict.fromkeys(ids) if id == "" or id in self._executions]

    def _rows(self, id: str) -> dict[str, list[dict[str, Plain]]]:
        dossier = self._dossier(id, True)
        rows: dict[str, Iterable[Any]] = {
            "workflow_executions": [self._executions[id]] if id else [],
            "step_executions": self._journal(id),
            "approval_requests": sorted(self._asked.get(id, ()), key=lambda request: request.id),
            "approval_decisions": dossier.decisions,
            "audit_events": dossier.events,
            "rollback_actions": sorted(dossier.actions, key=lambda action: (action.generation, action.seq)),
            "state_snapshots": dossier.snapshots,
            "messages": sorted(self._posted.get(id, ()), key=lambda message: message.id),
            "schedules": [] if id else [self._schedules[name] for name in sorted(self._schedules)],
        }
        return {table: [_plain(row) for row in found] for table, found in rows.items() if found}

    async def unpack(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        refuse_unknown(parcels, {*KINDS, "workflow_definitions"})
        new = [parcel for parcel in parcels if parcel.id not in self._executions]
        made = [(table, row) for parcel in new for table, rows in parcel.rows.items() for row in rows if table in KINDS]
        self._refuse_twice(made)
        for table, row in made:
            self._place_row(table, row)
        self._signal.fire()
        return [parcel.id for parcel in new if parcel.id]

    def _refuse_twice(self, made: Sequence[tuple[str, dict[str, Plain]]]) -> None:
        seen: set[object] = {("approval_requests", id) for id in self._requests}
        seen |= {("messages", id) for id in self._messages}
        for table, row in made:
            place = (table, row["execution_id"], row["seq"]) if table == "step_executions" else (table, row.get("id"))
            if place in seen and place[1] is not None:
                raise BadBatchError(f"{place[1]!r} is there already, in {table}; nothing was kept")
            seen.add(place)

    def _place_row(self, table: str, row: dict[str, Plain]) -> None:
        match made := _record(KINDS[table], row):
            case Entry():
                self._journals.setdefault(made.execution_id, {})[made.seq] = made
            case Schedule():
                if made.name not in self._schedules:
                    self._schedules[made.name] = made
            case _:
                self._keep(made)


def _plain(row: Any) -> dict[str, Plain]:
    values = row._asdict() if isinstance(row, Entry) else asdict(copy(row))
    return {
        name: str(value) if isinstance(value, Status) else int(value) if isinstance(value, bool) else value
        for name, value in values.items()
    }


def _record(kind: Any, row: dict[str, Plain]) -> Any:
    names = kind._fields if kind is Entry else [field.name for field in fields(kind)]
    values: dict[str, Any] = {name: row[name] for name in names if name in row}
    if kind is Execution:
        values["status"] = Status(values["status"])
    if kind is Schedule:
        values |= {"backfill": bool(values["backfill"]), "paused": bool(values["paused"])}
    return kind(**values)
