"""Reaching a server that is away: one pace for all threads, in each event loop the first who comes tries."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure.errors import StoreUnavailableError
from perdure.stores.gate import Gate, Pace


def in_words(error: BaseException) -> StoreUnavailableError:
    return StoreUnavailableError(f"away: {error}")


async def away() -> None:
    raise OSError("nobody listens")


def tried(gate: Gate, start: threading.Barrier, found: list[BaseException]) -> None:
    """Several at once try to reach what is away, on an event loop of their own."""

    async def several() -> None:
        start.wait()
        found.extend(await asyncio.gather(*[gate.attempt(away) for _ in range(3)], return_exceptions=True))  # type: ignore[arg-type]

    asyncio.run(several())


def test_a_gate_serves_several_event_loops_at_once_and_one_after_the_other() -> None:
    gate = Gate(Pace(), (OSError,), in_words)
    with pytest.raises(StoreUnavailableError):
        asyncio.run(gate.attempt(away))
    found: list[BaseException] = []
    for _ in range(2):
        start = threading.Barrier(2)
        threads = [threading.Thread(target=tried, args=(gate, start, found)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 12
    assert {type(error) for error in found} == {StoreUnavailableError}, found


async def test_who_came_while_another_tried_gets_its_error_and_does_not_try() -> None:
    gate = Gate(Pace(), (OSError,), in_words)
    tries = 0

    async def fails() -> None:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        raise OSError(f"try {tries}")

    with pytest.raises(StoreUnavailableError, match="try 1"):
        await gate.attempt(fails)
    found = await asyncio.gather(*[gate.attempt(fails) for _ in range(5)], return_exceptions=True)
    assert tries == 2
    assert {str(error) for error in found} == {"away: try 2"}
