"""Starts and messages in users' own transactions: delivered once these are committed.

Whoever writes one has it written on their own connection (`stores/own_connections.py`); only they know when, or
whether, it is committed. Workers look for such rows at each poll; the engine that wrote one looks sooner, for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from perdure.clock import Clock
from perdure.errors import NotFoundError, StoreUnavailableError
from perdure.records import Folded, Outgoing, Verdict
from perdure.store import Store
from perdure.stores import own_connections

logger = logging.getLogger("perdure")

MANY = 100
"""Rows that are delivered together."""

SOON = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between the looks for what was written here, until it was seen."""

OUTSTANDING = 60_000_000
"""Microseconds for which reads of an execution look into the outbox first, after something was written for it."""

HELD = 0.005
"""Seconds between two looks at a row that another worker delivers."""

APART = 1_000_000
"""Microseconds between two looks at a server's outbox, where nobody has written here."""


class Outbox:
    """What one engine knows of the outbox of its store. `delivered` hears the ids of executions that got something."""

    def __init__(self, store: Store, clock: Clock, delivered: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._delivered = delivered
        self._exists: bool = getattr(store, "own_transactions", False)
        self._names = getattr(store, "names", None)
        self._outstanding: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self._looked_at = 0
        self._looks: asyncio.Task[None] | None = None

    # Writing ------------------------------------------------------------------------------------------

    async def put(self, connection: Any, rows: Sequence[Outgoing]) -> None:
        """Write these on a user's connection. Raises `TypeError`, `PerdureError` for a wrong one."""
        await own_connections.put(self._recognize(connection), rows, self._names)
        self.wrote(rows)

    def put_now(self, connection: Any, rows: Sequence[Outgoing]) -> None:
        """The same in a thread that is not the engine's; it then has the engine's call `wrote`."""
        own_connections.put_now(self._recognize(connection), rows, self._names)

    def _recognize(self, connection: Any) -> own_connections.OwnConnection:
        own = own_connections.recognize(connection)
        own_connections.check(own, self._store.url)
        return own

    def wrote(self, rows: Sequence[Outgoing]) -> None:
        """Something was written for executions; it counts when the user commits."""
        named: Callable[[str], str] = getattr(self._store, "own_name", str)
        for row in rows:
            self._outstanding[named(row.execution_id)] = self._clock.now() + OUTSTANDING
        if self._looks is None or self._looks.done():
            self._looks = asyncio.get_running_loop().create_task(self._look_soon())

    # Reading ------------------------------------------------------------------------------------------

    async def look_for(self, execution_id: str) -> None:
        """Before an execution is read: no read is older than what was committed before it."""
        while self._is_outstanding(execution_id):
            await self.fold()
            if all(row.execution_id != execution_id or row.refused for row in await self._store.outbox()):
                return
            await asyncio.sleep(HELD)  # another worker delivers it just now

    def check_started(self, execution_id: str) -> None:
        """An execution is not there. Raises `NotFoundError` if a transaction of ours was to start it."""
        if self._is_outstanding(execution_id):
            raise NotFoundError(
                f"{execution_id} is not there: the transaction that starts it is not committed, or was rolled back",
                execution_id=execution_id,
            )

    def _is_outstanding(self, execution_id: str) -> bool:
        until = self._outstanding.get(execution_id)
        if until is not None and until < self._clock.now():
            del self._outstanding[execution_id]
            return False
        return until is not None

    # Delivering ---------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Deliver what there is, unless somebody has just looked."""
        if not self._exists:
            return
        now = self._clock.now()
        if self._store.inline or now - self._looked_at >= APART:
            self._looked_at = now
            await self.fold()

    async def fold(self) -> None:
        """Deliver what there is. Raises `StoreUnavailableError`."""
        async with self._turn:
            while self._exists:
                folded = await self._store.fold(MANY)
                for each in folded:
                    self._hear(each)
                if len(folded) < MANY:
                    return

    def _hear(self, folded: Folded) -> None:
        row, verdict = folded
        self._outstanding.pop(row.execution_id, None)
        if verdict in (Verdict.OK, Verdict.REPEAT):
            self._delivered(row.execution_id)
        else:
            logger.error("outbox: %s (row %d, of a committed transaction; it is kept there)", row.refused, row.id)

    async def _look_soon(self) -> None:
        for pause in SOON:
            await asyncio.sleep(pause)
            if not self._outstanding:
                return
            try:
                await self.fold()
            except StoreUnavailableError:
                return  # the worker's polls go on, and complain
            except Exception:
                logger.exception("outbox: a defect of Perdure")
                return

    async def close(self) -> None:
        if self._looks is not None:
            self._looks.cancel()
            await asyncio.wait([self._looks])
