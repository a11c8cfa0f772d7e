"""What a bench says, and how it measures."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any


class Report:
    """The lines of a run."""

    def __init__(self) -> None:
        self.missed = 0

    def line(
        self, name: str, value: float, unit: str, *, least: float | None = None, most: float | None = None
    ) -> None:
        """A figure, and the bound that it must keep."""
        ok = (least is None or value >= least) and (most is None or value <= most)
        bound = (
            f"at least {least:,g}" if least is not None else f"at most {most:,g}" if most is not None else "reported"
        )
        mark = "  " if least is None and most is None else "ok" if ok else "MISSED"
        print(f"{mark:6} {name:<66} {value:>12,.2f} {unit:<8} ({bound})", flush=True)
        self.missed += not ok

    def miss(self, why: str) -> None:
        """What could not be measured is missed."""
        print(f"MISSED {why}", flush=True)
        self.missed += 1


def rss(process: int) -> float:
    """MiB of memory that a process occupies."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def timed(act: Callable[[], Awaitable[Any]]) -> float:
    """Seconds that it takes, without what others left to the garbage collector."""
    gc.collect()
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began
