"""What a name means where it stands: Python's own scopes, read from the source."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

STARRED = "workflow step checkpoint sleep interrupt receive send start_child gather race now uuid4 random current"
"""What `from perdure import *` brings, as far as it matters here."""

_FACE = ("perdure.calls.", "perdure.workflow.", "perdure.joins.", "perdure.context.")
_BUILTINS = frozenset(dir(builtins))
_DEPTH = 20
"""Aliases of aliases that are followed: `a = b` and `b = a` have no end."""


@dataclass(slots=True, frozen=True)
class Binding:
    """One place that gives a name its meaning. What is neither an import, a function nor a value can be anything."""

    origin: str | None = None
    function: Function | None = None
    value: ast.expr | None = None
    annotation: ast.expr | None = None


class Scope:
    """A module, class, function, lambda or comprehension, with the names that are bound in it."""

    def __init__(self, node: ast.AST, parent: Scope | None) -> None:
        self.node = node
        self.parent = parent
        self.module: Scope = self if parent is None else parent.module
        self.bindings: dict[str, list[Binding]] = {}
        self.inner: dict[ast.AST, Scope] = {}
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.star = False  # a `from x import *`: a name may come from there

    def child(self, node: ast.AST) -> Scope:
        made = self.inner[node] = Scope(node, self)
        return made

    def bind(self, name: str, binding: Binding) -> None:
        if name in self.globals:
            self.module.bindings.setdefault(name, []).append(binding)
        elif name in self.nonlocals and self.parent is not None:
            self.parent.bindings.setdefault(name, []).append(binding)
        else:
            self.bindings.setdefault(name, []).append(binding)

    def find(self, name: str) -> tuple[Scope, list[Binding]] | None:
        """The scope that the name belongs to, seen from here, and all that binds it there."""
        if name in self.globals:
            return self.module, self.module.bindings.get(name, [])
        scope: Scope | None = self
        while scope is not None:
            visible = scope is self or not isinstance(scope.node, ast.ClassDef)
            if visible and name not in scope.nonlocals and name in scope.bindings:
                return scope, scope.bindings[name]
            scope = scope.parent
        return None

    def only(self, name: str) -> tuple[Scope, Binding] | None:
        """What binds the name, if one place alone does."""
        found = self.find(name)
        return (found[0], found[1][0]) if found is not None and len(found[1]) == 1 else None

    def dotted(self, node: ast.expr, depth: int = _DEPTH) -> str | None:
        """The full name of what is meant (`time.time`, `builtins.open`, `perdure.sleep`). None: nobody can tell."""
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value, depth)
            return None if base is None else _canonical(f"{base}.{node.attr}")
        if not isinstance(node, ast.Name) or not depth:
            return None
        found = self.find(node.id)
        if found is None:
            known = node.id in _BUILTINS and not self.module.star
            return f"builtins.{node.id}" if known else None
        scope, bindings = found
        origins = {binding.origin for binding in bindings}
        if None not in origins:
            return _canonical(str(origins.pop())) if len(origins) == 1 else None
        value = bindings[0].value if len(bindings) == 1 else None
        return scope.dotted(value, depth - 1) if isinstance(value, ast.Name | ast.Attribute) else None

    def functions(self, node: ast.expr) -> list[tuple[Scope, Function]]:
        """The functions of this file that the name stands for, each with the scope that it is defined in."""
        found = self.find(node.id) if isinstance(node, ast.Name) else None
        if found is None:
            return []
        scope, bindings = found
        meant = [binding.function for binding in bindings if binding.function is not None]
        return [(scope, function) for function in meant] if len(meant) == len(bindings) else []


def _canonical(name: str) -> str:
    """`perdure.calls.sleep` is `perdure.sleep`."""
    for prefix in _FACE:
        if name.startswith(prefix):
            return "perdure." + name.removeprefix(prefix)
    return name


def own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes and all below them, without what stands in functions and classes of their own."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def read_scopes(tree: ast.Module) -> Scope:
    """The module's scope, with all others inside."""
    module = Scope(tree, None)
    reader = _Reader(module)
    for statement in tree.body:
        reader.visit(statement)
    return module


class _Reader(ast.NodeVisitor):
    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def _target(self, target: ast.expr, binding: Binding) -> None:
        """Bind what is assigned to. Of `a, b = f()` nobody can tell what each gets."""
        if isinstance(target, ast.Name):
            self.scope.bind(target.id, binding)
            return
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.scope.bind(node.id, Binding())
        self.visit(target)

    # Functions and classes ----------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: Function) -> None:
        self.scope.bind(node.name, Binding(function=node))
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._body(node, node.args, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._body(node, node.args, [node.body])

    def _body(self, node: ast.AST, args: ast.arguments, body: Iterable[ast.AST]) -> None:
        for default in (*args.defaults, *args.kw_defaults):
            if default is not None:
                self.visit(default)
        scope = self.scope.child(node)
        for statement in own(body):
            if isinstance(statement, ast.Global):
                scope.globals.update(statement.names)
            elif isinstance(statement, ast.Nonlocal):
                scope.nonlocals.update(statement.names)
        for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs):
            scope.bind(arg.arg, Binding(annotation=arg.annotation))
        for rest in (args.vararg, args.kwarg):
            if rest is not None:
                scope.bind(rest.arg, Binding())
        reader = _Reader(scope)
        for statement in body:
            reader.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.bind(node.name, Binding())
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        reader = _Reader(self.scope.child(node))
        for statement in node.body:
            reader.visit(statement)

    # Comprehensions -----------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)  # evaluated outside
        inner = _Reader(self.scope.child(node))
        for n, generator in enumerate(node.generators):
            inner._target(generator.target, Binding())
            for part in generator.ifs if n == 0 else (generator.iter, *generator.ifs):
                inner.visit(part)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            inner.visit(part)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    # What binds ---------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.scope.bind(name, Binding(origin=alias.name if alias.asname else name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name != "*":
                self.scope.bind(alias.asname or alias.name, Binding(origin=f"{source}.{alias.name}"))
            elif source == "perdure":
                for name in STARRED.split():
                    self.scope.bind(name, Binding(origin=f"perdure.{name}"))
            else:
                self.scope.module.star = True

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._target(target, Binding(value=node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        self._target(node.target, Binding(value=node.value, annotation=node.annotation))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self._target(node.target, Binding())

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        scope = self.scope
        while isinstance(scope.node, COMPREHENSIONS) and scope.parent is not None:
            scope = scope.parent
        scope.bind(node.target.id, Binding(value=node.value))

    def _loop(self, node: ast.For | ast.AsyncFor) -> None:
        self._target(node.target, Binding())
        for part in (node.iter, *node.body, *node.orelse):
            self.visit(part)

    visit_For = visit_AsyncFor = _loop

    def visit_withitem(self, node: ast.withitem) -> None:
        self.visit(node.context_expr)
        if node.optional_vars is not None:
            self._target(node.optional_vars, Binding())

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self.scope.bind(node.name, Binding())
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.scope.bind(target.id, Binding())

    def _capture(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name is not None:
            self.scope.bind(node.name, Binding())
        self.generic_visit(node)

    visit_MatchAs = visit_MatchStar = _capture

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest is not None:
            self.scope.bind(node.rest, Binding())
        self.generic_visit(node)
