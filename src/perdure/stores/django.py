"""Where the database is, as Django's settings say it: `DATABASES["default"]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from perdure.errors import PerdureError

_SCHEMES = {
    "postgresql": "postgresql",
    "postgresql_psycopg2": "postgresql",
    "postgis": "postgresql",
    "mysql": "mysql",
    "sqlite3": "sqlite",
    "spatialite": "sqlite",
}
# Those that libpq has too; all others are Django's own, or its driver's.
_POSTGRES = ("sslmode", "sslrootcert", "sslcert", "sslkey", "options", "connect_timeout", "target_session_attrs")
_MYSQL = ("unix_socket", "connect_timeout")


def django_url(settings: Mapping[str, Any]) -> str:
    """The URL for one of Django's databases. Raises `PerdureError` for an engine that Perdure has no store for.

    >>> django_url({"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "USER": "ana", "HOST": "db"})
    'postgresql://ana@db/shop'
    """
    engine = str(settings.get("ENGINE", "")).rpartition(".")[2]
    scheme = _SCHEMES.get(engine)
    if scheme is None:
        raise PerdureError(
            f"Django's settings name the database engine {settings.get('ENGINE')!r}, for which there is no store. "
            f"Those known are: {', '.join(sorted(_SCHEMES))}"
        )
    name = str(settings.get("NAME") or "")
    if scheme == "sqlite":
        return f"sqlite:///{name}"
    options: Mapping[str, Any] = settings.get("OPTIONS") or {}
    user, password, host, port = (str(settings.get(key) or "") for key in ("USER", "PASSWORD", "HOST", "PORT"))
    query = {key: str(options[key]) for key in (_POSTGRES if scheme == "postgresql" else _MYSQL) if key in options}
    if host.startswith("/"):
        query["host" if scheme == "postgresql" else "unix_socket"] = host
        if port and scheme == "postgresql":
            query["port"] = port
        host, port = "", ""
    if scheme == "mysql" and isinstance(options.get("ssl"), Mapping) and "ca" in options["ssl"]:
        query["ssl_ca"] = str(options["ssl"]["ca"])
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    place = f"{who}@{host}" if who else host
    where = f"{place}:{port}" if port else place
    return f"{scheme}://{where}/{quote(name, safe='')}" + (f"?{urlencode(query)}" if query else "")
