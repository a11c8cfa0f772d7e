"""Write docs/reference.md from the docstrings of the public names: `python docs/make_reference.py [--check]`.

`--check` writes nothing and ends with 1 if the file is out of date.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import perdure
import perdure.sync
import perdure.testing

FILE = Path(__file__).with_name("reference.md")
WIDTH = 100

HEAD = """\
<!-- fmt: off -->
# Reference

The public names, made from their docstrings by `make docs`. How they are used together: the [tutorial](tutorial.md)
and the pages in [how-to](how-to). Durations are seconds or `timedelta`. What is not listed here may change at any time.
"""

GROUPS = {
    "Writing workflows": (
        "workflow step checkpoint Retry Budget resource transaction current Current now uuid4 random patched"
    ),
    "Waiting, messages, children": "sleep interrupt receive send restart start_child Child gather race Won",
    "Asking people": "approval Approval Action Stage Question Edit Decision Approved Rejected",
    "Telling the world": "emit publish progress usage set_attributes Event Restarted Progress Usage",
    "Running": "Engine Signal Handle Queue Query Page Outgoing Status HistoryEntry ScheduleView Done Stats MemoryStore",
    "Listening": "Happening",
    "Outcomes": "Completed Failed Waiting Paused Cancelled Blocked OpenRequest Voice User",
    "Values and secrets": "register Secret Encryption generate_key Protection",
    "What the decorators give": "Workflow SyncWorkflow Step SyncStep",
}

INNER = {
    "Budget": "tree",
    "Encryption": "seal open fingerprints",
    "MemoryStore": "open close put",
    "Protection": "encoding seal open redacted redaction",
    "Query": "row_query",
    "Queue": "limit",
    "SyncWorkflow": "run call_child",
    "Usage": "plus",
    "Workflow": "run call_child",
}
"""What only Perdure itself calls."""

GIVEN = {"Current", "Handle", "Child", "Workflow", "SyncWorkflow", "Step", "SyncStep"}
"""Classes that users are given and do not make."""


def public(module: ModuleType) -> list[str]:
    """The module's names, in the order of `__all__`; aliases of types have no docstring and are left out."""
    things = {name: getattr(module, name) for name in module.__all__}
    return [name for name, thing in things.items() if inspect.isroutine(thing) or inspect.isclass(thing)]


def is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, perdure.PerdureError)


def page() -> str:
    """The whole file."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    names = public(perdure)
    grouped = {group: text.split() for group, text in GROUPS.items()}
    known = {name for group in grouped.values() for name in group}
    grouped["More"] = [name for name in names if name not in known and not is_error(getattr(perdure, name))]
    for group, members in grouped.items():
        if members:
            yield f"## {group}\n"
            for name in members:
                if name in names:
                    yield from _thing(name, getattr(perdure, name))
    yield "## Errors\n"
    for name in names:
        if is_error(thing := getattr(perdure, name)):
            base = thing.__bases__[0].__name__
            yield f"- `{name}({base})`: {(inspect.getdoc(thing) or '').replace(chr(10), ' ')}"
    yield ""
    for module in (perdure.sync, perdure.testing):
        yield f"## {module.__name__}\n"
        yield from _text(inspect.getdoc(module) or "")
        for name in public(module):
            if getattr(module, name) is not getattr(perdure, name, None):
                yield from _thing(f"{module.__name__.split('.')[1]}.{name}", getattr(module, name))


def _thing(title: str, thing: Any) -> Iterator[str]:
    yield f"### {title}\n"
    if inspect.isclass(thing):
        yield from _class(thing)
    else:
        yield from _code(_signature(thing, title.rpartition(".")[2]))
        yield from _text(inspect.getdoc(thing) or "")


def _class(thing: type) -> Iterator[str]:
    if issubclass(thing, Enum):
        yield from _code([f"class {thing.__name__}: ..."])
        yield from _text(inspect.getdoc(thing) or "")
        yield ", ".join(f"`{member.name}`" for member in thing) + ".\n"
        return
    if thing.__init__ is not object.__init__ and thing.__name__ not in GIVEN:
        made = _signature(thing.__init__, "__init__")
        yield from _code([f"class {thing.__name__}:", *(f"    {line}" for line in made)])
    yield from _text(inspect.getdoc(thing) or "")
    members = list(_members(thing))
    properties = [(name, member) for name, member in members if isinstance(member, property)]
    for name, member in properties:
        yield f"- `{name}`: {(inspect.getdoc(member) or '').replace(chr(10), ' ')}"
    if properties:
        yield ""
    for name, member in members:
        plain = getattr(member, "__func__", member)
        if inspect.isfunction(inspect.unwrap(plain)):
            yield f"#### {thing.__name__}.{name}\n"
            above = ["@classmethod"] if isinstance(member, classmethod) else []
            yield from _code([*above, *_signature(plain, name)])
            yield from _text(inspect.getdoc(plain) or "")


def _members(thing: type) -> Iterator[tuple[str, Any]]:
    """What it and its bases of Perdure's define, with a docstring of its own."""
    seen: set[str] = set()
    for kind in thing.__mro__:
        if not kind.__module__.startswith("perdure"):
            continue
        for name, member in vars(kind).items():
            if name.startswith("_") or name in seen or name in INNER.get(thing.__name__, "").split():
                continue
            seen.add(name)
            if getattr(member, "__doc__", None) and (callable(member) or isinstance(member, property | classmethod)):
                yield name, member


# Signatures -----------------------------------------------------------------------------------------------


def _signature(function: Callable[..., Any], name: str) -> list[str]:
    """The function as a stub. Of overloads the one that tells most."""
    plain = inspect.unwrap(function)
    told = max(typing.get_overloads(plain), key=lambda each: len(inspect.signature(each).parameters), default=plain)
    prefix = "async def" if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain) else "def"
    wanted = inspect.signature(told)
    given = list(wanted.parameters.values())
    if told is not plain:  # the defaults of an overload are `...` where the function has the real ones
        real = inspect.signature(plain).parameters
        given = [p.replace(default=real[p.name].default) if p.name in real and _has(p) else p for p in given]
    words: list[str] = []
    for place, parameter in enumerate(given):
        before = given[place - 1].kind if place else None
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            words.append("*")
        words.append(_parameter(parameter, place == 0))
        after = given[place + 1].kind if place + 1 < len(given) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and after is not parameter.POSITIONAL_ONLY:
            words.append("/")
    gives = "" if wanted.return_annotation is wanted.empty else f" -> {_annotation(wanted.return_annotation)}"
    line = f"{prefix} {name}({', '.join(words)}){gives}: ..."
    if len(line) <= WIDTH:
        return [line]
    return [f"{prefix} {name}(", *(f"    {word}," for word in words), f"){gives}: ..."]


def _has(parameter: inspect.Parameter) -> bool:
    return parameter.default is not parameter.empty


def _parameter(parameter: inspect.Parameter, first: bool) -> str:
    prefixes: dict[Any, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    stars = prefixes.get(parameter.kind, "")
    text = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty and not (first and parameter.name in ("self", "cls")):
        text += f": {_annotation(parameter.annotation)}"
    if not _has(parameter):
        return text
    return f"{text} = {_default(parameter.default)}" if ":" in text else f"{text}={_default(parameter.default)}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(default: Any) -> str:
    if inspect.isclass(default):
        return default.__name__
    if isinstance(default, tuple) and default and all(map(inspect.isclass, default)):
        return f"({', '.join(each.__name__ for each in default)},)"
    if isinstance(default, set | frozenset):
        return f"{type(default).__name__}({{{', '.join(sorted(map(repr, default)))}}})"  # in an order that stays
    text = repr(default)
    return "..." if text.startswith("<") or " at 0x" in text or default is Ellipsis or text.isupper() else text


def _code(lines: list[str]) -> Iterator[str]:
    yield "```python"
    yield from lines
    yield "```\n"


# Docstrings -----------------------------------------------------------------------------------------------


def _text(docstring: str) -> Iterator[str]:
    """A docstring as Markdown: what is indented, or stands behind `>>>`, is code."""
    code: list[str] = []
    for line in [*docstring.splitlines(), ""]:
        if line.startswith((">>> ", "... ", "    ")) or (code and not line):
            code.append(line[4:])
        else:
            yield from _example(code)
            code = []
            yield line
    yield from _example(code)


def _example(code: list[str]) -> Iterator[str]:
    while code and not code[-1]:
        code.pop()
    if code:
        yield from _code(code)


def main(arguments: list[str]) -> str | None:
    """Gives what is wrong, if anything is."""
    made = page().rstrip("\n") + "\n"
    if arguments == ["--check"]:
        return None if FILE.is_file() and FILE.read_text() == made else f"{FILE.name} is out of date: run `make docs`"
    if arguments:
        return "usage: python docs/make_reference.py [--check]"
    FILE.write_text(made)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
