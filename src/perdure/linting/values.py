"""What a value is, where that can be read off the source: a set, a path, a logger, a client."""

from __future__ import annotations

import ast

from perdure.linting.forbidden import CLIENTS, COLLECTIONS
from perdure.linting.scopes import Scope, own

_SETS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": ("set", "frozenset"),
        "typing": ("Set", "FrozenSet", "AbstractSet", "MutableSet"),
        "collections.abc": ("Set", "MutableSet"),
    }.items()
    for name in names
)
_MADE_SETS = frozenset(("union", "intersection", "difference", "symmetric_difference", "copy"))
_TASKS = frozenset(("create_task", "ensure_future"))
_STEADY = frozenset(("builtins.int", "builtins.bool", "asyncio.Task", "asyncio.tasks.Task"))
"""Types whose sets have the same order in every process: tasks of a workflow hash by their number."""

_PATHS = frozenset(("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath"))
_DEPTH = 8


# Paths, loggers, clients -----------------------------------------------------------------------------------


def is_path(node: ast.expr, scope: Scope, depth: int = _DEPTH) -> bool:
    """A `pathlib.Path`: one that is made here, or a name that stands for one."""
    if not depth:
        return False
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr="joinpath" | "with_name" | "with_suffix" | "absolute")):
            return is_path(value, scope, depth - 1)
        case ast.Call(func=func):
            return scope.dotted(func) in {*_PATHS, "pathlib.Path.cwd", "pathlib.Path.home"}
        case ast.BinOp(op=ast.Div(), left=left):
            return is_path(left, scope, depth - 1)
        case ast.Attribute(value=value, attr="parent"):
            return is_path(value, scope, depth - 1)
        case ast.Name(id=name):
            found = scope.only(name)
            if found is None:
                return False
            where, binding = found
            if binding.annotation is not None and _type(binding.annotation, where) in _PATHS:
                return True
            return binding.value is not None and is_path(binding.value, where, depth - 1)
    return False


def made_by(node: ast.expr, scope: Scope) -> tuple[str, Scope] | None:
    """The full name of the call that made what a name stands for, and the scope of the name."""
    found = scope.only(node.id) if isinstance(node, ast.Name) else None
    value = found[1].value if found is not None else None
    if found is None or not isinstance(value, ast.Call):
        return None
    name = found[0].dotted(value.func)
    return None if name is None else (name, found[0])


def is_logger(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Call):
        return scope.dotted(node.func) == "logging.getLogger"
    made = made_by(node, scope)
    return made is not None and made[0] == "logging.getLogger"


def is_shared_client(node: ast.expr, scope: Scope) -> bool:
    """A client of the module: one that workflow code makes itself is found where it is made."""
    made = made_by(node, scope)
    return made is not None and made[0] in CLIENTS and made[1] is scope.module


def is_collection(node: ast.expr | None, scope: Scope) -> bool:
    """A list, dict or set that is made here."""
    if isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    name = scope.dotted(node.func) if isinstance(node, ast.Call) else None
    return name is not None and name.removeprefix("builtins.").removeprefix("collections.") in COLLECTIONS


def _type(annotation: ast.expr, scope: Scope) -> str | None:
    """The type that an annotation names, without its arguments; `from __future__` texts included."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return None
    return scope.dotted(annotation.value if isinstance(annotation, ast.Subscript) else annotation)


# Sets ------------------------------------------------------------------------------------------------------


def is_unordered(node: ast.expr, scope: Scope, depth: int = _DEPTH) -> bool:
    """A set whose order may be another one in the next process: none of numbers, none of tasks."""
    if not depth:
        return False
    match node:
        case ast.Set(elts=elements):
            return not all(_steady(element, scope) for element in elements)
        case ast.SetComp():
            return not _steady_items(node, scope, depth)
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _MADE_SETS:
            return is_unordered(value, scope, depth - 1)
        case ast.Call(func=func, args=[items]) if scope.dotted(func) in ("builtins.set", "builtins.frozenset"):
            return not _steady_items(items, scope, depth - 1)
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), left=left, right=right):
            return any(is_unordered(side, scope, depth - 1) or _is_keys(side) for side in (left, right))
        case ast.Name(id=name):
            return _unordered_name(name, scope, depth)
    return False


def _unordered_name(name: str, scope: Scope, depth: int) -> bool:
    found = scope.find(name)
    if found is None or not found[1]:
        return False
    where, bindings = found
    annotations = [binding.annotation for binding in bindings if binding.annotation is not None]
    if annotations:
        return len(bindings) == 1 and _set_of_anything(annotations[0], where)
    values = [binding.value for binding in bindings if binding.value is not None]
    if len(values) < len(bindings):
        return False
    empty = [value for value in values if _is_empty_set(value, where)]
    if len(empty) == len(values):
        return _filled_unsteadily(name, where)
    return all(value in empty or is_unordered(value, where, depth - 1) for value in values)


def _set_of_anything(annotation: ast.expr, scope: Scope) -> bool:
    """`set[str]`, and `set` itself; not `set[int]`."""
    if _type(annotation, scope) not in _SETS:
        return False
    if isinstance(annotation, ast.Constant):
        annotation = ast.parse(str(annotation.value), mode="eval").body
    return not (isinstance(annotation, ast.Subscript) and _type(annotation.slice, scope) in _STEADY)


def _is_empty_set(node: ast.expr, scope: Scope) -> bool:
    return isinstance(node, ast.Call) and not node.args and scope.dotted(node.func) == "builtins.set"


def _filled_unsteadily(name: str, scope: Scope) -> bool:
    """Is there an `add` to the set, and none of a number or a task?"""
    added = [
        call.args[0]
        for call in own(ast.iter_child_nodes(scope.node))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "add"
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == name
        and call.args
    ]
    return bool(added) and not any(_steady(element, scope) for element in added)


def _steady_items(items: ast.expr, scope: Scope, depth: int) -> bool:
    """Do the items of a list, range or comprehension make a set that has one order?"""
    match items:
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return all(_steady(element, scope) for element in elements)
        case ast.ListComp(elt=element) | ast.SetComp(elt=element) | ast.GeneratorExp(elt=element):
            same = [g for g in items.generators if ast.unparse(g.target) == ast.unparse(element)]
            if same and depth:
                return _steady_items(same[0].iter, scope, depth - 1)
            return _steady(element, scope.inner.get(items, scope))
        case ast.Call(func=func):
            return scope.dotted(func) == "builtins.range"
        case ast.Set():
            return not is_unordered(items, scope, depth)
        case ast.Name(id=name):
            found = scope.only(name)
            if found is None or not depth:
                return False
            where, binding = found
            if binding.annotation is not None and isinstance(binding.annotation, ast.Subscript):
                return _type(binding.annotation.slice, where) in _STEADY
            return binding.value is not None and _steady_items(binding.value, where, depth - 1)
    return False


def _steady(element: ast.expr, scope: Scope) -> bool:
    """A number, or a task of the workflow."""
    match element:
        case ast.Constant(value=value):
            return isinstance(value, int)
        case ast.UnaryOp(operand=ast.Constant(value=value)):
            return isinstance(value, int)
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name in _TASKS or name in ("int", "len")
        case ast.Name(id=name):
            found = scope.only(name)
            if found is None:
                return False
            where, binding = found
            if binding.annotation is not None:
                return _type(binding.annotation, where) in _STEADY
            return (
                binding.value is not None
                and isinstance(binding.value, ast.Call | ast.Constant)
                and _steady(binding.value, where)
            )
    return False


def _is_keys(node: ast.expr) -> bool:
    """`d.keys()`: with `-`, `&`, `|` and `^` it gives a set."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"
