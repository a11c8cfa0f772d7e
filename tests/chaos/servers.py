"""Servers that keep what they have acknowledged when they are killed, which the tests' usual ones need not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
