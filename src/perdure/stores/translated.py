"""A step's own transaction in a store in front of another one."""

from __future__ import annotations

from collections.abc import Callable

from perdure.records import Batch, Verdicts
from perdure.store import Transaction


class TranslatedTransaction:
    """What is recorded is translated first; what the body writes is the body's."""

    def __init__(self, transaction: Transaction, translate: Callable[[Batch], Batch]) -> None:
        self._transaction = transaction
        self._translate = translate
        self.connection, self.is_async = transaction.connection, transaction.is_async

    async def commit(self, batch: Batch) -> Verdicts:
        return await self._transaction.commit(self._translate(batch))

    async def roll_back(self) -> None:
        await self._transaction.roll_back()

    def expire(self) -> None:
        self._transaction.expire()
