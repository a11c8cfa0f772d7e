"""Seeded scripts: workflows by a plan, and people who act one at a time, only when everything is at rest.

What is observed of a script does not depend on who was faster, so it has to be the same on every store.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from random import Random
from typing import Any

from perdure import (
    AlreadyDecidedError,
    AlreadyExistsError,
    Engine,
    InvalidAnswerError,
    PerdureError,
    Query,
    Retry,
    checkpoint,
    current,
    emit,
    gather,
    interrupt,
    race,
    receive,
    send,
    set_attributes,
    sleep,
    start_child,
    step,
    workflow,
)
from perdure.records import ENDED

Plan = list[Any]

LOOK = 0.005
SHORT = 0.01
IDS = ("a", "b", "Grüße", "d d", "e")
TIMES = ("created_at", "updated_at", "started_at", "completed_at", "ended_at", "expires_at", "decided_at", "wake_at")
A_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
A_DEADLINE = re.compile(r"1[0-9]{15}")  # microseconds
OF_A_PROCESS = ("token", "owner", "build", "checksum", "fence", "nudges")


@step(name="tried", retry=Retry(attempts=3, initial=0.001, jitter=0.0))
async def tried(n: int, failures: int) -> int:
    if current().attempt <= failures:
        raise OSError(f"{n} fails in attempt {current().attempt}")
    return n


@step(name="once", once=True)
async def once(n: int) -> dict[str, int]:
    return {"n": n}


@step(name="outer")
async def outer(n: int) -> list[int]:
    return [await tried(n, 1), *await gather(tried(n + 1, 0), tried(n + 2, 0))]


@checkpoint(name="mark")
async def mark(n: int) -> int:
    return n


async def _interrupt(n: int) -> Any:
    return await interrupt(f"q{n}", schema=int, details={"n": n})


async def _receive(name: str, timeout: float | None) -> Any:
    return await receive(name, timeout=timeout)


@workflow(name="scripted")
async def scripted(plan: Plan) -> list[Any]:
    return [await perform(part) for part in plan]


async def perform(part: Plan) -> Any:
    try:
        return await _perform(part)
    except (OSError, TimeoutError, PerdureError) as error:
        return f"{type(error).__name__}: {error}"


async def _perform(part: Plan) -> Any:
    match part:
        case ["tried", n, failures]:
            return await tried(n, failures)
        case ["once", n]:
            return await once(n)
        case ["outer", n]:
            return await outer(n)
        case ["mark", n]:
            return await mark(n)
        case ["sleep", _]:
            return await sleep(SHORT)
        case ["ask", n]:
            return await _interrupt(n)
        case ["expires", n]:
            return await interrupt(f"x{n}", schema=int, expires=SHORT, default=n)
        case ["receive", name, timeout]:
            return await _receive(name, timeout)
        case ["send", to, n]:
            return await send(to, "note", n)
        case ["child", plan]:
            return await scripted(plan)
        case ["launch", plan]:
            return (await start_child(scripted, plan)).id
        case ["tell", n]:
            await emit({"n": n})
            return await set_attributes(stage=n)
        case ["race", n]:
            won = await race(a=_interrupt(n), b=_interrupt(n + 1))
            return [won.name, won.value]
        case ["both", n]:
            return await gather(_interrupt(n), _interrupt(n + 1), tried(n, 0))
        case ["fail", n]:
            raise ValueError(f"{n} fails \u2028 \x00 ☃")
    raise AssertionError(part)


class Script:
    """What people do, by a seed. `told`: what they were told."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.random = Random(seed)
        self.number = 0
        self.told: list[str] = []

    async def play(self) -> dict[str, Any]:
        """All of it; gives what can be observed in the end."""
        for id in IDS:
            plan = self._plan(below=False)
            await self._do(f"start {id}", self.engine.start(scripted.options(execution_id=id), plan))
            if self.random.random() < 0.3:
                await self._do(f"start {id} again", self.engine.start(scripted.options(execution_id=id), plan))
                await self._do(f"start {id} otherwise", self.engine.start(scripted.options(execution_id=id), []))
        for _ in range(60):
            if not await self._act():
                break
        return {"told": self.told, "executions": await self._observed()}

    def _plan(self, *, below: bool) -> Plan:
        parts = [self._part(below) for _ in range(self.random.randrange(2, 4 if below else 8))]
        if self.random.random() < 0.15:
            parts.append(["fail", self._next()])
        return parts

    def _next(self) -> int:
        self.number += 10
        return self.number

    def _part(self, below: bool) -> Plan:
        n, random = self._next(), self.random
        kinds = ["tried", "once", "outer", "mark", "sleep", "ask", "ask", "expires", "receive", "receive", "send"]
        kind = random.choice([*kinds, "tell", "race", "both", *(() if below else ("child", "launch"))])
        match kind:
            case "tried":
                return [kind, n, random.choice((0, 1, 2, 3))]
            case "receive":
                return [kind, random.choice(("note", "other")), random.choice((None, SHORT))]
            case "send":
                return [kind, random.choice(IDS), n]
            case "child" | "launch":
                return [kind, self._plan(below=True)]
        return [kind, n]

    async def _act(self) -> bool:
        """Do one thing of those that there are to do. Is there any?"""
        open_ones = sorted(await self.engine.requests(), key=lambda request: request.id)
        rows = sorted((await self.engine.list(Query(), limit=1000)).items, key=lambda row: row.id)
        waiting = [row.id for row in rows if row.status not in ENDED]
        if not waiting:
            return False
        match self.random.choice(("answer", "answer", "answer", "signal", "signal", "cancel", "pause")):
            case "answer" if open_ones:
                await self._answer(self.random.choice(open_ones).id)
            case "cancel" if self.random.random() < 0.2:
                id = self.random.choice(waiting)
                await self._do(f"cancel {id}", self.engine.get(id).cancel(reason="enough", by="ana"))
            case "pause" if self.random.random() < 0.5:
                id = self.random.choice(waiting)
                await self._do(f"pause {id}", self.engine.get(id).pause(by="ana"))
                await self._do(f"resume {id}", self.engine.get(id).resume(by="ana"))
            case _:
                id, name, n = self.random.choice(waiting), self.random.choice(("note", "other")), self._next()
                await self._do(f"signal {id}", self.engine.get(id).signal(name, n, id=f"{n}"))
                if self.random.random() < 0.2:
                    await self._do(f"signal {id} again", self.engine.get(id).signal(name, n, id=f"{n}"))
        return True

    async def _answer(self, request: str) -> None:
        n = self._next()
        if self.random.random() < 0.2:
            await self._do(f"answer {request} wrongly", self.engine.answer(request, "no number"))
        await self._do(f"answer {request}", self.engine.answer(request, n, by="bob"))
        if self.random.random() < 0.3:
            await self._do(f"answer {request} again", self.engine.answer(request, n))
            await self._do(f"answer {request} otherwise", self.engine.answer(request, n + 1))

    async def _do(self, what: str, act: Any) -> None:
        try:
            result = await act
            self.told.append(f"{what}: {getattr(result, 'answer', type(result).__name__)}")
        except (AlreadyDecidedError, AlreadyExistsError, InvalidAnswerError, PerdureError) as error:
            said = A_TIME.sub("a time", str(error).replace(self.engine.store.url, "URL"))
            self.told.append(f"{what}: {type(error).__name__}: {said}")
        await self._rest()

    async def _rest(self) -> None:
        """Until nothing moves any more: all have ended, or wait for people."""
        while True:
            rows = (await self.engine.list(Query(), limit=1000)).items
            if all(row.status in ENDED or self._waits(row) for row in rows):
                return
            await asyncio.sleep(LOOK)

    def _waits(self, row: Any) -> bool:
        return row.status in ("waiting", "paused", "blocked") and row.wake_at is None

    async def _observed(self) -> dict[str, Any]:
        rows = (await self.engine.list(Query(), limit=1000)).items
        found: dict[str, Any] = {}
        for row in sorted(rows, key=lambda row: row.id):
            document = await self.engine.get(row.id).export()
            document["messages"] = await self._messages(row.id)
            found[row.id] = timeless(document)
        return found

    async def _messages(self, id: str) -> list[Any]:
        """Those that are left."""
        box = (await self.engine.store.inbox([id]))[id]
        return [[message.name, message.value, message.sent_by] for message in box.messages]


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """An export without times, and without what tells one process or try from another.

    Who carries a cancelling out, its owner, its parent or who asked for it, is a matter of moments, and they word it
    each in its own way.
    """
    entries = document["journal"]
    for entry in entries:
        if A_DEADLINE.fullmatch(entry["output"] or ""):
            entry["output"] = "a time"
    for event in document["events"]:
        event |= dict.fromkeys(("created_at", "previous", "digest"), "of a time")
    for row in (document["execution"], *entries, *document["requests"]):
        for name in (*TIMES, *OF_A_PROCESS):
            if name in row:
                row[name] = row[name] is not None
        if row.get("error"):
            row["error"] = _without_trace(row["error"])
    if document["execution"]["status"] == "cancelled":
        for name in ("error", "reason", "wish_by", "wish_reason"):
            del document["execution"][name]
    document["requests"].sort(key=lambda row: row["id"])
    return document


def _without_trace(error: str) -> Any:
    told = json.loads(error)
    with suppress(AttributeError, KeyError):
        told.pop("traceback")
    return told


async def observe(url: str, seed: int) -> dict[str, Any]:
    """What the script of a seed comes to on an empty store."""
    async with Engine(url, workflows=[scripted], poll=0.05) as engine:
        return await Script(engine, seed).play()
