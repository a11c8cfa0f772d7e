"""Which workflows an engine knows, the build that they make, and what an execution of one bears."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from perdure.budget import ATTRIBUTE
from perdure.codec import CODEC
from perdure.errors import AlreadyExistsError
from perdure.options import WorkflowOptions
from perdure.workflow import REGISTRY, Workflow


def checked(workflow: Any) -> Workflow[..., Any]:
    """The workflow. Raises `TypeError` for what is none, and for one that was called already."""
    if isinstance(workflow, Workflow):
        return workflow
    if inspect.iscoroutine(workflow):
        name = workflow.__qualname__
        workflow.close()
        raise TypeError(f"{name}(...) was called here already: give the workflow and its arguments, ({name}, ...)")
    raise TypeError(f"{workflow!r} is no workflow: mark the function with @workflow")


def registered(workflows: Sequence[Workflow[..., Any]] | None) -> dict[tuple[str, int], Workflow[..., Any]]:
    """Those given, or all that are imported. Raises `AlreadyExistsError` for two of one name and version."""
    given: Any = workflows
    if isinstance(given, Workflow) or not all(isinstance(made, Workflow) for made in given or ()):
        raise TypeError(f"workflows= is a list of functions marked with @workflow, not {workflows!r:.200}")
    found: dict[tuple[str, int], Workflow[..., Any]] = {}
    candidates = [w for known in REGISTRY.values() for w in known] if workflows is None else workflows
    for made in candidates:
        other = found.get(made.identity)
        if other is not None and other.function is not made.function:
            raise AlreadyExistsError(
                f"two workflows are named {made.name!r} version {made.version}: {other.source} and {made.source}."
                " Name one of them otherwise, or give the engine workflows=[...]"
            )
        found[made.identity] = made
    return found


def build_of(workflows: Sequence[Workflow[..., Any]]) -> str:
    """A digest of the files that hold these workflows: tells one deploy from another."""
    digest = hashlib.sha256()
    for path in sorted({w.source.rsplit(":", 1)[0] for w in workflows}):
        with suppress(OSError):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:12]


def attributes_of(options: WorkflowOptions) -> str | None:
    """What an execution is to be found by, as text, its budget among it."""
    attributes = dict(options.attributes or {})
    if options.budget is not None:
        attributes[ATTRIBUTE] = options.budget.tree()
    return CODEC.encode(attributes, path="attributes") if attributes or options.attributes is not None else None
