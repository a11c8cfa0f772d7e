"""Which functions are workflow code, which are steps, and which calls are durable."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from enum import Enum, auto

from perdure.linting.scopes import Function, Scope


class Kind(Enum):
    WORKFLOW = auto()
    STEP = auto()
    PLAIN = auto()
    UNKNOWN = auto()
    """Behind a decorator that may do anything with it."""


_MARKS = {"perdure.workflow": Kind.WORKFLOW, "perdure.step": Kind.STEP, "perdure.checkpoint": Kind.STEP}
_TRANSPARENT = frozenset(
    f"{module}.{name}"
    for module, names in {
        "functools": "cache lru_cache wraps",
        "contextlib": "contextmanager asynccontextmanager",
        "typing": "overload no_type_check",
        "builtins": "staticmethod classmethod",
    }.items()
    for name in names.split()
)
"""Decorators behind which the function's own code still runs where it is called."""

_AWAITED = (
    "sleep interrupt receive send start_child gather race checkpoint approval rollback restart publish emit"
    " set_attributes"
)
AWAITED = frozenset(f"perdure.{name}" for name in _AWAITED.split())
"""Calls of Perdure's own that do nothing unless they are awaited."""


@dataclass(slots=True, frozen=True)
class Durable:
    """What a durable call calls. `plain`: a step that is a plain `def`; `bare`: called without `.aio` or `.map`."""

    name: str
    kind: Kind
    plain: bool = False
    bare: bool = True


def kind_of(function: Function, scope: Scope) -> Kind:
    """What the decorators make of a function that is defined in `scope`."""
    names = [scope.dotted(d.func if isinstance(d, ast.Call) else d) for d in function.decorator_list]
    for name in names:
        if name in _MARKS:
            return _MARKS[name]
    return Kind.PLAIN if all(name in _TRANSPARENT for name in names) else Kind.UNKNOWN


def durable(callee: ast.expr, scope: Scope, depth: int = 10) -> Durable | None:
    """The step, workflow or call of Perdure's own that is called here; None where it is none, or unclear."""
    name = scope.dotted(callee)
    if name in AWAITED:
        return Durable(name.removeprefix("perdure."), Kind.UNKNOWN)
    if isinstance(callee, ast.Attribute) and callee.attr in ("map", "aio"):
        made = _marked(callee.value, scope, depth)
        if made is None or made.kind is not Kind.STEP:
            return None
        return Durable(f"{made.name}.{callee.attr}", Kind.STEP, made.plain, bare=False)
    return _marked(callee, scope, depth)


def _marked(node: ast.expr, scope: Scope, depth: int) -> Durable | None:
    """The step or workflow that an expression stands for."""
    if isinstance(node, ast.Name):
        functions = scope.functions(node)
        kinds = {kind_of(function, where) for where, function in functions}
        if len(kinds) == 1 and kinds <= {Kind.STEP, Kind.WORKFLOW}:
            plain = all(isinstance(function, ast.FunctionDef) for _, function in functions)
            return Durable(node.id, kinds.pop(), plain)
        found = scope.only(node.id)
        if found is None or found[1].value is None or not depth:
            return None
        made = _marked(found[1].value, found[0], depth - 1)
        return None if made is None else Durable(node.id, made.kind, made.plain)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "options":
        return _marked(node.func.value, scope, depth)
    return None
