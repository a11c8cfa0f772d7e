"""Simulated people: they decide, contradict, repeat, edit, comment, claim, hand on and come too late.

Meanwhile workers come and go, lose answers, and run newer code that asks for something else. What people decide guards
steps.

The checker knows the deliveries that the store took, in their order, the journals and what ran. It counts voices by
itself, and shares nothing with the kernel but its records.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from perdure import (
    Approval,
    ApprovalRejectedError,
    Edit,
    OpenRequest,
    Question,
    Rejected,
    Stage,
    current,
    gather,
    step,
    workflow,
)
from perdure.clock import SECOND
from perdure.deliveries import Decide
from perdure.errors import AlreadyDecidedError, InvalidAnswerError, NotApproverError, PerdureError
from perdure.records import Verdict
from perdure.stores.memory import MemoryStore
from perdure.testing.faults import Faults, KilledError
from perdure.testing.history import Claimed, Delivered, History, Recorded
from perdure.testing.invariants import violations
from perdure.testing.programs import SCENE
from perdure.testing.simulation import CHAOS, Simulation, described, play
from perdure.timeline import faults as audited

PEOPLE = ("ana", "bob", "cid", "dan", "eva")
DEPLOYED = 1000
"""What newer code asks for on top: it asks for something else."""

ASKED, RAN, REFUSED, TOLD, SHOWN = "asked", "ran", "refused", "told", "shown"


class World:
    """What happened outside of the store: (what, how many events were before it, and what belongs to it)."""

    def __init__(self) -> None:
        self.history = History()
        self.seen: list[tuple[str, int, tuple[Any, ...]]] = []
        self.version = 0

    def tell(self, what: str, *said: Any) -> None:
        self.seen.append((what, len(self.history.events), said))


WORLD = World()


async def _body(order: str, n: int, seconds: float) -> int:
    here = current()
    SCENE.get().body("enter")
    WORLD.tell(RAN, here.execution_id, here.fence, order, n)
    await asyncio.sleep(seconds)
    return n


def small(question: Question) -> str | None:
    n = question.actions[0].arguments["n"] % DEPLOYED
    return "approve" if n < 20 else "reject" if n > 90 else None


GUARDS: dict[str, Any] = {
    "one": Approval("Do {n} for {order}?", approvers=["ana", "bob", "cid"], rules=[small]),
    "two": Approval("Do {n} for {order}?", approvers=PEOPLE[:4], quorum=2, expires=6.0),
    "staged": Approval(
        "Do {n} for {order}?",
        stages=[["ana", "bob"], Stage(["bob", "cid", "dan"], 2)],
        expires=3.0,
        on_expiry="escalate",
        escalate_to=["eva"],
        reminders=1.0,
    ),
    "brief": Approval("Do {n} for {order}?", approvers=["ana", "dan"], expires=2.0, on_expiry="approve"),
    "strict": Approval(
        "Do {n} for {order}?", approvers=["cid", "dan"], exclude_requester=True, expires=2.0, on_expiry="raise"
    ),
}
STEPS = {name: step(name=name, approval=guard)(_body) for name, guard in GUARDS.items()}


async def _do(kind: str, order: str, n: int, seconds: float) -> Any:
    here = current()
    n += WORLD.version * DEPLOYED
    WORLD.tell(ASKED, here.execution_id, here.fence, order, n)
    try:
        return await STEPS[kind](order, n, seconds)
    except (ApprovalRejectedError, TimeoutError) as error:
        WORLD.tell(REFUSED, here.execution_id, here.fence, order, type(error).__name__)
        return type(error).__name__


@workflow(name="decided_simulated")
async def decided(plan: list[list[Any]]) -> list[Any]:
    done = []
    for part in plan:
        done.append(await gather(*[_do(*each) for each in part]))
    return done


class Approvals(Simulation):
    """Each execution asks what its plan says; people decide it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.workflows = [decided]
        self.dossiers: dict[str, Any] = {}

    def _plan(self, execution: str) -> list[list[Any]]:
        rng = self.rng
        return [
            [
                [
                    rng.choice(list(GUARDS)),
                    f"{execution}.{part}.{n}",
                    rng.randrange(1, 101),
                    rng.choice([0.0, 0.01, 0.4]),
                ]
                for n in range(rng.choice([1, 1, 2]))
            ]
            for part in range(rng.randrange(1, 4))
        ]

    async def _actor(self, execution: str) -> None:
        rng, plan = self.rng, self._plan(execution)
        await asyncio.sleep(rng.uniform(0.0, CHAOS / 2))
        options = decided.options(execution_id=execution, by=rng.choice(["cid", "dan", None]))
        started = False
        while not started:
            with suppress(PerdureError, TimeoutError, KilledError):
                await self._through(lambda e: e.start(options, plan))
                started = True
            await asyncio.sleep(0.2)
        while True:
            with suppress(PerdureError, TimeoutError, KilledError):
                outcome = await self._through(lambda e: e.get(execution).outcome(), 15.0)
                status, value = described(outcome)
                if status != "waiting":
                    return self._note("outcome", execution, (status, value))
            await asyncio.sleep(0.3)

    async def _answerer(self) -> None:
        """Newer code comes in the middle; people look at the inbox, each in his own time."""
        people = [asyncio.ensure_future(self._person(name)) for name in PEOPLE]
        try:
            await asyncio.sleep(self.rng.uniform(0.3, 0.9) * CHAOS)
            WORLD.version = 1
            await asyncio.Event().wait()
        finally:
            for person in people:
                person.cancel()

    async def _person(self, name: str) -> None:
        rng = self.rng
        while True:
            await asyncio.sleep(1.0 if self.calm else rng.uniform(0.1, 1.5))
            with suppress(PerdureError, TimeoutError, KilledError):
                for request in await self._through(lambda e: e.requests(), 5.0):
                    if self.calm:
                        await self._say(request.id, name, "approve")
                    elif rng.random() < 0.5:
                        await self._act(request, name)

    async def _act(self, request: OpenRequest, name: str) -> None:
        rng, id = self.rng, request.id
        action = request.actions[0]
        edit = {action.id: Edit({"n": rng.choice([7, 8, action.arguments["n"]])})}
        words: list[Any] = ["approve", "approve", "reject", edit, {action.id: Rejected("no")}]
        match rng.choice(["say", "say", "say", "twice", "both", "late", "comment", "claim", "hand on", "see", "wrong"]):
            case "say":
                await self._say(id, name, rng.choice(words))
            case "twice":
                word = rng.choice(words)
                await asyncio.gather(*[self._say(id, name, word) for _ in range(2)])
            case "both":
                other = rng.choice(PEOPLE)
                await asyncio.gather(self._say(id, name, rng.choice(words)), self._say(id, other, rng.choice(words)))
            case "late" if request.expires_at is not None:
                ahead = request.expires_at.timestamp() - self.clock.now() / SECOND
                await asyncio.sleep(max(0.0, ahead + rng.uniform(-0.008, 0.002)))
                await self._say(id, name, rng.choice(words))
            case "wrong":
                await self._wrong(id, name, rng.choice([{}, {"other": "approve"}, {action.id: Edit({"n": "many"})}]))
            case "comment":
                await self._through(lambda e: e.comment(id, "well", by=name), 5.0)
            case "claim":
                await self._through(lambda e: e.claim(id, by=name), 5.0)
            case "hand on":
                to = rng.choice(PEOPLE)
                await self._through(lambda e: e.reassign(id, to=to, by=name), 5.0)
            case _:
                await self._through(lambda e: e.see(id, by=name), 5.0)

    async def _say(self, id: str, name: str, word: Any) -> None:
        try:
            await self._through(lambda e: e.decide(id, word, by=name, comment=f"{name} says"), 5.0)
        except AlreadyDecidedError as error:
            WORLD.tell(SHOWN, id, name, str(error))
        except (PerdureError, TimeoutError, KilledError):
            return
        else:
            WORLD.tell(TOLD, id, name, _word(word))

    async def _wrong(self, id: str, name: str, word: Any) -> None:
        try:
            await self._through(lambda e: e.decide(id, word, by=name), 5.0)
        except (InvalidAnswerError, AlreadyDecidedError, NotApproverError):
            return
        WORLD.tell(TOLD, id, name, "wrong")

    async def _dump(self) -> Any:
        dump = await super()._dump()
        self.dossiers.update(await self.store.dossiers(sorted(dump.executions)))
        self.history.faults += [
            f"the audit of {id}: {line}"
            for id, row in dump.executions.items()
            for line in audited(
                row, [r for r in dump.requests.values() if r.execution_id == id], self.dossiers[id], dump.journals[id]
            )
        ]
        return dump

    async def _replay_all(self) -> None:
        return None

    async def run(self) -> None:
        WORLD.history = self.history
        await super().run()


def _word(word: Any) -> str:
    if isinstance(word, dict):
        [word] = word.values()
    return (
        "edited"
        if isinstance(word, Edit)
        else "rejected"
        if word == "reject" or isinstance(word, Rejected)
        else "approved"
    )


def run(
    seed: int, faults: Faults | None = None, store: Callable[[Any], Any] = lambda clock: MemoryStore(clock=clock)
) -> list[str]:
    """One simulation: what does not hold, in words."""
    WORLD.seen.clear()
    WORLD.version = 0
    history = play(Approvals, seed, 3, 5, faults or Faults(), store)
    if not history.dump.executions:
        return history.faults
    return list(dict.fromkeys([*violations(_plain(history)), *broken(history)]))


def _plain(history: History) -> History:
    """The same without what the checker of plans reads otherwise: the results of executions."""
    return History([e for e in history.events if getattr(e, "what", "") != "outcome"], history.dump, {}, history.faults)


# The checker ----------------------------------------------------------------------------------------------


class Count:
    """One request, counted anew: who may decide, whose voices there are, what it has come to."""

    def __init__(self, row: Any) -> None:
        self.row = row
        self.asked = json.loads(row.details)["actions"][0]["arguments"]
        self.id = json.loads(row.details)["actions"][0]["id"]
        self.policy = json.loads(row.policy)
        self.standing = self.asked["n"]
        self.stage = 0
        self.voices: dict[str, Any] = {}
        self.words: list[tuple[str, str]] = []
        self.result: Any = "open"
        self.by: str | None = None
        if row.status == "decided":  # by a rule, from the beginning
            self.close(row.answer, row.answered_by)

    def close(self, answer: str | None, by: str | None) -> None:
        said = json.loads(answer or "null")
        action = said and said["actions"][self.id]
        self.result = None if not said or not action["approved"] else action["arguments"]["n"]
        self.answer, self.by = answer, by

    def vote(self, row: Any) -> Any:
        """Adds a voice. Gives "open", or what it comes to: the approved number, or None."""
        self.words.append((row.decided_by, row.decision))
        if row.decision == "rejected":
            return None
        said = json.loads(row.arguments)["n"] if row.decision == "edited" else self.standing
        self.voices[row.decided_by] = said
        if sum(each == said for each in self.voices.values()) < self._stage().get("quorum", 1):
            return "open"
        self.stage, self.standing, self.voices = self.stage + 1, said, {}
        return said if self.stage >= len(self.policy["stages"]) else "open"

    def _stage(self) -> Any:
        stages = self.policy["stages"]
        return stages[min(self.stage, len(stages) - 1)]

    def may(self, name: str) -> bool:
        stage = self._stage()
        return name in stage.get("approvers", [name]) and name != self.policy.get("excluded")


def broken(history: History) -> Iterator[str]:
    """What does not hold of approvals, in the order in which it happened."""
    checker = Checker(history)
    outside = iter([*WORLD.seen, ("", len(history.events) + 1, ())])
    what, place, said = next(outside)
    for n, event in enumerate(history.events):
        while place <= n:
            yield from checker.outside(what, *said)
            what, place, said = next(outside)
        yield from checker.event(event)
    while what:
        yield from checker.outside(what, *said)
        what, place, said = next(outside)
    yield from checker.end()


class Checker:
    def __init__(self, history: History) -> None:
        self.history = history
        self.counts: dict[str, Count] = {}
        self.asks: dict[tuple[str, int, str], int] = {}
        self.fences: dict[str, int] = defaultdict(int)
        self.done: dict[str, Any] = {}

    def event(self, event: Any) -> Iterator[str]:
        match event:
            case Claimed(rows=rows):
                for row in rows:
                    self.fences[row.id] = max(row.fence, self.fences[row.id])
            case Recorded(batch=batch, verdicts=verdicts) if verdicts.alive:
                for request in batch.requests:
                    self.counts.setdefault(request.id, Count(request))
                for entry in batch.entries:
                    if entry.kind == "approval":
                        yield from self._used(entry)
                    elif entry.kind == "step":
                        self.done[json.loads(entry.input)["order"]] = entry.output
            case Delivered(delivery=Decide() as part, receipt=receipt) if receipt.verdict is Verdict.OK:
                yield from self._part(part)

    def _part(self, part: Decide) -> Iterator[str]:
        count = self.counts[part.request_id]
        if count.result != "open":
            yield f"I18 I25 {part.request_id} was {part.status} by {part.by}, after it had been decided by {count.by}"
        result: Any = "open"
        for row in part.decisions:
            expired = row.decided_by == "expiry"
            if not expired and not count.may(row.decided_by):
                yield f"{row.decided_by} decided {row.request_id}, and may not: {count.policy}"
            if (
                not expired
                and any(by == row.decided_by for by, _ in count.words)
                and row.decided_by not in count.voices
            ):
                yield f"{row.decided_by} decided {row.request_id} in two stages"
            result = (
                None if expired and row.decision == "rejected" else count.asked["n"] if expired else count.vote(row)
            )
        if part.policy is not None:
            count.policy = json.loads(part.policy)
        if part.status == "open":
            if result != "open":
                yield f"{part.request_id} is decided ({result}), and was left open"
            return
        count.close(part.answer, part.by)
        if result == "open" and not (part.status == "expired" and count.policy["on_expiry"] == "raise"):
            yield f"{part.request_id} was decided by {part.by} ({count.result}) without its quorum: {count.voices}"
        elif result not in ("open", count.result):
            yield f"{part.request_id} came to {result}; its answer says {count.result}"

    def _used(self, entry: Any) -> Iterator[str]:
        """An approval's outcome was recorded."""
        name = f"{entry.key} of {entry.execution_id}"
        asked = [c for c in self.counts.values() if (c.row.execution_id, c.row.key) == (entry.execution_id, entry.key)]
        if entry.status == "failed":
            if not any(c.result is None and c.by is None for c in asked):
                yield f"I25 {name} says that nobody decided in time; its requests came to {[c.result for c in asked]}"
            return
        used = [c for c in asked if c.result != "open" and c.answer == entry.output]
        if not used:
            yield f"I20 {name} used a decision that nobody has made: {entry.output}"
        for count in used:
            order = count.asked["order"]
            if self.asks.get((entry.execution_id, entry.fence, order)) != count.asked["n"]:
                code = self.asks.get((entry.execution_id, entry.fence, order))
                yield f"I20 {name} used the decision on {count.asked['n']}; the code asks for {code}"

    def outside(self, what: str, *said: Any) -> Iterator[str]:
        if what == ASKED:
            id, fence, order, n = said
            self.asks[id, fence, order] = n
        elif what in (RAN, REFUSED):
            yield from self._ran(what, *said)
        elif what == TOLD:
            id, name, word = said
            if (name, word) not in self.counts[id].words:
                yield f"I18 {name} was told that {id} is {word}; the store has {self.counts[id].words}"
        elif what == SHOWN:
            id, name, words = said
            count = self.counts[id]
            firsts = [by for by, _ in count.words] + [count.by]
            named = any(f"by {by} " in words or words.startswith(f"{by} ") for by in firsts)
            if not named and not any(word in words for word in ("expired", "withdrawn", "by expiry")):
                yield f"I18 {name} was not told of the first decision on {id}: {words}"

    def _ran(self, what: str, id: str, fence: int, order: str, n: Any) -> Iterator[str]:
        counts = [c for c in self.counts.values() if c.asked["order"] == order]
        results = [c.result for c in counts]
        if what == REFUSED:
            if None not in results:
                yield f"I18 {order} was refused ({n}); its requests came to {results}"
            return
        if n not in results:
            yield f"{order} ran with {n}; its requests came to {results}, asked {[c.asked['n'] for c in counts]}"
        if fence >= self.fences[id] and order in self.done:
            yield f"I2 {order} ran again after its outcome was recorded"

    def end(self) -> Iterator[str]:
        ran = {said[2] for what, _, said in WORLD.seen if what == RAN}
        for id, row in self.history.dump.executions.items():
            if row.status != "completed":
                yield f"{id} is {row.status}: {row.reason} {row.error}"
                continue
            plan = [each for part in json.loads(row.input)["plan"] for each in part]
            values = [value for part in json.loads(row.output or "[]") for value in part]
            for (_, order, _, _), value in zip(plan, values, strict=True):
                if isinstance(value, int) != (order in self.done and order in ran):
                    yield f"{order} gave {value}; it ran: {order in ran}"
