"""Workflows of steps, sleeps, interrupts, messages and children, and what each must come to."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure import Retry, Workflow, current, gather, interrupt, receive, sleep, start_child, step, workflow
from tests.crash import ledger
from tests.crash.flows import flaky, hear, heard, patient, quick, tell, work

KINDS = ("plain", "asking", "parent", "fails", "cancelled")


def kind_of(n: int) -> str:
    """Of twenty executions one fails with its children, one is cancelled with them; the others come to a good end."""
    return {18: "fails", 19: "cancelled"}.get(n % 20, KINDS[n % 3])


def was_charged(n: int) -> int | None:
    """Asks the world, here the ledger: its line is the charge, so that no kill comes between the two."""
    mine = current()
    line = ledger.Line(ledger.EFFECT, mine.execution_id, mine.key or "", "")
    return n if ledger.holds(line) else None


@step(name="charge", once=True, verify=was_charged)
async def charge(n: int) -> int:
    with ledger.visit():
        ledger.of_body(ledger.EFFECT)
        await asyncio.sleep(0)
        return n


@step(name="slow", retry=Retry(attempts=2, initial=0.01, jitter=0.0))
async def slow(n: int) -> int:
    with ledger.visit():
        await asyncio.sleep(0.1)
        return n


@workflow(name="leaf")
async def leaf(n: int) -> int:
    before = await hear("slow", slow(n))
    await sleep(0.02)
    heard("timer", None)
    return before + await hear("interrupt", interrupt("leaf: how many?", schema=int)) if n % 2 else before


@workflow(name="chaotic")
async def chaotic(n: int) -> list[Any]:
    kind = kind_of(n)
    out: list[Any] = [await hear("quick", quick(f"begin {n}")), await hear("flaky", flaky("f"))]
    out.append(await hear("charge", charge(n)))
    await sleep(0.05 * (1 + n % 5))
    heard("timer", None)
    if kind in ("fails", "cancelled"):
        child = await start_child(patient, f"of {n}")
        heard("patient", child.id)
        waiting = asyncio.create_task(patient("awaited"))
        await hear("slow", slow(n))
        if kind == "fails":
            assert not waiting.done()
            raise ValueError(f"{n} fails")
        await waiting
        tell("=after for ever", n)
    for turn in range(2 if kind == "asking" else 1):
        out.append(await hear("interrupt", interrupt(f"which, {turn}?", schema=int)))
    out += [await hear("receive", receive("note", schema=int)) for _ in range(2)]
    if kind == "parent":
        out += await gather(leaf(n), leaf(n + 1))
    branches = await asyncio.gather(_branch("a"), _branch("b"))
    return [*out, *branches, await hear("quick", quick(f"end {n}"))]


async def _branch(name: str) -> str:
    first = await hear("work", work(name))
    return await hear("work", work(first))


def answer_to(key: str, execution: str) -> int:
    """The same question has the same answer, always; different ones differ."""
    return sum(f"{key} of {execution}".encode()) % 1000


def expected(id: str, n: int) -> list[Any]:
    """What the execution `id` must come to, where it comes to a good end."""

    def answered(turn: int) -> int:
        return answer_to(f"interrupt#{turn}", id)

    kind = kind_of(n)
    out: list[Any] = [f"BEGIN {n}", "f", n, *[answered(turn + 1) for turn in range(2 if kind == "asking" else 1)], 1, 2]
    if kind == "parent":
        for turn, m in enumerate((n, n + 1)):
            out.append(m + answer_to("interrupt#1", f"{id}/leaf#{turn + 1}") if m % 2 else m)
    return [*out, "a!!", "b!!", f"END {n}"]


FLOWS: list[Workflow[..., Any]] = [chaotic, leaf, patient]
