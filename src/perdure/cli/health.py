"""What a machine asks a worker: does it live, and is it ready? Two pages of JSON for orchestrators and load balancers.

`/live`: the event loop turns; if it does not, there is no answer. `/ready`: it is registered, its last look reached the
store, and it is not leaving. 200 for yes, 503 for no.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import click

from perdure.worker import Worker

PATIENCE = 5.0
"""Seconds that who asks may take to say what."""

LONGEST = 8192
"""Bytes of what is asked."""

REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@asynccontextmanager
async def health(worker: Worker, host: str, port: int | None) -> AsyncIterator[int | None]:
    """Answer for a worker while the block lasts. Gives the port; None where nobody asked for one."""
    if port is None:
        yield None
        return
    try:
        server = await asyncio.start_server(_Answers(worker), host, port, limit=LONGEST)
    except (OSError, UnicodeError) as error:  # the second one for what is no name of a host
        why = getattr(error, "strerror", None) or str(error)
        raise click.ClickException(f"nobody can listen on {host}, port {port}: {why}") from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def readiness(worker: Worker) -> dict[str, Any]:
    """What `/ready` says."""
    leaves = worker.draining or worker.is_going_down()
    return {
        "ready": worker.registered and worker.reaches_store and not leaves,
        "registered": worker.registered,
        "store": worker.reaches_store,
        "draining": leaves,
        "executions": len(worker.runs),
    }


class _Answers:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                status, body = self._answer(method, path.partition("?")[0])
                text = json.dumps(body).encode() + b"\n"
                writer.write(_head(status, len(text)) + (b"" if method == "HEAD" else text))
                await writer.drain()
        writer.close()

    def _answer(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        if method not in ("GET", "HEAD"):
            return 405, {"error": "ask with GET"}
        if path == "/live":
            return 200, {"live": True, "worker": self._worker.record.id}
        if path == "/ready":
            found = readiness(self._worker)
            return (200 if found["ready"] else 503), found
        return 404, {"error": "there are /live and /ready"}


def _head(status: int, length: int) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {REASONS[status]}",
        "Content-Type: application/json",
        "Cache-Control: no-store",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
