"""The URL of a MariaDB or MySQL database, as people and hosts write it, and as the driver takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from perdure.errors import PerdureError
from perdure.settings import hide_password
from perdure.stores.gate import Pace
from perdure.stores.mysql_columns import Statements
from perdure.stores.naming import Names
from perdure.stores.placeholders import refuse_placeholders

CONNECT_SECONDS = 10.0
PORT = 3306
_OFF = {"", "0", "false", "no", "off", "disable", "disabled"}
_VERIFIED = {"verify_ca", "verify-ca", "verify_identity", "verify-full"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is. `shown` is without a password; `secrets` is what must appear nowhere.

    `names` are those of our tables, `sql` the statements with them. `pace` is of all who try to reach it.
    """

    options: dict[str, Any] = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)
    names: Names
    sql: Statements = field(repr=False)
    pace: Pace = field(default_factory=Pace, repr=False, compare=False)

    def hide(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self.secrets:
            if len(secret) > 3:  # a shorter one stands in every other word
                text = text.replace(secret, "***")
        return text


def read_address(url: str, schema: str | None = None, table_prefix: str = "") -> Address:
    """Read mysql:// and mariadb:// URLs, with +driver or without. Raises `PerdureError` in words.

    Parameters that are known: `unix_socket`, `connect_timeout`, `ssl` (or `ssl_mode`) and `ssl_ca`; `schema` (another
    database than the one that is connected to) and `table_prefix`, unless they are given besides.

    >>> read_address("mysql+asyncmy://ana:s3cret@db.example.com/orders").shown
    'mysql://ana:***@db.example.com/orders'
    """
    refuse_placeholders(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _unreadable(url) from None
    if _is_torn(parts):
        raise _unreadable(url)
    database = unquote(parts.path.lstrip("/"))
    if not database:
        raise PerdureError(f"{hide_password(url)!r} names no database. Write mysql://user@host/database")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    password = unquote(parts.password) if parts.password else given.get("password", "")
    scheme = parts.scheme.lower().partition("+")[0]
    names = Names("mysql", schema or given.get("schema") or None, table_prefix or given.get("table_prefix", ""))
    return Address(
        options={
            "host": parts.hostname or "127.0.0.1",
            "port": port or PORT,
            "user": unquote(parts.username) if parts.username else None,
            # The driver encodes passwords as Latin 1, servers take them as UTF-8.
            "password": password.encode(),
            "database": database,
            "unix_socket": given.get("unix_socket"),
            "connect_timeout": _seconds(given.get("connect_timeout")),
            "ssl": _tls(given),
        },
        shown=hide_password(url).replace(url.partition("://")[0], scheme, 1),
        secrets=tuple({password, parts.password or password}) if password else (),
        names=names,
        sql=Statements(names),
    )


def _tls(given: dict[str, str]) -> dict[str, Any] | None:
    """As the driver takes it. An authority's file, or a mode that asks for it, has the server's name checked."""
    mode = given.get("ssl_mode", given.get("ssl-mode", given.get("ssl", given.get("tls", "")))).lower()
    authority = given.get("ssl_ca", given.get("ssl-ca"))
    if authority is None and mode in _OFF | {"preferred"}:
        return None
    verified = authority is not None or mode in _VERIFIED
    return {
        "ca": authority,
        "verify_mode": "required" if verified else "none",
        "check_hostname": mode not in ("verify_ca", "verify-ca"),
    }


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
