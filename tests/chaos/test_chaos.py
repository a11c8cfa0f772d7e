"""A short storm over each server; the long one is `python -m tests.chaos`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.chaos.run import run
from tests.chaos.servers import database, folder
from tests.servers import MariaDbServer, NoServerError, PostgresServer

pytestmark = pytest.mark.slow

SEED = 20261128


@pytest.fixture(
    params=[pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("mariadb", marks=pytest.mark.mysql)]
)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresServer | MariaDbServer, str]]:
    """A server that may be crashed, and an empty database on it."""
    try:
        with database(request.param) as made:
            yield made
    except NoServerError as error:
        if os.environ.get("PERDURE_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


async def test_nothing_is_lost_while_workers_server_and_connections_fail(
    place: tuple[PostgresServer | MariaDbServer, str],
) -> None:
    with folder() as book:
        found = await run(*place, book, seed=SEED, seconds=6.0, executions=100)
    print(found.counts, *found.log, sep="\n")
    assert found.counts["entries"] > 1000
    assert found.wrong == []
