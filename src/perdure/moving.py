"""Taking all executions from one database to another.

The source is marked first: no library opens it any more, and once no worker is live in it nothing there changes. Then
each execution arrives as a whole, in one transaction with some others, and is read back and compared. Whatever kills a
move, another one goes on: what has arrived is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from perdure.errors import AlreadyExistsError, DecodeError, PerdureError
from perdure.records import Parcel, Plain, Query, Status, Verdict, WorkerRecord, listed
from perdure.store import Movable
from perdure.stores.parcels import OF_EXECUTIONS

MOST = 200
"""Executions that are sent at once, at most."""

LARGE = 8 << 20
"""Characters of one part from which on the next one is smaller."""

SAME = ("workflow", "version", "created_at", "input", "started_by", "parent_id")
"""By these an execution of the target is the one that was moved, and not another of its name."""


@dataclass
class Share:
    """What was moved of one table: rows, and a digest in which each of them counts, in any order."""

    rows: int = 0
    digest: int = 0

    def add(self, row: dict[str, Plain], columns: Sequence[str]) -> None:
        text = json.dumps([row[column] for column in columns], ensure_ascii=True)
        self.rows += 1
        self.digest = (self.digest + int.from_bytes(blake2b(text.encode(), digest_size=8).digest())) % 2**64


@dataclass
class Moved:
    """How far a move has come."""

    executions: int = 0
    there_before: int = 0
    """Of these, those that an earlier, broken move had brought."""
    gone_on: int = 0
    """Of these, those that the target's workers have taken up already; they are not compared any more."""
    left: dict[str, Share] = field(default_factory=dict)
    """By table: what left the source."""
    arrived: dict[str, Share] = field(default_factory=dict)
    """By table: what was read back from the target."""


class Move:
    """One move. Both stores are open, the source with `even_if_moved`."""

    def __init__(self, source: Movable, target: Movable, told: Callable[[Moved], None] = lambda moved: None) -> None:
        self._source = source
        self._target = target
        self._told = told
        self.moved = Moved()

    async def close_source(self) -> None:
        """Mark the source, unless it is. Raises `PerdureError` if it was moved elsewhere."""
        known = await self._source.moved_to()
        if known is not None and known != self._target.url:
            raise PerdureError(
                f"{self._source.url} was moved to {known}, or that was begun; nothing was changed. Take its mark away "
                f"first if that was a mistake: perdure move --reopen {self._source.url}"
            )
        if known is None:
            await self._source.mark_moved(self._target.url)

    async def live_workers(self) -> Sequence[WorkerRecord]:
        """Who may still run something there; the dead are declared dead.

        So are those who only submit, which may be gone without a word: what they record comes after the mark.
        """
        for worker in await self._source.suspects(0):
            await self._source.declare_dead(worker)
        live = [row for row in await self._source.workers() if row.state == "live"]
        runners = [row for row in live if listed(row.workflows)]
        for row in live if not runners else ():
            await self._source.declare_dead(row.id, anyway=True)
        return runners

    async def carry(self) -> Moved:
        """Take everything along. The source is closed, and nobody is live there.

        Raises `AlreadyExistsError` if the target has another execution of some id, `PerdureError` if something did not
        arrive as it left. Then what has arrived stays, and the source is as it was.
        """
        await self._fold_outbox()
        await self._target.unpack(await self._source.pack([""]))
        after, size = "", MOST
        while ids := await self._source.ids(after, size):
            parcels = [ready(parcel) for parcel in await self._source.pack(ids)]
            new = set(await self._target.unpack(parcels))
            arrived = {parcel.id: parcel for parcel in await self._target.pack(ids)}
            for parcel in parcels:
                self._compare(parcel, arrived.get(parcel.id), parcel.id in new)
            self._told(self.moved)
            size = max(1, size // 2) if _size(parcels) > LARGE else min(MOST, size * 2)
            after = ids[-1]
        return self.moved

    async def _fold_outbox(self) -> None:
        """What users' transactions asked for, and committed, becomes executions and messages, which are moved."""
        delivered = self._source.own_transactions
        while delivered:
            folded = await self._source.fold(MOST)
            delivered = any(it.verdict in (Verdict.OK, Verdict.REPEAT) for it in folded)

    def _compare(self, left: Parcel, arrived: Parcel | None, new: bool) -> None:
        if arrived is None:
            raise PerdureError(f"{left.id} was sent and is not in {self._target.url}; nothing was deleted")
        here, there = left.rows["workflow_executions"][0], arrived.rows["workflow_executions"][0]
        if any(here[name] != there[name] for name in SAME):
            raise AlreadyExistsError(
                f"{self._target.url} has another execution called {left.id}; neither was changed. "
                f"{self.moved.executions} have been moved before it",
                execution_id=left.id,
            )
        self.moved.executions += 1
        self.moved.there_before += not new
        if _count(there["fence"]) > _count(here["fence"]) or _count(there["nudges"]) > _count(here["nudges"]):
            self.moved.gone_on += 1
            return
        for table in OF_EXECUTIONS:
            before, after = left.rows.get(table, []), arrived.rows.get(table, [])
            columns = sorted(set(before[0]) & set(after[0])) if before and after else []
            shares = []
            for rows, total in ((before, self.moved.left), (after, self.moved.arrived)):
                share = Share()
                for row in rows:
                    share.add(row, columns)
                whole = total.setdefault(table, Share())
                whole.rows, whole.digest = whole.rows + share.rows, (whole.digest + share.digest) % 2**64
                shares.append(share)
            if shares[0] != shares[1]:
                raise PerdureError(
                    f"{left.id} did not arrive as it left: {table} has {shares[1].rows} rows of it in "
                    f"{self._target.url}, {shares[0].rows} in {self._source.url}, or they differ; nothing was deleted"
                )


def ready(parcel: Parcel) -> Parcel:
    """As it shall arrive: what a dead worker ran is nobody's, and is claimed anew."""
    row = dict(parcel.rows["workflow_executions"][0])
    if row["status"] == Status.RUNNING:
        row["status"] = str(Status.PENDING)
    row["owner"] = None
    return Parcel(parcel.id, {**parcel.rows, "workflow_executions": [row]})


async def number(store: Movable) -> int:
    """How many executions there are."""
    return sum((await store.count(Query())).values())


def _count(value: Plain) -> int:
    if not isinstance(value, int):
        raise DecodeError(f"a row of an execution is damaged: {value!r:.100} is no number")
    return value


def _size(parcels: Sequence[Parcel]) -> int:
    values = (value for parcel in parcels for rows in parcel.rows.values() for row in rows for value in row.values())
    return sum(len(value) for value in values if isinstance(value, str))
