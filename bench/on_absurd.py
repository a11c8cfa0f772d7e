"""Absurd's lane: `python -m bench.on_absurd URL`. A worker as its README starts it, and a client that waits.

A client has one connection, which more tasks at once do not make faster.
"""

from __future__ import annotations

import sys
from threading import Thread
from typing import Any

from absurd_sdk import Absurd

from bench import lane


def main(url: str) -> None:
    app, client = Absurd(url), Absurd(url)

    @app.register_task(name="many")
    def many(params: dict[str, int], ctx: Any) -> int:
        for i in range(params["n"]):
            ctx.step("trivial", lambda i=i: {"i": i, "ok": True})
        return params["n"]

    def crowd(n: int) -> None:
        spawned = [client.spawn("many", {"n": lane.STEPS}, queue="default") for _ in range(n)]
        for one in spawned:
            assert client.await_task_result(one["task_id"]).result == lane.STEPS

    worker = Thread(target=app.start_worker)
    worker.start()
    try:
        lane.race(crowd)
    finally:
        app.stop_worker()
        worker.join()


if __name__ == "__main__":
    main(sys.argv[1])
