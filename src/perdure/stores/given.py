"""Connections that the user has already: an asyncpg pool, or an engine of SQLAlchemy's.

Commits and heartbeats need sessions of their own; these are opened at the address that pool or engine has.
"""

from __future__ import annotations

from typing import Any

from perdure.errors import PerdureError


class AlchemyPool:
    """SQLAlchemy's `AsyncEngine` over asyncpg, in the words of an asyncpg pool."""

    def __init__(self, engine: Any) -> None:
        driver = engine.url.get_driver_name()
        if driver != "asyncpg":
            raise PerdureError(
                f"sqlalchemy= takes an AsyncEngine of postgresql+asyncpg:// here; this one's driver is {driver}. "
                "Give the URL alone, and connections are opened beside those of the engine"
            )
        self._engine = engine
        self._held: dict[int, Any] = {}

    async def acquire(self) -> Any:
        """A connection of the driver's."""
        held = await self._engine.connect()
        connection: Any = (await held.get_raw_connection()).driver_connection
        self._held[id(connection)] = held
        return connection

    async def release(self, connection: Any) -> None:
        """Give it back; one that broke is not used again."""
        held = self._held.pop(id(connection))
        if connection.is_closed():
            await held.invalidate()
        await held.close()


def url_of_engine(engine: Any) -> str:
    """The URL of SQLAlchemy's engine, an async one or not."""
    return str(engine.url.render_as_string(hide_password=False))


def url_of_pool(pool: Any) -> str:
    """The URL that an asyncpg pool was made with."""
    if pool is None:
        raise PerdureError("neither a URL nor a pool was given")
    arguments = getattr(pool, "_connect_args", ())
    dsn = arguments[0] if arguments else None
    if not isinstance(dsn, str):
        raise PerdureError("this pool does not tell its URL. Give it too: PostgresStore(url, pool=pool)")
    return dsn
