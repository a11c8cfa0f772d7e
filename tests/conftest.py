"""Fixtures that any test may ask for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.servers import MariaDbServer, NoServerError, PgBouncer, PostgresServer

T = TypeVar("T")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server of this test process's own, for all its tests. Without its programs: a skip, or with
    PERDURE_TESTS_REQUIRE_ALL=1 a failure."""
    with _started_or_skipped(PostgresServer) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def transaction_pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode in front of `postgres_server`: `pooler.url(postgres_url)`."""
    with _started_or_skipped(lambda: PgBouncer(postgres_server)) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def session_pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """The same in session mode."""
    with _started_or_skipped(lambda: PgBouncer(postgres_server, "session")) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def tls_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test process's own that has a certificate."""
    with _started_or_skipped(lambda: PostgresServer(tls=True)) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_tls_server() -> Iterator[MariaDbServer]:
    """The same of MariaDB."""
    with _started_or_skipped(lambda: MariaDbServer(tls=True)) as server:
        yield server


def _started_or_skipped(make: Callable[[], T]) -> T:
    try:
        return make()
    except NoServerError as error:
        if os.environ.get("PERDURE_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDbServer]:
    """The same of MariaDB."""
    with _started_or_skipped(MariaDbServer) as server:
        yield server


@pytest.fixture
def mysql_url(mariadb_server: MariaDbServer) -> Iterator[str]:
    """The URL of an empty database of this test's own, on MariaDB."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(autouse=True)
def _own_log_level() -> Iterator[None]:
    """The command line sets how much the library logs, for the whole of its process: that is no other test's.

    Set anew before each test too: fixtures of a module or session that call the command line come before this one.
    """
    logger = logging.getLogger("perdure")
    logger.setLevel(logging.NOTSET)
    yield
    logger.setLevel(logging.NOTSET)
