"""The store of a fleet on MariaDB (10.6 or newer) or MySQL (8.0.17 or newer): any number of workers and machines.

Commits have a session of their own and are one packet, hence one round trip and one transaction, unless something is
refused. Heartbeats have another one, on the event loop of their thread. A pool serves the rest. The statements, and the
rules that they rest on, are in `queries/mysql.sql`. Time is the server's.

Workers are seen to be dead by their locks (`attendance.py`), else by their leases. With Galera all
workers must write to one node, and go by leases.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from perdure.clock import SystemClock, from_datetime, micros
from perdure.deliveries import Delivery, Receipt
from perdure.errors import CommitUnknownError, DecodeError, PerdureError, SchemaVersionError
from perdure.records import (
    ENDED,
    Batch,
    Change,
    Entry,
    Execution,
    Folded,
    Glance,
    Inbox,
    Limit,
    Message,
    Outgoing,
    Request,
    Schedule,
    Status,
    Verdict,
    Verdicts,
    WorkerRecord,
)
from perdure.store import Same, Transaction
from perdure.stores import mysql_schema, outgoing
from perdure.stores.attendance import ONCE_MORE
from perdure.stores.columns import read_entries, read_records
from perdure.stores.findings import Finding
from perdure.stores.given import url_of_engine
from perdure.stores.migrations import NO_TABLES
from perdure.stores.mysql_address import read_address
from perdure.stores.mysql_checks import examine
from perdure.stores.mysql_claims import Wanted, claim
from perdure.stores.mysql_columns import Rows, literal, some, time_or_null, values
from perdure.stores.mysql_commits import read_back, record
from perdure.stores.mysql_databases import create_database, grant
from perdure.stores.mysql_deliver import deliver, prune
from perdure.stores.mysql_errors import DRIVER_ERRORS, is_elsewhere, sort_commit_error
from perdure.stores.mysql_moves import MysqlMoves
from perdure.stores.mysql_outbox import MysqlOutbox
from perdure.stores.mysql_presence import attendance
from perdure.stores.mysql_reads import MysqlReads
from perdure.stores.mysql_sessions import CommitSession, HeartbeatSessions, Pool, in_words, new_gate, past_deadlocks
from perdure.stores.mysql_transactions import Transactions
from perdure.stores.signal import Signal


class MysqlStore(MysqlReads, MysqlMoves):
    """A database on MariaDB or MySQL.

    `schema`: another database than the URL's, for our tables. `table_prefix`: what their names begin with. `pool_size`:
    most connections beside those of commits and heartbeats. `sqlalchemy`: an engine of SQLAlchemy's whose URL is taken;
    connections are our own, as a packet of several statements is not what those of others admit.
    """

    inline = False
    threaded = True
    own_transactions = True
    poll = 0.5
    idle_poll = 1.6  # with the heartbeats and the watch, less than one statement a second
    lease: float | None = None
    most_bytes: int | None = None
    """What the server takes at once, once that is known."""
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
    ) -> None:
        if pool is not None:
            raise PerdureError(
                "a pool of connections to MariaDB or MySQL cannot be shared: Perdure sends several statements as one "
                "packet, which others' connections do not admit. Give a number of connections, or sqlalchemy=engine"
            )
        if url is None and sqlalchemy is None:
            raise PerdureError("neither a URL nor an engine of SQLAlchemy's was given")
        self._address = read_address(url or url_of_engine(sqlalchemy), schema, table_prefix)
        self.url = self._address.shown
        self._sql = self._address.sql
        self.names = self._address.names
        gate = new_gate(self._address)
        super().__init__(Pool(self._address, gate, pool_size))
        self._outbox = MysqlOutbox(self._pool)
        self._transactions = Transactions(self._address, gate)
        self._commits = CommitSession(self._address, gate)
        self._heart = HeartbeatSessions(self._address)
        self._attendance = attendance(self._address)
        self._turn = asyncio.Lock()  # of the commit session
        self._signal = Signal()
        self._clock = SystemClock()

    async def open(self) -> None:
        await self._pool.open()
        async with self._pool.session() as session:
            if await mysql_schema.needs_first(session, self._address):
                if not self.creates:
                    raise SchemaVersionError(NO_TABLES.format(self.url))
                await mysql_schema.migrate(session, self._address)
            else:
                await mysql_schema.check(session, self._address)
            await self._refuse_moved(session)
            self.most_bytes = session.most_bytes

    async def close(self) -> None:
        await self._heart.close()
        await self._commits.close()
        await self._tallies.close()
        await self._pool.close()

    async def migrate(self) -> list[tuple[str, bool]]:
        async with self._pool.session() as session:
            return await mysql_schema.migrate(session, self._address)

    async def prepare(self, *, upgrade: bool, create: bool = False) -> list[tuple[str, bool]]:
        """See `perdure.stores.server.Server`."""
        if create:
            await create_database(self._address)
        await self._pool.open()
        async with self._pool.session() as session:
            if not upgrade and not await mysql_schema.needs_first(session, self._address):
                await mysql_schema.check(session, self._address)
            return await mysql_schema.migrate(session, self._address, recount=upgrade)

    def examine(self) -> AsyncIterator[Finding]:
        """See `perdure.stores.server.Server`."""
        return examine(self._pool, self._address)

    async def grant(self, role: str, *, dry_run: bool) -> list[str]:
        """See `perdure.stores.server.Server`."""
        return await grant(None if dry_run else self._pool, self._address, role)

    # Workers --------------------------------------------------------------------------------------

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        await self._forget_workers()
        if definitions := _definitions(worker):
            await self._pool.ask("register_definitions", rows=definitions)
        who = {name: getattr(worker, name) for name in ("host", "pid", "process", "build", "workflows", "queues")}
        insert = self._sql.fill("register_worker", **who, lease=micros(lease))
        async with self._pool.session() as session:
            rows = (await session.run(insert, self._sql["registered_worker"]))[1].rows
            await self._refuse_moved(session)  # after the row is there: see `Movable`
        async with self._turn:
            await self._commits.ready()  # the first commit shall not wait for it
        return read_records(WorkerRecord, rows)[0]

    async def _forget_workers(self) -> None:
        forgettable, uncounted = await self._pool.run(self._sql["forgettable_workers"], self._sql["uncounted"])
        if forgettable.tuples:
            await self._pool.ask("forget_workers", ids=[id for (id,) in forgettable.tuples])
        if uncounted.tuples:
            self._tallies.recount_soon()

    async def release(self, worker: int, epoch: int) -> None:
        leave = self._sql.fill("release_worker", worker=worker, epoch=epoch)
        await self._pool.run(
            self._sql["begin"],
            leave,
            self._sql.fill("release_executions", worker=worker, epoch=epoch),
            self._sql["commit"],
        )
        self._signal.fire()

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        beat = self._sql.fill("heartbeat", worker=worker, epoch=epoch, lease=micros(lease))
        timeout = max(1.0, lease / 2)
        (renewed,) = await self._heart.run(beat, timeout=timeout)
        if renewed.met == 1:
            return True, renewed.made
        (now,) = await self._heart.run(self._sql["now"], timeout=timeout)
        return False, from_datetime(now.value)

    async def attend(self, worker: int, epoch: int, **told: Callable[[], None]) -> None:
        await self._attendance.attend(worker, epoch, **told)

    async def suspects(self, worker: int) -> list[int]:
        async with self._pool.session() as session:
            (found,) = await session.run(self._sql.fill("suspects", worker=worker, here=await session.here()))
        late = [id for id, late in found.tuples if late]
        return self._attendance.suspects(late, [id for id, late in found.tuples if not late])

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        wanted = {"workflows": some(workflows, ("", 0)), "queues": some(queues), "build": json.dumps(build)}
        async with self._pool.session() as session:
            here = await session.here()
            (found,) = await session.run(self._sql.fill("glance", **wanted))
        rows = found.rows
        if not rows:
            return Glance([])
        there = [row for row in rows if row["presence"] == here]
        self._attendance.meet([row["id"] for row in there])
        suspects = self._attendance.suspects(
            [row["id"] for row in rows if row["late"] and row["id"] != worker],
            [row["id"] for row in there if row["free"] and row["id"] != worker],
        )
        if self._attendance.sightings.is_unsure():
            asyncio.get_running_loop().call_later(ONCE_MORE, self._signal.fire)
        tick_at = rows[0]["tick_at"]
        return Glance(
            suspects,
            bool(rows[0]["claimable"]),
            bool(rows[0]["crashed"]),
            bool(rows[0]["outgoing"]),
            None if tick_at is None else from_datetime(tick_at),
            knows_ticks=True,
        )

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        async with self._pool.session() as session:
            declare = self._sql.fill("declare_dead", worker=worker, anyway=anyway, here=await session.here())
            (declared,) = await past_deadlocks(lambda: session.run(declare))
        if declared.met:
            self._signal.fire()
            return True
        return bool((await self._pool.ask("is_dead", worker=worker)).value)

    # Commit ---------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> Verdicts:
        async with self._turn:
            session = await self._commits.ready()
            try:
                verdicts = await past_deadlocks(lambda: record(session, batch, self._tallies.added))
            except DRIVER_ERRORS as error:
                raise self._failed(error) from error
        if (batch.creates or batch.changes) and _wakes(batch):
            self._signal.fire()
        return verdicts

    def _failed(self, error: BaseException) -> PerdureError:
        found = sort_commit_error(error, self.url)
        if isinstance(found, CommitUnknownError) or is_elsewhere(error):
            self._commits.drop()
        return type(found)(self._address.hide(str(found)))

    async def settle(self, batch: Batch) -> Verdicts | None:
        async with self._turn:
            session = await self._commits.ready()
            try:
                await self._commits.end_others()
                return await past_deadlocks(lambda: read_back(session, batch))
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
        async with self._pool.session() as session:
            return await past_deadlocks(lambda: claim(session, wanted))

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        journals: dict[str, list[Entry]] = {id: [] for id in ids}
        if not ids:
            return journals
        wanted = list(journals)
        try:
            folded = await self._folded(wanted)
            entries = read_entries((await self._pool.ask("load_journals", ids=wanted, folded=folded)).tuples)
        except DecodeError as error:
            if len(wanted) == 1:
                raise DecodeError(f"the journal of {ids[0]!r} cannot be read: {error}", execution_id=ids[0]) from error
            for id in wanted:
                await self.load([id])  # one of them raises, and names itself
            raise
        for entry in entries:
            journals[entry.execution_id].append(entry)
        return journals

    async def _folded(self, ids: Sequence[str]) -> list[object]:
        """The bodies that have an outcome, as (execution id, key)."""
        found = await self._pool.run(self._sql.fill("inner_keys", ids=ids), self._sql.fill("inner_keys_alone", ids=ids))
        bodies = [row for result in found for row in result.tuples]
        if bodies:
            bodies = list((await self._pool.ask("outcomes", ids=ids, bodies=bodies)).tuples)
        return some(bodies, ("", ""))

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        async with self._pool.session() as session:
            # The nudges first: whatever is missed by what is read then has raised them.
            found = (await session.run(self._sql.fill("inbox_executions", ids=some(ids))))[0].tuples
            boxes = {row[0]: Inbox(*row[1:]) for row in found}
            names = ("inbox_requests", "inbox_messages", "inbox_children")
            requests, messages, children = await session.run(*(self._sql.fill(name, ids=some(boxes)) for name in names))
        for request in read_records(Request, requests.rows):
            boxes[request.execution_id].requests.append(request)
        for message in read_records(Message, messages.rows):
            boxes[message.execution_id].messages.append(message)
        for child in read_records(Execution, children.rows):
            boxes[child.parent_id or ""].children.append(child)
        return boxes

    async def nudged(self, worker: int) -> dict[str, int]:
        return {row[0]: row[1] for row in (await self._pool.ask("nudged", worker=worker)).tuples}

    # Deliveries, pruning --------------------------------------------------------------------------

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        async with self._pool.session() as session:
            receipt = await past_deadlocks(lambda: deliver(session, delivery))
        if receipt.verdict is Verdict.OK or receipt.started:
            self._signal.fire()
        return receipt

    async def prune(self, ids: Sequence[str]) -> list[str]:
        if not ids:
            return []
        async with self._pool.session() as session:
            return await past_deadlocks(lambda: prune(session, ids, self._tallies.added))

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

    # Schedules ------------------------------------------------------------------------------------

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._pool.ask("put_schedule", **values(schedule))
        self._signal.fire()

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        moved = await self._pool.ask("move_schedule", **values(schedule), expected=time_or_null(expected))
        return moved.met > 0

    async def remove_schedule(self, name: str) -> bool:
        return (await self._pool.ask("remove_schedule", name=name)).met > 0

    # Waking ---------------------------------------------------------------------------------------

    async def next_wake(self) -> int | None:
        when = (await self._pool.ask("next_wake")).value
        return None if when is None else from_datetime(when)

    async def changed(self, timeout: float) -> bool:
        await self._signal.wait(self._clock, timeout)
        return False


def _definitions(worker: WorkerRecord) -> Rows:
    known = sorted(set(msgspec.json.decode(worker.workflows, type=list[tuple[str, int]])))
    return Rows(f"({literal(name)},{version},{literal(worker.build)},utc_timestamp(6))" for name, version in known)


def _wakes(batch: Batch) -> bool:
    return any(create.status is Status.PENDING for create in batch.creates) or any(map(_change_wakes, batch.changes))


def _change_wakes(change: Change) -> bool:
    return change.status is Status.PENDING or change.status in ENDED
