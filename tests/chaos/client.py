"""Who starts, signals, answers, cancels and waits: it outlives everything, and repeats what was not acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from perdure import AlreadyDecidedError, Engine, NotFoundError, Query, StoreUnavailableError
from tests.chaos.flows import answer_to, chaotic, kind_of
from tests.crash import ledger

T = TypeVar("T")

PAUSE = 0.1
LOOK = 0.1


class Client:
    """Tells the ledger what was acknowledged. `away`: how often the server was not there to be asked."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.told: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()
        self._answered: set[str] = set()

    async def insist(self, act: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await act()
            except StoreUnavailableError:
                self.counts["away"] += 1
                await asyncio.sleep(PAUSE)

    def ack(self, execution: str, key: str, value: Any = "") -> None:
        ledger.write(ledger.ACK, execution, key, json.dumps(value))
        self.counts[key.split()[0]] += 1

    async def start(self, id: str, n: int) -> None:
        await self.insist(lambda: self.engine.start(chaotic.options(execution_id=id), n))
        self.ack(id, "start", n)

    async def accompany(self, id: str, n: int) -> None:
        """From its start, which may be somebody else's, to its end."""
        handle = self.engine.get(id)
        await self._until_it_is_there(id)
        for number in (1, 2) if kind_of(n) not in ("fails", "cancelled") else ():
            await self._signal(id, number)
        if kind_of(n) == "cancelled":
            await self._until_it_waits(id)
            await self.insist(lambda: handle.cancel(reason="enough", by="client"))
            self.ack(id, "cancel")
        try:
            self.told[id] = await self.insist(handle.result)
        except Exception as error:  # judged in the end, by what it had to come to
            self.told[id] = f"{type(error).__name__}: {error}"
        self.ack(id, "result", self.told[id])

    async def _signal(self, id: str, number: int) -> None:
        await self.insist(lambda: self.engine.get(id).signal("note", number, id=f"{id} {number}"))
        self.ack(id, f"signal {number}", number)

    async def _until_it_is_there(self, id: str) -> None:
        """It may be a worker's, and not started yet."""
        while True:
            with suppress(NotFoundError):
                await self.insist(self.engine.get(id).row)
                return
            await asyncio.sleep(PAUSE)

    async def _until_it_waits(self, id: str) -> None:
        while not await self.insist(lambda: self.engine.requests(f"{id}/patient#1")):
            await asyncio.sleep(LOOK)

    async def answers(self) -> None:
        """Answer until cancelled."""
        while True:
            found = await self.insist(lambda: self.engine.requests(limit=1000))
            wanted = [r for r in found if r.id not in self._answered and not r.message.startswith("nobody")]
            await _limited(self._answer, wanted)
            await asyncio.sleep(LOOK)

    async def _answer(self, request: Any) -> None:
        value = answer_to(request.key, request.execution_id)
        self._answered.add(request.id)
        try:
            await self.insist(lambda: self.engine.answer(request.id, value, by="client"))
        except AlreadyDecidedError as error:
            self.counts[f"not taken: {type(error).__name__}"] += 1
        else:
            self.ack(request.id, "answer", value)

    async def mends(self) -> None:
        """Who died with a killed worker five times in a row is blocked, as it may be what kills: let it go on."""
        while True:
            await asyncio.sleep(1.0)
            done = await self.insist(lambda: self.engine.resume(Query(status="blocked")))
            self.counts["blocked and resumed"] += len(done.ids)


async def _limited(act: Callable[[Any], Awaitable[None]], items: Sequence[Any], at_once: int = 8) -> None:
    queue = list(items)

    async def some() -> None:
        with suppress(IndexError):
            while True:
                await act(queue.pop())

    await asyncio.gather(*[some() for _ in range(at_once)])
