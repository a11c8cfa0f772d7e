"""The store of one process: dictionaries. It reads as the specification of `perdure.store`.

Nothing here awaits between looking and writing, so that each verb is a transaction of its own and
the row locks of the contract hold by themselves. One object may be shared by several engines, each
with its workers, on one event loop or on several of one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy

from perdure.clock import micros
from perdure.errors import BadBatchError, MovedError
from perdure.limits import Place, admit
from perdure.records import (
    ENDED,
    PARKED,
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
    RollbackAction,
    Schedule,
    Snapshot,
    Status,
    Verdict,
    Verdicts,
    WorkerRecord,
    is_legal,
    listed,
)
from perdure.store import Same, Transaction
from perdure.stores.memory_deliver import MemoryDeliveries
from perdure.stores.memory_rows import oldest_first
from perdure.stores.outgoing import no_transactions
from perdure.stores.parcels import moved_words


class MemoryStore(MemoryDeliveries):
    """Keeps everything in this process, for as long as the object lives."""

    url = "memory://"
    inline = True
    threaded = False
    own_transactions = False
    poll = 0.25
    idle_poll = 0.25
    lease: float | None = None

    async def open(self) -> None:
        """There is nothing to connect to."""
        self._refuse_moved()

    async def close(self) -> None:
        """Nothing is given back: another engine may share the object."""

    async def migrate(self) -> list[tuple[str, bool]]:
        return []

    def put(self, row: Execution, journal: Iterable[Entry] = ()) -> None:
        """Place an execution with its journal, as if it had been recorded. For tests and moves."""
        self._keep(copy(row))
        self._journals[row.id] = {entry.seq: entry for entry in journal}

    # Workers --------------------------------------------------------------------------------------

    def _refuse_moved(self) -> None:
        if self._moved_to is not None and not self.even_if_moved:
            raise MovedError(moved_words(self.url, self._moved_to))

    async def register(self, worker: WorkerRecord, lease: float) -> WorkerRecord:
        self._refuse_moved()
        now = self.clock.now()
        row = copy(worker)
        row.id, row.epoch, row.state = len(self._workers) + 1, 1, "live"
        row.started_at, row.lease_until = now, now + micros(lease)
        self._workers[row.id] = row
        return copy(row)

    async def release(self, worker: int, epoch: int) -> None:
        if not self._stands(worker, epoch):
            return
        self._workers[worker].state = "gone"
        for row in self._executions.values():
            if row.owner == worker:
                now = self.clock.now()
                if row.status is Status.ROLLING_BACK:
                    row.wake_at = now
                else:
                    self._move(row, Status.PENDING, now)
                row.owner = None
        self._signal.fire()

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        now = self.clock.now()
        alive = self._stands(worker, epoch)
        if alive:
            self._workers[worker].lease_until = now + micros(lease)
        return alive, now

    async def suspects(self, worker: int) -> list[int]:
        now = self.clock.now()
        return [
            row.id
            for row in self._workers.values()
            if row.id != worker and row.state == "live" and row.lease_until < now
        ]

    async def attend(self, worker: int, epoch: int, **told: Callable[[], None]) -> None:
        told["settled"]()  # nobody here dies but with all the others

    async def glance(
        self, worker: int, epoch: int, workflows: Sequence[tuple[str, int]], queues: Sequence[str], *, build: str = ""
    ) -> Glance:
        rows = self._wanted(workflows, queues, build, self.clock.now())
        crashed = [self._is_suspect(row) for row in rows]
        return Glance(await self.suspects(worker), not all(crashed), any(crashed), outgoing=False)

    async def declare_dead(self, worker: int, *, anyway: bool = False) -> bool:
        row = self._workers.get(worker)
        if row is None:
            return False
        if row.state == "live" and (anyway or row.lease_until < self.clock.now()):
            row.epoch, row.state = row.epoch + 1, "dead"
            self._signal.fire()
        return row.state != "live"

    # Commit ---------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> Verdicts:
        if not self._stands(batch.worker, batch.epoch):
            return Verdicts(alive=False)
        # First everything is judged, then everything is written: a batch is recorded as a whole or not at all.
        creates, created = self._judge_creates(batch)
        changes = [self._judge_change(change, created) for change in batch.changes]
        refused = {
            change.execution_id
            for change, verdict in zip(batch.changes, changes, strict=True)
            if verdict in (Verdict.FENCED, Verdict.GONE)
        }
        entries = [entry for entry in batch.entries if entry.execution_id not in refused]
        self._refuse_duplicates(entries)

        for execution in created.values():
            self._keep(execution)
        for entry in entries:
            self._journals.setdefault(entry.execution_id, {})[entry.seq] = entry
        for request in batch.requests:
            if request.execution_id not in refused and request.id not in self._requests:
                self._keep(copy(request))
        kept: list[RollbackAction | Snapshot] = [*batch.actions, *batch.snapshots]
        for row in kept:
            if row.execution_id not in refused:
                self._keep(copy(row))
        self._close(batch, refused)
        self._take(batch, refused)
        for change, verdict in zip(batch.changes, changes, strict=True):
            if verdict is Verdict.OK:
                self._apply(change, batch)
        if batch.creates or batch.changes:
            self._signal.fire()
        return Verdicts(True, creates, changes)

    def _judge_creates(self, batch: Batch) -> tuple[list[Verdict], dict[str, Execution]]:
        created: dict[str, Execution] = {}
        verdicts = []
        for create in batch.creates:
            if create.id in self._executions or create.id in created:
                verdicts.append(Verdict.EXISTS)
                continue
            verdicts.append(Verdict.OK)
            row = created[create.id] = copy(create)
            row.token = batch.token
        return verdicts, created

    def _judge_change(self, change: Change, created: dict[str, Execution]) -> Verdict:
        row = self._executions.get(change.execution_id) or created.get(change.execution_id)
        if row is None:
            return Verdict.GONE
        if row.fence != change.fence:
            return Verdict.FENCED
        if change.status in PARKED and row.nudges != change.nudges:
            return Verdict.NUDGED
        assert is_legal(row.status, change.status), f"illegal move of {row.id!r}: {row.status} to {change.status}"
        return Verdict.OK

    def _refuse_duplicates(self, entries: Iterable[Entry]) -> None:
        seen: set[tuple[str, int]] = set()
        for entry in entries:
            place = (entry.execution_id, entry.seq)
            if place in seen or entry.seq in self._journals.get(entry.execution_id, ()):
                message = f"entry {entry.seq} of {entry.execution_id!r} is recorded already; nothing of the batch was"
                raise BadBatchError(message, execution_id=entry.execution_id, key=entry.key)
            seen.add(place)

    def _close(self, batch: Batch, refused: set[str]) -> None:
        for id in batch.closes:
            request = self._requests.get(id)
            if request is not None and request.status == "open" and request.execution_id not in refused:
                request.status, request.decided_at = "withdrawn", batch.now

    def _take(self, batch: Batch, refused: set[str]) -> None:
        unused = {(id, seq) for id, seq in batch.untakes if id not in refused}
        for message in self._messages.values() if unused else ():
            if (message.execution_id, message.taken_seq) in unused:
                message.taken_seq = None
        for id, seq in batch.takes:
            taken = self._messages.get(id)
            if taken is not None and taken.execution_id not in refused:
                taken.taken_seq = seq

    def _apply(self, change: Change, batch: Batch) -> None:
        row = self._executions[change.execution_id]
        self._move(row, change.status, change.at)
        row.reason, row.wake_at = change.reason, change.wake_at
        if change.checksum is not None:
            row.output, row.error, row.checksum = change.output, change.error, change.checksum
        for name in ("input", "generation", "base_seq", "attributes", "refused"):
            if getattr(change, name) is not None:
                setattr(row, name, getattr(change, name))
        if change.status is Status.CANCELLED:
            row.wish, row.wish_by, row.wish_reason = "cancel", change.by, change.reason
        if not change.keeps:
            row.owner = None
        row.token = batch.token
        if change.status in ENDED and change.parent_id is not None:
            self._nudge_parent(change.parent_id, batch.now)

    async def settle(self, batch: Batch) -> Verdicts | None:
        created = [self._bears(create.id, batch) for create in batch.creates]
        changed = [self._bears(change.execution_id, batch) for change in batch.changes]
        written = (self._journals.get(entry.execution_id, {}).get(entry.seq) == entry for entry in batch.entries)
        if not (any(created) or any(changed) or any(written)):
            return None  # what leaves none of these traces may be committed again without harm
        return Verdicts(
            True,
            [
                Verdict.OK if ours and create.id not in {c.id for c in batch.creates[:n]} else Verdict.EXISTS
                for n, (ours, create) in enumerate(zip(created, batch.creates, strict=True))
            ],
            [Verdict.OK if ours else self._why_not(it) for ours, it in zip(changed, batch.changes, strict=True)],
        )

    def _bears(self, id: str, batch: Batch) -> bool:
        return id in self._executions and self._executions[id].token == batch.token

    def _why_not(self, change: Change) -> Verdict:
        row = self._executions.get(change.execution_id)
        if row is None:
            return Verdict.GONE
        return Verdict.FENCED if row.fence != change.fence else Verdict.NUDGED

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
        if not self._stands(worker, epoch):
            return []
        rows = [row for row in self._wanted(workflows, queues, build, now) if self._is_suspect(row) == crashed]
        rows.sort(key=lambda row: (-row.priority, row.created_at, row.id))
        for rule in limits:
            admitted = self._admitted(rule, rows, now)
            rows = [row for row in rows if row.queue != rule.queue or row.id in admitted]
        for row in rows[:limit]:
            if row.owner is not None:
                last = max(self._journals.get(row.id, ()), default=0)
                row.crashes = 1 if last > row.crash_seq else row.crashes + 1
                row.crash_seq = last
            if row.status is not Status.ROLLING_BACK:
                self._move(row, Status.RUNNING, now)
            row.owner, row.fence, row.wake_at = worker, row.fence + 1, None
            if row.started_at is None:
                row.started_at = now
        return [copy(row) for row in rows[:limit]]

    def _wanted(
        self, workflows: Sequence[tuple[str, int]], queues: Sequence[str], build: str, now: int
    ) -> list[Execution]:
        """What may be claimed, limits and suspects aside."""
        known = {(name, version) for name, version in workflows}
        return [
            row
            for row in self._executions.values()
            if self._is_claimable(row, now)
            and row.queue in queues
            and (row.workflow, row.version) in known
            and not (row.refused and build and build in listed(row.refused))
        ]

    def _is_suspect(self, row: Execution) -> bool:
        return row.crashes >= (1 if row.owner is not None else 2)

    def _admitted(self, rule: Limit, ready: Sequence[Execution], now: int) -> set[str]:
        queue = [row for row in self._executions.values() if row.queue == rule.queue]
        waiting = [row for row in ready if row.queue == rule.queue]
        taken = {row.id for row in waiting}
        running = [_place(row) for row in queue if row.status is Status.RUNNING and row.id not in taken]
        recent = [_place(row) for row in queue if row.started_at is not None and row.started_at > now - rule.window]
        return set(admit(rule, running, recent, [_place(row) for row in waiting]))

    def _is_claimable(self, row: Execution, now: int) -> bool:
        match row.status:
            case Status.PENDING:
                return row.wake_at is None or row.wake_at <= now
            case Status.WAITING:
                return row.wake_at is not None and row.wake_at <= now
            case Status.RUNNING:
                return self._is_dead(row.owner)
            case Status.ROLLING_BACK:
                return (row.wake_at is not None and row.wake_at <= now) or (
                    row.owner is not None and self._is_dead(row.owner)
                )
            case _:
                return False

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        return {id: self._unfolded(id) for id in ids}

    def _unfolded(self, id: str) -> list[Entry]:
        row = self._executions.get(id)
        journal = [entry for entry in self._journal(id) if row is None or entry.seq > row.base_seq]
        if row is not None and row.generation > 0:
            return journal
        whole = {e.key for e in journal if e.kind not in ("intent", "attempt") and e.status in ("completed", "failed")}
        return [entry for entry in journal if entry.parent_key not in whole]

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        return {id: self._inbox(self._executions[id]) for id in ids if id in self._executions}

    def _inbox(self, row: Execution) -> Inbox:
        return Inbox(
            nudges=row.nudges,
            wish=row.wish,
            wish_by=row.wish_by,
            wish_reason=row.wish_reason,
            requests=oldest_first(self._asked.get(row.id, ())),
            messages=sorted(
                (copy(m) for m in self._posted.get(row.id, ()) if m.taken_seq is None),
                key=lambda message: message.ordinal,
            ),
            children=oldest_first(self._children(row.id)),
        )

    async def nudged(self, worker: int) -> dict[str, int]:
        return {row.id: row.nudges for row in self._executions.values() if row.owner == worker}

    # Pruning and schedules ------------------------------------------------------------------------

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        raise no_transactions(self.url)

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        return []

    async def outbox(self, limit: int = 1000) -> list[Outgoing]:
        return []

    async def begin(self, seconds: float) -> Transaction:
        raise no_transactions(self.url)

    async def dismiss(self, ids: Sequence[int]) -> int:
        return 0

    async def prune(self, ids: Sequence[str]) -> list[str]:
        removed = [id for id in dict.fromkeys(ids) if self._is_over(id)]
        for id in removed:
            row = self._executions.pop(id)
            if row.parent_id is not None:
                self._below[row.parent_id].remove(id)
            self._journals.pop(id, None)
            for request in self._asked.pop(id, ()):
                self._requests.pop(request.id, None)
            self._drop_dossier(id)
            for message in self._posted.pop(id, ()):
                self._messages.pop(message.id, None)
        return removed

    def _is_over(self, id: str) -> bool:
        row = self._executions.get(id)
        if row is None or row.status not in ENDED:
            return False
        parent = self._executions.get(row.parent_id or "")
        return (parent is None or parent.status in ENDED) and all(c.status in ENDED for c in self._children(id))

    async def put_schedule(self, schedule: Schedule) -> None:
        self._schedules[schedule.name] = copy(schedule)
        self._signal.fire()

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        known = self._schedules.get(schedule.name)
        if known is None or known.next_at != expected:
            return False
        self._schedules[schedule.name] = copy(schedule)
        return True

    async def remove_schedule(self, name: str) -> bool:
        return self._schedules.pop(name, None) is not None

    # Waking ---------------------------------------------------------------------------------------

    async def next_wake(self) -> int | None:
        parked = (row for row in self._executions.values() if row.status in _DUE)
        return min((row.wake_at for row in parked if row.wake_at is not None), default=None)

    async def changed(self, timeout: float) -> bool:
        await self._signal.wait(self.clock, timeout)
        return False  # whoever changed something did it here


_DUE = (Status.PENDING, Status.WAITING, Status.ROLLING_BACK)


def _place(row: Execution) -> Place:
    return Place(row.id, row.attributes, row.started_at)
