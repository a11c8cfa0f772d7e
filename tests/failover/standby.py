"""A PostgreSQL server that follows another one, which waits for it at each commit."""

from __future__ import annotations

from collections.abc import Mapping

from tests.servers import PostgresServer


class Standby(PostgresServer):
    """As `pg_basebackup` makes one."""

    def __init__(self, primary: PostgresServer, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(settings=settings)
        self.primary = primary

    def _make_data(self) -> None:
        source = ["-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "postgres"]
        self._run(["pg_basebackup", "-D", self._data, *source, "-R", "-X", "stream", "-c", "fast", "--no-sync"])

    def is_waited_for(self) -> None:
        """From now on no commit of the primary returns before it is here."""
        self.primary.execute("alter system set synchronous_standby_names = '*'")
        self.primary.execute("select pg_reload_conf()")
        # A commit that returns shows that both know of it.
        self.primary.execute("create table waited_for ()")

    def promote(self) -> None:
        """It writes from now on."""
        self.execute("select pg_promote()")
