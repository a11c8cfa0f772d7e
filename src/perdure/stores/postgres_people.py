"""What people bring to an execution on PostgreSQL: rollbacks, decisions and notes; and what is kept of them.

Each is a transaction: the execution's row is locked first, so that later statements see what others did before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.deliveries import Decide, Note, Receipt, Rewind, rewinds, takes_answers
from perdure.records import (
    AuditEvent,
    DecisionRow,
    Dossier,
    Request,
    RollbackAction,
    Snapshot,
    Status,
    Verdict,
)
from perdure.stores.columns import read_records
from perdure.stores.postgres_columns import pack_records
from perdure.stores.postgres_sessions import Pool


async def bring(pool: Pool, delivery: Rewind | Decide | Note) -> Receipt:
    """See `perdure.store.Store.deliver`."""
    async with pool.connection() as connection, connection.transaction():
        if isinstance(delivery, Decide):
            id = await connection.fetchval(pool.sql["asking"], delivery.request_id)
        else:
            id = delivery.execution_id
        await connection.fetch(pool.sql["lock_family"], id)
        row = await connection.fetchrow(pool.sql["standing"], id)
        if row is None:
            return Receipt(Verdict.GONE)
        match delivery:
            case Rewind():
                return Receipt(await _rewind(pool, connection, delivery, row), id)
            case Decide():
                return await _take_part(pool, connection, delivery, id, row)
            case Note():
                if row["events"] != delivery.known:
                    return Receipt(Verdict.OWNED, id)
                await connection.fetch(pool.sql["insert_events"], pack_records(delivery.events))
                return Receipt(Verdict.OK, id)


async def _rewind(pool: Pool, connection: Any, delivery: Rewind, row: Any) -> Verdict:
    status = Status(row["status"])
    verdict = rewinds(delivery, status, row["wish"], row["generation"])
    if verdict is not Verdict.OK:
        return verdict
    id = delivery.execution_id
    await connection.fetch(pool.sql["wish"], id, delivery.wish, delivery.by, delivery.reason)
    await connection.fetch(pool.sql["nudge" if status is Status.RUNNING else "roll_back"], id)
    return Verdict.OK


async def _take_part(pool: Pool, connection: Any, delivery: Decide, id: str, row: Any) -> Receipt:
    sql, status = pool.sql, Status(row["status"])
    [request] = read_records(Request, await connection.fetch(sql["lock_request"], delivery.request_id))
    if request.status != "open":
        return Receipt(Verdict.DECIDED, id, request)
    if not takes_answers(request.kind, status, row["wish"], row["generation"]):
        return Receipt(Verdict.ENDED, id, request)
    if row["events"] != delivery.known:
        return Receipt(Verdict.OWNED, id, request)
    if delivery.decisions:
        await connection.fetch(sql["insert_decisions"], pack_records(delivery.decisions))
    if delivery.events:
        await connection.fetch(sql["insert_events"], pack_records(delivery.events))
    values = (delivery.status, delivery.answer, delivery.by, delivery.via, delivery.checksum, delivery.policy)
    rows = await connection.fetch(sql["take_part"], request.id, *values, delivery.assignee, delivery.expires_at)
    if delivery.status != "open":
        await connection.fetch(sql[_after(request.kind, status)], id)
    return Receipt(Verdict.OK, id, read_records(Request, rows)[0])


def _after(kind: str, status: Status) -> str:
    if kind == "undo" and status is Status.ROLLBACK_FAILED:
        return "roll_back"
    return "deliver_resume" if kind == "unknown" and status is Status.BLOCKED else "nudge"


async def read_dossiers(pool: Pool, ids: Sequence[str], snapshots: bool) -> dict[str, Dossier]:
    """See `perdure.store.Insight.dossiers`."""
    async with pool.connection() as connection:
        found = {row["id"]: Dossier() for row in await connection.fetch(pool.sql["known"], ids)}
        these = list(found)
        decisions = await connection.fetch(pool.sql["dossier_decisions"], these)
        events = await connection.fetch(pool.sql["dossier_events"], these)
        actions = await connection.fetch(pool.sql["dossier_actions"], these)
        states = await connection.fetch(pool.sql["dossier_snapshots"], these) if snapshots else []
    for row, decision in zip(decisions, read_records(DecisionRow, decisions), strict=True):
        found[row["of_execution"]].decisions.append(decision)
    for event in read_records(AuditEvent, events):
        found[event.execution_id].events.append(event)
    for action in read_records(RollbackAction, actions):
        found[action.execution_id].actions.append(action)
    for state in read_records(Snapshot, states):
        found[state.execution_id].snapshots.append(state)
    return found
