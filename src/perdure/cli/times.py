"""Times as they are typed: `30d`, `90m`, `2026-11-22`, `2026-11-22T08:00+01:00`. Callbacks of options."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def parse_span(text: str) -> timedelta | None:
    """A number and a unit. None if it is anything else, or longer than time can be."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        return None
    try:
        return timedelta(**{UNITS[match[2]]: float(match[1])})
    except OverflowError:
        return None


def span(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    """How long: a number and s, m, h, d or w."""
    found = parse_span(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no time such as 90s, 15m, 12h, 30d or 4w", context, parameter)
    return found


def moment(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """When: a date or time (UTC, unless it names another zone), or how long ago."""
    if value is None:
        return None
    ago = parse_span(value)
    try:
        when = datetime.now(UTC) - ago if ago is not None else datetime.fromisoformat(value)
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{value!r} is neither a time such as 2026-11-22T08:00 nor how long ago, such as 2h", context, parameter
        ) from error
