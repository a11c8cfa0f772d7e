"""A virtual clock is the store's too, whatever stands in front of it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import Encryption, Engine, MemoryStore, generate_key, sleep, workflow
from perdure.stores.files import FileStore
from perdure.stores.sqlite import SqliteStore
from perdure.testing import Clock


@workflow
async def naps() -> str:
    await sleep(timedelta(days=30))
    return "awake"


STORES: list[Callable[[Path], Any]] = [
    lambda folder: MemoryStore(),
    lambda folder: SqliteStore(folder / "x.db"),
    lambda folder: FileStore(folder / "x"),
]


@pytest.mark.parametrize("make", STORES, ids=["memory", "sqlite", "file"])
@pytest.mark.parametrize("namespace", ["default", "shop"])
@pytest.mark.parametrize("codec", [None, Encryption.from_text(f"k:{generate_key()}")], ids=["plain", "encrypted"])
async def test_a_month_passes_at_once(make: Any, namespace: str, codec: Any, tmp_path: Path) -> None:
    innermost, clock = make(tmp_path), Clock()
    began = clock.now()
    settings: dict[str, Any] = {"namespace": namespace, "codec": codec, "clock": clock}
    async with Engine(innermost, workflows=[naps], **settings) as engine:
        assert innermost.clock is clock
        handle = await engine.start(naps)
        await handle.outcome()
        await clock.advance(timedelta(days=31))
        assert await handle.result() == "awake"
        row = await handle.row()
        assert 30 * 86400 * 10**6 <= (row.ended_at or 0) - began <= 31 * 86400 * 10**6, "of the store's own time"
