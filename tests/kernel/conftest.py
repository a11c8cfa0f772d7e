"""Fixtures of the kernel's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import MemoryStore


@pytest.fixture(params=["memory", "file", "sqlite", "postgres", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where executions are kept, on each kind of store: several engines of a test may share it."""
    match request.param:
        case "memory":
            return MemoryStore()
        case "file":
            return f"file://{tmp_path}/perdure"
        case "sqlite":
            return f"sqlite:///{tmp_path}/perdure.db"
        case server:
            return request.getfixturevalue(f"{server}_url")
