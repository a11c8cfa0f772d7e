"""Commits to MariaDB and MySQL, and how one is settled whose answer is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from perdure.errors import BadBatchError
from perdure.records import ENDED, PARKED, Batch, Change, Execution, Verdict, Verdicts
from perdure.stores.mysql_columns import Rows, Statements, pack_entries, pack_rows, some, time, time_or_null
from perdure.stores.mysql_errors import DRIVER_ERRORS, NOT_NULL, error_code
from perdure.stores.mysql_sessions import Result, Session
from perdure.stores.settling import judge_batch


async def record(session: Session, batch: Batch, tallied: Callable[[Result], None]) -> Verdicts:
    """Record the batch. Raises the driver's errors; where the server gave them, nothing was recorded.

    `tallied`: is told what was added to what is kept counted.
    """
    if len({change.execution_id for change in batch.changes}) < len(batch.changes):
        raise BadBatchError("a batch changes an execution twice; nothing of it was recorded")
    try:
        return await _record_at_once(session, batch, tallied)
    except DRIVER_ERRORS as error:
        if error_code(error) != NOT_NULL:
            raise
    return await _record_judged(session, batch)


async def _record_at_once(session: Session, batch: Batch, tallied: Callable[[Result], None]) -> Verdicts:
    """In one packet, which fails with `NOT_NULL` if anything is refused."""
    sql = session.sql
    if _is_entries_only(batch):
        await session.run(*_entries_only(session, batch))
        return Verdicts(alive=True)
    head = _head(sql, batch)
    statements = [*head.values(), _suppose(sql, batch), *_tail(sql, batch, set(), batch.changes), sql["commit"]]
    results = await session.run(*statements)
    found = dict(zip(head, results, strict=False))
    if any(change.status in ENDED for change in batch.changes):
        tallied(results[-2])
    return Verdicts(True, _judge_creates(batch, found), [Verdict.OK] * len(batch.changes))


async def _record_judged(session: Session, batch: Batch) -> Verdicts:
    """In two packets: what is refused is left out of the second one."""
    sql = session.sql
    async with session.transaction():
        head = _head(sql, batch)
        found = dict(zip(head, await session.run(*head.values()), strict=True))
        if not _stands(found["worker"], batch):
            await session.roll_back()
            return Verdicts(alive=False)
        changes = _judge_changes(batch, found)
        refused = {
            change.execution_id
            for change, verdict in zip(batch.changes, changes, strict=True)
            if verdict in (Verdict.FENCED, Verdict.GONE)
        }
        passed = [change for change, verdict in zip(batch.changes, changes, strict=True) if verdict is Verdict.OK]
        await session.run(*_tail(sql, batch, refused, passed), sql["commit"])
    return Verdicts(True, _judge_creates(batch, found), changes)


async def record_within(session: Session, batch: Batch) -> Verdicts:
    """Record it in the transaction that is open, statement by statement: the session may take no more at once."""
    head = _head(session.sql, batch)
    del head["begin"]
    found = {name: (await session.run(statement))[0] for name, statement in head.items()}
    if not _stands(found["worker"], batch):
        return Verdicts(alive=False)
    changes = _judge_changes(batch, found)
    judged = list(zip(batch.changes, changes, strict=True))
    refused = {it.execution_id for it, verdict in judged if verdict in (Verdict.FENCED, Verdict.GONE)}
    passed = [change for change, verdict in judged if verdict is Verdict.OK]
    for statement in _tail(session.sql, batch, refused, passed):
        await session.run(statement)
    return Verdicts(True, _judge_creates(batch, found), changes)


# Statements -------------------------------------------------------------------------------------------


def _is_entries_only(batch: Batch) -> bool:
    waits = batch.requests, batch.closes, batch.takes, batch.untakes
    others = batch.creates, batch.changes, *waits, batch.actions, batch.snapshots
    return bool(batch.entries) and not any(others)


def _entries_only(session: Session, batch: Batch) -> list[str]:
    sql = session.sql
    who = {"worker": batch.worker, "epoch": batch.epoch, "fence": batch.entries[0].fence}
    if session.mariadb:
        # One statement is a transaction of its own; the subquery takes the lock before the first row is written.
        return [sql.fill("insert_entries", rows=pack_entries(batch.entries, sql.fill("locking_fence", **who)))]
    insert = sql.fill("insert_entries", rows=pack_entries(batch.entries, sql.fill("standing_fence", **who)))
    return [sql["begin"], sql.fill("lock_worker", worker=batch.worker), insert, sql["commit"]]


def _head(sql: Statements, batch: Batch) -> dict[str, str]:
    """What comes before the verdicts: locks, and the creates. By the names under which it is judged."""
    statements = {"begin": sql["begin"], "worker": sql.fill("lock_worker", worker=batch.worker)}
    if batch.creates:
        ids = sorted({create.id for create in batch.creates})
        statements["existing"] = sql.fill("existing_executions", ids=ids)
        statements["create"] = sql.fill("insert_executions", rows=_pack_creates(batch))
        statements["created"] = sql.fill("created_executions", ids=ids, token=batch.token)
        if ended := sorted({create.id for create in batch.creates if create.status in ENDED}):
            statements["tally"] = sql.fill("tally_new", ids=ended, token=batch.token)
    touched = {change.execution_id for change in batch.changes} | set(_parents(batch.changes))
    if touched:
        statements["marks"] = sql.fill("marks", ids=sorted(touched))
    return statements


def _pack_creates(batch: Batch) -> Rows:
    first: dict[str, Execution] = {}
    for create in batch.creates:
        first.setdefault(create.id, create)  # the second of one id finds the first
    return pack_rows([replace(first[id], token=batch.token) for id in sorted(first)])


def _suppose(sql: Statements, batch: Batch) -> str:
    fences = [(change.execution_id, change.fence) for change in batch.changes if change.status not in PARKED]
    parks = [(change.execution_id, change.fence, change.nudges) for change in batch.changes if change.status in PARKED]
    return sql.fill(
        "suppose",
        worker=batch.worker,
        epoch=batch.epoch,
        changes=len(batch.changes),
        ids=some(change.execution_id for change in batch.changes),
        fences=some(fences, ("", 0)),
        parks=some(parks, ("", 0, 0)),
    )


def _tail(sql: Statements, batch: Batch, refused: set[str], passed: list[Change]) -> Iterator[str]:
    """What is written once the verdicts are known."""
    not_these = some(sorted(refused))
    entries = [entry for entry in batch.entries if entry.execution_id not in refused]
    if entries:
        yield sql.fill("insert_entries", rows=pack_entries(entries))
    requests = sorted((r for r in batch.requests if r.execution_id not in refused), key=lambda request: request.id)
    if requests:
        yield sql.fill("insert_requests", rows=pack_rows(requests))
    if actions := [action for action in batch.actions if action.execution_id not in refused]:
        yield sql.fill("put_actions", rows=pack_rows(actions))
    if snapshots := [snapshot for snapshot in batch.snapshots if snapshot.execution_id not in refused]:
        yield sql.fill("insert_snapshots", rows=pack_rows(snapshots))
    if batch.closes:
        yield sql.fill("close_requests", ids=batch.closes, now=time(batch.now), refused=not_these)
    for id, seq in batch.untakes:
        yield sql.fill("free_message", id=id, seq=seq, refused=not_these)
    for id, seq in batch.takes:
        yield sql.fill("take_message", id=id, seq=seq, refused=not_these)
    for change in sorted(passed, key=lambda change: change.execution_id):
        yield _change(sql, change, batch.token)
    for id, times in sorted(_parents(passed).items()):
        yield sql.fill("nudge", id=id, times=times, at=time(batch.now))
    if ended := sorted(change.execution_id for change in passed if change.status in ENDED):
        yield sql.fill("tally", ids=ended)  # whoever owned it had not ended


def _change(sql: Statements, change: Change, token: str) -> str:
    return sql.fill(
        "change",
        id=change.execution_id,
        status=change.status,
        keeps=change.keeps,
        output=change.output,
        error=change.error,
        checksum=change.checksum,
        reason=change.reason,
        wake_at=time_or_null(change.wake_at),
        token=token,
        at=time(change.at),
        input=change.input,
        generation=change.generation,
        base_seq=change.base_seq,
        attributes=change.attributes,
        refused=change.refused,
        by=change.by,
    )


def _parents(changes: list[Change]) -> Counter[str]:
    """Who is nudged, and how often."""
    return Counter(change.parent_id for change in changes if change.parent_id is not None and change.status in ENDED)


# Verdicts ---------------------------------------------------------------------------------------------


def _stands(found: Result, batch: Batch) -> bool:
    return list(found.tuples) == [(batch.epoch, "live")]


def _judge_creates(batch: Batch, found: Mapping[str, Result]) -> list[Verdict]:
    if not batch.creates:
        return []
    new = {id for (id,) in found["created"].tuples} - {id for (id,) in found["existing"].tuples}
    verdicts = []
    for create in batch.creates:
        verdicts.append(Verdict.OK if create.id in new else Verdict.EXISTS)
        new.discard(create.id)
    return verdicts


def _judge_changes(batch: Batch, found: Mapping[str, Result]) -> list[Verdict]:
    marks = {id: (fence, nudges) for id, fence, nudges in found["marks"].tuples} if "marks" in found else {}
    return [_judge(change, marks.get(change.execution_id)) for change in batch.changes]


def _judge(change: Change, marks: tuple[int, int] | None) -> Verdict:
    if marks is None:
        return Verdict.GONE
    fence, nudges = marks
    if fence != change.fence:
        return Verdict.FENCED
    return Verdict.NUDGED if change.status in PARKED and nudges != change.nudges else Verdict.OK


# Settling ---------------------------------------------------------------------------------------------


async def read_back(session: Session, batch: Batch) -> Verdicts | None:
    """After a commit whose answer is missing: the verdicts of the batch, or None if it was not recorded."""
    sql = session.sql
    ids = {create.id for create in batch.creates} | {change.execution_id for change in batch.changes}
    places = [(entry.execution_id, entry.seq) for entry in batch.entries]
    async with session.transaction():
        # The lock first: without it, a commit that is still running reads as absent.
        _, worker, executions, entries, _, _ = await session.run(
            sql["begin"],
            sql.fill("lock_worker", worker=batch.worker),
            sql.fill("settle_executions", ids=some(sorted(ids))),
            sql.fill("settle_entries", places=some(places, ("", 0))),
            sql.fill("settle_durably", worker=batch.worker),
            sql["commit"],
        )
    ours = {(entry.execution_id, entry.seq, entry.fence, entry.key) for entry in batch.entries}
    written = {row[0] for row in entries.tuples if tuple(row) in ours}
    return judge_batch(batch, {row["id"]: row for row in executions.rows}, _stands(worker, batch), written)
