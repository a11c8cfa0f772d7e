"""Reads from SQLite: what its owner needs of an execution, and `perdure.store.Insight`.

They take no lock; where another process holds one that they need, they come again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from perdure.clock import Clock, SystemClock
from perdure.errors import DecodeError, StoreUnavailableError
from perdure.records import (
    AuditEvent,
    Counts,
    DecisionRow,
    Dossier,
    Entry,
    Execution,
    Inbox,
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
from perdure.stores.attributes import first_attribute, plain_pairs
from perdure.stores.conditions import composed, conditions, is_tallied, of_prefix, successor, tallied
from perdure.stores.counting import ALL, Lead, Row, count_some, count_tallied, leads
from perdure.stores.patience import Busy, patiently
from perdure.stores.searching import Place, Searcher, places
from perdure.stores.sqlite_damage import DAMAGED, is_time, time_of, time_or_null
from perdure.stores.sqlite_database import Database, Translating, translated
from perdure.stores.sqlite_rows import read_entry, read_records, to_json
from perdure.stores.timestamps import from_text, to_text, to_text_or_null

Result = TypeVar("Result")

LAST_ID = "\U0010ffff"
"""Behind all ids."""


class SqliteReads:
    """The connection, and the verbs that only look."""

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        name = os.fspath(path)
        self.url = f"sqlite:///{name}"
        self.path = os.path.abspath(name)
        self.clock: Clock = clock or SystemClock()
        self._database: Database | None = None

    @property
    def _db(self) -> Database:
        if self._database is None:
            raise StoreUnavailableError(f"{self.path} is not open")
        return self._database

    # Patience -------------------------------------------------------------------------------------

    async def _patiently(self, work: Callable[[], Result]) -> Result:
        return await patiently(self.clock, work)

    async def _transaction(self, work: Callable[[], Result]) -> Result:
        return await patiently(self.clock, lambda: self._db.transaction(work))

    async def _read(self, work: Callable[[], Result]) -> Result:
        def reading() -> Result:
            with Translating(self.path):
                return work()

        return await patiently(self.clock, reading)

    # What an owner needs --------------------------------------------------------------------------

    def _executions(self, ids: Sequence[str]) -> dict[str, Execution]:
        return {row.id: row for row in read_records(Execution, self._db.run("executions", (to_json(ids),)))}

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        entries = await self._entries("load", ids)
        journals: dict[str, list[Entry]] = {id: [] for id in ids}
        for entry in entries:
            journals[entry.execution_id].append(entry)
        return journals

    async def _entries(self, name: str, ids: Sequence[str]) -> list[Entry]:
        try:
            return await self._read(lambda: self._read_entries(name, ids))
        except Busy:
            raise
        except (StoreUnavailableError, sqlite3.Error, ValueError):
            return await self._read(lambda: [entry for id in ids for entry in self._damaged_entries(name, id)])

    def _read_entries(self, name: str, ids: Sequence[str]) -> list[Entry]:
        # All rows first: a cursor that an error's traceback keeps open holds a snapshot, and nothing can be written.
        rows = self._db.run(name, {"ids": to_json(ids)}).fetchall()
        return list(map(read_entry, rows))

    def _damaged_entries(self, name: str, id: str) -> list[Entry]:
        """Damaged text comes with marks in it, for its checksum to find; a journal beyond that is named."""
        connection = self._db.connection
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            return self._read_entries(name, [id])
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(translated(error, self.path), Busy):
                raise
            raise DecodeError(f"the journal of {id!r} cannot be read: {error}", execution_id=id) from error
        finally:
            connection.text_factory = str

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        return await self._read(lambda: self._inbox(to_json(ids)))

    def _inbox(self, ids: str) -> dict[str, Inbox]:
        run = self._db.run
        boxes = {
            row.id: Inbox(row.nudges, row.wish, row.wish_by, row.wish_reason)
            for row in read_records(Execution, run("executions", (ids,)))
        }
        for request in read_records(Request, run("requests_of", (ids,))):
            boxes[request.execution_id].requests.append(request)
        for message in read_records(Message, run("messages_of", (ids,))):
            boxes[message.execution_id].messages.append(message)
        for child in read_records(Execution, run("children", (ids,))):
            if child.parent_id in boxes:
                boxes[child.parent_id].children.append(child)
        return boxes

    async def nudged(self, worker: int) -> dict[str, int]:
        return await self._read(lambda: dict(self._db.run("nudged", (worker,)).fetchall()))

    # Insight --------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        return await self._read(lambda: self._executions(ids))

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        values = _values(query)
        if is_tallied(query):
            most = ALL if at_most is None else at_most
            return count_tallied(await self._rows("count_tallied", tallied(query), values | {"most": most + 1}), most)
        if at_most is None:
            return Counts(await self._rows("count_executions", conditions(query), values))

        async def look(lead: Lead, most: int) -> list[Row]:
            return await self._rows(lead.name, lead.names, values | {"most": most}, lead.others)

        return await count_some(leads(query), at_most, look)

    async def history(self, execution_id: str) -> list[Entry]:
        return await self._entries("history", [execution_id])

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        values = {"id": execution_id, "after": after, "kinds": to_json(kinds), "limit": limit}
        return await self._read(lambda: [_readable(row) for row in self._db.run("tail", values).fetchall()])

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        values = {"id": execution_id, "key": key}
        row = await self._read(lambda: self._db.run("latest", values).fetchone())
        return None if row is None else _readable(row)

    async def tallies(self) -> list[Tally]:
        rows = await self._read(lambda: self._db.run("tallies").fetchall())
        return [
            Tally(workflow, queue, status, number, time_or_null(oldest))
            for workflow, queue, status, number, oldest in rows
        ]

    async def schedules(self) -> list[Schedule]:
        return await self._read(lambda: read_records(Schedule, self._db.run("schedules")))

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        values: dict[str, Any] = {"status": status, "limit": limit}
        name = "all_requests"
        if ids or execution_ids:
            name = "some_requests"
            values |= {"ids": to_json(ids), "execution_ids": to_json(execution_ids)}
        return await self._read(lambda: read_records(Request, self._db.run(name, values)))

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        return await self._read(lambda: self._dossiers(to_json(ids), snapshots))

    def _dossiers(self, ids: str, snapshots: bool) -> dict[str, Dossier]:
        run = self._db.run
        found = {row.id: Dossier() for row in read_records(Execution, run("executions", (ids,)))}
        ids = to_json(found)
        requests = {row.id: row.execution_id for row in read_records(Request, run("requests_of", (ids,)))}
        for decision in read_records(DecisionRow, run("decisions_of", (ids,))):
            found[requests[decision.request_id]].decisions.append(decision)
        for event in read_records(AuditEvent, run("events_of", (ids,))):
            found[event.execution_id].events.append(event)
        for action in read_records(RollbackAction, run("actions_of", (ids,))):
            found[action.execution_id].actions.append(action)
        for snapshot in read_records(Snapshot, run("snapshots_of", (ids,))) if snapshots else ():
            found[snapshot.execution_id].snapshots.append(snapshot)
        return found

    async def tree(self, execution_id: str) -> list[Execution]:
        return await self._read(lambda: read_records(Execution, self._db.run("tree", (execution_id,))))

    async def workers(self) -> list[WorkerRecord]:
        return await self._read(lambda: read_records(WorkerRecord, self._db.run("workers")))

    async def _rows(
        self, name: str, names: Sequence[str], values: dict[str, Any], compared: Sequence[str] = ()
    ) -> list[Any]:
        return await self._read(lambda: self._asked(name, names, values, compared).fetchall())

    def _asked(
        self, name: str, names: Sequence[str], values: dict[str, Any], compared: Sequence[str] = ()
    ) -> sqlite3.Cursor:
        return self._db.connection.execute(composed(self._db.sql, name, names, compared), values)

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        values = _values(query)

        async def many(condition: str, most: int) -> bool:
            ((number,),) = await self._rows(f"many_{condition}", of_prefix(query), values | {"most": most + 1})
            return bool(number > most)

        async def behind(name: str, names: Sequence[str], place: Place | None, steps: int) -> Place | None:
            found = await self._rows(name, names, values | places(place, None, to_text) | {"steps": steps - 1})
            return _beside(found[0][0], found[0][1], query.order) if found else None

        async def early() -> bool:
            ((found,),) = await self._rows("any_early", [], values)
            return bool(found)

        search = await Searcher(many, behind, early).search(query, cursor)
        values |= places(search.place, search.end, to_text) | {"limit": limit + 1}
        rows = await self._read(lambda: read_records(Execution, self._asked(search.name, search.names, values)))
        page = search.page(rows, limit)
        if page.cursor is not None and page.items and page.items[-1].checksum == DAMAGED:
            id = page.items[-1].id
            at, id = _beside(await self._read(lambda: self._db.value("made_at", (id,))), id, query.order)
            return Page(page.items, f"{at}/{id}")
        return page


def _readable(row: Any) -> Entry:
    try:
        return read_entry(row)
    except ValueError as error:
        raise DecodeError(f"the journal of {row[0]!r} cannot be read: {error}", execution_id=row[0]) from error


def _beside(cell: Any, id: str, order: str) -> Place:
    """Where a list goes on behind an execution that was made then, if that is a time; else next to it."""
    if is_time(cell):
        return from_text(cell), id
    return (time_of(cell) + 1, "") if order == "oldest" else (time_of(cell), LAST_ID)


def _values(query: Query) -> dict[str, Any]:
    return {
        "status": to_json(query.status),
        "one_status": query.status[0] if query.status else None,
        "workflow": query.workflow,
        "version": query.version,
        "parent": query.parent,
        "by": query.by,
        "prefix": query.id_prefix,
        "prefix_end": successor(query.id_prefix or ""),
        "since": to_text_or_null(query.since),
        "until": to_text_or_null(query.until),
        "queue": query.queue,
        "attributes": to_json(plain_pairs(query.attributes)) if query.attributes else None,
        "first_attribute": first_attribute(query),
        "text": query.text,
        "ended_before": to_text_or_null(query.ended_before),
    }
