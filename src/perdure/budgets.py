"""Budgets: how much the steps of an execution may use before somebody is asked.

Before a step is entered its place is reserved; when a limit is reached, the step waits, and a request of the kind
"budget" asks for a raise. The answer is the new limits, which are recorded; or null, and the step fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from perdure import bodies
from perdure.budget import ATTRIBUTE, Budget
from perdure.clock import SECOND
from perdure.codec import checksum
from perdure.errors import BudgetExceededError
from perdure.journal import BUDGET, USAGE, Journal, is_outcome
from perdure.keys import request_id
from perdure.records import Request
from perdure.scope import BACKOFF, OPEN, Call
from perdure.store import Store
from perdure.streams import Usage

if TYPE_CHECKING:
    from perdure.executor import Run

SCHEMA = (
    '{"anyOf":[{"type":"null"},{"type":"object","minProperties":1,"additionalProperties":false,"properties":{'
    '"cost":{"anyOf":[{"type":"number","minimum":0},{"type":"string","pattern":"^[0-9]+(\\\\.[0-9]+)?$"}]},'
    '"tokens":{"type":"integer","minimum":0},"steps":{"type":"integer","minimum":0},'
    '"time":{"type":"number","minimum":0}}}]}'
)


PAGE = 500
"""Entries read together."""


class Purse:
    """The budget of one execution in memory, and what it has used."""

    __slots__ = ("held", "key", "limits", "raises", "steps", "usage")

    def __init__(self, limits: Mapping[str, Any]) -> None:
        self.limits = dict(limits)
        self.usage = Usage()
        self.steps = 0
        self.raises = 0
        self.held: list[Call] = []
        self.key: str | None = None  # of the request that is open

    def over(self, elapsed: float) -> str | None:
        """Which limit is reached, in words."""
        limits = self.limits
        if limits["cost"] is not None and self.usage.cost >= Decimal(limits["cost"]):
            return f"cost {self.usage.cost} of {limits['cost']}"
        if limits["tokens"] is not None and self.usage.tokens >= limits["tokens"]:
            return f"{self.usage.tokens:,} of {limits['tokens']:,} tokens"
        if limits["steps"] is not None and self.steps >= limits["steps"]:
            return f"{self.steps:,} of {limits['steps']:,} steps"
        if limits["time"] is not None and elapsed >= limits["time"]:
            return f"{elapsed:,.1f} of {limits['time']:,g} seconds"
        return None

    def spent(self, text: str) -> None:
        """Something was used: by a step, or by a child that ended (which says how many steps it took)."""
        self.usage = self.usage.plus(text)
        self.steps += msgspec.json.decode(text).get("steps", 0)

    def raised(self, text: str) -> None:
        """Somebody gave new limits (the request's recorded answer)."""
        self.raises += 1
        known = {field.name for field in fields(Budget)}
        self.limits |= {name: value for name, value in msgspec.json.decode(text).items() if name in known}


def purse(run: Run, attributes: Mapping[str, Any], journal: Journal | None) -> Purse | None:
    """The execution's purse, if it has a budget: as it was started with, or as its workflow says."""
    limits = attributes.get(ATTRIBUTE)
    if limits is None and run.workflow.options_.budget is not None:
        limits = run.workflow.options_.budget.tree()
    if limits is None:
        return None
    made = Purse(limits)
    if journal is not None:
        for entry in journal.raises:
            made.raised(entry.output or "{}")
        for entry in journal.usage:
            made.spent(entry.output or "{}")
        made.steps += sum(is_outcome(entry) and entry.kind in ("step", "checkpoint") for entry in journal.entries)
    return made


def admit(run: Run, purse: Purse, call: Call) -> bool:
    """May the step be entered? If not, it is held, and somebody is asked; or it fails, if a raise was refused."""
    while (over := purse.over((run.now() - run.execution.created_at) / SECOND)) is not None:
        request = run.requests.get(f"{BUDGET}#{purse.raises + 1}")
        if request is None or request.status != "decided":
            _hold(run, purse, call, over)
            return False
        new = _limits(request)
        if new is None:
            call.started_at = run.now()
            bodies.give_error(run, call, BudgetExceededError(request.message))
            return False
        run.local(request.key, BUDGET, "completed", new)
        purse.raised(new)
    if call.attempt == 1:
        purse.steps += 1
    return True


def for_child(run: Run, given: Budget | None) -> dict[str, Any] | None:
    """The limits that a child starts with: its own, else what its parent has left. Children that run at once share it.

    What the child has used counts for the parent when it ends.
    """
    purse = run.purse
    if given is not None or purse is None:
        return None if given is None else given.tree()
    left = dict(purse.limits)
    elapsed = (run.now() - run.execution.created_at) / SECOND
    if left["cost"] is not None:
        left["cost"] = str(max(Decimal(0), Decimal(left["cost"]) - purse.usage.cost))
    for name, used in (("tokens", purse.usage.tokens), ("steps", purse.steps), ("time", elapsed)):
        if left[name] is not None:
            left[name] = max(0, left[name] - used)
    return left


def charge_child(run: Run, purse: Purse, key: str, child: str, then: Callable[[], None]) -> None:
    """Read what a child that has ended has used, and record it as used here; then go on."""
    worker = run.worker
    run.bodies += 1

    def charged(used: list[str] | None, error: BaseException | None) -> None:
        run.bodies -= 1
        if run.abandoned:
            return
        for text in used or ():
            run.tell(key, USAGE, "set", 1, text)
            purse.spent(text)
        then()

    worker.spawn(worker.insist(lambda: _used(worker.store, child, purse.limits["steps"] is not None)), charged)


async def _used(store: Store, child: str, count_steps: bool) -> list[str]:
    """What a child says that it used, and the steps that it took."""
    used: list[str] = []
    steps = seq = 0
    kinds = (USAGE, "step", "checkpoint") if count_steps else (USAGE,)
    while entries := await store.tail(child, seq, kinds, PAGE):
        used += [entry.output or "{}" for entry in entries if entry.kind == USAGE]
        steps += sum(entry.kind != USAGE and is_outcome(entry) for entry in entries)
        seq = entries[-1].seq
    if steps:
        used.append(msgspec.json.encode({"model": None, "input": 0, "output": 0, "cost": "0", "steps": steps}).decode())
    return used


def _limits(request: Request) -> str | None:
    """The text of the new limits; None if there are none."""
    try:
        return request.answer if isinstance(msgspec.json.decode(request.answer or "null"), dict) else None
    except msgspec.MsgspecError:
        return None


def _hold(run: Run, purse: Purse, call: Call, over: str) -> None:
    call.state = BACKOFF
    purse.held.append(call)
    if purse.key is not None:
        return
    purse.key = key = f"{BUDGET}#{purse.raises + 1}"
    if key not in run.requests:
        request = Request(
            id=request_id(run.id, key, run.generation),
            execution_id=run.id,
            key=key,
            generation=run.generation,
            kind=BUDGET,
            message=f"The budget is used up ({over}). Raise it?",
            schema=SCHEMA,
            checksum=checksum(None, SCHEMA, None),
            created_at=run.now(),
        )
        run.requests[key] = request
        run.committer.ask(copy(request))


def answered(run: Run, purse: Purse) -> None:
    """The answer is there: the steps that were held are looked at again."""
    held, purse.held, purse.key = purse.held, [], None
    for call in held:
        if call.state == BACKOFF:
            call.state = OPEN
            if admit(run, purse, call):
                (bodies.enter if call.attempt == 1 else bodies.start)(run, call)
