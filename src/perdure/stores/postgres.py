"""The store of a fleet: a PostgreSQL database, shared by any number of workers on any number of machines.

Commits have a connection of their own and are one statement, hence one round trip and one transaction. Heartbeats
have another one, on the event loop of their thread. A pool serves the rest. The statements, and the rules that they
rest on, are in `queries/postgres.sql`. Time is the server's.

Workers are seen to be dead by their locks (`attendance.py`), else by their leases.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from perdure.clock import SystemClock, from_datetime, micros
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
from perdure.errors import CommitUnknownError, DecodeError, PerdureError, SchemaVersionError
from perdure.records import (
    ENDED,
    Batch,
    Change,
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
    Status,
    Tally,
    Verdict,
    Verdicts,
    WorkerRecord,
)
from perdure.store import Same, Transaction
from perdure.stores import outgoing, postgres_schema
from perdure.stores.attendance import ONCE_MORE
from perdure.stores.columns import read_entries, read_records
from perdure.stores.conditions import composed, conditions, is_tallied, numbered, of_prefix, tallied
from perdure.stores.counting import ALL, Lead, Row, count_some, count_tallied, leads
from perdure.stores.findings import Finding
from perdure.stores.given import AlchemyPool, url_of_engine, url_of_pool
from perdure.stores.migrations import NO_TABLES
from perdure.stores.postgres_address import read_address
from perdure.stores.postgres_checks import examine
from perdure.stores.postgres_claims import Wanted, claim_judged
from perdure.stores.postgres_columns import (
    pack_batch,
    pack_query,
    pack_schedule,
    pack_workflows,
)
from perdure.stores.postgres_commits import statement_of, verdicts_of
from perdure.stores.postgres_databases import create_database, grant
from perdure.stores.postgres_errors import DRIVER_ERRORS, is_elsewhere, sort_commit_error
from perdure.stores.postgres_messages import post, start, start_from
from perdure.stores.postgres_moves import PostgresMoves
from perdure.stores.postgres_notify import Listener, Notifier
from perdure.stores.postgres_outbox import PostgresOutbox
from perdure.stores.postgres_people import bring, read_dossiers
from perdure.stores.postgres_presence import attendance
from perdure.stores.postgres_sessions import CommitSession, Gate, HeartbeatSessions, Pool, in_words
from perdure.stores.postgres_settle import read_back
from perdure.stores.postgres_transactions import Transactions
from perdure.stores.searching import Place, Searcher, places
from perdure.stores.signal import Signal


class PostgresStore(PostgresMoves):
    """A PostgreSQL database.

    `schema` and `table_prefix`: where our tables stand, and what their names begin with.
    `pool`: an asyncpg pool that the user has already, used for all but commits and heartbeats, never closed here.
    `sqlalchemy`: the same, an `AsyncEngine` (postgresql+asyncpg); then no URL is needed. `pool_size`: most connections
    of a pool of our own. `statement_cache_size=0` (also in the URL) says that a pooler in transaction mode is in
    between; where nothing says so, the first connection finds it out.
    """

    inline = False
    threaded = True
    own_transactions = True
    poll = 0.5
    idle_poll = 1.6  # with the heartbeats and the watch, less than one statement a second
    lease: float | None = None
    creates = True
    """An empty database gets its tables by `open`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        schema: str | None = None,
        table_prefix: str = "",
        pool: Any = None,
        sqlalchemy: Any = None,
        pool_size: int = 10,
        statement_cache_size: int | None = None,
    ) -> None:
        given = pool if sqlalchemy is None else AlchemyPool(sqlalchemy)
        url = url or (url_of_engine(sqlalchemy) if sqlalchemy is not None else url_of_pool(pool))
        self._address = read_address(url, statement_cache_size, schema, table_prefix)
        self.url = self._address.shown
        self._sql = self._address.sql
        self.names = self._address.names
        gate = Gate(self._address)
        self._pool = Pool(self._address, gate, given, pool_size)
        self._outbox = PostgresOutbox(self._pool)
        self._transactions = Transactions(self._address, gate, pool)
        self._commits = CommitSession(self._address, gate)
        self._heart = HeartbeatSessions(self._address)
        self._attendance = attendance(self._address)
        self._turn = asyncio.Lock()  # of the commit session
        self._signal = Signal()
        self._clock = SystemClock()
        name = uuid.uuid4().hex
        self._notifier = Notifier(self._pool, name)
        self._listener = Listener(self._address, name, self._hears)
        self._told = 0  # times, by other processes

    async def open(self) -> None:
        await self._pool.open()
        async with self._pool.connection() as connection:
            if await postgres_schema.is_empty(connection, self._address):
                if not self.creates:
                    raise SchemaVersionError(NO_TABLES.format(self.url))
                await postgres_schema.migrate(connection, self._address)
            else:
                await postgres_schema.check(connection, self._address)
            await self._refuse_moved(connection)

    async def close(self) -> None:
        await self._notifier.close()
        await self._listener.close()
        await self._heart.close()
        await self._transactions.close()
        await self._commits.close()
        await self._pool.close()

    async def migrate(self) -> list[tuple[str, bool]]:
        async with self._pool.connection() as connection:
            return await postgres_schema.migrate(connection, self._address)

    async def prepare(self, *, upgrade: bool, create: bool = False) -> list[tuple[str, bool]]:
        """See `perdure.stores.server.Server`."""
        if create:
            await create_database(self._address)
        await self._pool.open()
        async with self._pool.connection() as connection:
            if not upgrade and not await postgres_schema.is_empty(connection, self._address):
                await postgres_schema.check(connection, self._address)
            return await postgres_schema.migrate(connection, self._address)

    def examine(self) -> AsyncIterator[Finding]:
        """See `perdure.stores.server.Server`."""
        return examine(self._pool, self._address)

    async def grant(self, role: str, *, dry_run: bool) -> list[str]:
        """See `perdure.stores.server.Server`."""
        return await grant(None if dry_run else self._pool, self._address, role)

    # Workers --------------------------------------------------------------------------------------

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        ready = asyncio.ensure_future(self._get_ready())
        try:
            record = await self._appear(worker, lease)
        except BaseException:
            ready.cancel()
            await asyncio.wait([ready])
            raise
        await ready
        return record

    async def _appear(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        who = (worker.host, worker.pid, worker.process, worker.build, worker.workflows, worker.queues)
        async with self._pool.connection() as connection:
            await connection.execute(self._sql["forget_workers"])
            await connection.execute(self._sql["register_definitions"], worker.workflows, worker.build)
            rows = await connection.fetch(self._sql["register_worker"], *who, micros(lease))
            await self._refuse_moved(connection)  # after the row is there: see `Movable`
        return read_records(WorkerRecord, rows)[0]

    async def _get_ready(self) -> None:
        """The first commit shall not wait for its connection."""
        async with self._turn:
            await self._commits.ready()

    async def release(self, worker: int, epoch: int) -> None:
        async with self._pool.connection() as connection, connection.transaction():
            if await connection.fetchval(self._sql["release_worker"], worker, epoch):
                # A statement of its own: it sees what the last commit, waited for by the first one, has written.
                await connection.execute(self._sql["release_executions"], worker)
        self._tell()

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        row = await self._heart.row("heartbeat", worker, epoch, micros(lease), timeout=max(1.0, lease / 2))
        return row["alive"], row["now"]

    async def attend(self, worker: int, epoch: int, **told: Callable[[], None]) -> None:
        await self._attendance.attend(worker, epoch, **told)

    async def suspects(self, worker: int) -> list[int]:
        rows = await self._pool.rows("suspects", worker)
        return self._attendance.suspects(
            [row["id"] for row in rows if row["late"]], [row["id"] for row in rows if not row["late"]]
        )

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        known = pack_workflows(workflows)
        (row,) = await self._pool.rows("glance", worker, *known, sorted(set(queues)), json.dumps(build))
        late, free, ring = (list(map(int, row[name])) for name in ("late", "free", "ring"))
        self._attendance.meet(ring)
        suspects = self._attendance.suspects(late, free)
        if self._attendance.sightings.is_unsure():
            asyncio.get_running_loop().call_later(ONCE_MORE, self._signal.fire)
        tick_at = row["tick_at"]
        return Glance(
            suspects,
            row["claimable"],
            row["crashed"],
            row["outgoing"],
            None if tick_at is None else from_datetime(tick_at),
            knows_ticks=True,
        )

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        if await self._pool.value("declare_dead", worker, anyway):
            self._tell()
            return True
        return bool(await self._pool.value("is_dead", worker))

    # Commit ---------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> Verdicts:
        name, values = statement_of(batch)
        async with self._turn:
            connection = await self._commits.ready()
            try:
                if name is None:
                    verdicts = await self._commit_in_two(connection, batch)
                else:
                    verdicts = verdicts_of(batch, await self._commits.row(name, *values))
            except DRIVER_ERRORS as error:
                raise self._failed(error) from error
        if batch.creates or batch.changes:
            if _wakes_others(batch):
                self._tell()
            elif _wakes(batch):
                self._signal.fire()
        return verdicts

    async def _commit_in_two(self, connection: Any, batch: Batch) -> Verdicts:
        # One statement cannot change a row that it creates.
        creates = Batch(batch.worker, batch.epoch, batch.token, batch.now, creates=batch.creates)
        others = replace(batch, creates=[])
        async with connection.transaction():
            first = verdicts_of(creates, await self._commits.row("commit_batch", *pack_batch(creates)))
            second = verdicts_of(others, await self._commits.row("commit_batch", *pack_batch(others)))
        return Verdicts(first.alive, first.creates, second.changes)

    def _failed(self, error: BaseException) -> PerdureError:
        found = sort_commit_error(error, self.url)
        if isinstance(found, CommitUnknownError) or is_elsewhere(error):
            self._commits.drop()
        return type(found)(self._address.hide(str(found)))

    async def settle(self, batch: Batch) -> Verdicts | None:
        async with self._turn:
            connection = await self._commits.ready()
            try:
                await self._commits.end_others()
                async with connection.transaction():
                    return await read_back(connection, self._sql, batch)
            except DRIVER_ERRORS as error:
                self._commits.drop()
                raise in_words(self._address, error) from error

    async def begin(self, seconds: float) -> Transaction:
        return await self._transactions.begin(seconds)

    # Claims and reads of the owner ----------------------------------------------------------------

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
        ours = [rule for rule in limits if rule.queue in queues]
        wanted = Wanted(worker, epoch, limit, workflows, queues, ours, build, crashed)
        if ours or crashed:
            return await claim_judged(self._pool, wanted)
        return read_records(Execution, await self._pool.rows("claim", *wanted.parameters()))

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        journals: dict[str, list[Entry]] = {id: [] for id in ids}
        try:
            rows = await self._pool.rows("load_journals", ids)
        except DecodeError as error:
            if len(ids) == 1:
                raise DecodeError(f"the journal of {ids[0]!r} cannot be read: {error}", execution_id=ids[0]) from error
            for id in ids:
                await self.load([id])  # one of them raises, and names itself
            raise
        for entry in read_entries(rows):
            journals[entry.execution_id].append(entry)
        return journals

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        async with self._pool.connection() as connection:
            # The nudges first: whatever is missed by what is read then has raised them.
            boxes = {
                row["id"]: Inbox(*tuple(row)[1:]) for row in await connection.fetch(self._sql["inbox_executions"], ids)
            }
            found = list(boxes)
            requests = await connection.fetch(self._sql["inbox_requests"], found)
            messages = await connection.fetch(self._sql["inbox_messages"], found)
            children = await connection.fetch(self._sql["inbox_children"], found)
        for request in read_records(Request, requests):
            boxes[request.execution_id].requests.append(request)
        for message in read_records(Message, messages):
            boxes[message.execution_id].messages.append(message)
        for child in read_records(Execution, children):
            boxes[child.parent_id or ""].children.append(child)
        return boxes

    async def nudged(self, worker: int) -> dict[str, int]:
        return {row["id"]: row["nudges"] for row in await self._pool.rows("nudged", worker)}

    # Deliveries -----------------------------------------------------------------------------------

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        match delivery:
            case Answer(id, value, by, via, checksum):
                receipt = await self._decide(id, True, value, by, via, checksum)
            case Expiry(id):
                receipt = await self._decide(id, False, None, None, None, 0)
            case Post():
                receipt = await post(self._pool, delivery)
            case StartWith():
                receipt = await start(self._pool, delivery)
            case StartFrom():
                receipt = await start_from(self._pool, delivery)
            case Wish(id, wish, by, reason):
                receipt = _receipt(id, await self._pool.value("deliver_wish", id, wish, by, reason))
            case Settle(id):
                receipt = await self._settle(id)
            case Resume(id):
                receipt = _receipt(id, await self._pool.value("deliver_resume", id))
            case Cut():
                receipt = await self._cut(delivery)
            case Rewind() | Decide() | Note():
                receipt = await bring(self._pool, delivery)
        if receipt.verdict is Verdict.OK or receipt.started:
            self._tell()
        return receipt

    async def _decide(self, id: str, *values: object) -> Receipt:
        rows = await self._pool.rows("deliver_decision", id, *values)
        if not rows:
            return Receipt(Verdict.GONE)
        request = read_records(Request, rows)[0]
        return Receipt(Verdict(rows[0]["verdict"]), request.execution_id, request)

    async def _settle(self, id: str) -> Receipt:
        async with self._pool.connection() as connection, connection.transaction():
            # Locked first, so that the next statement sees the requests of a commit that this one waited for.
            await connection.fetch(self._sql["lock_family"], id)
            return _receipt(id, await connection.fetchval(self._sql["deliver_settle"], id))

    async def _cut(self, cut: Cut) -> Receipt:
        async with self._pool.connection() as connection, connection.transaction():
            await connection.fetch(self._sql["lock_family"], cut.execution_id)
            values = (*cut.entry, cut.fence, cut.from_seq, cut.checksum)
            return _receipt(cut.execution_id, await connection.fetchval(self._sql["deliver_cut"], *values))

    # Somebody's own transactions --------------------------------------------------------------------

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        return outgoing.write(item, any_input=any_input)

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        folded = await outgoing.fold_all(self._outbox, limit, same)
        if folded:
            self._signal.fire()
        return folded

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        return await self._outbox.rows(limit)

    async def dismiss(self, ids: Sequence[int]) -> int:
        return await self._outbox.dismiss(ids)

    # Pruning and schedules ------------------------------------------------------------------------

    async def prune(self, ids: Sequence[str]) -> list[str]:
        async with self._pool.connection() as connection, connection.transaction():
            await connection.fetch(self._sql["lock_families"], ids)
            removed = {row["id"] for row in await connection.fetch(self._sql["prune"], ids)}
        return [id for id in dict.fromkeys(ids) if id in removed]

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._pool.rows("put_schedule", *pack_schedule(schedule))
        self._tell()

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        return bool(await self._pool.value("move_schedule", *pack_schedule(schedule), expected))

    async def remove_schedule(self, name: str) -> bool:
        return bool(await self._pool.value("remove_schedule", name))

    # Waking ---------------------------------------------------------------------------------------

    async def next_wake(self) -> int | None:
        when = await self._pool.value("next_wake")
        return None if when is None else from_datetime(when)

    def _tell(self) -> None:
        """Have everybody look, here and elsewhere."""
        self._signal.fire()
        self._notifier.tell()

    async def changed(self, timeout: float) -> bool:
        self._listener.begin()
        before = self._told
        await self._signal.wait(self._clock, timeout)
        return self._told > before

    def _hears(self) -> None:
        self._told += 1
        self._signal.fire()

    # Insight --------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        return {row.id: row for row in read_records(Execution, await self._pool.rows("get_executions", ids))}

    async def count(self, query: Query, at_most: int | None = None) -> Counts:
        values = pack_query(query)
        if is_tallied(query):
            most = ALL if at_most is None else at_most
            kept = await self._asked("count_tallied", tallied(query), values | {"most": most + 1})
            return count_tallied(map(tuple, kept), most)
        if at_most is None:
            return Counts(map(tuple, await self._asked("count_executions", conditions(query, implied=False), values)))

        async def look(lead: Lead, most: int) -> list[Row]:
            return [(*row,) for row in await self._asked(lead.name, lead.names, values | {"most": most}, lead.others)]

        return await count_some(leads(query, implied=False), at_most, look)

    async def history(self, execution_id: str) -> list[Entry]:
        return read_entries(await self._pool.rows("history", execution_id))

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        return read_entries(await self._pool.rows("tail", execution_id, after, kinds, limit))

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        found = read_entries(await self._pool.rows("latest", execution_id, key))
        return found[0] if found else None

    async def tallies(self) -> list[Tally]:
        return [
            Tally(row["workflow"], row["queue"], row["status"], row["number"], oldest)
            for row in await self._pool.rows("tallies")
            for oldest in [None if row["oldest"] is None else from_datetime(row["oldest"])]
        ]

    async def schedules(self) -> list[Schedule]:
        return read_records(Schedule, await self._pool.rows("schedules"))

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        return read_records(Request, await self._pool.rows("get_requests", ids, execution_ids, status, limit))

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        return await read_dossiers(self._pool, ids, snapshots)

    async def tree(self, execution_id: str) -> list[Execution]:
        return read_records(Execution, await self._pool.rows("descendants", execution_id))

    async def workers(self) -> list[WorkerRecord]:
        return read_records(WorkerRecord, await self._pool.rows("get_workers"))

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        values = pack_query(query)

        async def many(condition: str, most: int) -> bool:
            (row,) = await self._asked(f"many_{condition}", of_prefix(query), values | {"most": most + 1})
            return bool(row[0] > most)

        async def behind(name: str, names: Sequence[str], place: Place | None, steps: int) -> Place | None:
            found = await self._asked(name, names, values | places(place, None, int) | {"steps": steps - 1})
            return (from_datetime(found[0][0]), found[0][1]) if found else None

        async def early() -> bool:
            (row,) = await self._asked("any_early", [], values)
            return bool(row[0])

        search = await Searcher(many, behind, early, plans=True).search(query, cursor)
        values |= places(search.place, search.end, int) | {"limit": limit + 1}
        found = await self._asked(search.name, search.names, values)
        return search.page(read_records(Execution, found), limit)

    async def _asked(
        self, name: str, names: Sequence[str], values: dict[str, Any], compared: Sequence[str] = ()
    ) -> Sequence[Any]:
        statement, parameters = numbered(composed(self._sql, name, names, compared), values)
        async with self._pool.connection() as connection:
            rows: Sequence[Any]
            if self._address.pooled:  # prepared anew each time
                rows = await connection.fetch(statement, *parameters)
            else:
                # A plan for these values, always: one for all values knows neither how many rows they have nor that an
                # index of few rows holds them.
                rows = await (await connection.prepare(statement)).fetch(*parameters)
            return rows


def _wakes(batch: Batch) -> bool:
    return any(create.status is Status.PENDING for create in batch.creates) or any(map(_change_wakes, batch.changes))


def _wakes_others(batch: Batch) -> bool:
    """Whether there may be something to claim, or something has come for an execution that may run elsewhere."""
    return any(create.status is Status.PENDING for create in batch.creates) or any(
        change.status is Status.PENDING or (change.parent_id is not None and change.status in ENDED)
        for change in batch.changes
    )


def _change_wakes(change: Change) -> bool:
    return change.status is Status.PENDING or change.status in ENDED


def _receipt(execution_id: str, verdict: str | None) -> Receipt:
    return Receipt(Verdict.GONE) if verdict is None else Receipt(Verdict(verdict), execution_id)
