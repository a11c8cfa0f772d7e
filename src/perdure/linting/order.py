"""P005: what is done in the order of a set. Texts hash differently in each process, so that order does not replay."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from perdure.linting.durable import durable
from perdure.linting.scopes import Comprehension, Function, Scope, own
from perdure.linting.values import is_unordered

_CALM = frozenset(
    f"builtins.{name}" for name in ("sorted", "set", "frozenset", "sum", "min", "max", "any", "all", "len")
) | {"collections.Counter"}
"""To these the order of what they are given does not matter."""

_KEEPING = frozenset(f"builtins.{name}" for name in ("list", "tuple", "enumerate", "zip", "map", "filter"))
"""These keep the order of what they are given."""

_IN_ORDER = frozenset(("append", "extend", "insert", "appendleft", "put", "put_nowait", "write", "create_task"))
_WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)

WORDS = "has another order in the next process, and a replay meets other calls: write sorted(...)"


class Order:
    """The rule, as one function is read from the outside in."""

    def __init__(self, function: Function) -> None:
        self._calm: set[ast.expr] = set()
        self._sorted = {name for part in own(function.body) for name in _sorts(part)}

    def assigned(self, node: ast.Assign) -> None:
        """`names = list(found)` with `names.sort()` somewhere: the order does not stay."""
        if any(isinstance(target, ast.Name) and target.id in self._sorted for target in node.targets):
            self._calm.add(node.value)

    def loop(self, node: ast.For, scope: Scope) -> Iterator[ast.expr]:
        """The set that a loop goes over, if what the loop does depends on the order."""
        if is_unordered(node.iter, scope) and any(self._in_order(part, scope) for part in own(node.body)):
            yield node.iter

    def work(self, node: ast.While, scope: Scope) -> Iterator[ast.expr]:
        """`while names: ... names.pop()`. Where nothing loops, what is popped is often all there is."""
        for part in own(node.body):
            match node.test, part:
                case ast.Name(id=name), ast.Call(func=ast.Attribute(value=ast.Name(id=popped), attr="pop"), args=[]):
                    if name == popped and is_unordered(node.test, scope):
                        yield part

    def _in_order(self, node: ast.AST, scope: Scope) -> bool:
        """Does it make a difference when in the loop this is done?"""
        match node:
            case ast.Return(value=value):
                return value is not None and not isinstance(value, ast.Constant)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in _IN_ORDER:
                return name not in self._sorted
            case ast.Call(func=func):
                return durable(func, scope) is not None
        return isinstance(node, _WAITS)

    def comprehension(self, node: Comprehension, scope: Scope) -> Iterator[ast.expr]:
        if isinstance(node, ast.SetComp | ast.DictComp) or node in self._calm:
            parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            if not any(isinstance(part, _WAITS) for part in own(parts)):
                return
        for n, generator in enumerate(node.generators):
            if is_unordered(generator.iter, scope if n == 0 else scope.inner.get(node, scope)):
                yield generator.iter

    def display(self, node: ast.List | ast.Tuple, scope: Scope) -> Iterator[ast.expr]:
        for element in node.elts:
            if isinstance(element, ast.Starred) and is_unordered(element.value, scope):
                yield element.value

    def call(self, node: ast.Call, scope: Scope) -> Iterator[ast.expr]:
        name = scope.dotted(node.func)
        if name in _CALM or (name in _KEEPING and node in self._calm):
            self._calm.update(node.args)
            return
        for argument in node.args:
            if isinstance(argument, ast.Starred) and is_unordered(argument.value, scope):
                yield argument.value
        if name in _KEEPING or _takes_items(node.func, scope):
            yield from (argument for argument in node.args if is_unordered(argument, scope))


def _takes_items(callee: ast.expr, scope: Scope) -> bool:
    """`", ".join`, `list.extend` and `step.map`."""
    if not isinstance(callee, ast.Attribute):
        return False
    if callee.attr == "join":
        return isinstance(callee.value, ast.Constant)
    return callee.attr == "extend" or (callee.attr == "map" and durable(callee, scope) is not None)


def _sorts(node: ast.AST) -> Iterator[str]:
    """The name of what is sorted here."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="sort")):
            yield name
        case ast.Call(func=ast.Name(id="sorted"), args=[ast.Name(id=name), *_]):
            yield name
