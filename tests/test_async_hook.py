"""Our coroutine hook: what fails in a coroutine fails the test."""

import asyncio
import contextvars
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
SEEN: contextvars.ContextVar[int] = contextvars.ContextVar("SEEN", default=0)


@pytest.fixture
async def loop() -> AsyncIterator[asyncio.AbstractEventLoop]:
    SEEN.set(5)
    here = asyncio.get_running_loop()
    yield here
    assert asyncio.get_running_loop() is here


@pytest.fixture
async def value(loop: asyncio.AbstractEventLoop) -> int:
    return 2


async def test_a_test_and_its_fixtures_share_loop_and_context(loop: asyncio.AbstractEventLoop, value: int) -> None:
    assert asyncio.get_running_loop() is loop
    assert (SEEN.get(), value) == (5, 2)


@given(st.integers())
async def test_examples_may_be_coroutines(number: int) -> None:
    await asyncio.sleep(0)
    assert number == int(str(number))


BAD = """
import asyncio
from hypothesis import given, strategies as st

async def test_fails():
    assert False

async def test_lets_a_task_fall():
    async def fall():
        raise ValueError("fallen")
    task = asyncio.create_task(fall())
    await asyncio.sleep(0)

async def test_lets_a_callback_fall():
    def fall():
        raise ValueError("fallen")
    asyncio.get_running_loop().call_soon(fall)
    await asyncio.sleep(0)

def test_forgets_a_coroutine():
    async def forgotten():
        pass
    forgotten()

@given(st.integers())
async def test_fails_for_an_example(number):
    assert number < 10
"""


def test_bad_coroutine_tests_fail(tmp_path: Path) -> None:
    (tmp_path / "test_bad.py").write_text(BAD)
    plugins = ["-p", "tests.async_hook", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-c", os.devnull, "--rootdir", ".", *plugins, "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    # A test that let something fall passes itself, and then fails in its teardown.
    assert "3 failed, 2 passed, 2 errors" in done.stdout, done.stdout
