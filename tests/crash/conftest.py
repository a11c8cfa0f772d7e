"""Databases for processes that are killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.places import PLACES
from tests.crash.processes import Servers


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: a SIGKILL takes nothing from it that a disk would keep."""
    memory = Path("/dev/shm")
    place = tempfile.mkdtemp(prefix="perdure-crash-", dir=memory if os.access(memory, os.W_OK) else None)
    yield Path(place)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{folder}/perdure.db"
    if request.param == "file":
        return f"file://{folder}/perdure"
    given: str = request.getfixturevalue(f"{request.param}_url")
    return given


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Made once for all tests of this test process: each has to import everything."""
    with Servers(6) as made:
        yield made
