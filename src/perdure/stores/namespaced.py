"""Several applications in one database, each of which sees only its own: a namespace is part of the stored names.

The ids of executions, requests and messages, and the names of queues and schedules, are stored as `~NAMESPACE/NAME`. So
nothing collides, each worker claims only from its own queues, limits hold within a namespace, and what is found by an
id's beginning is found by an index. No name of the default namespace begins with `~`. A dead worker is declared dead by
any other one: that concerns nobody's data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from perdure.deliveries import (
    Answer,
    Cut,
    Decide,
    Delivery,
    Expiry,
    Note,
    Post,
    Receipt,
    Resume,
    Rewind,
    Settle,
    StartFrom,
    StartWith,
    Wish,
)
from perdure.keys import NAMESPACE_MARK
from perdure.records import (
    AuditEvent,
    Batch,
    Counts,
    Dossier,
    Entry,
    Execution,
    Folded,
    Glance,
    Inbox,
    Limit,
    Message,
    Outgoing,
    Page,
    Query,
    Request,
    Schedule,
    Tally,
    Verdicts,
    WorkerRecord,
    listed,
)
from perdure.store import Same, Store, Transaction
from perdure.stores.conditions import is_tallied
from perdure.stores.translated import TranslatedTransaction

DEFAULT = "default"
PAGE = 1000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")


def check_namespace(name: str) -> None:
    """Raises `ValueError` for what is no name of a namespace."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"namespace= is 1 to 40 letters, digits, dots, dashes or underscores, not {name!r}")


async def _some(
    store: Store, query: Query, limit: int, cursor: str | None, wanted: Callable[[Execution], bool]
) -> tuple[list[Execution], str | None]:
    items: list[Execution] = []
    while True:
        page = await store.list(query, limit - len(items), cursor)
        items += [row for row in page.items if wanted(row)]
        cursor = page.cursor
        if cursor is None or len(items) >= limit:
            return items, cursor


async def _requests(store: Store, wanted: Callable[[Request], bool], status: str | None, limit: int) -> list[Request]:
    """The first requests that are wanted, of all that there are."""
    most = limit
    while True:
        rows = await store.requests(status=status, limit=most)
        found = [row for row in rows if wanted(row)]
        if len(found) >= limit or len(rows) < most:
            return found[:limit]
        most *= 4


def _of_tallies(tallies: Sequence[Tally], query: Query) -> Counts:
    """What a query by workflow, queue and status finds among what is kept counted."""
    counts = Counts()
    for tally in tallies:
        known = (not query.status or tally.status in query.status) and query.queue in (None, tally.queue)
        if known and query.workflow in (None, tally.workflow):
            counts[tally.status] = counts.get(tally.status, 0) + tally.number
    return counts


class DefaultInsight:
    """What the default namespace sees of a store: nothing of the others."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        return await self._store.get([id for id in ids if not id.startswith(NAMESPACE_MARK)])

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        if query.id_prefix:
            return await self._store.count(query, at_most)
        others = await self._store.count(replace(query, id_prefix=NAMESPACE_MARK), at_most)
        if not others.complete and at_most is not None:
            return await self._count_among_others(query, at_most)
        counts = await self._store.count(query, None if at_most is None else at_most + others.total)
        left = {status: number - others.get(status, 0) for status, number in counts.items()}
        return Counts({status: number for status, number in left.items() if number > 0}, counts.complete)

    async def _count_among_others(self, query: Query, at_most: int) -> Counts:
        """There are more of the others than may be looked at."""
        if is_tallied(query) and query.version is None:
            return _of_tallies(await self.tallies(), query)
        page = Page([], None)
        counts = Counts({}, complete=False)
        for _ in range(0, at_most, PAGE):
            page = await self._store.list(query, min(PAGE, at_most), page.cursor)
            for row in page.items:
                if not row.id.startswith(NAMESPACE_MARK):
                    counts[row.status.value] = counts.get(row.status.value, 0) + 1
            if page.cursor is None:
                return Counts(counts)
        return counts

    async def tallies(self) -> list[Tally]:
        return [tally for tally in await self._store.tallies() if not tally.queue.startswith(NAMESPACE_MARK)]

    async def schedules(self) -> list[Schedule]:
        return [row for row in await self._store.schedules() if not row.name.startswith(NAMESPACE_MARK)]

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        if ids or execution_ids:
            return await self._store.requests(ids=ids, execution_ids=execution_ids, status=status, limit=limit)
        return await _requests(self._store, lambda row: not row.execution_id.startswith(NAMESPACE_MARK), status, limit)

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        return [row for row in await self._store.outbox(limit) if not row.execution_id.startswith(NAMESPACE_MARK)]

    async def workers(self) -> list[WorkerRecord]:
        rows = await self._store.workers()
        return [row for row in rows if not any(str(q).startswith(NAMESPACE_MARK) for q in listed(row.queues))]

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        return Page(*await _some(self._store, query, limit, cursor, lambda row: not row.id.startswith(NAMESPACE_MARK)))


class NamespacedStore:
    """Any store, as one namespace in it sees and fills it."""

    def __init__(self, store: Store, namespace: str) -> None:
        check_namespace(namespace)
        self._store = store
        self.prefix = f"{NAMESPACE_MARK}{namespace}/"
        """What the names in it are stored with."""
        self.room = len(self.prefix)
        """Bytes that the namespace takes of each id."""

    def __getattr__(self, name: str) -> Any:
        # What bears no name (leases, wake-ups, migrations) is the other store's business.
        return getattr(self._store, name)

    @property
    def clock(self) -> Any:
        return self._store.clock  # type: ignore[attr-defined]

    @clock.setter
    def clock(self, clock: Any) -> None:
        self._store.clock = clock  # type: ignore[attr-defined]

    # Names in and out ---------------------------------------------------------------------------------

    def _in(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def _in_or_none(self, name: str | None) -> str | None:
        return None if name is None else f"{self.prefix}{name}"

    def own_name(self, name: str) -> str:
        """A stored name, as it is known in the namespace."""
        return self._out(name)

    def _out(self, name: str) -> str:
        return name.removeprefix(self.prefix)

    def _out_or_none(self, name: str | None) -> str | None:
        return None if name is None else name.removeprefix(self.prefix)

    def _is_ours(self, name: str) -> bool:
        return name.startswith(self.prefix)

    def _execution_in(self, row: Execution) -> Execution:
        return replace(row, id=self._in(row.id), queue=self._in(row.queue), parent_id=self._in_or_none(row.parent_id))

    def _execution(self, row: Execution) -> Execution:
        return replace(
            row, id=self._out(row.id), queue=self._out(row.queue), parent_id=self._out_or_none(row.parent_id)
        )

    def _entry_in(self, entry: Entry) -> Entry:
        return entry._replace(execution_id=self._in(entry.execution_id))

    def _entries(self, entries: Sequence[Entry]) -> list[Entry]:
        return [entry._replace(execution_id=self._out(entry.execution_id)) for entry in entries]

    def _request_in(self, row: Request) -> Request:
        return replace(row, id=self._in(row.id), execution_id=self._in(row.execution_id))

    def _request(self, row: Request) -> Request:
        return replace(row, id=self._out(row.id), execution_id=self._out(row.execution_id))

    def _message_in(self, row: Message) -> Message:
        return replace(row, id=self._in(row.id), execution_id=self._in(row.execution_id))

    def _message(self, row: Message) -> Message:
        return replace(row, id=self._out(row.id), execution_id=self._out(row.execution_id))

    def _schedule_in(self, row: Schedule) -> Schedule:
        return replace(
            row, name=self._in(row.name), queue=self._in_or_none(row.queue), last_id=self._in_or_none(row.last_id)
        )

    def _schedule(self, row: Schedule) -> Schedule:
        return replace(
            row, name=self._out(row.name), queue=self._out_or_none(row.queue), last_id=self._out_or_none(row.last_id)
        )

    def _query_in(self, query: Query) -> Query:
        return replace(
            query,
            id_prefix=self._in(query.id_prefix or ""),
            queue=self._in_or_none(query.queue),
            parent=self._in_or_none(query.parent),
        )

    # Workers ------------------------------------------------------------------------------------------

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        queues = [self._in(name) for name in json.loads(worker.queues)]
        known = await self._store.register(replace(worker, queues=json.dumps([*queues, self.prefix])), lease)
        return replace(known, queues=worker.queues)

    async def workers(self) -> list[WorkerRecord]:
        found = []
        for row in await self._store.workers():
            queues = [name for name in listed(row.queues) if isinstance(name, str)]
            if self.prefix in queues:
                ours = [self._out(name) for name in queues if name != self.prefix]
                found.append(replace(row, queues=json.dumps(ours)))
        return found

    # Writing ------------------------------------------------------------------------------------------

    def _batch(self, batch: Batch) -> Batch:
        return replace(
            batch,
            creates=[self._execution_in(row) for row in batch.creates],
            entries=[self._entry_in(entry) for entry in batch.entries],
            changes=[
                replace(c, execution_id=self._in(c.execution_id), parent_id=self._in_or_none(c.parent_id))
                for c in batch.changes
            ],
            requests=[self._request_in(row) for row in batch.requests],
            closes=[self._in(id) for id in batch.closes],
            takes=[(self._in(id), seq) for id, seq in batch.takes],
            untakes=[(self._in(id), seq) for id, seq in batch.untakes],
            actions=[replace(row, execution_id=self._in(row.execution_id)) for row in batch.actions],
            snapshots=[replace(row, execution_id=self._in(row.execution_id)) for row in batch.snapshots],
        )

    def commit(self, batch: Batch) -> Verdicts | Awaitable[Verdicts]:
        return self._store.commit(self._batch(batch))

    async def settle(self, batch: Batch) -> Verdicts | None:
        return await self._store.settle(self._batch(batch))

    async def begin(self, seconds: float) -> Transaction:
        return TranslatedTransaction(await self._store.begin(seconds), self._batch)

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        match delivery:
            case Answer() | Expiry():
                delivery = replace(delivery, request_id=self._in(delivery.request_id))
            case Post(message):
                delivery = replace(delivery, message=self._message_in(message))
            case StartWith():
                execution = self._execution_in(delivery.execution)
                delivery = replace(delivery, execution=execution, message=self._message_in(delivery.message))
            case StartFrom():
                execution, entries = self._execution_in(delivery.execution), map(self._entry_in, delivery.entries)
                delivery = replace(delivery, execution=execution, entries=list(entries))
            case Cut():
                id, entry = self._in(delivery.execution_id), self._entry_in(delivery.entry)
                delivery = replace(delivery, execution_id=id, entry=entry)
            case Wish() | Settle() | Resume() | Rewind():
                delivery = replace(delivery, execution_id=self._in(delivery.execution_id))
            case Decide():
                delivery = replace(
                    delivery,
                    request_id=self._in(delivery.request_id),
                    decisions=[
                        replace(d, request_id=self._in(d.request_id), execution_id=self._in(d.execution_id))
                        for d in delivery.decisions
                    ],
                    events=self._events_in(delivery.events),
                )
            case Note():
                id, events = self._in(delivery.execution_id), self._events_in(delivery.events)
                delivery = replace(delivery, execution_id=id, events=events)
        receipt = await self._store.deliver(delivery, now)
        request = receipt.request
        return replace(
            receipt,
            execution_id=self._out_or_none(receipt.execution_id),
            request=None if request is None else self._request(request),
        )

    def _events_in(self, events: Sequence[AuditEvent]) -> list[AuditEvent]:
        return [
            replace(e, execution_id=self._in(e.execution_id), request_id=self._in_or_none(e.request_id)) for e in events
        ]

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        ours = self._message_in(item) if isinstance(item, Message) else self._execution_in(item)
        return self._store.outgoing(ours, any_input=any_input)

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        # Whoever comes first delivers, whosever it is. What is another's bears no name that could be one of ours.
        folded = await self._store.fold(limit, same)
        return [each._replace(row=self._outgoing(each.row)) for each in folded]

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        rows = await self._store.outbox(limit)
        return [self._outgoing(row) for row in rows if self._is_ours(row.execution_id)]

    def _outgoing(self, row: Outgoing) -> Outgoing:
        id = row.execution_id
        return replace(row, execution_id=self._out(id) if self._is_ours(id) else f"{NAMESPACE_MARK}{id}")

    async def prune(self, ids: Sequence[str]) -> list[str]:
        return [self._out(id) for id in await self._store.prune([self._in(id) for id in ids])]

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._store.put_schedule(self._schedule_in(schedule))

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        return await self._store.move_schedule(self._schedule_in(schedule), expected)

    async def remove_schedule(self, name: str) -> bool:
        return await self._store.remove_schedule(self._in(name))

    # Reading ------------------------------------------------------------------------------------------

    async def claim(
        self,
        worker: int,
        epoch: int,
        limit: int,
        workflows: Sequence[tuple[str, int]],
        queues: Sequence[str],
        now: int,
        *,
        limits: Sequence[Limit] = (),
        build: str = "",
        crashed: bool = False,
    ) -> list[Execution]:
        ours = [self._in(name) for name in queues]
        rules = [replace(rule, queue=self._in(rule.queue)) for rule in limits]
        rows = await self._store.claim(
            worker, epoch, limit, workflows, ours, now, limits=rules, build=build, crashed=crashed
        )
        return [self._execution(row) for row in rows]

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        return await self._store.glance(worker, epoch, workflows, [self._in(name) for name in queues], build=build)

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        journals = await self._store.load([self._in(id) for id in ids])
        return {self._out(id): self._entries(journal) for id, journal in journals.items()}

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        found = await self._store.inbox([self._in(id) for id in ids])
        return {
            self._out(id): replace(
                inbox,
                requests=[self._request(row) for row in inbox.requests],
                messages=[self._message(row) for row in inbox.messages],
                children=[self._execution(row) for row in inbox.children],
            )
            for id, inbox in found.items()
        }

    async def nudged(self, worker: int) -> dict[str, int]:
        return {self._out(id): nudges for id, nudges in (await self._store.nudged(worker)).items()}

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        found = await self._store.get([self._in(id) for id in ids])
        return {self._out(id): self._execution(row) for id, row in found.items()}

    async def history(self, execution_id: str) -> list[Entry]:
        return self._entries(await self._store.history(self._in(execution_id)))

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        return self._entries(await self._store.tail(self._in(execution_id), after, kinds, limit))

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        entry = await self._store.latest(self._in(execution_id), key)
        return None if entry is None else self._entries([entry])[0]

    async def tree(self, execution_id: str) -> list[Execution]:
        return [self._execution(row) for row in await self._store.tree(self._in(execution_id))]

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        if ids or execution_ids:
            rows = await self._store.requests(
                ids=[self._in(id) for id in ids],
                execution_ids=[self._in(id) for id in execution_ids],
                status=status,
                limit=limit,
            )
        else:
            rows = await _requests(self._store, lambda row: self._is_ours(row.execution_id), status, limit)
        return [self._request(row) for row in rows]

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        found = await self._store.dossiers([self._in(id) for id in ids], snapshots=snapshots)
        return {self._out(id): self._dossier(dossier, self._out(id)) for id, dossier in found.items()}

    def _dossier(self, dossier: Dossier, id: str) -> Dossier:
        return Dossier(
            [replace(d, request_id=self._out(d.request_id), execution_id=id) for d in dossier.decisions],
            [replace(e, request_id=self._out_or_none(e.request_id), execution_id=id) for e in dossier.events],
            [replace(row, execution_id=id) for row in dossier.actions],
            [replace(row, execution_id=id) for row in dossier.snapshots],
        )

    async def schedules(self) -> list[Schedule]:
        return [self._schedule(row) for row in await self._store.schedules() if self._is_ours(row.name)]

    async def tallies(self) -> list[Tally]:
        found = await self._store.tallies()
        return [replace(tally, queue=self._out(tally.queue)) for tally in found if self._is_ours(tally.queue)]

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        if is_tallied(query) and query.version is None:
            return _of_tallies(await self.tallies(), query)
        return await self._store.count(self._query_in(query), at_most)

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        page = await self._store.list(self._query_in(query), limit, cursor)
        return Page([self._execution(row) for row in page.items], page.cursor)
