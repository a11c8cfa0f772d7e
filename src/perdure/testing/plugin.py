"""The pytest plugin: the fixtures `perdure_clock` and `perdure_engine`."""

from __future__ import annotations

import pytest

from perdure.engine import Engine
from perdure.testing.clock import Clock


@pytest.fixture
def perdure_clock() -> Clock:
    """A virtual clock: `await perdure_clock.advance(timedelta(days=30))`."""
    return Clock()


@pytest.fixture
def perdure_engine(perdure_clock: Clock) -> Engine:
    """An engine in memory, on the virtual clock, not yet open: `async with perdure_engine: ...`."""
    return Engine("memory://", clock=perdure_clock)
