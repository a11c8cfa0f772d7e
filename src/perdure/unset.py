"""Fields of dataclasses that an object has from its class alone: a default that nobody wrote into the object.

Objects made by msgspec are so, and those with a `field(init=False, default=...)`. msgspec writes no such field, and a
text without it would have another value as soon as the class has another default.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import Any

from perdure import models
from perdure.sameness import ATOMS
from perdure.shapes import shape_of

_WITHOUT = ATOMS | {float}


@lru_cache(maxsize=4096)
def may_be_unset(cls: type) -> tuple[str, ...]:
    """The fields of a dataclass that its objects may lack: the class has a value for them, and no slot or property."""
    if not dataclasses.is_dataclass(cls) or not cls.__dictoffset__:
        return ()
    held = ((field.name, inspect.getattr_static(cls, field.name, None)) for field in dataclasses.fields(cls))
    names = (name for name, default in held if not hasattr(type(default), "__set__"))
    return tuple(name for name in names if hasattr(cls, name))


@lru_cache(maxsize=4096)
def _parts(cls: Any) -> tuple[tuple[str, ...], Callable[[Any], Iterable[Any]]]:
    """What `may_be_unset`, and a function that gives what lies in an object."""
    if models.is_model(cls):
        return (), lambda item: [models.to_plain(item)]
    if issubclass(cls, dict):
        return (), lambda item: [*item, *item.values()]
    if issubclass(cls, list | tuple | set | frozenset):
        return (), lambda item: item
    shape = shape_of(cls)
    fields = shape.fields if shape is not None else None
    if not fields:
        return (), lambda item: ()
    if len(fields) == 1:
        return may_be_unset(cls), lambda item: (getattr(item, fields[0]),)
    return may_be_unset(cls), attrgetter(*fields)


def unset(value: Any) -> Iterator[tuple[Any, str]]:
    """The objects in a value that msgspec can write, each with the name of a field that it lacks."""
    todo = [value]
    while todo:
        item = todo.pop()
        kind: Any = type(item)
        names, inside = _parts(kind)
        for name in names:
            if name not in item.__dict__:
                yield item, name
        todo += [part for part in inside(item) if type(part) not in _WITHOUT]


def complete(encode: Callable[[Any], bytes], decode: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    """An encoder that writes what `encode` would leave out. The value stays as it is: a copy of it is filled in."""

    def write(value: Any) -> bytes:
        written = encode(value)
        if next(unset(value), None) is None:
            return written
        copy = decode(written)
        for item, name in unset(copy):
            item.__dict__[name] = getattr(item, name)
        return encode(copy)

    return write
