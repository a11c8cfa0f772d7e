"""`list`, `show`, `watch` and `inbox`: the commands that only read."""

from __future__ import annotations

import asyncio

import click

from perdure.cli import documents, ending, shown, states
from perdure.cli.filters import Filter, filters
from perdure.cli.follow import Follower
from perdure.cli.interrupt import interruption, unless
from perdure.cli.names import given
from perdure.cli.progress import progress_for
from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, Session, shared, user, with_session
from perdure.cli.target import load_module
from perdure.cli.telling import published
from perdure.cli.words import table, when
from perdure.clock import to_datetime
from perdure.crew import live_workers, nobody_runs
from perdure.deciding import seen_requests
from perdure.engine import Engine
from perdure.outcome import User
from perdure.records import ENDED, Execution, Page
from perdure.search import Query


@click.command("list")
@filters("--by")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--cursor", metavar="CURSOR", help="Go on where the last page ended.")
@shared
@with_session
def list_command(session: Session, chosen: Filter, limit: int, cursor: str | None) -> int:
    """List executions, newest first."""
    return asyncio.run(_list(session, session.engine(), chosen, limit, cursor))


async def _list(session: Session, engine: Engine, chosen: Filter, limit: int, cursor: str | None) -> int:
    async with engine:
        page = await _page(engine, chosen.query, limit, cursor)
        found = None if page.cursor is None else await engine.count(chosen.query)
    session.document({"items": [documents.brief(row) for row in page.items], "cursor": page.cursor})
    if not page.items:
        session.say("No executions." if not chosen.words and cursor is None else "No such executions.")
        return DONE
    rows = [[row.id, _name(row), str(row.status), when(to_datetime(row.created_at))] for row in page.items]
    for line in table(("ID", "WORKFLOW", "STATUS", "CREATED (UTC)"), rows, narrow=(0, 1), ids=(0,)):
        session.say(line)
    if page.cursor is not None and found is not None:
        words = [*chosen.words, "--limit", str(limit), "--cursor", page.cursor]
        session.hint(f"{found.words} in all. More:\n  {session.command('list', *words)}")
    else:
        session.hint(f"One of them:\n  {session.command('show', page.items[0].id)}")
    return DONE


async def _page(engine: Engine, query: Query, limit: int, cursor: str | None) -> Page:
    """A full page, unless it is the last: a search that looks at one execution after the other goes on."""
    items: list[Execution] = []
    while True:
        page = await engine.list(query, limit=limit - len(items), cursor=cursor)
        items += page.items
        cursor = page.cursor
        if cursor is None or len(items) == limit:
            return Page(items, cursor)


def _name(row: Execution) -> str:
    return row.workflow if row.version == 1 else f"{row.workflow} (version {row.version})"


@click.command()
@click.argument("id")
@click.option("--at", metavar="ENTRY", help="As it was behind an entry: a number, a key, a checkpoint's name.")
@click.option("--diff", nargs=2, metavar="A B", help="What differs between two entries.")
@click.option("--code", metavar="MODULE", help="The module of its workflow: then the journal is replayed on it.")
@shared
@with_session
def show(session: Session, id: str, at: str | None, diff: tuple[str, str] | None, code: str | None) -> int:
    """Show one execution: status, requests, position, variables, history, errors.

    A beginning of the id that no other execution has is enough. Without --code, variables and positions are
    those of the latest snapshot: at a checkpoint, a wait, a failure.
    """
    if at is not None and diff is not None:
        raise click.UsageError("--at or --diff, not both")
    if code is not None:
        load_module(code)
    if at is not None:
        return asyncio.run(_show_then(session, session.engine(), id, at))
    if diff is not None:
        return asyncio.run(_show_differences(session, session.engine(), id, *diff))
    return asyncio.run(_show(session, session.engine(), id))


async def _show_then(session: Session, engine: Engine, id: str, at: str) -> int:
    async with engine:
        row = await find_execution(engine, id)
        state = await engine.get(row.id).inspect(states.entry_of(at))
    session.document(states.document(state))
    states.tell(session, state)
    return DONE


async def _show_differences(session: Session, engine: Engine, id: str, a: str, b: str) -> int:
    async with engine:
        row = await find_execution(engine, id)
        before, after = [await engine.get(row.id).inspect(states.entry_of(each)) for each in (a, b)]
    found = states.differences(before, after)
    told = [{"name": name, "before": one, "after": other} for name, one, other in found]
    session.document({"id": row.id, "from": before.at, "to": after.at, "differences": told})
    states.tell_differences(session, before, after, found)
    return DONE


async def _show(session: Session, engine: Engine, id: str) -> int:
    async with engine:
        row = await find_execution(engine, id)
        handle = engine.get(row.id)
        history = await handle.history()
        said, used = await published(engine, row.id), await handle.usage()
        below = await engine.store.tree(row.id)
        asked = await engine.store.requests(execution_ids=[row.id, *(child.id for child in below)])
        requests = await seen_requests(engine.store, asked)
        why_not = nobody_runs(await live_workers(engine.insight), row)
        stands = await states.stands(session, engine, handle)
    session.document(
        {
            **documents.execution(row),
            "state": stands,
            "requests": [documents.request(request) for request in requests],
            "history": [documents.entry(entry) for entry in history],
            "children": [documents.brief(child) for child in below],
            "published": said,
            "usage": documents.usage(used),
            "nobody_runs_it": why_not,
        }
    )
    shown.execution(session, row, why_not)
    shown.told(session, said, used)
    shown.waits(session, row, requests, below)
    if row.status not in ENDED:
        states.tell_branches(session, stands)
    shown.journal(session, row, history)
    shown.errors(session, row, history)
    shown.next_step(session, row, requests, why_not)
    return DONE


@click.command()
@click.argument("id")
@shared
@with_session
def watch(session: Session, id: str) -> int:
    """Follow an execution until it ends or waits for somebody.

    The exit code says how: 0 completed, 1 failed, 3 waiting. With --json each line is a document.
    """
    return asyncio.run(_watch(session, session.engine(), id))


async def _watch(session: Session, engine: Engine, id: str) -> int:
    progress = progress_for(session, lines=True)
    with interruption() as interrupted:
        async with engine:
            row = await find_execution(engine, id)
            handle = engine.get(row.id)
            session.say(f"{row.id}  {_name(row)}")
            why_not = nobody_runs(await live_workers(engine.insight), row)
            if why_not:
                progress.note(f"So far {why_not}.")
            outcome = await unless(interrupted, Follower(engine, handle, progress).outcome())
            if outcome is None:
                session.hint("Watched no more; the execution is not touched by that.")
                return 128 + interrupted.result()
            row = await handle.row()
    session.line({"event": "outcome", **ending.document(session, row, outcome)})
    ending.tell(session, row, outcome)
    return ending.exit_code(outcome)


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many.")
@click.option("--by", callback=given, metavar="NAME", help="Who looks; recorded, unverified, as having seen them.")
@shared
@with_session
def inbox(session: Session, limit: int, by: str | None) -> int:
    """List what waits for a person, oldest first."""
    return asyncio.run(_inbox(session, session.engine(), limit, user(by)))


async def _inbox(session: Session, engine: Engine, limit: int, by: User | None) -> int:
    async with engine:
        requests = await engine.requests(limit=limit + 1)
        shown_here = requests[:limit]
        for request in shown_here if by is not None else ():
            if request.kind != "blocked":
                await engine.see(request.id, by=by or "")
    session.document({"items": [documents.request(request) for request in shown_here], "more": len(requests) > limit})
    if not requests:
        session.say("Nothing waits for anybody.")
    for n, request in enumerate(shown_here):
        if n:
            session.say()
        session.say(request.id)
        ending.tell_request(session, request, indent="  ")
    if len(requests) > limit:
        session.hint(f"There are more: --limit {limit * 10}")
    return DONE
