"""A lane of the race: a process that runs so many executions as it is told, and says how long they took."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

STEPS = 10  # of each execution
WARM = 10


def race(crowd: Callable[[int], None]) -> None:
    """Warm up and say so; then, for each number that comes in, start as many executions and wait for all results."""
    crowd(WARM)
    print("ready", flush=True)
    for line in sys.stdin:
        gc.collect()
        began = time.perf_counter()
        crowd(int(line))
        print(time.perf_counter() - began, flush=True)
