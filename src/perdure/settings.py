"""Where the database is, when nobody says so: the environment, then a `.env` file here or above."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

NAMES = ("PERDURE_DATABASE_URL", "DATABASE_URL")

logger = logging.getLogger("perdure")

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)\s*=\s*
        (?:'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)"|(?P<bare>[^'"#\s](?:(?!\s+\#).)*?|))(?:\s+\#.*|\s*)""",
    re.VERBOSE,
)
_USER = re.compile(r"(?<=//)(?P<user>[^/?#]*?):(?P<password>.*)@(?=[^@]*$)")
_PARAMETER = re.compile(r"(?P<name>[?&](?:password|sslpassword)=)[^&#]*", re.IGNORECASE)


def find_url(environ: Mapping[str, str], start: Path) -> tuple[str, str] | None:
    """The database's URL and where it was found, or None.

    First `PERDURE_DATABASE_URL`, then `DATABASE_URL` of `environ`; then the same two from the `.env` file in
    the folder `start`, else in the nearest folder above it that has one with either. Empty values do not count.
    """
    for name in NAMES:
        if environ.get(name):
            return environ[name], f"{name} in the environment"
    here = start.absolute()
    for folder in (here, *here.parents):
        values = _read(folder / ".env")
        for name in NAMES:
            if values.get(name):
                return values[name], f"{name} in {folder / '.env'}"
    return None


def default_url(environ: Mapping[str, str], start: Path) -> str:
    """The URL of an engine that is given none: as `find_url` finds it, else memory. The log says which."""
    found = find_url(environ, start)
    if found is None:
        logger.info("no URL given and none found: executions are kept in memory and end with this process")
        return "memory://"
    logger.info("the store is %s (from %s)", hide_password(found[0]), found[1])
    return found[0]


def parse_env(text: str) -> dict[str, str]:
    """The `KEY=VALUE` lines of an `.env` file: `export`, quotes and comments are understood, the rest passed over."""
    values = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        if match["double"] is not None:
            value = re.sub(r"\\(.)", r"\1", match["double"])
        else:
            value = match["single"] if match["single"] is not None else match["bare"]
        values[match["name"]] = value
    return values


def hide_password(url: str) -> str:
    """The URL as it may be shown: no password, wherever it stands."""
    return _PARAMETER.sub(r"\g<name>***", _USER.sub(r"\g<user>:***@", url))


def _read(path: Path) -> dict[str, str]:
    try:
        return parse_env(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError):  # absent, unreadable, a folder: as if it were not there
        return {}
