"""Asking for a rollback from outside, and settling what it could not do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from perdure import auditing
from perdure.answering import how_decided
from perdure.clock import Clock
from perdure.codec import CODEC, checksum
from perdure.deliveries import Decide, Rewind, rewinds
from perdure.errors import AlreadyDecidedError, AlreadyRollingBackError, InvalidAnswerError, NotFoundError, PerdureError
from perdure.outcome import User
from perdure.records import Dossier, Execution, Request, Status, Verdict
from perdure.rollback import BODIES, Order, Plan, order_of, plan, target
from perdure.rolling import is_carried_out, stands_still
from perdure.store import Store

PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)


@dataclass(slots=True, frozen=True)
class PlannedUndo:
    """One thing that a rollback undoes. `kind`: undo, unknown, error, child; `undo`: the function, as "module:name"."""

    seq: int
    key: str
    kind: str
    undo: str | None


@dataclass(slots=True, frozen=True)
class RollbackPlan:
    """What a rollback undoes, in this order, and what it takes back besides.

    `to`: the entry that the execution goes on after; 0: none. `pivot`: the point of no return that bounds it. `voided`:
    the keys of all calls whose outcomes are void then, in every branch.
    """

    to: int
    undos: Sequence[PlannedUndo]
    pivot: str | None
    voided: Sequence[str]


def plan_view(found: Plan) -> RollbackPlan:
    """A plan as people read it."""
    undos = [
        PlannedUndo(task.seq, task.entry.key, task.kind, task.means.undo if task.means is not None else None)
        for task in found.tasks
    ]
    kinds = BODIES | {"child", "start_child", "interrupt", "approval", "receive", "timer", "send"}
    voided = [entry.key for entry in found.voided if entry.kind in kinds and entry.status in ("completed", "failed")]
    return RollbackPlan(found.to, undos, found.pivot, voided)


async def planned(store: Store, row: Execution, order: Order, to: str | int | None) -> tuple[Order, Plan]:
    """The order with its target, and what it would do now. Raises `PerdureError`."""
    entries = await store.history(row.id)
    if to is not None:
        seq = target(entries, to, row.base_seq)
        order = msgspec.structs.replace(order, to=seq, name=str(to))
    found = plan(entries, order, row.base_seq)
    if found.pivot is not None and not order.force:
        raise PerdureError(
            f"{found.pivot} is completed, and a point of no return: what came before it is undone only with force=True",
            execution_id=row.id,
            key=found.pivot,
        )
    return order, found


async def roll_back(
    store: Store,
    clock: Clock,
    row: Execution,
    order: Order,
    who: User | None,
    *,
    wait: bool = True,
) -> None:
    """Have it rolled back; returns once that is done, as far as it could be. A worker must be there to do it.

    Without `wait` it returns once it is asked for. That somebody asks is noted first, so that whatever is rolled back
    has its asker in the audit; and that it is done by its journal, once it is.
    """
    text = order.text()
    tries = 0
    again = False
    rewind = Rewind(row.id, text, order.by, order.reason)
    _check(row.id, rewinds(rewind, row.status, row.wish, row.generation))
    said = {"to": order.name, "force": order.force, "order": order.id}
    name, via = (who.id, who.via) if who is not None else (None, None)
    await auditing.note(
        store, clock, row.id, auditing.ROLLBACK_ASKED, actor=name, via=via, comment=order.reason, details=said
    )
    while True:
        _check(row.id, (await store.deliver(rewind, clock.now())).verdict)
        while wait:
            now = (await store.get([row.id])).get(row.id)
            if now is None:
                raise NotFoundError(f"there is no execution {row.id}", execution_id=row.id)
            if now.status is Status.ROLLBACK_FAILED or await is_carried_out(store, row.id, order):
                return
            if now.status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.ROLLED_BACK):
                break  # it ended before its owner had heard of the wish
            if now.wish == text and stands_still(now):
                if again and now.status is Status.BLOCKED:
                    raise PerdureError(f"{row.id} cannot be rolled back: {now.reason}", execution_id=row.id)
                again = True
                break  # likewise
            if now.wish != text and now.status is not Status.ROLLING_BACK:
                if order_of(now.wish) is not None:
                    raise AlreadyRollingBackError(f"{row.id} was told to roll back otherwise", execution_id=row.id)
                raise PerdureError(f"{row.id} was told to {now.wish or 'go on'} meanwhile", execution_id=row.id)
            if now.owner is not None:
                for suspect in await store.suspects(0):
                    await store.declare_dead(suspect)
            await clock.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
        if not wait:
            return


def _check(id: str, verdict: Verdict) -> None:
    """Raises the error of who asks for a rollback and is refused."""
    if verdict == Verdict.GONE:
        raise NotFoundError(f"there is no execution {id}", execution_id=id)
    if verdict == Verdict.ENDED:
        raise PerdureError(f"{id} is rolled back: nothing is left to undo", execution_id=id)
    if verdict == Verdict.REPEAT:
        raise AlreadyRollingBackError(f"{id} is being rolled back already, or is to be", execution_id=id)
    if verdict == Verdict.OWNED:
        raise AlreadyRollingBackError(
            f"{id} is being rolled back already, and waits for a person: settle the undos that failed with `resolve`"
            " (done, or retry), then it goes on to its end",
            execution_id=id,
        )


# Settling ---------------------------------------------------------------------------------------------------

WAYS = {"undo": ("done", "retry"), "unknown": ("happened", "not_done"), "pivot": ("done",)}
"""What may be said of what only a person can settle, by the request's kind."""


async def resolve(
    store: Store, clock: Clock, request_id: str, how: str, result: Any, who: User | None, comment: str | None
) -> Request:
    """Settle an undo that failed, or a once-only step of unknown outcome. Gives the request as it then stands.

    The first who says so settles it; an equal repeat is accepted.
    """
    said: list[str] = []

    def part(request: Request, dossier: Dossier) -> Decide:
        ways = WAYS.get(request.kind)
        if ways is None:
            raise InvalidAnswerError(f"{request.id} is of kind {request.kind!r}: it is answered, not resolved")
        if how not in ways:
            raise InvalidAnswerError(f"{request.id} is resolved by {' or '.join(ways)}, not by {how!r}")
        text = CODEC.encode(how, path="how")
        if request.kind == "unknown":
            given = CODEC.encode(result, path="result") if how == "happened" else None
            text = CODEC.encode({"happened": how == "happened", "result": given}, path="answer")
        said.append(text)
        name, via = (who.id, who.via) if who is not None else (None, None)
        made = auditing.event(
            dossier.events,
            request.execution_id,
            how,
            clock.now(),
            request_id=request.id,
            actor=name,
            via=via,
            comment=comment,
        )
        return Decide(
            request.id,
            len(dossier.events),
            "decided",
            events=[made],
            answer=text,
            by=name,
            via=via,
            checksum=checksum(text),
        )

    receipt = await auditing.take_part(store, clock, request_id, part)
    request = receipt.request
    repeats = request is not None and request.status == "decided" and request.answer == said[-1]
    if request is None or not (receipt.verdict == Verdict.OK or repeats):
        words = f"{request_id} is settled already" if request is None else how_decided(request)
        raise AlreadyDecidedError(words, execution_id=receipt.execution_id)
    return request
