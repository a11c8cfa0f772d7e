"""Servers that keep what they have acknowledged when they are killed, as others of the tests need not; a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import MariaDbServer, PostgresServer

# At each commit to the operating system, which is not killed; that is what a SIGKILL leaves.
KEEPS = {"innodb-flush-log-at-trx-commit": "2"}


@contextmanager
def database(kind: str) -> Iterator[tuple[PostgresServer | MariaDbServer, str]]:
    """A server of its own, and the URL of an empty database on it."""
    if kind == "postgres":
        with PostgresServer(settings={"full_page_writes": "on"}) as postgres, postgres.database() as url:
            yield postgres, url
    else:
        with MariaDbServer(durable=True, settings=KEEPS) as mariadb, mariadb.database() as url:
            yield mariadb, url


@contextmanager
def folder(*, keep: bool = False) -> Iterator[Path]:
    """A folder in memory where there is one: a SIGKILL takes nothing from it that a disk would keep."""
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="perdure-chaos-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield place
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
