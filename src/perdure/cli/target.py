"""`module:name` and `file.py:name`: the user's module, and what is meant in it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from perdure.workflow import REGISTRY, Workflow


def load_module(spec: str) -> tuple[ModuleType, str]:
    """Import what stands before the colon, from the current folder first; gives it and what stands behind.

    Raises `click.UsageError` where there is no such module, `click.ClickException` where it cannot be imported.
    """
    name, _, attribute = spec.rpartition(":") if ":" in spec else (spec, "", "")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = _load_file(Path(name)) if name.endswith(".py") or "/" in name else _load_named(name)
    except (click.ClickException, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{name} cannot be imported: {error}{_place(error)}") from error
    except Exception as error:
        # The user's module may raise anything at all.
        raise click.ClickException(f"{name} cannot be imported:\n{_trace(error)}") from error
    return module, attribute


def _load_named(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.UsageError(f"{name!r} is no name of a module: write module:workflow, or file.py:workflow")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise click.UsageError(
            f"there is no module {name!r} in {Path.cwd()}, nor is it installed.{_files()}"
        ) from error


def _load_file(path: Path) -> ModuleType:
    if not os.path.isfile(path):
        raise click.UsageError(f"there is no file {path}.{_files()}")
    path = path.resolve()
    folder, name = path.parent, path.stem
    while (folder / "__init__.py").exists():
        folder, name = folder.parent, f"{folder.name}.{name}"
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if all(part.isidentifier() for part in name.split(".")):
        module = importlib.import_module(name)
        if getattr(module, "__file__", None) and Path(str(module.__file__)).resolve() == path:
            return module
    # No name that can be imported, or one that belongs to another module.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _files() -> str:
    found = sorted(path.name for path in Path.cwd().glob("*.py"))
    return f" Python files here: {', '.join(found[:20])}" if found else ""


def _place(error: BaseException) -> str:
    frames = _frames(error)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Where it was raised, in the user's files and below."""
    frames = traceback.extract_tb(error.__traceback__)
    return [
        frame for frame in frames if frame.filename != __file__ and not frame.filename.startswith("<frozen importlib")
    ]


def _trace(error: BaseException) -> str:
    lines = traceback.format_list(_frames(error)) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()


# What is in it --------------------------------------------------------------------------------------------


def find(module: ModuleType, name: str) -> Any:
    """What the module holds under this (dotted) name, or the workflow that goes by it. None: nothing."""
    try:
        return functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        return next((w for w in reversed(_workflows(module)) if w.name == name), None)


def find_workflow(module: ModuleType, name: str) -> Workflow[..., Any]:
    """The workflow of this name; without a name the only one. Raises `click.UsageError` that lists those found."""
    workflows = _workflows(module)
    if not name and len(workflows) == 1:
        return workflows[0]
    found = find(module, name) if name else None
    if isinstance(found, Workflow):
        return found
    if not workflows:
        raise click.UsageError(f"{module.__name__} has no workflows: mark an `async def` with @workflow")
    has = f"{module.__name__} has: {', '.join(sorted(_name(module, w) for w in workflows))}"
    if not name:
        raise click.UsageError(f"which workflow? {has}")
    if found is not None:
        kind = "is no workflow: mark it with @workflow" if callable(found) else f"is no workflow but {_kind(found)}"
        raise click.UsageError(f"{module.__name__}:{name} {kind}. {has}")
    raise click.UsageError(f"{module.__name__} has no workflow {name!r}. {has}")


def _workflows(module: ModuleType) -> list[Workflow[..., Any]]:
    """Those that can be named in the module, and those that it registered besides."""
    named = [value for value in vars(module).values() if isinstance(value, Workflow)]
    others = [w for known in REGISTRY.values() for w in known if w.__module__ == module.__name__]
    return [*named, *(w for w in others if w.function not in {n.function for n in named})]


def _name(module: ModuleType, workflow: Workflow[..., Any]) -> str:
    return next((name for name, value in vars(module).items() if value is workflow), workflow.name)


def _kind(value: Any) -> str:
    return "a module" if isinstance(value, ModuleType) else f"a {type(value).__name__}"


def registered() -> list[Workflow[..., Any]]:
    """All workflows that were imported, by name and version."""
    return [known[-1] for _, known in sorted(REGISTRY.items())]
