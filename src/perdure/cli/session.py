"""What all commands share: `--db` and `--json` before or after the verb, the store, and where output goes.

What was asked for goes to stdout; progress, hints and errors go to stderr.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from perdure.cli.words import plain, to_data
from perdure.engine import Engine
from perdure.keys import NAMESPACE_MARK
from perdure.outcome import User
from perdure.settings import find_url, hide_password
from perdure.store import Store
from perdure.stores import KNOWN, open_store
from perdure.stores.files import FileStore
from perdure.stores.memory import MemoryStore
from perdure.stores.namespaced import DEFAULT as DEFAULT_NAMESPACE
from perdure.stores.namespaced import check_namespace
from perdure.stores.sqlite import SqliteStore

DEFAULT = "sqlite:///perdure.db"
DONE, FAILED, USAGE, WAITING = 0, 1, 2, 3
"""Exit codes."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """One call of the command line."""

    db: str | None = None
    json: bool = False
    namespace: str = DEFAULT_NAMESPACE
    in_memory: bool = field(default=False, init=False)
    """The store ends with this process."""
    options: dict[str, str] = field(default_factory=dict, init=False)
    """How the command's options are typed, by their names."""

    @property
    def room(self) -> int:
        """Bytes that the namespace takes of each id."""
        return 0 if self.namespace == DEFAULT_NAMESPACE else len(f"{NAMESPACE_MARK}{self.namespace[:40]}/")

    def begin(self, context: click.Context) -> None:
        """A command is called. Raises `click.BadParameter` for what is wrong with what all share."""
        self.options = {
            parameter.name or "": parameter.opts[0]
            for parameter in context.command.params
            if isinstance(parameter, click.Option)
        }
        try:
            check_namespace(self.namespace)
        except ValueError as error:
            problem = str(error).replace("namespace=", "it")
            raise click.BadParameter(problem, context, param_hint="'--namespace' (or PERDURE_NAMESPACE)") from error

    # The store ----------------------------------------------------------------------------------------

    def store(self, *, new: bool = False, memory: bool = False) -> Store:
        """The store that is meant, not yet connected.

        `new`: it may be created; else, where there is none, this is said. `memory`: it may end with this process.
        """
        store = open_store(self._find(new))
        self.in_memory = isinstance(store, MemoryStore)
        if self.in_memory and not memory:
            raise click.ClickException(
                f"{store.url} is the memory of one process and ends with it: no other process can look at it."
                " Name a database with --db or PERDURE_DATABASE_URL"
            )
        return store if new else existing(store)

    def _find(self, new: bool) -> str:
        if self.db is not None:
            if "://" not in self.db:
                raise click.UsageError(f"--db takes a URL: {KNOWN}")
            return self.db
        found = find_url(os.environ, Path.cwd())
        if found is not None:
            return found[0]
        if not new and not Path("perdure.db").exists():
            raise click.ClickException(
                "there is no database to look at: --db was not given, neither PERDURE_DATABASE_URL nor DATABASE_URL"
                " is set (in the environment, or in a .env file here or above), and there is no ./perdure.db.\n"
                "A program whose Engine() gets no URL runs in memory: what it ran ended with it"
            )
        return DEFAULT

    def engine(self) -> Engine:
        """An engine that looks and delivers, and runs nothing."""
        logging.getLogger("perdure").setLevel(logging.ERROR)  # what concerns workers is theirs to say
        return self.client(self.store())

    def client(self, store: Store) -> Engine:
        """An engine on a store that runs nothing, and sees what the namespace holds."""
        return Engine(store, worker=False, namespace=self.namespace)

    # Output -------------------------------------------------------------------------------------------

    def say(self, text: str = "") -> None:
        """What a person asked for, to stdout. Nothing with `--json`."""
        if not self.json:
            click.echo(plain(text))

    def hint(self, text: str) -> None:
        """What is good to know besides, to stderr. Nothing with `--json`."""
        if not self.json:
            click.echo(plain(text), err=True)

    def document(self, document: Any) -> None:
        """The one document that `--json` gives. Nothing without."""
        if self.json:
            click.echo(json.dumps(to_data(document), indent=2), file=sys.__stdout__)

    def line(self, document: Any) -> None:
        """One of the lines that `--json` gives where things are followed."""
        if self.json:
            click.echo(json.dumps(to_data(document)), file=sys.__stdout__)
            sys.__stdout__.flush()  # type: ignore[union-attr]

    def worker(self, queue: str, module: str = "MODULE") -> str:
        """The command that starts a worker for what is in a queue."""
        return self.command("worker", module, *(() if queue == "default" else ("--queues", queue)))

    def command(self, *words: str) -> str:
        """A command to go on with, as it can be pasted into a shell. It shows no password."""
        db = []
        if self.db is not None:
            db = ["--db", self.db if hide_password(self.db) == self.db else "URL"]
        if self.namespace != DEFAULT_NAMESPACE:
            db += ["--namespace", self.namespace]
        return shlex.join([*program(), *db, *words])


def existing(store: Store) -> Store:
    """The store, if there is one: nobody who only looks creates it."""
    if isinstance(store, SqliteStore | FileStore) and not os.path.exists(store.path):
        raise click.ClickException(
            f"there is no database {store.path}. `perdure db init` creates it, and so does the first `perdure run`"
        )
    if hasattr(store, "creates"):
        store.creates = False  # a server's database is there, but may be empty
    return store


def program() -> list[str]:
    """How `perdure` is called here."""
    if shutil.which("perdure"):
        return ["perdure"]
    beside = Path(sys.executable).with_name("perdure")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "perdure"]


def user(by: str | None) -> User | None:
    """Who `--by` names: nobody has verified it."""
    return None if by is None else User(by, via="cli")


# Options --------------------------------------------------------------------------------------------------


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        setattr(context.find_object(Session), parameter.name or "", value)


def shared(function: F) -> F:
    """`--db`, `--namespace` and `--json`, wherever they stand.

    Read first, so that what is wrong with the others is JSON too.
    """
    for option in (
        click.option(
            "--json", is_flag=True, is_eager=True, expose_value=False, callback=_remember, help="Answer in JSON."
        ),
        click.option(
            "--db", metavar="URL", is_eager=True, expose_value=False, callback=_remember, help="The database."
        ),
        click.option(
            "--namespace",
            metavar="NAME",
            envvar="PERDURE_NAMESPACE",
            is_eager=True,
            expose_value=False,
            callback=_remember,
            help="The application's part of it.",
        ),
    ):
        function = option(function)
    return function


def with_session(function: F) -> F:
    """The function gets the session before all else."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context()
        session = context.ensure_object(Session)
        session.begin(context)
        return context.invoke(function, session, *args, **kwargs)

    return called  # type: ignore[return-value]
