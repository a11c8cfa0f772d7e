"""The options that say which executions are meant: `--status`, `--workflow`, `--attribute` and their like."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click

from perdure.cli.inputs import parse
from perdure.cli.names import given
from perdure.cli.times import moment
from perdure.cli.words import to_json
from perdure.records import Status
from perdure.search import Query

STATUSES = click.Choice([str(status) for status in Status], case_sensitive=False)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True, frozen=True)
class Filter:
    """What was asked for, and the words that ask for it again."""

    query: Query
    words: tuple[str, ...]

    def check(self, statuses: Sequence[Status], what: str) -> None:
        """Raise `click.UsageError` for a status that can never be found here."""
        named = (self.query.status,) if isinstance(self.query.status, str) else self.query.status
        for status in named:
            if status not in statuses:
                raise click.UsageError(f"--status {status}: {what} {' or '.join(statuses)}")


def filters(*by: str) -> Callable[[F], F]:
    """The options; the function gets them as `chosen`, a `Filter`. `by`: more names of `--started-by`."""
    options = (
        click.option("--status", multiple=True, type=STATUSES, metavar="STATUS", help="Only these; may be repeated."),
        click.option("--workflow", callback=given, metavar="NAME", help="Only executions of this workflow."),
        click.option(
            "--attribute", multiple=True, metavar="NAME=JSON", help="Only with this attribute; may be repeated."
        ),
        click.option(
            "--text", callback=given, metavar="TEXT", help="Part of the id, workflow, reason, or who started it."
        ),
        click.option(
            "--started-by", *by, "started_by", callback=given, metavar="NAME", help="Only those that NAME started."
        ),
        click.option("--since", callback=moment, metavar="WHEN", help="Created then or later: 2026-11-22, 2h (ago)."),
        click.option("--until", callback=moment, metavar="WHEN", help="Created before then."),
        click.option("--queue", callback=given, metavar="NAME", help="Only those of this queue."),
    )

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def called(
            *args: Any,
            status: tuple[str, ...],
            workflow: str | None,
            attribute: tuple[str, ...],
            text: str | None,
            started_by: str | None,
            since: datetime | None,
            until: datetime | None,
            queue: str | None,
            **more: Any,
        ) -> Any:
            query = Query(
                status=tuple(Status(name.lower()) for name in status),
                workflow=workflow,
                attributes=dict(map(_attribute, attribute)),
                text=text,
                by=started_by,
                since=since,
                until=until,
                queue=queue,
            )
            return function(*args, chosen=Filter(query, _words(query)), **more)

        made: Any = called
        for option in reversed(options):
            made = option(made)
        return made  # type: ignore[no-any-return]

    return decorate


def _attribute(text: str) -> tuple[str, Any]:
    """`customer=7`, `tier="gold"`; what cannot be JSON is a text: `tier=gold`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--attribute {text}: write NAME=JSON, as in customer=7")
    try:
        return name, parse(value, f"--attribute {name}")
    except click.UsageError:
        if value[:1] in '{["' or not value:
            raise
        return name, value


def _words(query: Query) -> tuple[str, ...]:
    words = [word for status in query.status for word in ("--status", str(status))]
    words += [word for name, value in query.attributes.items() for word in ("--attribute", f"{name}={to_json(value)}")]
    for option, value in (("workflow", query.workflow), ("text", query.text), ("queue", query.queue)):
        words += [f"--{option}", value] if value is not None else []
    words += ["--started-by", str(query.by)] if query.by is not None else []
    for option, when in (("since", query.since), ("until", query.until)):
        words += [f"--{option}", when.isoformat()] if when is not None else []
    return tuple(words)
