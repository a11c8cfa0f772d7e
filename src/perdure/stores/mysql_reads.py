"""The reads of MariaDB and MySQL for the command line and pages (`perdure.store.Insight`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from perdure.clock import from_datetime
from perdure.records import (
    ENDED,
    AuditEvent,
    DecisionRow,
    Dossier,
    Entry,
    Execution,
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
from perdure.stores.columns import read_entries, read_records
from perdure.stores.conditions import composed, conditions, page_name, successor
from perdure.stores.mysql_columns import filled, some, time, time_or_null
from perdure.stores.mysql_sessions import Pool, Result
from perdure.stores.paging import cursor_after, read_cursor

LARGEST_PAGE = 1000


class MysqlReads:
    """Reads through a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        rows = (await self._pool.ask("get_executions", ids=some(ids))).rows
        return {row.id: row for row in read_records(Execution, rows)}

    async def count(self, query: Query) -> dict[str, int]:
        if not _needs_a_look(query):
            found = await self._asked("count_executions", conditions(query), _values(query))
            return {row[0]: row[1] for row in found.tuples}
        rows = (await self._asked("candidates", conditions(query), _values(query))).rows
        return dict(Counter(row["status"] for row in rows if _matches(row, query)))

    async def history(self, execution_id: str) -> list[Entry]:
        return read_entries((await self._pool.ask("history", id=execution_id)).tuples)

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        found = await self._pool.ask("tail", id=execution_id, after=after, kinds=some(kinds), limit=limit)
        return read_entries(found.tuples)

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        found = read_entries((await self._pool.ask("latest", id=execution_id, key=key)).tuples)
        return found[0] if found else None

    async def tallies(self) -> list[Tally]:
        rows = (await self._pool.ask("tallies")).rows
        return [
            Tally(row["workflow"], row["queue"], row["status"], row["number"], from_datetime(row["oldest"]))
            for row in rows
        ]

    async def schedules(self) -> list[Schedule]:
        return read_records(Schedule, (await self._pool.ask("schedules")).rows)

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        found = await self._pool.ask(
            "get_requests",
            all=not (ids or execution_ids),
            ids=some(ids),
            execution_ids=some(execution_ids),
            status=status,
            limit=limit,
        )
        return read_records(Request, found.rows)

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        ask, these = self._pool.ask, some(ids)
        found = {row["id"]: Dossier() for row in (await ask("known", ids=these)).rows}
        decisions = (await ask("dossier_decisions", ids=these)).rows
        for row, decision in zip(decisions, read_records(DecisionRow, decisions), strict=True):
            found[row["of_execution"]].decisions.append(decision)
        for event in read_records(AuditEvent, (await ask("dossier_events", ids=these)).rows):
            found[event.execution_id].events.append(event)
        for action in read_records(RollbackAction, (await ask("dossier_actions", ids=these)).rows):
            found[action.execution_id].actions.append(action)
        for state in read_records(Snapshot, (await ask("dossier_snapshots", ids=these)).rows if snapshots else ()):
            found[state.execution_id].snapshots.append(state)
        return found

    async def tree(self, execution_id: str) -> list[Execution]:
        found: list[Execution] = []
        level = [execution_id]
        while level:  # one round trip a level: servers bound the depth of a recursive query
            children = read_records(Execution, (await self._pool.ask("children", ids=level)).rows)
            level = [row.id for row in children]
            found += [row for row in children if row.status not in ENDED]
        return found

    async def workers(self) -> list[WorkerRecord]:
        return read_records(WorkerRecord, (await self._pool.ask("get_workers")).rows)

    async def _page(self, query: Query, size: int, place: tuple[int, str] | None) -> list[Execution]:
        names, values = conditions(query), _values(query) | {"limit": size}
        oldest = query.order == "oldest"
        if place is not None:
            values |= {"at": time(place[0]), "after": place[1]}
            names.append("where_newer" if oldest else "where_older")
        found = await self._asked(page_name(query, by_end=True), names, values)
        return read_records(Execution, found.rows)

    async def _asked(self, name: str, names: Sequence[str], values: dict[str, Any]) -> Result:
        return (await self._pool.run(filled(composed(self._pool.sql.named, name, names), **values)))[0]

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        rows: list[Execution] = []
        place = None if cursor is None else read_cursor(cursor)
        while len(rows) <= limit:
            size = min(limit + 1 - len(rows), LARGEST_PAGE) if not _needs_a_look(query) else LARGEST_PAGE
            found = await self._page(query, size, place)
            rows += [row for row in found if not _needs_a_look(query) or _matches(_as_seen(row), query)]
            if len(found) < size:
                break
            place = found[-1].created_at, found[-1].id
        return Page(rows[:limit], cursor_after(rows[limit - 1]) if len(rows) > limit else None)


def _values(query: Query) -> dict[str, Any]:
    return {
        "status": some(query.status),
        "one_status": query.status[0] if query.status else None,
        "workflow": query.workflow,
        "version": query.version,
        "parent": query.parent,
        "by": query.by,
        "prefix": query.id_prefix,
        "prefix_end": successor(query.id_prefix or ""),
        "since": time_or_null(query.since),
        "until": time_or_null(query.until),
        "queue": query.queue,
        "text": query.text,
        "ended_before": time_or_null(query.ended_before),
    }


def _needs_a_look(query: Query) -> bool:
    """The server lets more through: JSON is not compared as text there, and letters beyond ASCII are folded, too."""
    return bool(query.attributes) or query.text is not None


def _as_seen(row: Execution) -> dict[str, Any]:
    names = ("id", "workflow", "reason", "started_by", "attributes")
    return {name: getattr(row, name) for name in names}


def _matches(row: dict[str, Any], query: Query) -> bool:
    if query.attributes and not has_attributes(row["attributes"], plain_pairs(query.attributes)):
        return False
    if query.text is None:
        return True
    text = _lower(query.text)
    return any(text in _lower(row[name] or "") for name in ("id", "workflow", "reason", "started_by"))


_ASCII = {ord(letter): ord(letter) + 32 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def _lower(text: str) -> str:
    return text.translate(_ASCII)
