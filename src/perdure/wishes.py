"""Cancelling and pausing an execution from outside: a wish for its owner, or, without one, done at once."""

from __future__ import annotations

from perdure.clock import Clock
from perdure.crew import live_workers, nobody_runs
from perdure.deliveries import Settle, Wish, is_bound_back
from perdure.errors import NotFoundError, PerdureError
from perdure.records import ENDED, Execution, Status, Verdict
from perdure.store import Store

PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)


async def cancel(
    store: Store, clock: Clock, execution_id: str, by: str | None, reason: str | None, *, patient: bool = False
) -> Execution:
    """Cancel an execution and all below it; gives its row once it has ended (however it did).

    The owner carries the wish out, at rest. Without an owner it is done here. A rollback is waited for; without a
    worker that would carry that out it is refused, unless `patient`. Raises `NotFoundError`, `PerdureError`.
    """
    receipt = await store.deliver(Wish(execution_id, "cancel", by, reason), clock.now())
    if receipt.verdict == Verdict.GONE:
        raise NotFoundError(f"there is no execution {execution_id}", execution_id=execution_id)
    tries = 0
    while True:
        row = (await store.get([execution_id])).get(execution_id)
        if row is None:
            raise NotFoundError(f"there is no execution {execution_id}", execution_id=execution_id)
        if row.status in ENDED:
            return row
        if row.owner is not None:
            for suspect in await store.suspects(0):
                await store.declare_dead(suspect)
        bound = is_bound_back(row.status, row.wish, row.generation)
        if bound or row.wish != "cancel":
            # A rollback takes no wish and may go on behind its target; or somebody has wished something else since.
            if bound and not patient:
                await _refuse_if_alone(store, row)
            await clock.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
            await store.deliver(Wish(execution_id, "cancel", by, reason), clock.now())
            continue
        inbox = (await store.inbox([execution_id]))[execution_id]
        receipt = await store.deliver(Settle(execution_id), clock.now()) if _childless(inbox.children) else receipt
        if receipt.verdict in (Verdict.OK, Verdict.ENDED) and _childless(inbox.children):
            # The last thing that its owner did may have been to start a child.
            for child in (await store.inbox([execution_id]))[execution_id].children:
                if child.status not in ENDED:
                    await cancel(store, clock, child.id, by, reason, patient=patient)
            continue
        if row.owner is None:
            for child in inbox.children:
                if child.status not in ENDED:
                    await cancel(store, clock, child.id, by, reason, patient=patient)
            continue
        await clock.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1


async def after_rollback(store: Store, clock: Clock, row: Execution) -> Execution:
    """The row once it is not being rolled back any more, nor to be. Raises `PerdureError` where nobody would do it."""
    tries = 0
    while is_bound_back(row.status, row.wish, row.generation):
        await _refuse_if_alone(store, row)
        await clock.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1
        found = (await store.get([row.id])).get(row.id)
        if found is None:
            raise NotFoundError(f"there is no execution {row.id}", execution_id=row.id)
        row = found
    return row


async def _refuse_if_alone(store: Store, row: Execution) -> None:
    nobody = nobody_runs(await live_workers(store), row)
    if nobody is not None:
        raise PerdureError(
            f"{row.id} {_going_back(row)}, and {nobody}: it is not cancelled. Start one, and it goes on; or cancel it"
            " then",
            execution_id=row.id,
        )


def _going_back(row: Execution) -> str:
    return "is being rolled back" if row.status is Status.ROLLING_BACK else "is to be rolled back"


def _childless(children: list[Execution]) -> bool:
    return all(child.status in ENDED for child in children)


async def pause(store: Store, clock: Clock, execution_id: str, by: str | None, reason: str | None) -> None:
    """Pause an execution; returns once that is durable.

    Raises `NotFoundError`, and `PerdureError` if it has ended, is blocked, or is to be rolled back.
    """
    tries = 0
    receipt = await store.deliver(Wish(execution_id, "pause", by, reason), clock.now())
    while True:
        row = (await store.get([execution_id])).get(execution_id)
        if row is None or receipt.verdict == Verdict.GONE:
            raise NotFoundError(f"there is no execution {execution_id}", execution_id=execution_id)
        if row.status == Status.PAUSED:
            return
        if row.status in ENDED or row.status in (Status.BLOCKED, Status.ROLLING_BACK):
            raise PerdureError(f"{execution_id} is {row.status}: it cannot be paused", execution_id=execution_id)
        if is_bound_back(row.status, row.wish, row.generation):
            raise PerdureError(f"{execution_id} is to be rolled back: it cannot be paused", execution_id=execution_id)
        if row.wish != "pause":
            wish = "roll back" if (row.wish or "").startswith("{") else row.wish or "go on"
            raise PerdureError(f"{execution_id} was told to {wish} meanwhile", execution_id=execution_id)
        if row.owner is not None:
            for suspect in await store.suspects(0):
                await store.declare_dead(suspect)
        await store.deliver(Settle(execution_id), clock.now())
        await clock.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1
