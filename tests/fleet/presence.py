"""What the servers know of workers' presence, by their own means."""

from __future__ import annotations

from typing import Any

import asyncmy
import asyncpg

from perdure.stores.mysql_address import read_address


async def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, in a session of its own."""
    if url.startswith("postgres"):
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()
    options = {name: value for name, value in read_address(url).options.items() if value is not None}
    async with asyncmy.connect(**options, autocommit=True) as connection, connection.cursor() as cursor:
        await cursor.execute(statement)
        return list(await cursor.fetchall()) if cursor.description else []


async def holder(url: str, worker: int) -> int | None:
    """The session that holds a worker's lock."""
    if url.startswith("postgres"):
        found = await query(
            url,
            "select pid from pg_locks l join pg_database d on d.oid = l.database where locktype = 'advisory'"
            " and d.datname = current_database() and granted and mode = 'ExclusiveLock'"
            f" and classid = 'workers'::regclass and objid = {worker} and objsubid = 2",
        )
        return found[0][0] if found else None
    name = f"concat('perdure.', left(sha1(database()), 20), '.', {worker})"
    return (await query(url, f"select is_used_lock({name})"))[0][0]  # type: ignore[no-any-return]


async def cut(url: str, session: int) -> None:
    """End a session of the server's."""
    if url.startswith("postgres"):
        await query(url, f"select pg_terminate_backend({session})")
    else:
        await query(url, f"kill {session}")


async def workers(url: str) -> list[tuple[Any, ...]]:
    """(id, pid, state, presence) of all."""
    return await query(url, "select id, pid, state, presence from workers order by id")
