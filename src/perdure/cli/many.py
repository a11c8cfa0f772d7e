"""A verb on all executions that a query finds: which they are, whether they are really meant, what became of each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from perdure import bulk
from perdure.cli.bar import Bar
from perdure.cli.filters import Filter
from perdure.cli.session import DONE, FAILED, Session
from perdure.cli.words import at_shell
from perdure.engine import Engine
from perdure.errors import PerdureError
from perdure.handle import Handle
from perdure.records import Status

SHOWN = 20

F = TypeVar("F", bound=Callable[..., Any])
Act = Callable[[Handle[Any]], Awaitable[Any]]


@dataclass(slots=True, frozen=True)
class Verb:
    """A verb, what has been done then, and on executions of which statuses it can be done."""

    name: str
    done: str
    statuses: Sequence[Status]


@dataclass(slots=True, frozen=True)
class Manner:
    """How to go about many: only to look, without asking, on how many at most; for what reason, and for whom."""

    dry_run: bool
    yes: bool
    limit: int | None
    reason: str | None = None
    by: str | None = None
    rollback: bool = False

    def words(self) -> list[str]:
        """The options that say so, but for the first two."""
        given = (("--limit", self.limit), ("--reason", self.reason), ("--by", self.by))
        words = [word for name, value in given if value is not None for word in (name, str(value))]
        return [*words, "--rollback"] if self.rollback else words


def bulk_options(function: F) -> F:
    """What a verb on many executions takes besides the filters."""
    for option in (
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="With filters: at most so many."),
        yes_option,
        dry_run_option,
    ):
        function = option(function)
    return function


dry_run_option = click.option("--dry-run", is_flag=True, help="Only tell which executions it would be.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask. (A terminal asks, if there are several.)")


def one_or_many(verb: Verb, id: str | None, chosen: Filter, manner: Manner) -> bool:
    """Is one execution meant? Raises `click.UsageError` where that cannot be said."""
    if id is not None and (chosen.words or manner.dry_run or manner.limit is not None):
        raise click.UsageError(f"{verb.name} takes the id of one execution, or filters: not both")
    if id is None and not chosen.words:
        raise click.UsageError(
            f"which executions? Give the id of one, or filters such as --status {verb.statuses[0]} or --workflow NAME"
        )
    chosen.check(verb.statuses, f"{verb.name} takes executions that are")
    return id is not None


async def on_many(session: Session, engine: Engine, verb: Verb, chosen: Filter, manner: Manner, act: Act) -> int:
    """Do it to all that are found; 1 if it was refused for any of them."""
    async with engine:
        found = await bulk.each(engine, chosen.query, verb.statuses, act, True)
        ids = found.ids[: manner.limit]
        if manner.dry_run:
            return tell_dry_run(session, verb, ids, [verb.name, *chosen.words, *manner.words()])
        confirm(session, verb, ids, manner.yes)
        done, refused = await _each(session, engine, verb, ids, act)
    session.document({verb.done: done, "refused": refused, "dry_run": False})
    if not ids:
        session.say(f"Nothing to {verb.name}: no such execution is {' or '.join(verb.statuses)}.")
    elif len(ids) > 1:
        session.hint(f"{len(done)} of {len(ids)} {verb.done}.")
    return FAILED if refused else DONE


async def _each(
    session: Session, engine: Engine, verb: Verb, ids: Sequence[str], act: Act
) -> tuple[list[str], list[dict[str, str]]]:
    """Exactly these, several at a time. Gives those that it was done to, and what refused it."""
    done: set[str] = set()
    refused: dict[str, str] = {}
    turn = asyncio.Semaphore(bulk.AT_ONCE)
    bar = Bar(session, len(ids))

    async def one(id: str) -> None:
        async with turn:
            try:
                await act(engine.get(id))
            except PerdureError as error:
                refused[id] = at_shell(str(error), session.options)
                bar.clear()
                session.hint(f"{id} is not {verb.done}: {refused[id]}")
            else:
                done.add(id)
                bar.clear()
                session.say(f"{id} is {verb.done}")
            bar.step()

    await asyncio.gather(*map(one, ids))
    bar.clear()
    return [id for id in ids if id in done], [{"id": id, "error": refused[id]} for id in ids if id in refused]


def tell_dry_run(session: Session, verb: Verb, ids: Sequence[str], words: Sequence[str]) -> int:
    """What it would have been done to, and the command that does it."""
    session.document({verb.done: list(ids), "refused": [], "dry_run": True})
    for id in ids:
        session.say(id)
    if ids:
        session.hint(f"{_some(ids)} would be {verb.done}. Do it:\n  {session.command(*words)}")
    else:
        session.hint(f"Nothing would be {verb.done}.")
    return DONE


def confirm(session: Session, verb: Verb, ids: Sequence[str], yes: bool) -> None:
    """Ask the person at the terminal, if it is about several. Raises `click.ClickException` for a no."""
    if yes or len(ids) < 2 or not sys.stdin.isatty():
        return
    for id in ids[:SHOWN]:
        session.hint(f"  {id}")
    if len(ids) > SHOWN:
        session.hint("  ...")
    if not click.confirm(f"{verb.name.capitalize()} {_some(ids)}?", err=True):
        raise click.ClickException("nothing was changed")


def _some(ids: Sequence[str]) -> str:
    return f"{len(ids)} execution{'s' if len(ids) != 1 else ''}"
