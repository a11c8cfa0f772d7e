"""Random workflows: plans as data, and the one workflow that carries them out."""

from __future__ import annotations

import asyncio
import contextvars
import random
from typing import Any, Protocol

from perdure.calls import interrupt, now, receive, send, sleep, start_child, uuid4
from perdure.calls import random as durable_random
from perdure.context import current
from perdure.errors import PerdureError
from perdure.joins import gather, race
from perdure.options import WorkflowOptions
from perdure.retry import Retry
from perdure.workflow import Workflow, checkpoint, step

Plan = list[Any]


class PlannedError(Exception):
    """A failure that the plan asks for."""


class Scene(Protocol):
    """What plans meet: the ledger of effects, and who listens to workflow code."""

    def body(self, what: str) -> None:
        """A step's body begins, or has had its effect."""
        ...

    def heard(self, kind: str, number: int, value: Any) -> None:
        """Workflow code goes on after a durable call."""
        ...

    def pay(self, place: str) -> int | None:
        """The world outside: pays once for an idempotency key. Gives the receipt."""
        ...

    def paid(self, place: str) -> int | None:
        """The receipt, if it was paid."""
        ...

    def fails(self, place: str, times: int) -> bool:
        """Does the outside world fail once more here?"""
        ...


SCENE: contextvars.ContextVar[Scene] = contextvars.ContextVar("perdure_scene")

RETRIES = Retry(attempts=4, initial=0.3, factor=2.0, jitter=0.5)


async def _work(number: int, seconds: float, failures: int) -> int:
    scene = SCENE.get()
    scene.body("enter")
    if seconds:
        await asyncio.sleep(seconds)
    scene.body("leave")
    if failures and scene.fails(f"{current().execution_id}:{number}", failures):
        raise PlannedError(f"work {number}")
    return number


work = step(name="work")(_work)
tried = step(name="tried", retry=RETRIES)(_work)
hasty = step(name="hasty", retry=Retry(attempts=2, initial=0.2), timeout=0.4)(_work)
mark = checkpoint(name="mark")(_work)


@step(name="outer", retry=RETRIES)
async def outer(number: int, seconds: float, failures: int) -> list[int]:
    """A step whose body calls steps."""
    scene = SCENE.get()
    scene.body("enter")
    done = [await work(number + 1, seconds, 0)]
    done += await gather(tried(number + 2, seconds, failures // 2), work(number + 3, 0.0, 0))
    scene.body("leave")
    if failures and scene.fails(f"{current().execution_id}:{number}", failures):
        raise PlannedError(f"outer {number}")
    return done


async def _was_paid(number: int, seconds: float) -> int | None:
    await asyncio.sleep(seconds)
    return SCENE.get().paid(f"{current().execution_id}:{number}")


@step(name="pay", once=True, verify=_was_paid)
async def pay(number: int, seconds: float) -> int:
    scene = SCENE.get()
    scene.body("enter")
    await asyncio.sleep(seconds)
    receipt = scene.pay(f"{current().execution_id}:{number}")
    scene.body("leave")
    return receipt or 0


async def _carry_out(plan: list[Any]) -> Any:
    """Carries a plan out."""
    return await perform(plan)


# Not by the decorator: who imports this has no workflow more in his engines.
simulated = Workflow(_carry_out, WorkflowOptions(name="simulated"))


_STEPS: dict[str, Any] = {"work": work, "tried": tried, "hasty": hasty, "mark": mark, "outer": outer, "pay": pay}


async def perform(plan: Plan) -> Any:
    """One operation of a plan."""
    match plan:
        case ["seq", *parts]:
            return [await perform(part) for part in parts]
        case ["all", *parts]:
            return await asyncio.gather(*[perform(part) for part in parts])
        case ["few", limit, *parts]:
            return await gather(*[perform(part) for part in parts], limit=limit)
        case ["within", seconds, part]:
            try:
                async with asyncio.timeout(seconds):
                    return await perform(part)
            except TimeoutError:
                return "late"
        case ["race", first, second]:
            won = await race(a=perform(first), b=perform(second))
            return [won.name, won.value]
        case ["guard", part]:
            try:
                return await perform(part)
            except (PlannedError, PerdureError, TimeoutError) as error:
                return type(error).__name__
        case ["fail", number]:
            raise PlannedError(f"plan {number}")
        case _:
            return await _call(plan)


async def _call(plan: Plan) -> Any:
    scene = SCENE.get()
    kind, number = plan[0], plan[1]
    try:
        value = await _durable(plan)
    except Exception as error:
        scene.heard(f"{kind}!", number, type(error).__name__)
        raise
    scene.heard(kind, number, value)
    return value


async def _durable(plan: Plan) -> Any:
    match plan:
        case [("work" | "tried" | "hasty" | "mark" | "outer" | "pay") as kind, *arguments]:
            return await _STEPS[kind](*arguments)
        case ["sleep", _, seconds]:
            return await sleep(seconds)
        case ["ask", number, expires, default]:
            if default is None:
                return await interrupt(f"q{number}", schema=int, expires=expires)
            return await interrupt(f"q{number}", schema=int, expires=expires, default=default)
        case ["receive", _, name, timeout]:
            return await receive(name, timeout=timeout)
        case ["send", number, to, name]:
            return await send(to, name, f"sent:{current().execution_id}:{number}")
        case ["child", _, part]:
            return await simulated(part)
        case ["launch", _, part]:
            return (await start_child(simulated, part)).id
        case ["local", _]:
            return [str(uuid4()), durable_random().random(), now().isoformat()]
        case _:
            raise AssertionError(plan)


class Planner:
    """Makes plans by a seed."""

    def __init__(self, rng: random.Random, executions: int) -> None:
        self.rng = rng
        self.executions = executions
        self.number = 0

    def plan(self, *, child: bool = False) -> Plan:
        """A plan of one execution. A child's waits all end by themselves."""
        self.child = child
        parts = [self._part(0) for _ in range(self.rng.randrange(2, 4 if child else 7))]
        if self.rng.random() < 0.12:
            parts.append(["fail", self._next()])
        return ["seq", *parts]

    def _next(self) -> int:
        self.number += 10
        return self.number

    def _part(self, depth: int) -> Plan:
        rng = self.rng
        if depth < 3 and rng.random() < 0.4:
            return self._compound(depth)
        return self._simple()

    def _compound(self, depth: int) -> Plan:
        rng = self.rng
        kind = rng.choice(["seq", "all", "all", "few", "within", "within", "race", "race"])
        parts = [self._part(depth + 1) for _ in range(rng.randrange(2, 5))]
        match kind:
            case "few":
                return ["few", rng.randrange(1, 3), *parts]
            case "within":
                return ["within", rng.choice([0.05, 0.3, 1.0, 4.0]), ["seq", *parts]]
            case "race":
                return ["race", parts[0], parts[1]]
            case _:
                return [kind, *parts]

    def _simple(self) -> Plan:
        rng = self.rng
        number = self._next()
        seconds = rng.choice([0.0, 0.0, 0.0, 0.01, 0.2, 1.0])
        match rng.choice(_SIMPLE):
            case "tried":
                return ["guard", ["tried", number, seconds, rng.randrange(5)]]
            case "hasty":
                return ["guard", ["hasty", number, seconds, rng.randrange(2)]]
            case "outer":
                return ["guard", ["outer", number, seconds, rng.randrange(3)]]
            case "work":
                return ["guard", ["work", number, seconds, int(rng.random() < 0.1)]]
            case "sleep":
                return ["sleep", number, rng.choice([0.0, 0.02, 0.5, 3.0])]
            case "ask":
                if self.child or rng.random() < 0.4:
                    default = rng.choice([None, -number])
                    return ["guard", ["ask", number, rng.choice([0.5, 4.0]), default]]
                return ["ask", number, None, None]
            case "receive":
                limited = self.child or rng.random() < 0.5
                return ["guard", ["receive", number, rng.choice("xy"), rng.choice([0.5, 4.0]) if limited else None]]
            case "send":
                return ["guard", ["send", number, f"e{rng.randrange(self.executions)}", rng.choice("xy")]]
            case "child" if not self.child:
                return ["guard", ["child", number, self._below()]]
            case "launch" if not self.child:
                return ["launch", number, self._below()]
            case "local":
                return ["local", number]
            case kind:
                return [kind if kind in ("mark", "pay") else "mark", number, seconds, *([] if kind == "pay" else [0])]

    def _below(self) -> Plan:
        plan = self.plan(child=True)
        self.child = False
        return plan


_SIMPLE = ("work", "work", "tried", "hasty", "outer", "mark", "pay", "pay", "sleep", "ask", "ask", "receive",
           "receive", "send", "child", "launch", "local")  # fmt: skip


def receives(plan: Plan) -> list[str]:
    """The names of the messages that an execution may take, once for each `receive` of its plan."""
    if not plan or plan[0] in ("child", "launch"):
        return []
    if plan[0] == "receive":
        return [plan[2]]
    return [name for part in plan if isinstance(part, list) for name in receives(part)]
