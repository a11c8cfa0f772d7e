"""Names as they are typed: of executions, queues, namespaces, people. Callbacks of options and arguments."""

from __future__ import annotations

import click

from perdure.cli.session import Session
from perdure.keys import check_execution_id
from perdure.queues import check_queue


def given(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A text that is not empty: a variable of the shell that was never set is no name."""
    if value == "":
        raise click.BadParameter("it is empty", context, parameter)
    return value


def new_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """An id for a new execution."""
    if value is None:
        return None
    problem = check_execution_id(value, context.ensure_object(Session).room)
    if problem is not None:
        raise click.BadParameter(problem, context, parameter)
    return value


def queue_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A queue's name."""
    try:
        check_queue(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error
    return value


by_option = click.option("--by", callback=given, metavar="NAME", help="Who does this; recorded as unverified.")
