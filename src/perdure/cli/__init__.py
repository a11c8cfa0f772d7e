"""The command line: `perdure`, also `python -m perdure`.

session.py      what all commands share: the store, `--db`, `--json`, where output goes
running.py      run, start                 working.py   worker                    app.py       `module:app`
looking.py      list, show, watch, inbox   shown.py     what show says
telling.py      events, value              stats.py     stats                     exporting.py export
deciding.py     approve, reject, comment, claim, reassign, resolve                audit.py     audit
acting.py       answer, signal             delivered.py what is said then
steering.py     cancel, pause, resume, retry            pruning.py   prune        many.py      verbs on many
rewinding.py    rollback                   forking.py   fork         states.py  what `show` says of a state
schedule.py     schedule                   verify.py    verify                    database/    db
move.py         move
lint.py         lint                       new.py       new                       completion.py   completion
filters.py      which executions           times.py     times as they are typed        names.py  names, likewise
target.py       `module:name`              inputs.py    JSON as it is typed
reference.py    which execution or request an id, or its beginning, means
follow.py       follow an execution        progress.py  what is told meanwhile    bar.py       how far many have come
ending.py       how it ended
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

import perdure
from perdure.cli.acting import answer, signal_command
from perdure.cli.audit import audit
from perdure.cli.completion import completion
from perdure.cli.database import db
from perdure.cli.deciding import approve, claim, comment_command, reassign, reject, resolve
from perdure.cli.exporting import export
from perdure.cli.forking import fork
from perdure.cli.lint import lint_command
from perdure.cli.looking import inbox, list_command, show, watch
from perdure.cli.move import move
from perdure.cli.new import new
from perdure.cli.pruning import prune
from perdure.cli.rewinding import rollback
from perdure.cli.running import run, start
from perdure.cli.schedule import schedule
from perdure.cli.session import DONE, FAILED, Session, shared
from perdure.cli.stats import stats
from perdure.cli.steering import cancel, pause, resume, retry
from perdure.cli.telling import events, value
from perdure.cli.verify import verify
from perdure.cli.words import at_shell, plain
from perdure.cli.working import worker
from perdure.errors import PerdureError

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

GROUPS = {
    "Begin": ("demo", "new", "run", "start", "worker", "schedule"),
    "Look": ("list", "show", "watch", "events", "value", "inbox", "audit", "stats", "export"),
    "Decide": ("approve", "reject", "answer", "resolve", "comment", "claim", "reassign"),
    "Act": ("signal", "cancel", "pause", "resume", "retry", "rollback", "fork", "prune"),
    "Deploy": ("verify", "lint"),
    "Database": ("db", "move"),
    "Besides": ("completion",),
}
ALIASES = {"requests": "inbox"}


class Commands(click.Group):
    """The commands, in groups."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            rows = [(name, self.commands[name].get_short_help_str(80)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows, col_max=12)


@click.group(cls=Commands, invoke_without_command=True, context_settings=SETTINGS)
@click.version_option(perdure.__version__, message="perdure %(version)s")
@shared
@click.pass_context
def cli(context: click.Context) -> int:
    """Durable workflows on your own database.

    The database is --db URL, else PERDURE_DATABASE_URL, else DATABASE_URL (environment, then .env here or
    above), else ./perdure.db. --db and --json go before or after the command. Exit codes: 0 done, 1 failed,
    2 usage, 3 waiting for somebody.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return DONE


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def demo(words: tuple[str, ...]) -> None:
    """See a worker killed, and nothing lost."""
    play = importlib.import_module("perdure.demo.play")  # only now: it registers a workflow
    play.main.main(args=list(words), prog_name="perdure demo")


for command in (
    *(new, run, start, worker, schedule),
    *(list_command, show, watch, events, value, inbox, stats, export),
    *(approve, reject, answer, resolve, comment_command, claim, reassign, audit),
    *(signal_command, cancel, pause, resume, retry, rollback, fork, prune),
    *(verify, lint_command, db, move, completion),
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Gives the exit code: 0 done, 1 failed, 2 usage, 3 waiting for somebody, 130 interrupted."""
    session = Session()
    try:
        status = cli.main(
            args=None if arguments is None else list(arguments), prog_name="perdure", standalone_mode=False, obj=session
        )
        sys.stdout.flush()
        return int(status or DONE)
    except click.ClickException as error:
        _report(session, error, error.format_message(), error)
        return error.exit_code
    except PerdureError as error:
        _report(session, error, at_shell(str(error), session.options), None)
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _report(session, error, f"{where}{error.strerror or error}", None)
        return FAILED


def _report(session: Session, error: Exception, message: str, shown: click.ClickException | None) -> None:
    session.document({"error": {"type": type(error).__name__, "message": message}})
    context = shown.ctx if isinstance(shown, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
    click.echo(f"Error: {plain(message)}", err=True)
    if context is not None:
        click.echo(f"Help: {context.command_path} --help", err=True)


__all__ = ["cli", "main"]
