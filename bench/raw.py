"""What the databases do by themselves: one durable row a transaction, from Python."""

from __future__ import annotations

import datetime
import sqlite3
import time
from pathlib import Path

COLUMNS = (
    "execution_id text, seq bigint, key text, kind text, status text, attempt int, fence bigint,"
    " input text, output text"
)
ROW = (
    "01a1fff9-c34a-7b9a-bcdd-2c2a815a1414",
    "trivial#12",
    "step",
    "completed",
    1,
    1,
    '{"i":12}',
    '{"i":12,"ok":true}',
)


def sqlite(path: Path, rows: int) -> float:
    """Seconds for so many single-row commits with `synchronous=FULL`."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("drop table if exists raw")
    connection.execute(f"create table raw ({COLUMNS}, a text, b text, primary key (execution_id, seq))")
    insert = "insert into raw values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    moment = "2026-11-21T20:33:00.123456Z"
    began = time.perf_counter()
    for seq in range(rows):
        connection.execute("begin immediate")
        connection.execute(insert, (ROW[0], seq, *ROW[1:], moment, moment))
        connection.execute("commit")
    took = time.perf_counter() - began
    connection.close()
    return took


async def postgres(url: str, rows: int) -> float:
    """Seconds for so many single-row commits of a prepared statement through asyncpg."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("drop table if exists raw")
    await connection.execute(
        f"create table raw ({COLUMNS}, a timestamptz, b timestamptz, primary key (execution_id, seq))"
    )
    insert = await connection.prepare("insert into raw values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
    moment = datetime.datetime.now(datetime.UTC)
    began = time.perf_counter()
    for seq in range(rows):
        await insert.fetch(ROW[0], seq, *ROW[1:], moment, moment)
    took = time.perf_counter() - began
    await connection.close()
    return took
