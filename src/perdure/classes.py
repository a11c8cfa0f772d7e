"""Classes by name: what a class is called in a recorded text, and which class a name means here.

A name is `module:qualname`. A pydantic model made of a generic one adds its arguments, which are names, too:
`shop:Page[shop:Order]`, `shop:Page[builtins:list[builtins:int]]`. Classes are found among the modules that are
imported already; nothing is imported, and no module is asked for what it does not hold.
"""

from __future__ import annotations

import os
import sys
import types
from functools import reduce
from operator import or_
from typing import Any, Union, get_args, get_origin

_MAIN = ("__main__", "__mp_main__")  # the second in the children of multiprocessing
_CONTAINERS = (list, dict, tuple, set, frozenset)
_WORDS: dict[str, Any] = {"None": None, "Any": Any, "...": ...}
_UNION = "Union"
# A name is short; what is longer would only serve to exhaust the stack.
_LONGEST = 1000


def type_name(cls: type) -> str:
    """`module:qualname`. A class of `__main__` is named by the file's stem, as if it were imported."""
    module = cls.__module__
    place = _main_name() if module in _MAIN else module
    origin, arguments = generic_parts(cls)
    if origin is None:
        return f"{place}:{cls.__qualname__}"
    return f"{type_name(origin)}[{','.join(map(_hint_name, arguments))}]"


def find_type(name: str) -> type | None:
    """The class of this name in a module that is imported already, or None. Imports nothing.

    Arguments in brackets are put into a pydantic model that takes as many, or into one of Python's containers.
    """
    if "[" in name:
        found = _read_name(name) if len(name) <= _LONGEST else None
        return found if isinstance(found, type) else None
    return _find_plain(name)


def describe(cls: type) -> str:
    """The class's name for a message: `socket.socket`, `int`."""
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


def generic_parts(cls: type) -> tuple[type | None, tuple[Any, ...]]:
    """The generic pydantic model that the class was made of, and its arguments; else `(None, ())`."""
    try:
        parts = type.__getattribute__(cls, "__dict__").get("__pydantic_generic_metadata__")
        if parts and parts["origin"] is not None:
            return parts["origin"], tuple(parts["args"])
    except (TypeError, KeyError):
        # An attribute of the same name that is not pydantic's.
        pass
    return None, ()


def loaded(module: str, name: str) -> type | None:
    """A class of a library that the program uses, None as long as it does not: it is never imported here."""
    found = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    return found if isinstance(found, type) else None


def _find_plain(name: str) -> type | None:
    module, _, qualname = name.partition(":")
    # The script that runs comes first: the names of its classes were written by `type_name`.
    for place in ("__main__", module) if module == _main_name() else (module,):
        found: Any = sys.modules.get(place)
        for part in qualname.split("."):
            # Not getattr: a module's `__getattr__` and lazy modules import when they are asked.
            try:
                found = object.__getattribute__(found, "__dict__").get(part)
            except AttributeError:
                found = None
        if isinstance(found, type):
            return found
    return None


def _main_name() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(file))[0] if isinstance(file, str) else "__main__"


# The arguments of generic models ----------------------------------------------------------------------


def _hint_name(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return f"{_UNION}[{','.join(map(_hint_name, get_args(hint)))}]"
    if origin in _CONTAINERS:
        return f"builtins:{origin.__name__}[{','.join(map(_hint_name, get_args(hint)))}]"
    if hint is type(None):
        return "None"
    if isinstance(hint, type) and origin is None:
        return type_name(hint)
    # A word that is not known gives a name that is not found, and that is told to the user.
    return next((word for word, meaning in _WORDS.items() if hint is meaning), "?")


def _read_name(text: str) -> Any:
    """The class or hint of a name with arguments; None if any part of it is not known here."""
    base, _, rest = text.partition("[")
    if not rest:
        return _WORDS[text] if text in _WORDS else _find_plain(text)
    if not base or rest[-1] != "]":
        return None
    arguments = []
    for part in _split(rest[:-1]):
        argument = _read_name(part)
        if argument is None and part != "None":
            return None
        arguments.append(argument)
    try:
        return _apply(base, tuple(arguments))
    except Exception:
        # pydantic builds a class here, out of classes that a text chose.
        return None


def _apply(base: str, arguments: tuple[Any, ...]) -> Any:
    if base == _UNION:
        return reduce(or_, arguments)
    found: Any = _find_plain(base)
    if found in _CONTAINERS:
        return found[arguments]
    model = loaded("pydantic.main", "BaseModel")
    if found is None or model is None or not issubclass(found, model):
        return None
    parameters = found.__dict__["__pydantic_generic_metadata__"]["parameters"]
    return found[arguments] if len(parameters) == len(arguments) else None


def _split(text: str) -> list[str]:
    """The parts between the commas that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for i, sign in enumerate(text):
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]
