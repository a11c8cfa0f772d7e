"""Messages on PostgreSQL, and executions that begin with one."""

from __future__ import annotations

from typing import Any

from perdure.deliveries import Post, Receipt, StartFrom, StartWith
from perdure.records import Execution, Message, Verdict
from perdure.stores.columns import parts, read_records
from perdure.stores.outgoing import is_same_workflow
from perdure.stores.postgres_columns import pack_entries, pack_records
from perdure.stores.postgres_sessions import Pool

UNSEEN = 1000
"""Messages that may have been sent while one waited for the lock of its execution."""


async def post(pool: Pool, delivery: Post) -> Receipt:
    """See `perdure.store.Store.deliver`."""
    message = delivery.message
    async with pool.connection() as connection:
        verdict = await _say(pool, connection, message, delivery.most - UNSEEN)
        if verdict is Verdict.FULL:
            async with connection.transaction():
                await connection.fetch(pool.sql["lock_family"], message.execution_id)
                verdict = await _say(pool, connection, message, delivery.most)
        verdict = await _or_repeat(pool, connection, message, verdict)
    return Receipt(verdict, None if verdict is Verdict.GONE else message.execution_id)


async def post_within(pool: Pool, connection: Any, delivery: Post) -> Verdict:
    """The same inside a transaction."""
    message = delivery.message
    verdict = await _say(pool, connection, message, delivery.most - UNSEEN)
    if verdict is Verdict.FULL:  # the lock is held now, so that all are seen
        verdict = await _say(pool, connection, message, delivery.most)
    return await _or_repeat(pool, connection, message, verdict)


async def _say(pool: Pool, connection: Any, message: Message, most: int) -> Verdict:
    content = message.name, message.value, message.checksum, message.sent_by
    values = message.id, message.execution_id, *content, most
    verdict = await connection.fetchval(pool.sql["deliver_message"], *values)
    return Verdict.GONE if verdict is None else Verdict(verdict)


async def _or_repeat(pool: Pool, connection: Any, message: Message, verdict: Verdict) -> Verdict:
    # Which it is where nothing is taken any more, one statement cannot see: this one has a newer view.
    refused = verdict in (Verdict.ENDED, Verdict.FULL)
    return Verdict.REPEAT if refused and await connection.fetchval(pool.sql["has_message"], message.id) else verdict


async def start(pool: Pool, delivery: StartWith) -> Receipt:
    """See `perdure.store.Store.deliver`."""
    sql, wanted = pool.sql, delivery.execution
    async with pool.connection() as connection, connection.transaction():
        worker = await connection.fetchrow(sql["lock_worker"], delivery.worker)
        if worker is None or tuple(worker) != (delivery.epoch, "live"):
            return Receipt(Verdict.FENCED)
        started = bool(await connection.fetch(sql["outbox_starts"], pack_records([wanted])))
        if not started:
            there = read_records(Execution, await connection.fetch(sql["get_executions"], [wanted.id]))[0]
            if not is_same_workflow(wanted, there):
                return Receipt(Verdict.EXISTS, wanted.id)
        verdict = await post_within(pool, connection, Post(delivery.message, delivery.most))
        return Receipt(verdict, wanted.id, started=started)


async def start_from(pool: Pool, delivery: StartFrom) -> Receipt:
    """See `perdure.store.Store.deliver`."""
    sql, wanted = pool.sql, delivery.execution
    async with pool.connection() as connection, connection.transaction():
        worker = await connection.fetchrow(sql["lock_worker"], delivery.worker)
        if worker is None or tuple(worker) != (delivery.epoch, "live"):
            return Receipt(Verdict.FENCED)
        if not await connection.fetch(sql["outbox_starts"], pack_records([wanted])):
            return Receipt(Verdict.EXISTS, wanted.id)
        for part in parts(delivery.entries):
            values = pack_entries(part, f"start.{wanted.id}")
            await connection.fetch(sql["commit_entries"], delivery.worker, delivery.epoch, *values)
    return Receipt(Verdict.OK, wanted.id, started=True)
