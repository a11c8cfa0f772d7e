"""The reads of MariaDB and MySQL for the command line and pages (`perdure.store.Insight`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from perdure.clock import from_datetime
from perdure.records import (
    ENDED,
    AuditEvent,
    Counts,
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
from perdure.stores.conditions import composed, conditions, is_tallied, of_prefix, successor, tallied
from perdure.stores.counting import AGE, ALL, Lead, Row, count_some, count_tallied, leads
from perdure.stores.mysql_columns import filled, some, time, time_or_null
from perdure.stores.mysql_sessions import Pool, Result
from perdure.stores.mysql_tallies import Tallies
from perdure.stores.searching import Place, Search, Searcher, places

LARGEST_PAGE = 1000
SHARE = 2
_EXACT = {"where_text": "where_plain_text"}
PROBED = frozenset({"prefix", "ended_before"})


class MysqlReads:
    """Reads through a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tallies = Tallies(pool)

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        rows = (await self._pool.ask("get_executions", ids=some(ids))).rows
        return {row.id: row for row in read_records(Execution, rows)}

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        values, closer = _values(query), _needs_a_look(query)
        if is_tallied(query) and (kept := await self._kept(query, values, at_most)) is not None:
            return kept
        if at_most is None and not closer:
            return Counts((await self._asked("count_executions", conditions(query), values)).tuples)
        if at_most is None:
            rows = (await self._asked("candidates_first", conditions(query), values | {"most": ALL})).rows
            return Counts(Counter(row["status"] for row in rows if _matches(row, query)))

        async def look(lead: Lead, most: int) -> list[Row]:
            if set(lead.names) <= set(AGE) and not lead.others:
                return await self._by_age(lead, values, most)
            if not closer:
                found = await self._asked(lead.name, lead.names, values | {"most": most}, lead.others)
                return [(status, int(fit), looked) for status, fit, looked in found.tuples]
            name = lead.name.replace("count", "candidates")
            looked = await self._asked("looked_at", lead.names, values | {"most": most})
            rows = (await self._asked(name, lead.names, values | {"most": most}, lead.others)).rows
            fitting = Counter(row["status"] for row in rows if _matches(row, query))
            return [("", 0, looked.value), *((status, number, 0) for status, number in fitting.items())]

        return await count_some(leads(query, by_attributes=False), at_most, look)

    async def _by_age(self, lead: Lead, values: dict[str, Any], most: int) -> list[Row]:
        """How many of the newest there are, by an index that has their statuses: rows take long to be looked up."""
        behind = (await self._asked("behind_newest", lead.names, values | {"steps": most - 1})).tuples
        end = (from_datetime(behind[0][0]), behind[0][1]) if behind else None
        names = [*lead.names, *(["where_to_older"] if end else [])]
        found = await self._asked("count_by_age", names, values | places(None, end, time))
        return [(status, number, number) for status, number in found.tuples]

    async def _kept(self, query: Query, values: dict[str, Any], at_most: int | None) -> Counts | None:
        """What is kept counted, if that is to be believed. Where all may be looked at, it is made so."""
        most = ALL if at_most is None else at_most
        while True:
            found = (await self._asked("count_tallied", tallied(query), values | {"most": most + 1})).tuples
            if all(status for status, *_ in found):
                return count_tallied([(status, int(number), looked) for status, number, looked in found], most)
            if at_most is not None:
                self._tallies.recount_soon()
                return None
            if not await self._tallies.recount():
                return None

    async def history(self, execution_id: str) -> list[Entry]:
        return read_entries((await self._pool.ask("history", id=execution_id)).tuples)

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        found = await self._pool.ask("tail", id=execution_id, after=after, kinds=some(kinds), limit=limit)
        return read_entries(found.tuples)

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        found = read_entries((await self._pool.ask("latest", id=execution_id, key=key)).tuples)
        return found[0] if found else None

    async def tallies(self) -> list[Tally]:
        rows = (await self._pool.ask("kept_tallies")).rows
        while not all(row["status"] for row in rows):
            rows = (await self._pool.ask("kept_tallies" if await self._tallies.recount() else "tallies")).rows
        return [
            Tally(
                row["workflow"],
                row["queue"],
                row["status"],
                int(row["number"]),
                None if row["status"] in ENDED else from_datetime(row["oldest"]),
            )
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
            ids=some(ids, None),  # null: not even an id that is empty
            execution_ids=some(execution_ids, None),
            status=status,
            limit=limit,
        )
        return read_records(Request, found.rows)

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        ask = self._pool.ask
        found = {row["id"]: Dossier() for row in (await ask("known", ids=some(ids, None))).rows}
        these = some(found, None)
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

    async def _asked(
        self, name: str, names: Sequence[str], values: dict[str, Any], compared: Sequence[str] = ()
    ) -> Result:
        if values["is_plain"]:
            names, compared = ([_EXACT.get(part, part) for part in parts] for parts in (names, compared))
        return (await self._pool.run(filled(composed(self._pool.sql.named, name, names, compared), **values)))[0]

    async def _found(self, query: Query, search: Search, most: int) -> list[Execution]:
        """The rows of a page: of what the server finds, what is left by a closer look."""
        if not _needs_a_look(query):
            return await self._part(query, search, search.place, most)
        rows: list[Execution] = []
        place = search.place
        while len(rows) < most:
            found = await self._part(query, search, place, LARGEST_PAGE)
            rows += [row for row in found if _matches(_as_seen(row), query)]
            if len(found) < LARGEST_PAGE:
                break
            place = found[-1].created_at, found[-1].id
        return rows[:most]

    async def _part(self, query: Query, search: Search, place: Place | None, size: int) -> list[Execution]:
        names = list(search.names)
        if place is not None and search.place is None:
            names.append("where_newer" if query.order == "oldest" else "where_older")
        values = _values(query) | places(place, search.end, time) | {"limit": size}
        return read_records(Execution, (await self._asked(search.name, names, values)).rows)

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        values = _values(query)

        async def many(condition: str, most: int) -> bool:
            found = await self._asked(f"many_{condition}", of_prefix(query), values | {"most": most + 1})
            return bool(found.value > most)

        async def behind(name: str, names: Sequence[str], place: Place | None, steps: int) -> Place | None:
            found = await self._asked(name, names, values | places(place, None, time) | {"steps": steps - 1})
            return (from_datetime(found.tuples[0][0]), found.tuples[0][1]) if found.tuples else None

        search = await Searcher(many, behind, probed=PROBED, share=SHARE).search(query, cursor)
        return search.page(await self._found(query, search, limit + 1), limit)


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
        "attribute": _of_attributes(query),
        "text": query.text,
        "is_plain": query.text is not None and _is_plain(query.text),
        "ended_before": time_or_null(query.ended_before),
    }


def _of_attributes(query: Query) -> str:
    """The longest of the values, which stands in the attributes as it is. (A backslash may be written otherwise.)"""
    texts = [text for _, text in query.attributes if "\\" not in text]
    return max(texts, key=len, default="")


def _is_plain(text: str) -> bool:
    """The server compares it as the contract has it."""
    return text.isascii() and "?" not in text


def _needs_a_look(query: Query) -> bool:
    """The server lets more through: JSON is not compared as text there, and letters beyond ASCII are folded, too."""
    return bool(query.attributes) or (query.text is not None and not _is_plain(query.text))


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
