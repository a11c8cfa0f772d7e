"""Workflows of which everything is undone.

One goes back to a checkpoint and then fails, with children and branches. The other books a journey that cannot be paid.
"""

from __future__ import annotations

from typing import Any

from perdure import Retry, Workflow, checkpoint, current, gather, rollback, step, workflow
from tests.crash import ledger

DID = "did"
UNDID = "undid"
STUCK = "stuck"


class Doomed(Exception):
    pass


def tell(what: str, value: str) -> None:
    """The generation stands where the attempt does elsewhere."""
    running = current()
    ledger.append(
        ledger.Line(
            what,
            running.execution_id,
            running.key or "",
            value,
            running.generation,
            running.fence,
            running.idempotency_key,
        )
    )


async def unbook(result: str, value: str) -> None:
    assert result == f"booked {value}"
    tell(UNDID, value)


@step(name="book", undo=unbook)
async def book(value: str) -> str:
    tell(DID, value)
    return f"booked {value}"


@workflow(name="undone_below")
async def below(value: str) -> None:
    await book(f"{value} 1")
    await book(f"{value} 2")


@workflow(name="undone", rollback_on_failure=True)
async def undone(x: Any) -> None:
    await book("first")
    await checkpoint("mark")
    await gather(book("left"), below("child"), book("right"))
    if current().generation == 0:
        await rollback("mark", reason="again")
    raise Doomed(f"generation {current().generation}")


# The journey ---------------------------------------------------------------------------------------------------


class CardDeclined(Exception):
    pass


@step(name="cancel", retry=Retry(attempts=3, initial=0.0))
async def cancel(result: str, what: str, trouble: str) -> str:
    assert result == f"{what} reserved"
    if what == "hotel" and (trouble == "never" or (trouble == "twice" and current().attempt <= 2)):
        raise OSError("nobody answers the telephone")
    tell(UNDID, what)
    return f"{what} cancelled"


@step(name="flight", undo=cancel)
async def flight(what: str, trouble: str) -> str:
    tell(DID, what)
    return f"{what} reserved"


@step(name="hotel", undo=cancel)
async def hotel(what: str, trouble: str) -> str:
    tell(DID, what)
    return f"{what} reserved"


@step(name="charge")
async def charge() -> None:
    raise CardDeclined("no money")


@workflow(name="journey", rollback_on_failure=True)
async def journey(trouble: str) -> None:
    """`trouble`: the hotel cannot be cancelled: "twice", "never", or it can."""
    await flight("flight", trouble)
    await hotel("hotel", trouble)
    await charge()


FLOWS: list[Workflow[..., Any]] = [undone, below, journey]
