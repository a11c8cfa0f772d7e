"""`module` and `module:app`: the workflows that are to be registered, or an engine of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from perdure.cli.target import find, load_module, registered
from perdure.engine import Engine
from perdure.queues import Queue
from perdure.workflow import Workflow

App = Engine | Sequence[Workflow[..., Any]] | None


def load_app(target: str) -> App:
    """What stands behind the colon: an engine (or what a function there makes), or workflows.

    None, where nothing stands there: all workflows that the module imports.
    """
    module, name = load_module(target)
    app = find(module, name) if name else None
    if name and app is None:
        raise click.UsageError(f"{module.__name__} has no {name!r}")
    if callable(app) and not isinstance(app, Workflow | Engine):
        app = app()
    if isinstance(app, Engine):
        return app
    if app is None:
        if not registered():
            raise click.UsageError(f"{target} has no workflows: mark an `async def` with @workflow")
        return None
    chosen = [app] if isinstance(app, Workflow) else app
    if not isinstance(chosen, list | tuple) or not all(isinstance(w, Workflow) for w in chosen) or not chosen:
        raise click.UsageError(f"{target} is neither an Engine, nor a function that makes one, nor a list of workflows")
    return chosen


def with_limits(target: str, queues: Sequence[str | Queue]) -> list[str | Queue]:
    """The queues, those that are only named with the limits of the `Queue` that the module has of that name."""
    module, _ = load_module(target)
    found: dict[str, Queue] = {}
    for value in vars(module).values():
        if isinstance(value, Queue) and found.setdefault(value.name, value) != value:
            raise click.UsageError(f"{module.__name__} has two queues {value.name!r} with unlike limits")
    return [found.get(queue, queue) if isinstance(queue, str) else queue for queue in queues]
