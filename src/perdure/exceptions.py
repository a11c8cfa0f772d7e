"""An exception taken apart and made again: its class, its args and what it holds beside them.

Where it was raised, and because of what, is no part of it as a value. No constructor of the user's runs.
"""

from __future__ import annotations

import asyncio
import types
from inspect import getattr_static
from typing import Any

from perdure.errors import DecodeError

# What groups have beside their errors, and what an AttributeError was asked of, which is where it was raised.
_ELSEWHERE = frozenset({"message", "exceptions", "obj"})


def is_exception(cls: type) -> bool:
    """May a text make one? Not those that end a program."""
    return issubclass(cls, Exception) or cls is asyncio.CancelledError


def attribute_names(exc: BaseException) -> list[str]:
    """What an exception holds beside its args: its dict, its slots, and what C classes keep (`errno`, `name`)."""
    names = list(vars(exc))
    for base in type(exc).__mro__[:-1]:
        own = base.__module__ != "builtins"
        names += [n for n, m in vars(base).items() if type(m) is types.MemberDescriptorType and (own or n[0] != "_")]
    return names


def take(exc: BaseException) -> tuple[Any, dict[str, Any]]:
    """The attributes as a dict, and beside them the args, of a group the errors in it, too."""
    attributes = {}
    for name in attribute_names(exc):
        holder = getattr_static(type(exc), name, None)
        builtin = getattr(getattr(holder, "__objclass__", None), "__module__", None) == "builtins"
        if builtin and (name in _ELSEWHERE or getattr(exc, name) is None):
            continue
        # A slot may be unset.
        if hasattr(exc, name):
            attributes[name] = getattr(exc, name)
    if isinstance(exc, BaseExceptionGroup):
        return attributes, {"args": [exc.message], "errors": list(exc.exceptions)}
    return attributes, {"args": list(exc.args)}


def make(cls: type, tree: dict[str, Any]) -> BaseException:
    """The exception that `take` took apart. Raises `DecodeError` if the class is not one of an exception."""
    if not is_exception(cls):
        raise DecodeError(f"{tree['t']} was recorded as an exception, but is none")
    return revive(cls, tree["args"], tree["v"], tree.get("errors"))


def revive(cls: type, args: list[Any], attributes: dict[str, Any], errors: list[Any] | None = None) -> BaseException:
    """An exception of this class that holds these. Raises anything if they are not such as `take` gives."""
    if type(args) is not list or type(attributes) is not dict:
        raise ValueError("its args are no list, or its attributes no object")
    # The builtin base allocates: a user's `__new__` and `__init__` need not take `args` at all.
    base: Any = next(b for b in cls.__mro__ if b.__module__ == "builtins")
    if issubclass(cls, BaseExceptionGroup):
        made: BaseException = base.__new__(cls, *args, errors)
    else:
        made = base.__new__(cls, *args)
        made.args = tuple(args)
    for name, value in attributes.items():
        holder = getattr_static(cls, name, None)
        if type(holder) is types.MemberDescriptorType:
            try:
                object.__setattr__(made, name, value)
            except (AttributeError, TypeError):
                # Read only: set by the allocation already.
                continue
        elif not isinstance(holder, types.GetSetDescriptorType):
            # Into the dict itself: a text must not choose the user's properties and run their setters.
            made.__dict__[name] = value
    return made
