"""Fixtures that any test may ask for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.servers import MariaDbServer, NoServerError, PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server of this test process's own, for all its tests. Without its programs: a skip, or with
    PERDURE_TESTS_REQUIRE_ALL=1 a failure."""
    try:
        server = PostgresServer()
    except NoServerError as error:
        if os.environ.get("PERDURE_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDbServer]:
    """The same of MariaDB."""
    try:
        server = MariaDbServer()
    except NoServerError as error:
        if os.environ.get("PERDURE_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with server:
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
