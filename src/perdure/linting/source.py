"""From the text of a file to its findings."""

from __future__ import annotations

import ast
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from perdure.linting.checks import Check
from perdure.linting.durable import Kind, kind_of
from perdure.linting.finding import Finding
from perdure.linting.scopes import FUNCTIONS, Function, Scope, read_scopes
from perdure.linting.silence import silenced


@dataclass(slots=True, frozen=True)
class Report:
    """What was found in one file, in the order of its lines, and the workflows that it has."""

    findings: tuple[Finding, ...]
    workflows: tuple[str, ...] = ()


def lint(source: str, file: str = "<text>") -> Report:
    """Read the workflow code of a file. A file that is no Python has one finding, `P000`.

    >>> lint("import time\\nfrom perdure import workflow\\n@workflow\\nasync def w(): time.time()").findings[0].code
    'P001'
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is not ours to tell
            tree = ast.parse(source)
        return _Reading(file, source, read_scopes(tree)).report()
    except SyntaxError as error:
        return unreadable(file, f"this is no Python: {error.msg}", error.lineno or 1, error.offset or 1)
    except (RecursionError, MemoryError):
        return unreadable(file, "this cannot be read: an expression in it is nested too deeply")
    except (ValueError, tokenize.TokenError) as error:
        return unreadable(file, f"this is no Python: {error}")


def unreadable(file: str, words: str, line: int = 1, column: int = 1) -> Report:
    """The report on a file that could not be read."""
    return Report((Finding(file, max(line, 1), max(column, 1), "P000", words),))


class _Reading:
    def __init__(self, file: str, source: str, module: Scope) -> None:
        self.file = file
        self.lines = re.split(r"\r\n|\r|\n", source)  # splitlines() knows more ends of lines than Python does
        self.silent = silenced(source)
        self.module = module
        self.found: set[Finding] = set()

    def report(self) -> Report:
        workflows = [
            (scope, function)
            for scope, function in _functions(self.module)
            if kind_of(function, scope) is Kind.WORKFLOW
        ]
        # Whatever a workflow uses is read once, for the workflow that comes first in the file.
        waiting = [(scope, function, function.name) for scope, function in workflows]
        seen = {function for _, function in workflows}
        while waiting:
            scope, function, workflow = waiting.pop(0)
            for where, used in self._read(scope, function, workflow):
                if used not in seen:
                    seen.add(used)
                    waiting.append((where, used, workflow))
        return Report(tuple(sorted(self.found)), tuple(function.name for _, function in workflows))

    def _read(self, scope: Scope, function: Function, workflow: str) -> list[tuple[Scope, Function]]:
        suffix = "" if function.name == workflow else f" ({function.name} is run by the workflow {workflow})"

        def tell(node: ast.AST, code: str, message: str) -> None:
            line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
            last = getattr(node, "end_lineno", None) if isinstance(node, ast.expr) else None
            if any(code in self.silent.get(place, ()) for place in (line, last or line)):
                return
            # ast counts bytes.
            text = self.lines[line - 1].encode()[:column].decode(errors="replace") if line <= len(self.lines) else ""
            self.found.add(Finding(self.file, line, len(text) + 1, code, message + suffix, function.name))

        check = Check(function, scope.inner[function], tell)
        check.read()
        return check.reached


def _functions(scope: Scope) -> Iterator[tuple[Scope, Function]]:
    """All functions of the file, each with the scope that it is defined in, in the order of the source."""
    for node, inner in scope.inner.items():
        if isinstance(node, FUNCTIONS):
            yield scope, node
        yield from _functions(inner)
