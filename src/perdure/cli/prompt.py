"""Ask the person at the terminal, while the executions of this process go on."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress

import click

from perdure.cli.example import example
from perdure.cli.inputs import answer_value
from perdure.cli.progress import one_line_kept
from perdure.cli.words import at_shell, plain, to_json
from perdure.engine import Engine
from perdure.errors import AlreadyDecidedError, InvalidAnswerError, NotApproverError
from perdure.outcome import OpenRequest, User


class Lines:
    """Lines of stdin. A thread waits for each: one that never comes holds nobody up, not even the end."""

    def __init__(self) -> None:
        self._rest = b""

    async def next(self) -> str | None:
        """The next line, without its end; None when no more come."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str | None] = loop.create_future()

        def read() -> None:
            line = self._read()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(line))

        threading.Thread(target=read, daemon=True, name="perdure-stdin").start()
        return await future

    def _read(self) -> str | None:
        while b"\n" not in self._rest:
            try:
                some = os.read(sys.stdin.fileno(), 4096)
            except (OSError, ValueError):  # closed, or never there
                some = b""
            if not some:
                line, self._rest = self._rest, b""
                return line.decode(errors="replace") if line else None
            self._rest += some
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")


async def ask(engine: Engine, lines: Lines, request: OpenRequest, by: User | None) -> bool:
    """Put the question until an answer fits, and deliver it. False if nobody answers any more."""
    _show(request)
    while True:
        click.echo("> ", nl=False, err=True)
        line = await lines.next()
        if line is None:
            click.echo(err=True)
            return False
        if not line.strip():
            continue
        try:
            await _settle(engine, request, line.strip(), by)
        except (InvalidAnswerError, NotApproverError) as error:
            click.echo(plain(at_shell(str(error), {"by": "--by"})), err=True)
        except AlreadyDecidedError as error:
            click.echo(plain(str(error)), err=True)
            return True
        else:
            return True


async def _settle(engine: Engine, request: OpenRequest, line: str, by: User | None) -> None:
    if request.kind == "approval":
        word, _, comment = line.partition(" ")
        await engine.decide(request.id, word, by=by, comment=comment.strip() or None)
    else:
        await engine.answer(request.id, answer_value(request.schema, line), by=by)


def _show(request: OpenRequest) -> None:
    click.echo(f"\n{plain(request.message)}", err=True)
    if request.details is not None:
        click.echo(f"  {one_line_kept(to_json(request.details))}", err=True)
    for action in request.actions:
        click.echo(f"  {plain(action.id)}: {plain(action.name)} {plain(to_json(action.arguments))}", err=True)
    how = f"JSON, for example {plain(example(request.schema))}"
    if request.kind == "approval":
        how = "approve or reject, and a comment"
    click.echo(f"  ({how}; Ctrl-D leaves it open)", err=True)
