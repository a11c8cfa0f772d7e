"""The URL of a PostgreSQL database, as people and hosts write it, and as the driver takes it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from perdure.errors import PerdureError
from perdure.settings import hide_password

CONNECT_SECONDS = 10.0
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
    "sslcompression",
    "sslsni",
    "statement_cache_size",
    "tcp_user_timeout",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is. `shown` is without a password; `secrets` is what must appear nowhere.

    `pooled`: sessions may be shared out by transaction (a pooler), so that nothing may be kept in one.
    """

    dsn: str
    shown: str
    secrets: tuple[str, ...]
    pooled: bool
    connect_seconds: float

    def hide(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self.secrets:
            if len(secret) > 3:  # a shorter one stands in every other word
                text = text.replace(secret, "***")
        return text


def read_address(url: str, statement_cache_size: int | None = None) -> Address:
    """Read postgres://, postgresql:// and postgresql+driver:// URLs. Raises `PerdureError` in words.

    `?statement_cache_size=0` (or `pgbouncer=true`) says that a pooler in transaction mode is in between.

    >>> read_address("postgresql+asyncpg://ana:s3cret@db.example.com/orders").shown
    'postgresql://ana:***@db.example.com/orders'
    """
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
    return Address(
        dsn=dsn,
        shown=hide_password(dsn),
        secrets=tuple({password, unquote(password)}) if password else (),
        pooled=statement_cache_size == 0 or given.get("pgbouncer") == "true",
        connect_seconds=_seconds(given.get("connect_timeout")),
    )


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
