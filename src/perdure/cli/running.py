"""`run` and `start`: the commands that begin an execution."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from perdure.cli import ending, shown
from perdure.cli.follow import Follower
from perdure.cli.inputs import call_arguments
from perdure.cli.interrupt import interruption, unless
from perdure.cli.names import by_option, new_id, queue_name
from perdure.cli.progress import Progress, progress_for
from perdure.cli.prompt import Lines, ask
from perdure.cli.session import DONE, Session, shared, user, with_session
from perdure.cli.target import find_workflow, load_module, registered
from perdure.crew import live_workers, nobody_runs
from perdure.engine import Engine
from perdure.handle import Handle
from perdure.outcome import Failed, Outcome, User, Waiting
from perdure.records import Execution
from perdure.workflow import Workflow

target_argument = click.argument("target", metavar="MODULE:WORKFLOW")
arguments_argument = click.argument("arguments", metavar="[JSON]", required=False)
id_option = click.option(
    "--id", "execution_id", callback=new_id, metavar="ID", help="The execution's id; by default a new one."
)


@click.command()
@target_argument
@arguments_argument
@id_option
@click.option("--watch", is_flag=True, help="Show each entry as it is recorded.")
@click.option("--interactive", is_flag=True, help="Ask here what the execution asks.")
@by_option
@shared
@with_session
def run(
    session: Session,
    target: str,
    arguments: str | None,
    execution_id: str | None,
    watch: bool,
    interactive: bool,
    by: str | None,
) -> int:
    """Run a workflow here, until it ends or waits for somebody.

    MODULE is a module or a file.py, found from the current folder. An array in JSON gives the positional
    arguments, an object the keyword arguments, anything else one argument:

    \b
      perdure run app:fulfil '["a lamp", 1999]' --id order-42

    The same id, workflow and arguments again is the same execution: it goes on where it was. Meanwhile
    this process is a worker like any other, and runs what else waits for one.
    """
    store = session.store(new=True, memory=True)
    with prints_aside(session):
        workflow, args, kwargs = load_call(target, arguments, execution_id, by)
        _log(logging.WARNING)
        served = {made.options_.queue or "default" for made in (*registered(), workflow)}
        play = _Run(
            session,
            Engine(store, queues=sorted(served), namespace=session.namespace),
            progress_for(session, lines=watch),
            Lines() if interactive else None,
            user(by),
            [target, *([] if arguments is None else [arguments])],
        )
        outcome, row = asyncio.run(play.play(workflow, args, kwargs))
    if isinstance(outcome, int):
        return outcome
    document = ending.document(session, row, outcome)
    if watch:
        session.line({"event": "outcome", **document})
    else:
        session.document(document)
    ending.tell(session, row, outcome)
    return ending.exit_code(outcome)


@dataclass
class _Run:
    """One `perdure run`. `lines`: where answers come from, if they are asked for here."""

    session: Session
    engine: Engine
    progress: Progress
    lines: Lines | None
    by: User | None
    words: Sequence[str]

    async def play(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Outcome | int, Execution]:
        """How it came to stand still, or the exit code if it was interrupted; and its row."""
        with interruption() as interrupted, contextlib.closing(self.progress):
            async with self.engine as engine:
                id = workflow.options_.execution_id
                begins = "goes on" if id is not None and await engine.insight.get([id]) else "is started"
                handle = await engine.start(workflow, *args, **kwargs)
                self.session.hint(f"{handle.id} {begins}: {workflow.name}, in {engine.store.url}")
                if getattr(engine.store, "standing_by", False):
                    self.session.hint("Another process runs what is in this folder; this one waits for it.")
                outcome: Outcome | int | None = await unless(interrupted, self._follow(handle))
                self.progress.close()
                if outcome is None:
                    outcome = 128 + interrupted.result()
                    self._tell_interrupted(await handle.row(), interrupted.result())
                row = await handle.row()
                if isinstance(outcome, Failed) and self.session.in_memory:
                    shown.errors(self.session, row, await handle.history())  # nobody can look later
                return outcome, row

    async def _follow(self, handle: Handle[Any]) -> Outcome:
        follower = Follower(self.engine, handle, self.progress)
        while True:
            outcome = await follower.outcome()
            if self.lines is None or not isinstance(outcome, Waiting) or not outcome.requests:
                return outcome
            self.progress.close()
            if not await ask(self.engine, self.lines, outcome.requests[0], self.by):
                return outcome

    def _tell_interrupted(self, row: Execution, number: int) -> None:
        session = self.session
        session.document({"id": row.id, "status": "interrupted", "signal": signal.Signals(number).name})
        session.hint("\nInterrupted; running steps get up to 10 s to end; once more, and it ends at once.")
        if session.in_memory:
            return session.hint("It ran in memory and ends with this process.")
        session.hint(f"{row.id} is kept with all that is recorded. It goes on with either of:")
        session.hint(f"  {session.worker(row.queue, _module(self.words[0]))}")
        return session.hint(f"  {session.command('run', *self.words, '--id', row.id)}")


@click.command()
@target_argument
@arguments_argument
@id_option
@click.option("--queue", callback=queue_name, metavar="NAME", help="The queue to put it into.")
@by_option
@shared
@with_session
def start(
    session: Session, target: str, arguments: str | None, execution_id: str | None, queue: str | None, by: str | None
) -> int:
    """Submit an execution for workers to run, and print its id.

    MODULE and arguments are as for `perdure run`. The same id, workflow and arguments again is the same execution.
    """
    store = session.store(new=True)
    with prints_aside(session):
        workflow, args, kwargs = load_call(target, arguments, execution_id, by)
        if queue is not None:
            workflow = workflow.options(queue=queue)
        _log(logging.ERROR)
        return asyncio.run(_start(session, session.client(store), workflow, args, kwargs, target))


async def _start(
    session: Session, engine: Engine, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: Any, target: str
) -> int:
    async with engine:
        handle = await engine.start(workflow, *args, **kwargs)
        row = await handle.row()
        why_not = nobody_runs(await live_workers(engine.insight), row)
    document = {"id": row.id, "workflow": row.workflow, "version": row.version, "status": str(row.status)}
    session.document({**document, "queue": row.queue, "nobody_runs_it": why_not})
    session.say(row.id)
    if why_not:
        session.hint(f"So far {why_not}. Start one:\n  {session.worker(row.queue, _module(target))}")
    else:
        session.hint(f"Follow it:\n  {session.command('watch', row.id)}")
    return DONE


def _module(target: str) -> str:
    return target.rpartition(":")[0] or target


def load_call(
    target: str, arguments: str | None, execution_id: str | None = None, by: str | None = None
) -> tuple[Workflow[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The workflow that is meant, and what to call it with."""
    module, name = load_module(target)
    workflow = find_workflow(module, name)
    args, kwargs = call_arguments(workflow, arguments)
    if execution_id is not None:
        workflow = workflow.options(execution_id=execution_id)
    return (workflow if by is None else workflow.options(by=by)), args, kwargs


@contextlib.contextmanager
def prints_aside(session: Session) -> Iterator[None]:
    """With `--json` stdout holds JSON alone: what the user's code prints goes to stderr."""
    if session.json:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    else:
        yield


def _log(level: int) -> None:
    """Say what the library logs, unless the user's module has its own way."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
