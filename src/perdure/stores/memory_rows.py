"""What the memory store holds, and the reads of it (`perdure.store.Insight`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import TypeVar

from perdure.clock import Clock, SystemClock
from perdure.records import (
    ENDED,
    AuditEvent,
    Counts,
    DecisionRow,
    Dossier,
    Entry,
    Execution,
    Message,
    Page,
    Query,
    Request,
    RollbackAction,
    Schedule,
    Snapshot,
    Tally,
    WorkerRecord,
)
from perdure.stores.attributes import has_attributes, plain_pairs
from perdure.stores.paging import cursor_after, read_cursor
from perdure.stores.signal import Signal

Row = TypeVar("Row", Execution, Request)
Kept = Execution | Request | Message | DecisionRow | AuditEvent | RollbackAction | Snapshot


class MemoryRows:
    """Dictionaries of rows. Reads give copies."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self._executions: dict[str, Execution] = {}
        self._journals: dict[str, dict[int, Entry]] = {}
        self._requests: dict[str, Request] = {}
        self._messages: dict[str, Message] = {}
        # The same rows by execution, and the children by parent.
        self._asked: defaultdict[str, list[Request]] = defaultdict(list)
        self._posted: defaultdict[str, list[Message]] = defaultdict(list)
        self._decisions: defaultdict[str, list[DecisionRow]] = defaultdict(list)
        self._events: defaultdict[str, list[AuditEvent]] = defaultdict(list)
        self._actions: defaultdict[str, list[RollbackAction]] = defaultdict(list)
        self._snapshots: defaultdict[str, list[Snapshot]] = defaultdict(list)
        self._below: defaultdict[str, list[str]] = defaultdict(list)
        self._workers: dict[int, WorkerRecord] = {}
        self._schedules: dict[str, Schedule] = {}
        self._signal = Signal()

    def _keep(self, row: Kept) -> None:
        """Place a new row, also where it is looked up by its execution or its parent."""
        match row:
            case Execution():
                self._executions[row.id] = row
                if row.parent_id is not None:
                    self._below[row.parent_id].append(row.id)
            case Request():
                self._requests[row.id] = row
                self._asked[row.execution_id].append(row)
            case Message():
                self._messages[row.id] = row
                self._posted[row.execution_id].append(row)
            case DecisionRow():
                self._decisions[row.execution_id].append(row)
            case AuditEvent():
                self._events[row.execution_id].append(row)
            case RollbackAction():
                known = self._actions[row.execution_id]
                known[:] = [a for a in known if (a.generation, a.seq) != (row.generation, row.seq)] + [row]
            case Snapshot():
                states = self._snapshots[row.execution_id]
                if all(_place_of(other) != _place_of(row) for other in states[-8:]):  # a batch may come again
                    states.append(row)

    def _drop_dossier(self, id: str) -> None:
        for rows in (self._decisions, self._events, self._actions, self._snapshots):
            rows.pop(id, None)

    def _journal(self, id: str) -> list[Entry]:
        return sorted(self._journals.get(id, {}).values(), key=lambda entry: entry.seq)

    def _children(self, id: str) -> list[Execution]:
        return [self._executions[child] for child in self._below.get(id, ())]

    def _stands(self, worker: int, epoch: int) -> bool:
        row = self._workers.get(worker)
        return row is not None and row.state == "live" and row.epoch == epoch

    def _is_dead(self, worker: int | None) -> bool:
        return worker is None or worker not in self._workers or self._workers[worker].state != "live"

    # Insight --------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        return {id: copy(self._executions[id]) for id in ids if id in self._executions}

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        counts = Counts()
        for row in self._matching(query):
            counts[row.status.value] = counts.get(row.status.value, 0) + 1
        return counts

    def _matching(self, query: Query) -> Iterable[Execution]:
        wanted = plain_pairs(query.attributes)
        return (
            row
            for row in self._executions.values()
            if (not query.status or row.status in query.status)
            and query.workflow in (None, row.workflow)
            and query.version in (None, row.version)
            and query.parent in (None, row.parent_id)
            and query.by in (None, row.started_by)
            and row.id.startswith(query.id_prefix or "")
            and (query.since is None or row.created_at >= query.since)
            and (query.until is None or row.created_at < query.until)
            and query.queue in (None, row.queue)
            and (query.ended_before is None or (row.ended_at is not None and row.ended_at < query.ended_before))
            and (not wanted or has_attributes(row.attributes, wanted))
            and (query.text is None or _mentions(row, query.text))
        )

    async def history(self, execution_id: str) -> list[Entry]:
        return self._journal(execution_id)

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        return [e for e in self._journal(execution_id) if e.seq > after and e.kind in kinds][:limit]

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        return next((e for e in reversed(self._journal(execution_id)) if e.key == key), None)

    async def tallies(self) -> list[Tally]:
        found: dict[tuple[str, str, str], Tally] = {}
        for row in sorted(self._executions.values(), key=_age):
            place = row.workflow, row.queue, row.status.value
            known = found.get(place) or Tally(*place, 0, None if row.status in ENDED else row.created_at)
            found[place] = replace(known, number=known.number + 1)
        return [found[place] for place in sorted(found)]

    async def schedules(self) -> list[Schedule]:
        return [copy(self._schedules[name]) for name in sorted(self._schedules)]

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        named = {i: self._requests[i] for i in ids if i in self._requests}
        named |= {request.id: request for execution in execution_ids for request in self._asked.get(execution, ())}
        wanted = named if ids or execution_ids else self._requests
        return oldest_first(request for request in wanted.values() if status in (None, request.status))[:limit]

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        return {id: self._dossier(id, snapshots) for id in ids if id in self._executions}

    def _dossier(self, id: str, snapshots: bool) -> Dossier:
        decisions, actions = self._decisions.get(id, ()), self._actions.get(id, ())
        return Dossier(
            [copy(row) for row in sorted(decisions, key=lambda row: (row.request_id, row.ordinal))],
            [copy(row) for row in self._events.get(id, ())],
            [copy(row) for row in sorted(actions, key=lambda row: (row.generation, -row.seq))],
            sorted((copy(row) for row in self._snapshots.get(id, ())), key=_place_of) if snapshots else [],
        )

    async def tree(self, execution_id: str) -> list[Execution]:
        found, heads = [], [execution_id]
        for head in heads:
            children = self._children(head)
            heads += [row.id for row in children]
            found += [copy(row) for row in children if row.status not in ENDED]
        return found

    async def workers(self) -> list[WorkerRecord]:
        owners = {row.owner for row in self._executions.values()}
        return [copy(row) for row in self._workers.values() if row.state == "live" or row.id in owners]

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        newest = query.order != "oldest"
        rows = sorted(self._matching(query), key=_age, reverse=newest)
        if cursor is not None:
            last = read_cursor(cursor)
            rows = [row for row in rows if (_age(row) < last if newest else _age(row) > last)]
        items = [copy(row) for row in rows[:limit]]
        return Page(items, cursor_after(items[-1]) if len(rows) > limit else None)


def _age(row: Execution | Request) -> tuple[int, str]:
    return row.created_at, row.id


def oldest_first(rows: Iterable[Row]) -> list[Row]:
    """Copies of rows, by age."""
    return sorted((copy(row) for row in rows), key=_age)


def _mentions(row: Execution, text: str) -> bool:
    places = (row.id, row.workflow, row.reason or "", row.started_by or "")
    return any(_lower(text) in _lower(place) for place in places)


def _lower(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def _place_of(row: Snapshot) -> tuple[int, str]:
    return row.seq, row.branch
