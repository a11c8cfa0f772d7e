"""A workflow that goes back to a checkpoint and then fails, with children and branches: all of it is undone."""

from __future__ import annotations

from typing import Any

from perdure import checkpoint, current, gather, rollback, step, workflow
from tests.crash import ledger

DID = "did"
UNDID = "undid"


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
