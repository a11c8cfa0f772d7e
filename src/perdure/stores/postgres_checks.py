"""Whether a PostgreSQL database will do: a line for each thing that was looked at."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator
from typing import Any

from perdure.errors import PerdureError
from perdure.stores import postgres_schema
from perdure.stores.findings import RIGHTS, Finding, clock_finding
from perdure.stores.postgres_address import Address
from perdure.stores.postgres_sessions import Pool

BEATS = 5


async def examine(pool: Pool, address: Address) -> AsyncIterator[Finding]:
    """See `perdure.stores.server.Server`. The pool is not open yet; the caller closes it."""
    began = time.perf_counter()
    await pool.open()
    yield Finding("connection", "ok", f"{address.shown}, opened in {(time.perf_counter() - began) * 1000:.0f} ms")
    async with pool.connection() as connection:
        server = await connection.fetchrow(address.sql["check_server"])
        yield _version(server)
        yield _tls(address, server)
        yield _sessions(address)
        yield (schema := await _schema(connection, address))
        if schema.result == "failed":
            return
        yield (rights := await _rights(connection, address, server))
        if rights.result == "failed":
            return
        opened = await connection.fetch(address.sql["check_open"], _tables(address))
        if opened:
            yield _is_open(address, server["place"], [row["name"] for row in opened])
        yield await _write_and_read(connection, address)
        yield await _latency(connection, address)
        yield clock_finding(await connection.fetchval(address.sql["check_now"]))
        yield Finding("workers", "ok", f"{await connection.fetchval(address.sql['check_live'])} live")


def _tables(address: Address) -> list[str]:
    return [address.names.table(table) for table in RIGHTS]


def _version(server: Any) -> Finding:
    return Finding("version", "ok", f"PostgreSQL {server['version']}, as {server['role']}")


def _tls(address: Address, server: Any) -> Finding:
    verified = (
        "the server's certificate is checked"
        if "sslmode=verify" in address.dsn
        else ("who the server is, is not checked (sslmode=verify-full and sslrootcert=FILE do)")
    )
    if server["tls"]:
        return Finding("TLS", "ok", f"{server['tls_version']}; {verified}")
    if server["client"] is None:
        return Finding("TLS", "ok", "not needed: a socket of this machine")
    if ipaddress.ip_address(server["client"]).is_loopback and not address.pooled:
        return Finding("TLS", "warning", "none; the connection does not leave this machine")
    if address.pooled:
        return Finding("TLS", "ok" if "sslmode=" in address.dsn else "warning", _to_the_pooler(address))
    return Finding("TLS", "warning", "none: whoever is on the way can read all. Add ?sslmode=require to the URL")


def _to_the_pooler(address: Address) -> str:
    asked = next((part for part in address.dsn.split("sslmode=")[1:]), "").split("&")[0]
    if asked in ("require", "verify-ca", "verify-full"):
        return f"to the pooler ({asked}); what is behind it is not seen from here"
    return "the way to the pooler is not seen from here. Add ?sslmode=require to the URL to be sure of it"


def _sessions(address: Address) -> Finding:
    if address.pooled:
        return Finding(
            "sessions",
            "warning",
            "behind a pooler: all works; a worker's death is seen by its lease only, and wake-ups come by polling",
        )
    return Finding("sessions", "ok", "our own")


async def _schema(connection: Any, address: Address) -> Finding:
    try:
        found, known = await postgres_schema.compare(connection, address)
    except PerdureError as error:
        return Finding("schema", "failed", str(error))
    if found > known:
        return Finding("schema", "ok", f"{found}, newer than this library's {known}, which may still write to it")
    return Finding("schema", "ok", f"{found}, the newest")


async def _rights(connection: Any, address: Address, server: Any) -> Finding:
    if server["standby"] or server["read_only"]:
        return Finding(
            "rights", "failed", "this server is read-only: a standby, or set so. Workers need one that writes"
        )
    needed = [(address.names.table(table), verb) for table, verbs in RIGHTS.items() for verb in verbs]
    names, verbs = zip(*needed, strict=True)
    lacking = await connection.fetch(address.sql["check_rights"], names, verbs)
    if lacking:
        some = ", ".join(f"{row['verb']} on {row['name']}" for row in lacking[:3])
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        return Finding(
            "rights",
            "failed",
            f"{server['role']} lacks {some}{more}. Their owner grants it: perdure db grant {server['role']}",
        )
    return Finding("rights", "ok", f"{server['role']} may do what a worker does")


def _is_open(address: Address, place: str, names: list[str]) -> Finding:
    return Finding(
        "privacy",
        "warning",
        f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''} in the schema {place} are open to the role"
        " anon, as on Supabase to whoever has the project's public key. Use a schema of its own (?schema=perdure in the"
        " URL), or turn row-level security on for these tables",
    )


async def _write_and_read(connection: Any, address: Address) -> Finding:
    transaction = connection.transaction()
    await transaction.start()
    try:
        id = await connection.fetchval(address.sql["check_write"])
        found = await connection.fetchval(address.sql["check_read"], id)
    finally:
        await transaction.rollback()
    if found is None:
        return Finding("write and read", "failed", "what was written was not read back")
    return Finding("write and read", "ok", "a row was written, read back, and rolled back")


async def _latency(connection: Any, address: Address) -> Finding:
    times = []
    for _ in range(BEATS):
        began = time.perf_counter()
        await connection.fetchval(address.sql["check_now"])
        times.append(time.perf_counter() - began)
    return Finding("latency", "ok", f"{sorted(times)[BEATS // 2] * 1000:.1f} ms a round trip")
