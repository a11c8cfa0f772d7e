"""Times as they are typed: `30d`, `90m`, `2026-11-22`, `2026-11-22T08:00+01:00`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

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


class Span(click.ParamType):
    """How long: a number and s, m, h, d or w."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        span = value if isinstance(value, timedelta) else parse_span(value)
        if span is None:
            self.fail(f"{value!r} is no time such as 90s, 15m, 12h, 30d or 4w", param, ctx)
        return span


class Moment(click.ParamType):
    """When: a date or time (UTC, unless it names another zone), or how long ago."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        span = parse_span(value)
        try:
            when = datetime.now(UTC) - span if span is not None else datetime.fromisoformat(value)
            when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
            return when.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a time such as 2026-11-22T08:00 nor how long ago, such as 2h", param, ctx)
