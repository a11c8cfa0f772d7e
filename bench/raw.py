"""What the databases do by themselves, from Python: durable rows, one a transaction or many."""

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


def sqlite(path: Path, rows: int, at_once: int = 1) -> float:
    """Seconds for so many rows with `synchronous=FULL`, `at_once` in a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("drop table if exists raw")
    connection.execute(f"create table raw ({COLUMNS}, a text, b text, primary key (execution_id, seq))")
    insert = "insert into raw values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    moment = "2026-11-21T20:33:00.123456Z"
    began = time.perf_counter()
    for first in range(0, rows, at_once):
        connection.execute("begin immediate")
        if at_once == 1:
            connection.execute(insert, (ROW[0], first, *ROW[1:], moment, moment))
        else:
            connection.executemany(
                insert, [(ROW[0], seq, *ROW[1:], moment, moment) for seq in range(first, first + at_once)]
            )
        connection.execute("commit")
    took = time.perf_counter() - began
    connection.close()
    return took


async def postgres(url: str, rows: int, at_once: int = 1) -> float:
    """Seconds for so many rows by a prepared statement through asyncpg, `at_once` in a transaction (by `unnest`)."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("drop table if exists raw")
    await connection.execute(
        f"create table raw ({COLUMNS}, a timestamptz, b timestamptz, primary key (execution_id, seq))"
    )
    insert = await connection.prepare("insert into raw values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
    kinds = ("text", "bigint", "text", "text", "text", "int", "bigint", "text", "text", "timestamptz", "timestamptz")
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(kinds, 1))
    insert_many = await connection.prepare(f"insert into raw select * from unnest({arrays})")
    moment = datetime.datetime.now(datetime.UTC)
    began = time.perf_counter()
    for first in range(0, rows, at_once):
        if at_once == 1:
            await insert.fetch(ROW[0], first, *ROW[1:], moment, moment)
        else:
            same = [[value] * at_once for value in (ROW[0], *ROW[1:], moment, moment)]
            same.insert(1, list(range(first, first + at_once)))
            await insert_many.fetch(*same)
    took = time.perf_counter() - began
    await connection.close()
    return took
