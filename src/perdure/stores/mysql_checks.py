"""Whether a MariaDB or MySQL database will do: a line for each thing that was looked at."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import asyncmy.errors

from perdure.clock import from_datetime
from perdure.errors import PerdureError
from perdure.stores import mysql_schema
from perdure.stores.findings import Finding, clock_finding
from perdure.stores.mysql_address import Address
from perdure.stores.mysql_sessions import Pool, Session

BEATS = 5
MOST_COUNTED = 200_000
"""Executions; to count more takes a while."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


async def examine(pool: Pool, address: Address) -> AsyncIterator[Finding]:
    """See `perdure.stores.server.Server`. The pool is not open yet; the caller closes it."""
    began = time.perf_counter()
    await pool.open()
    yield Finding("connection", "ok", f"{address.shown}, opened in {(time.perf_counter() - began) * 1000:.0f} ms")
    async with pool.session() as session:
        server = (await session.run(session.sql["check_server"]))[0].rows[0]
        kind = "MariaDB" if session.mariadb else "MySQL"
        yield Finding("version", "ok", f"{kind} {server['version'].split('-')[0]}, as {server['role']}")
        yield await _tls(session, address)
        yield (schema := await _schema(session, address))
        if schema.result == "failed":
            return
        yield (written := await _write_and_read(session, server))
        if written.result == "failed":
            return
        yield await _tallies(session)
        yield await _latency(session)
        yield clock_finding(from_datetime((await session.run(session.sql["check_now"]))[0].value))
        yield Finding("workers", "ok", f"{(await session.run(session.sql['check_live']))[0].value} live")


async def _tls(session: Session, address: Address) -> Finding:
    status = dict((await session.run(session.sql.fill("check_tls")))[0].tuples)
    options = address.options
    if status.get("Ssl_cipher"):
        verified = (options["ssl"] or {}).get("verify_mode") == "required"
        checked = (
            "the server's certificate is checked"
            if verified
            else ("who the server is, is not checked (?ssl_ca=FILE in the URL does)")
        )
        return Finding("TLS", "ok", f"{status.get('Ssl_version')}; {checked}")
    if options["unix_socket"]:
        return Finding("TLS", "ok", "not needed: a socket of this machine")
    if options["host"] in LOOPBACK:
        return Finding("TLS", "warning", "none; the connection does not leave this machine")
    return Finding("TLS", "warning", "none: whoever is on the way can read all. Add ?ssl=true to the URL")


async def _schema(session: Session, address: Address) -> Finding:
    try:
        found, known = await mysql_schema.compare(session, address)
    except PerdureError as error:
        return Finding("schema", "failed", str(error))
    if found > known:
        return Finding("schema", "ok", f"{found}, newer than this library's {known}, which may still write to it")
    return Finding("schema", "ok", f"{found}, the newest")


async def _write_and_read(session: Session, server: dict[str, Any]) -> Finding:
    if server["read_only"]:
        return Finding(
            "rights", "failed", "this server is read-only: a replica, or set so. Workers need one that writes"
        )
    sql = session.sql
    try:
        _, _, _, found, _ = await session.run(
            sql["begin"], sql["check_write"], sql["check_tally"], sql["check_read"], "rollback"
        )
    except asyncmy.errors.MySQLError as error:
        if error.args[0] not in (1142, 1143, 1044, 1227):
            raise
        user = server["role"].partition("@")[0]
        return Finding(
            "rights",
            "failed",
            f"{server['role']} may not write here. Whoever owns the database grants it: perdure db grant {user}",
        )
    if not found.tuples:
        return Finding("write and read", "failed", "what was written was not read back")
    return Finding("write and read", "ok", "a row was written, read back, and rolled back")


async def _tallies(session: Session) -> Finding:
    """Whether what is kept counted is what counting finds; not looked for where that would take long."""
    ((number, uncounted),) = (await session.run(session.sql["how_many_ended"]))[0].tuples
    if uncounted:
        words = "an older Perdure has been at work, which keeps none; the executions are counted until it has left"
        return Finding("counts", "ok", words)
    if number > MOST_COUNTED:
        return Finding("counts", "ok", f"{number:,} executions have ended, as they are kept counted")
    if wrong := (await session.run(session.sql["miscounted"]))[0].value:
        kinds = "one kind" if wrong == 1 else f"{wrong} kinds"
        words = (
            f"{kinds} of executions are counted wrongly: somebody changed them otherwise. `perdure db upgrade` counts"
        )
        return Finding("counts", "warning", f"{words} all anew")
    return Finding("counts", "ok", f"{number:,} executions have ended, as they are kept counted")


async def _latency(session: Session) -> Finding:
    times = []
    for _ in range(BEATS):
        began = time.perf_counter()
        await session.run(session.sql["check_now"])
        times.append(time.perf_counter() - began)
    return Finding("latency", "ok", f"{sorted(times)[BEATS // 2] * 1000:.1f} ms a round trip")
