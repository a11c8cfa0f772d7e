"""DBOS's lane: `python -m bench.on_dbos URL`. As its guide starts many workflows, in the pool of threads that it makes.

Its async workflows came out alike, its queues slower, when they were tried.
"""

from __future__ import annotations

import sys
from typing import Any

from dbos import DBOS

from bench import lane


@DBOS.step()
def trivial(i: int) -> dict[str, Any]:
    return {"i": i, "ok": True}


@DBOS.workflow()
def many(n: int) -> int:
    for i in range(n):
        trivial(i)
    return n


def crowd(n: int) -> None:
    handles = [DBOS.start_workflow(many, lane.STEPS) for _ in range(n)]
    assert [handle.get_result() for handle in handles] == [lane.STEPS] * n


if __name__ == "__main__":
    DBOS(config={"name": "bench", "system_database_url": sys.argv[1], "log_level": "ERROR"})
    DBOS.launch()
    lane.race(crowd)
    DBOS.destroy()
