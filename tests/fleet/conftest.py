"""Databases of servers, and words for what one does to a worker there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """For ledgers and gates; in memory where there is such a place."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="perdure-fleet-", dir=place) as made:
        yield Path(made)


@pytest.fixture(
    params=[
        pytest.param("postgres_url", id="postgres", marks=pytest.mark.postgres),
        pytest.param("mysql_url", id="mariadb", marks=pytest.mark.mysql),
    ]
)
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of a server."""
    made: str = request.getfixturevalue(request.param)
    return made
