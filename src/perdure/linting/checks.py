"""One function of workflow code, read through."""

from __future__ import annotations

import ast
from collections.abc import Callable

from perdure.linting import endings, forbidden, order
from perdure.linting.durable import Kind, durable, kind_of
from perdure.linting.forbidden import Advice
from perdure.linting.scopes import Comprehension, Function, Scope, own
from perdure.linting.values import is_collection, is_logger, is_path, is_shared_client

Tell = Callable[[ast.AST, str, str], None]
"""Takes what stands there, the code and the message."""


class Check(ast.NodeVisitor):
    """Reads one function. `reached`: the plain functions of the file that it uses, which are workflow code as well."""

    def __init__(self, function: Function, scope: Scope, tell: Tell) -> None:
        self.function = function
        self.scope = scope
        self.tell = tell
        self.order = order.Order(function)
        self.guards = 0
        self.reached: list[tuple[Scope, Function]] = []

    def read(self) -> None:
        for statement in self.function.body:
            self.visit(statement)

    # What is another function's, or runs elsewhere ------------------------------------------------------

    def visit_FunctionDef(self, node: Function) -> None:
        """Read when it is used; its defaults are evaluated here."""
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Whether and where its methods run cannot be read off."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inside(node, [node.body])

    def _inside(self, node: ast.AST, parts: list[ast.AST]) -> None:
        outer, self.scope = self.scope, self.scope.inner.get(node, self.scope)
        for part in parts:
            self.visit(part)
        self.scope = outer

    # Names ----------------------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node)
            functions = self.scope.functions(node)
            self.reached += [(scope, made) for scope, made in functions if kind_of(made, scope) is Kind.PLAIN]

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not self._read(node):
            self.visit(node.value)

    def _read(self, node: ast.Name | ast.Attribute) -> bool:
        advice = forbidden.READ.get(self.scope.dotted(node) or "")
        if advice is not None:
            self.tell(node, advice.code, f"{ast.unparse(node)} {advice.words}")
        return advice is not None

    # Calls ----------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        advice = self._advice(node)
        if advice is not None:
            self.tell(node, advice.code, f"{_called(node)} {advice.words}")
        else:
            self._plain_step(node)
        self._mutates(node)
        for found in self.order.call(node, self.scope):
            self.tell(found, "P005", f"{_short(found)} {order.WORDS}")
        self.visit(node.func)
        elsewhere = (advice is not None and advice.code == "P004") or self._describes_a_step(node)
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            if not (elsewhere and isinstance(argument, ast.Lambda | ast.Name)):
                self.visit(argument)

    def _describes_a_step(self, node: ast.Call) -> bool:
        """`step(function)`, `charge.options(verify=function)`: what they are given runs as a step does."""
        options = isinstance(node.func, ast.Attribute) and node.func.attr == "options"
        return options or self.scope.dotted(node.func) in ("perdure.step", "perdure.checkpoint")

    def _advice(self, node: ast.Call) -> Advice | None:
        name = self.scope.dotted(node.func) or ""
        if name in forbidden.CALLS:
            return forbidden.CALLS[name]
        if not node.args and not node.keywords and name in forbidden.CALLS_WITHOUT_ARGUMENTS:
            return forbidden.CALLS_WITHOUT_ARGUMENTS[name]
        if name == "asyncio.as_completed" and node.args and self._are_bare_calls(node.args[0]):
            return Advice("P012", "is refused over bare calls: give it tasks, of asyncio.create_task(...)")
        if not isinstance(node.func, ast.Attribute):
            return None
        whose, method = node.func.value, node.func.attr
        if method in forbidden.METHODS:
            return forbidden.METHODS[method]
        if method in forbidden.PATH_METHODS and is_path(whose, self.scope):
            return forbidden.IO
        if method in forbidden.LOG_METHODS and is_logger(whose, self.scope):
            return forbidden.SAID
        return forbidden.IO if is_shared_client(whose, self.scope) else None

    def _are_bare_calls(self, node: ast.expr) -> bool:
        """A list of durable calls, or of coroutines of this file's functions."""
        if isinstance(node, ast.Name):
            found = self.scope.only(node.id)
            return found is not None and found[1].value is not None and self._are_bare_calls(found[1].value)
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            return self._is_bare_call(node.elt)
        return isinstance(node, ast.List | ast.Tuple | ast.Set) and any(self._is_bare_call(e) for e in node.elts)

    def _is_bare_call(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        return durable(node.func, self.scope) is not None or self._is_coroutine(node)

    def _is_coroutine(self, node: ast.Call) -> bool:
        """A call of an `async def` of this file that is neither a step nor a generator."""
        functions = self.scope.functions(node.func)
        return bool(functions) and all(
            isinstance(function, ast.AsyncFunctionDef)
            and kind_of(function, scope) is Kind.PLAIN
            and not function.decorator_list
            and not any(isinstance(part, ast.Yield) for part in own(function.body))
            for scope, function in functions
        )

    def _plain_step(self, node: ast.Call) -> bool:
        made = durable(node.func, self.scope)
        if made is None or made.kind is not Kind.STEP or not made.plain or not made.bare:
            return False
        self.tell(node, "P011", f"{made.name} is a plain function: write `await {ast.unparse(node.func)}.aio(...)`")
        return True

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value
        if isinstance(call, ast.Call):
            made = durable(call.func, self.scope)
            plain = made is not None and made.kind is Kind.STEP and made.plain and made.bare
            if (made is not None and not plain) or self._is_coroutine(call):
                self.tell(call, "P008", f"{_called(call)} does nothing until it is awaited: write `await` before it")
        self.visit(node.value)

    # State outside --------------------------------------------------------------------------------------

    def visit_Global(self, node: ast.Global) -> None:
        stored = {
            part.id
            for part in own(self.function.body)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        for name in node.names:
            if name in stored:
                self._outside(node, name)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        base = node.value
        while isinstance(base, ast.Subscript):
            base = base.value
        if not isinstance(node.ctx, ast.Load) and self._is_shared(base):
            self._outside(node, ast.unparse(base))
        self.generic_visit(node)

    def _mutates(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(value=value, attr=method) if method in forbidden.MUTATING_METHODS:
                if self._is_shared(value):
                    self._outside(node, ast.unparse(value))

    def _is_shared(self, node: ast.expr) -> bool:
        """A list, dict or set of the module."""
        found = self.scope.only(node.id) if isinstance(node, ast.Name) else None
        return found is not None and found[0] is self.scope.module and is_collection(found[1].value, found[0])

    def _outside(self, node: ast.AST, name: str) -> None:
        words = (
            "is changed again in each replay, and no other process sees it: keep it in the workflow, or do it in a step"
        )
        self.tell(node, "P007", f"{name} belongs to the module; it {words}")

    def visit_Assign(self, node: ast.Assign) -> None:
        self.order.assigned(node)
        self.generic_visit(node)

    # Order, endings -------------------------------------------------------------------------------------

    def visit_For(self, node: ast.For) -> None:
        for found in self.order.loop(node, self.scope):
            self.tell(found, "P005", f"{_short(found)} {order.WORDS}")
        self.generic_visit(node)

    def _comprehension(self, node: Comprehension) -> None:
        for found in self.order.comprehension(node, self.scope):
            self.tell(found, "P005", f"{_short(found)} {order.WORDS}")
        first, *others = node.generators
        self.visit(first.iter)
        parts: list[ast.AST] = [*first.ifs]
        for generator in others:
            parts += [generator.iter, *generator.ifs]
        parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._inside(node, parts)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _display(self, node: ast.List | ast.Tuple) -> None:
        for found in self.order.display(node, self.scope):
            self.tell(found, "P005", f"{_short(found)} {order.WORDS}")
        self.generic_visit(node)

    visit_List = visit_Tuple = _display

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        handler = endings.swallowing(node, self.scope)
        if handler is not None:
            caught = "" if handler.type is None else f" {ast.unparse(handler.type)}"
            self.tell(handler, "P009", f"`except{caught}` {endings.SWALLOWS}")
        self.guards += 1
        self.generic_visit(node)
        self.guards -= 1

    visit_Try = visit_TryStar = _try

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        call = endings.suppresses_all(node, self.scope)
        if call is not None:
            self.tell(call, "P009", f"`{ast.unparse(call)}` {endings.SWALLOWS}")
        self.guards += 1
        self.generic_visit(node)
        self.guards -= 1

    visit_With = visit_AsyncWith = _with

    def visit_While(self, node: ast.While) -> None:
        if endings.spins(node, guarded=self.guards > 0):
            self.tell(node, "P010", f"`while {_short(node.test)}` {endings.SPINS}")
        for found in self.order.work(node, self.scope):
            self.tell(found, "P005", f"{_short(found)} {order.WORDS}")
        self.generic_visit(node)


def _called(node: ast.Call) -> str:
    return f"{_short(node.func)}()"


def _short(node: ast.expr) -> str:
    """The source, in one short line."""
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:59]}…"
