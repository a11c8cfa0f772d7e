"""`events` and `value`: what an execution tells the world while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import click
import msgspec

from perdure.cli.interrupt import interruption, unless
from perdure.cli.reference import find_execution
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.cli.words import readable, to_json
from perdure.engine import Engine
from perdure.errors import PerdureError
from perdure.journal import PROGRESS, PUBLISH
from perdure.records import ENDED, Entry
from perdure.streams import BATCH, KINDS

PAGE = 500
PAUSES = 0.02, 0.5
"""Seconds between two looks for what is new: at first, at most."""


# events ---------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id")
@click.option("--follow", "-f", is_flag=True, help="Go on until the execution has ended.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="OFFSET", help="Only what comes behind it.")
@shared
@with_session
def events(session: Session, id: str, follow: bool, after: int) -> int:
    """Print what an execution emits, one value a line.

    Progress, and steps that begin anew, are told on stderr. With --follow --json each line is a document.
    """
    return asyncio.run(_events(session, session.engine(), id, follow, after))


async def _events(session: Session, engine: Engine, id: str, follow: bool, after: int) -> int:
    items: list[dict[str, Any]] = []

    async def tell() -> int:
        last = after
        async for item in emitted(engine, row.id, after, follow):
            last = item["offset"]
            if follow:
                session.line(item)
            elif session.json:
                items.append(item)
            _say(session, item)
        return last

    with interruption() as interrupted:
        async with engine:
            row = await find_execution(engine, id)
            last = await unless(interrupted, tell())
            if last is None:
                session.hint("Followed no more; the execution is not touched by that.")
                return 128 + interrupted.result()
            row = await engine.get(row.id).row()
    if not follow:
        session.document({"items": items, "after": last})
        if row.status not in ENDED:
            command = session.command("events", row.id, "--follow", *(["--after", str(last)] if last else []))
            session.hint(f"It has not ended. Follow it:\n  {command}")
    return DONE


def _say(session: Session, item: dict[str, Any]) -> None:
    match item["event"]:
        case "emitted":
            session.say(to_json(item["value"]))
        case "restarted":
            session.hint(f"{item['key']} begins anew (attempt {item['attempt']}): forget what it emitted before")
        case _:
            of = "" if item["total"] is None else f" of {item['total']}"
            session.hint(f"{item['key']}: {item['done']}{of}")


async def emitted(engine: Engine, id: str, after: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
    """What it emits, as documents. Values of classes that are not known here keep the form of the database."""
    seq = after // BATCH - 1
    pause = PAUSES[0]
    while True:
        ended = (await engine.get(id).row()).status in ENDED  # looked at first: what comes before the end is given
        found = False
        while entries := await engine.store.tail(id, seq, KINDS, PAGE):
            for item in (item for entry in entries for item in _items(entry)):
                if item["offset"] > after:
                    found = True
                    yield item
            seq = entries[-1].seq
        if ended or not follow:
            return
        pause = PAUSES[0] if found else min(PAUSES[1], pause * 1.5)
        await engine.store.changed(pause)


def _items(entry: Entry) -> list[dict[str, Any]]:
    first = entry.seq * BATCH
    about = {"key": entry.key if entry.kind in KINDS[1:] else None, "attempt": entry.attempt}
    if entry.kind == PROGRESS:
        done, total = readable(entry.output or "[0,null]")
        return [{"event": "progress", "offset": first, **about, "done": done, "total": total}]
    if entry.status == "open":
        return [{"event": "restarted", "offset": first, **about}]
    values = msgspec.json.decode(entry.output or "[]", type=list[msgspec.Raw])
    return [
        {"event": "emitted", "offset": first + n, **about, "value": readable(bytes(value).decode())}
        for n, value in enumerate(values)
    ]


# value ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("id")
@click.argument("name")
@shared
@with_session
def value(session: Session, id: str, name: str) -> int:
    """Print the value that an execution published last."""
    return asyncio.run(_value(session, session.engine(), id, name))


async def _value(session: Session, engine: Engine, id: str, name: str) -> int:
    async with engine:
        row = await find_execution(engine, id)
        entry = await engine.store.latest(row.id, f"{PUBLISH}:{name}")
        if entry is None:
            names = ", ".join(await published(engine, row.id)) or "nothing"
            raise PerdureError(f"{row.id} has not published {name!r}; so far it has published: {names}")
    session.document({"id": row.id, "name": name, "value": readable(entry.output)})
    session.say(to_json(readable(entry.output)))
    return DONE


async def published(engine: Engine, id: str) -> dict[str, Any]:
    """All values that it has published, by name; the last one counts."""
    values: dict[str, Any] = {}
    seq = 0
    while entries := await engine.store.tail(id, seq, (PUBLISH,), PAGE):
        for entry in entries:
            values[entry.key.removeprefix(f"{PUBLISH}:")] = readable(entry.output)
        seq = entries[-1].seq
    return dict(sorted(values.items()))
