"""P009 and P010: what keeps a workflow from being stopped, parked or cancelled."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from perdure.linting.scopes import Scope, own

SWALLOWS = (
    "catches the cancelling and parking of the workflow too, and raises it no more:"
    " catch Exception, or end it with `raise`"
)
SPINS = "never awaits, so that nothing else in this process goes on: await something in it"


def awaits(nodes: Iterable[ast.AST]) -> bool:
    """Is anything awaited here, in this function itself?"""
    return any(
        isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
        or (isinstance(node, ast.comprehension) and bool(node.is_async))
        for node in own(nodes)
    )


def swallowing(node: ast.Try | ast.TryStar, scope: Scope) -> ast.ExceptHandler | None:
    """The handler that catches everything around an await and raises nothing."""
    if not awaits(node.body):
        return None
    for handler in node.handlers:
        if any(isinstance(part, ast.Raise) for part in own(handler.body)):
            return None  # it may have seen to the cancelling
        if _catches_all(handler.type, scope):
            return handler
    return None


def _catches_all(caught: ast.expr | None, scope: Scope) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_catches_all(element, scope) for element in caught.elts)
    return caught is None or scope.dotted(caught) == "builtins.BaseException"


def suppresses_all(node: ast.AsyncWith | ast.With, scope: Scope) -> ast.expr | None:
    """`with suppress(BaseException)` around an await."""
    for item in node.items:
        match item.context_expr:
            case ast.Call(func=func, args=caught) as call if scope.dotted(func) == "contextlib.suppress":
                if any(_catches_all(each, scope) for each in caught) and awaits(node.body):
                    return call
    return None


def spins(node: ast.While, *, guarded: bool) -> bool:
    """Does the loop go on for ever without an await? `guarded`: an exception may end it."""
    parts = list(own([node.test, *node.body]))
    if awaits([node.test, *node.body]):
        return False
    if any(isinstance(part, ast.Yield | ast.YieldFrom | ast.Break | ast.Return | ast.Raise) for part in parts):
        return False
    if isinstance(node.test, ast.Constant):
        return bool(node.test.value) and not (guarded and any(isinstance(part, ast.Call) for part in parts))
    changes = (ast.Call, ast.NamedExpr, ast.Attribute)  # an attribute may be a property
    idle = all(isinstance(statement, ast.Pass | ast.Continue) or _is_ellipsis(statement) for statement in node.body)
    return idle and not any(isinstance(part, changes) for part in parts)


def _is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
