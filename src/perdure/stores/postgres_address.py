"""The URL of a PostgreSQL database, as people and hosts write it, and as the driver takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from perdure.errors import PerdureError
from perdure.settings import hide_password
from perdure.stores.gate import Pace
from perdure.stores.naming import Names, load_statements
from perdure.stores.placeholders import refuse_placeholders

CONNECT_SECONDS = 10.0
PARTS = (
    "postgres",
    "postgres_checks",
    "postgres_claims",
    "postgres_commits",
    "postgres_lists",
    "postgres_moves",
    "postgres_notify",
    "postgres_outbox",
    "postgres_presence",
    "postgres_reads",
)
POOLER_PORT = "6543"  # of Supabase's pooler in transaction mode
SUPABASE = (".supabase.co", ".supabase.com")
SUPABASE_POOLER = ".pooler.supabase.com"
SUPABASE_SCHEMA = "perdure"
"""Tables in `public` are open there to whoever has the project's public key, unless row-level security is on."""
# libpq, or other drivers, take these in a URL; asyncpg would send them to the server, which refuses them.
_NOT_FOR_SERVERS = {
    "async_fallback",
    "channel_binding",
    "connect_timeout",
    "connection_limit",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "pgbouncer",
    "pool_timeout",
    "prepared_statement_cache_size",
    "requirepeer",
    "schema",
    "socket_timeout",
    "sslcompression",
    "sslsni",
    "statement_cache_size",
    "table_prefix",
    "tcp_user_timeout",
}


@dataclass(slots=True)
class Address:
    """Where a database is. `shown` is without a password; `secrets` is what must appear nowhere.

    `pooled`: sessions may be shared out by transaction (a pooler), so that nothing may be kept in one. Where the URL
    does not tell (None), the first session does. `lazy`: the database acknowledges commits before they are durable,
    unless it is told otherwise; the first session tells, too.
    `names` are those of our tables, `sql` the statements with them. `pace` is of all who try to reach it.
    """

    dsn: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)
    pooled: bool | None
    connect_seconds: float
    names: Names
    sql: Mapping[str, str] = field(repr=False)
    lazy: bool | None = None
    pace: Pace = field(default_factory=Pace, repr=False, compare=False)

    def hide(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self.secrets:
            if len(secret) > 3:  # a shorter one stands in every other word
                text = text.replace(secret, "***")
        return text


def read_address(
    url: str, statement_cache_size: int | None = None, schema: str | None = None, table_prefix: str = ""
) -> Address:
    """Read postgres://, postgresql:// and postgresql+driver:// URLs. Raises `PerdureError` in words.

    `?pgbouncer=true`, `statement_cache_size=0` or the port 6543 say that a pooler in transaction mode is in between,
    `pgbouncer=false` that sessions are ours alone. `schema` and `table_prefix` may stand in the URL, too.

    >>> read_address("postgresql+asyncpg://ana:s3cret@db.example.com/orders").shown
    'postgresql://ana:***@db.example.com/orders'
    """
    refuse_placeholders(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreadable(url) from None
    if _is_torn(parts):
        raise _unreadable(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    kept = {name: value for name, value in given.items() if name not in _NOT_FOR_SERVERS}
    cache = given.get("statement_cache_size", given.get("prepared_statement_cache_size"))
    if statement_cache_size is None and cache is not None and cache.isdecimal():
        statement_cache_size = int(cache)
    dsn = parts._replace(scheme="postgresql", query=urlencode(kept, quote_via=quote), fragment="").geturl()
    if not parts.netloc:  # geturl leaves an empty authority out, without which it is no URL
        dsn = dsn.replace("postgresql:", "postgresql://", 1) if "://" not in dsn else dsn
    password = parts.password or given.get("password")
    hosts = [host for host, _ in _places(parts, given)]
    schema = schema or given.get("schema") or (SUPABASE_SCHEMA if _is_at(hosts, *SUPABASE) else None)
    names = Names("postgres", schema, table_prefix or given.get("table_prefix", ""))
    return Address(
        dsn=dsn,
        shown=hide_password(dsn),
        secrets=tuple({password, unquote(password)}) if password else (),
        pooled=_is_pooled(_places(parts, given), given.get("pgbouncer", "").lower(), statement_cache_size),
        connect_seconds=_seconds(given.get("connect_timeout")),
        names=names,
        sql=load_statements(PARTS, names),
    )


def _is_pooled(places: list[tuple[str, str]], said: str, statement_cache_size: int | None) -> bool | None:
    if said in ("true", "false", "1", "0"):
        return said in ("true", "1")
    if statement_cache_size is not None:
        return statement_cache_size == 0
    by_port = any(port == POOLER_PORT for _, port in places)
    return True if by_port or _is_at([host for host, _ in places], SUPABASE_POOLER) else None


def _places(parts: SplitResult, given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Hosts, each with its port, as far as they are said."""
    named = parts.netloc.rpartition("@")[2] or given.get("host") or os.environ.get("PGHOST", "")
    ports = given.get("port") or os.environ.get("PGPORT", "")
    found = []
    for each in unquote(named).split(","):
        host, colon, port = each.rpartition(":")
        found.append((host, port) if colon and port.isdecimal() else (each, ports))
    return found


def _is_at(hosts: list[str], *ends: str) -> bool:
    return any(host.lower().endswith(ends) for host in hosts)


def _is_torn(parts: SplitResult) -> bool:
    # A password with a raw slash, question mark or number sign: its rest would be taken for a path or a query.
    rest = "@" in parts.query and "@" not in parts.netloc and ":" in parts.netloc
    return "@" in parts.path or bool(parts.fragment) or rest


def _unreadable(url: str) -> PerdureError:
    return PerdureError(
        f"{hide_password(url)!r} is no URL that can be read. In a user's name or password write special characters "
        "percent-encoded, as %40 for @"
    )


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() and int(text) > 0 else CONNECT_SECONDS
