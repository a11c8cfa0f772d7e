"""Who is taken for silent: an event loop that does not run, and only as long as it does not."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from perdure.heartbeat import BEATS, SILENT_LEASES, Heartbeat
from perdure.records import WorkerRecord
from perdure.stores.memory import MemoryStore

LEASE = 0.03


class Counting(MemoryStore):
    beats = 0

    async def heartbeat(self, worker: int, epoch: int, lease: float) -> tuple[bool, int]:
        self.beats += 1
        return await super().heartbeat(worker, epoch, lease)


async def beating(store: Counting) -> Heartbeat:
    worker = await store.register(WorkerRecord(0), 60.0)
    heart = Heartbeat(
        store, worker.id, worker.epoch, LEASE, beaten=lambda now: None, dead=lambda: None, seen=lambda: None
    )
    heart.start()
    return heart


async def more_beats(store: Counting, number: int) -> None:
    wanted = store.beats + number
    while store.beats < wanted:
        await asyncio.sleep(LEASE / BEATS)


async def test_a_loop_that_runs_is_not_silent_whatever_its_worker_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    store = Counting()
    heart = await beating(store)
    await more_beats(store, 2 * BEATS * SILENT_LEASES)
    heart.stop()
    assert not [record for record in caplog.records if record.levelno >= logging.CRITICAL]


async def test_a_loop_that_hangs_is_reported_once_and_beats_again_when_it_runs_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Counting()
    heart = await beating(store)

    def reports() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.CRITICAL]

    def hang() -> None:
        time.sleep(LEASE)

    while not reports():
        hang()
    beats = store.beats
    hang()
    assert store.beats == beats, "who hangs is to be taken over"
    await more_beats(store, 2)
    heart.stop()
    assert len(reports()) == 1
    assert "in hang" in reports()[0]
