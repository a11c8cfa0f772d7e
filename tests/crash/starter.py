"""Processes that start an execution with a message, each killed a little later than the one before.

    python -m tests.crash.starter URL

A process is killed before the n-th statement of the delivery (on a server: when it waits for the n-th time; in a
folder: before the n-th access to the disk). Then all is looked at. What was seen is printed, a JSON line for each n,
until one was not killed; at last all that is there is run to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from perdure import Engine, Signal, receive, workflow
from tests.own_transactions.host import DyingAt, trace

MESSAGE = "paid"


@workflow(name="first_message")
async def waits() -> Any:
    return await receive(MESSAGE)


async def start(url: str, n: int) -> None:
    async with Engine(url, worker=False, workflows=[waits]) as client:
        await client._submitter()  # what it writes is not what is tested here
        store = client.store
        deliver = store.deliver

        async def dying(delivery: Any, now: int) -> Any:
            if url.startswith("sqlite"):
                trace(store._db.connection, n)  # type: ignore[attr-defined]
            elif url.startswith("file"):
                with dying_at_access(n):
                    return await deliver(delivery, now)
            else:
                return await DyingAt(deliver(delivery, now), n)
            return await deliver(delivery, now)

        store.deliver = dying  # type: ignore[method-assign]
        options = waits.options(execution_id=f"x{n}", signal=Signal(MESSAGE, n, id="first"))
        await client.start(options)


@contextmanager
def dying_at_access(n: int) -> Iterator[None]:
    left = [n]

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*args)

        return counting

    plain = os.pwrite, os.fsync
    os.pwrite, os.fsync = map(counted, plain)
    yield
    os.pwrite, os.fsync = plain


async def look(url: str, n: int) -> tuple[int, int]:
    """How many executions and how many messages are there."""
    id = f"x{n}"
    async with Engine(url, worker=False, workflows=[waits]) as client:
        box = (await client.store.inbox([id])).get(id)
        return len(await client.store.get([id])), 0 if box is None else len(box.messages)


async def finish(url: str, last: int) -> list[Any]:
    """Start all of them again, and give their results."""
    async with Engine(url, workflows=[waits], poll=0.05) as engine:
        handles = [
            await engine.start(waits.options(execution_id=f"x{n}", signal=Signal(MESSAGE, n, id="first")))
            for n in range(1, last + 1)
        ]
        return [await handle.result(60) for handle in handles]


def forked(work: Coroutine[Any, Any, Any]) -> str:
    """Run it in a process of its own. Gives how that ended."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(work)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    work.close()
    _, status = os.waitpid(pid, 0)
    return "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def main(url: str) -> None:
    for n in count(1):
        ended = forked(start(url, n))
        rows, messages = asyncio.run(look(url, n))
        print(json.dumps({"ended": ended, "rows": rows, "messages": messages}), flush=True)
        if ended != "killed":
            break
    print(json.dumps(asyncio.run(finish(url, n))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
