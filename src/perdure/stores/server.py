"""What the stores of servers can do besides, for whoever sets a database up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from perdure.stores.findings import Finding


@runtime_checkable
class Server(Protocol):
    """A store on a server, not yet open."""

    async def prepare(self, *, upgrade: bool, create: bool = False) -> list[tuple[str, bool]]:
        """Make the tables; gives (table, made now). `create`: the database itself too.

        Raises `SchemaVersionError` for tables of an older library, unless they are to be brought up to date.
        """
        ...

    def examine(self) -> AsyncIterator[Finding]:
        """Look, without changing anything; ends with the first finding that says `failed`. Raises `PerdureError`."""
        ...

    async def grant(self, role: str, *, dry_run: bool) -> list[str]:
        """Give a role the least rights that a worker needs. Gives the statements that say so."""
        ...
