"""`verify`: would this code block what is open? Asked before it is deployed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator

import click

from perdure.bulk import OPEN
from perdure.cli.app import App, load_app
from perdure.cli.bar import Bar
from perdure.cli.filters import Filter, filters
from perdure.cli.session import DONE, FAILED, Session, existing, shared, with_session
from perdure.cli.words import describe, table
from perdure.engine import Engine
from perdure.stores.memory import MemoryStore
from perdure.verifying import Fit, Verified, open_only


@click.command()
@click.argument("target", metavar="MODULE[:APP]")
@filters()
@shared
@with_session
def verify(session: Session, target: str, chosen: Filter) -> int:
    """Replay what is open on the code at hand; say what would block.

    Nothing is recorded and no worker is disturbed: run it before a deploy. MODULE and APP are as for
    `perdure worker`. Exit code 1: something would block.
    """
    chosen.check(OPEN, "verify looks at executions that are")
    with contextlib.redirect_stdout(sys.stderr):
        app = load_app(target)
    logging.getLogger("perdure").setLevel(logging.ERROR)
    return asyncio.run(_Verifying(session, chosen).run(_engine(session, app)))


def _engine(session: Session, app: App) -> Engine:
    if not isinstance(app, Engine):
        return Engine(session.store(), worker=False, workflows=app, namespace=session.namespace)
    store = app.new_store()
    store = session.store() if session.db is not None or isinstance(store, MemoryStore) else existing(store)
    return Engine(store, worker=False, workflows=app._given, codec=app.protection, namespace=app._namespace)


class _Verifying:
    """One look at all that is open."""

    def __init__(self, session: Session, chosen: Filter) -> None:
        self._session = session
        self._chosen = chosen
        self._counts: dict[tuple[str, int], Counter[Fit]] = {}
        self._blocks: list[dict[str, object]] = []
        self._warnings: list[dict[str, object]] = []

    async def run(self, engine: Engine) -> int:
        session, query = self._session, self._chosen.query
        async with engine:
            wanted = open_only(query.row_query())
            total = sum((await engine.insight.count(wanted)).values()) if wanted is not None else 0
            bar = Bar(session, total)
            async for found in _aside(engine.verify(query)):
                self._counts.setdefault((found.workflow, found.version), Counter())[found.fit] += 1
                if found.fit is Fit.BLOCKS or found.warnings:
                    bar.clear()
                    self._tell(found)
                bar.step()
            bar.clear()
        self._sum_up(engine)
        return FAILED if self._number(Fit.BLOCKS) else DONE

    def _number(self, fit: Fit) -> int:
        return sum(count[fit] for count in self._counts.values())

    def _tell(self, found: Verified) -> None:
        session = self._session
        about = {"id": found.id, "workflow": found.workflow, "version": found.version, "status": str(found.status)}
        error = found.error
        does = "would block" if error is not None else "fits, but"
        session.say(f"{found.id}  {found.workflow} (version {found.version}), {found.status}: {does}")
        if error is not None:
            self._blocks.append(
                {
                    **about,
                    "error": describe(error),
                    "key": error.key,
                    "places": found.places,
                    "warnings": found.warnings,
                }
            )
            session.say(f"  {describe(error)}")
            for place in found.places:
                if place not in str(error):
                    session.say(f"  at {place}")
        else:
            self._warnings.append({**about, "warnings": found.warnings})
        for warning in found.warnings:
            session.say(f"  {warning}")

    def _sum_up(self, engine: Engine) -> None:
        session = self._session
        counted = sorted(self._counts.items())
        checked, blocks = sum(count.total() for count in self._counts.values()), self._number(Fit.BLOCKS)
        session.document(
            {
                "store": engine.store.url,
                "checked": checked,
                **{str(fit): self._number(fit) for fit in Fit},
                "workflows": [
                    {"workflow": name, "version": version, **{str(fit): count[fit] for fit in Fit}}
                    for (name, version), count in counted
                ],
                "blocking": self._blocks,
                "warnings": self._warnings,
            }
        )
        if not checked:
            session.say("No open executions." if not self._chosen.words else "No such open executions.")
            return
        if self._blocks or self._warnings:
            session.say()
        rows = [[name, str(version), *(str(count[fit]) for fit in Fit)] for (name, version), count in counted]
        for line in table(("WORKFLOW", "VERSION", "FITS", "BLOCKS", "UNKNOWN HERE"), rows, narrow=(0,)):
            session.say(line)
        self._conclude(checked, blocks)

    def _conclude(self, checked: int, blocks: int) -> None:
        session = self._session
        unknown = self._number(Fit.UNKNOWN)
        if unknown:
            session.hint(
                f"\n{unknown} are of workflows or versions that this code does not have; it leaves them alone."
            )
        if blocks:
            show = session.command("show", str(self._blocks[0]["id"]))
            session.hint(
                f"\n{blocks} of {checked} open executions would block on this code. Mend it, or keep the old function"
                f" as a version of its own. What one of them did:\n  {show}"
            )
        else:
            session.hint(f"\n{checked - unknown} of {checked} open executions fit this code, and none would block.")


async def _aside(found: AsyncIterator[Verified]) -> AsyncIterator[Verified]:
    """What workflow code prints while it is replayed goes to stderr."""
    while True:
        with contextlib.redirect_stdout(sys.stderr):
            try:
                one = await anext(found)
            except StopAsyncIteration:
                return
        yield one
