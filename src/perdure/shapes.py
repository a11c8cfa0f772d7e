"""The shapes of objects: how one of a class is taken apart into values that can be written, and made again.

Hooks, of the class's own or registered, go before whatever else it is; an exception that is also a dataclass is an
exception, an enum of dataclasses an enum.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, Flag
from functools import lru_cache
from typing import Any, Final

import msgspec

from perdure import exceptions, models, registered
from perdure.classes import find_type, loaded, type_name
from perdure.errors import DecodeError
from perdure.secrets import Secret

Taken = tuple[Any, dict[str, Any]]
_MISSING: Final[Any] = object()
_NOTHING: Final[dict[str, Any]] = {}
SECRET = "secret"


@dataclass(frozen=True, slots=True)
class Shape:
    """How the objects of one class are written: `{"$": tag, "v": main, "t": name, **rest}`.

    `take(value)` gives main and rest. `fields`: the attributes that main holds, where it is a dict of attributes and
    there is no rest, so that none need be made. `found`: the class must be found again by its name.
    """

    tag: str
    name: str
    take: Callable[[Any], Taken]
    fields: tuple[str, ...] | None = None
    found: bool = True


def shape_of(cls: type) -> Shape | None:
    """The shape of a class's objects, None if they cannot be written. Raises what is wrong with its hooks."""
    hooks = registered.BY_TYPE.get(cls)
    if hooks is not None:
        return Shape("registered", hooks.name, _take_by(hooks), found=False)
    return _shape_of(cls)


@lru_cache(maxsize=4096)
def _shape_of(cls: type) -> Shape | None:
    hooks = registered.hooks_of(cls)
    if hooks is not None:
        return Shape("hooks", hooks.name, _take_by(hooks))
    if cls in secret_types():
        return Shape(SECRET, type_name(cls), _take_secret)
    for tag, fits, names in _WITH_FIELDS:
        if fits(cls) and not issubclass(cls, BaseException):
            fields = tuple(names(cls))
            return Shape(tag, type_name(cls), _take_fields(fields), fields)
    for tag, fits, take in _OTHERS:
        if fits(cls):
            return Shape(tag, type_name(cls), take)
    return None


def has_hooks(cls: type) -> bool:
    """Is it written by hooks, and so always under a tag that keeps their version?"""
    return cls in registered.BY_TYPE or hasattr(cls, "__perdure_encode__")


# Taking apart -----------------------------------------------------------------------------------------


def _take_by(hooks: registered.Hooks) -> Callable[[Any], Taken]:
    encode, rest = hooks.encode, {"n": hooks.version}
    return lambda value: (encode(value), rest)


def _take_fields(fields: tuple[str, ...]) -> Callable[[Any], Taken]:
    return lambda value: ({name: getattr(value, name) for name in fields}, _NOTHING)


def _take_enum(value: Enum) -> Taken:
    if type(value).__members__.get(value.name) is value:
        return value.name, _NOTHING
    if isinstance(value, Flag):
        return value.value, _NOTHING
    raise ValueError("it is not among its members")


def _take_secret(value: Any) -> Taken:
    return value.reveal() if type(value) is Secret else value.get_secret_value(), _NOTHING


def secret_types() -> dict[type, type]:
    """The classes of secrets, with the type of what they hold."""
    kinds: dict[type, type] = {Secret: object}
    for name, held in (("SecretStr", str), ("SecretBytes", bytes)):
        cls = loaded("pydantic.types", name)
        if cls is not None:
            kinds[cls] = held
    return kinds


def _is_attrs(cls: type) -> bool:
    return loaded("attr", "Attribute") is not None and isinstance(getattr(cls, "__attrs_attrs__", None), tuple)


def _is_plain_dataclass(cls: type) -> bool:
    # An enum may have a dataclass for its base; it is its members all the same.
    return dataclasses.is_dataclass(cls) and not issubclass(cls, Enum)


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(vars(cls).get("_fields"), tuple)


_WITH_FIELDS: tuple[tuple[str, Callable[[Any], bool], Callable[[Any], Iterable[str]]], ...] = (
    ("struct", lambda c: issubclass(c, msgspec.Struct), lambda c: c.__struct_fields__),
    ("attrs", _is_attrs, lambda c: (a.name for a in c.__attrs_attrs__)),
    ("dataclass", _is_plain_dataclass, lambda c: (f.name for f in dataclasses.fields(c))),
)
_OTHERS: tuple[tuple[str, Callable[[type], bool], Callable[[Any], Taken]], ...] = (
    ("enum", lambda c: issubclass(c, Enum), _take_enum),
    ("exception", exceptions.is_exception, exceptions.take),
    ("pydantic", models.is_model, models.take),
    ("namedtuple", _is_named_tuple, lambda value: (list(value), _NOTHING)),
)


# Making again -----------------------------------------------------------------------------------------


def _class_of(tree: dict[str, Any], what: str, fits: Callable[[type], bool] = lambda c: True) -> Any:
    name = tree["t"]
    if type(name) is not str:
        raise ValueError(f"expected a text, got {name!r:.80}")
    cls = find_type(name)
    if cls is None:
        raise DecodeError(f"the recorded {what} {name} is not known here: import its module first")
    if not fits(cls):
        raise DecodeError(f"{name} was recorded as {what}, but is none")
    return cls


def _make_by_class(tree: dict[str, Any]) -> Any:
    cls = _class_of(tree, "class")
    hooks = registered.hooks_of(cls)
    if hooks is None:
        raise DecodeError(f"{tree['t']} was recorded by its hooks, and has none any more")
    return registered.make(cls, hooks, tree["v"], tree["n"])


def _make_registered(tree: dict[str, Any]) -> Any:
    cls, hooks = registered.registered_as(str(tree["t"]))
    return registered.make(cls, hooks, tree["v"], tree["n"])


def _make_secret(tree: dict[str, Any]) -> Any:
    cls = _class_of(tree, "a secret", secret_types().__contains__)
    if not isinstance(tree["v"], secret_types()[cls]):
        raise ValueError(f"it holds a {type(tree['v']).__name__}")
    return cls(tree["v"])


def _make_enum(tree: dict[str, Any]) -> Any:
    cls = _class_of(tree, "an enum", lambda c: issubclass(c, Enum))
    value = tree["v"]
    if type(value) is int and issubclass(cls, Flag):
        return cls(value)
    member = cls.__members__.get(value) if type(value) is str else None
    if member is None:
        raise DecodeError(f"{tree['t']} has no member {value!r}")
    return member


def _make_struct(tree: dict[str, Any]) -> Any:
    cls = _class_of(tree, "a Struct", lambda c: issubclass(c, msgspec.Struct))
    given = dict(tree["v"])
    return cls(**{name: given[name] for name in cls.__struct_fields__ if name in given})


def _make_dataclass(tree: dict[str, Any]) -> Any:
    cls = _class_of(tree, "a dataclass", dataclasses.is_dataclass)
    given = dict(tree["v"])
    made = object.__new__(cls)
    for field in dataclasses.fields(cls):
        value = given.get(field.name, _MISSING)
        if value is _MISSING:
            if field.default is not dataclasses.MISSING:
                value = field.default
            elif field.default_factory is not dataclasses.MISSING:
                value = field.default_factory()
            else:
                raise _no_default(tree, field.name)
        object.__setattr__(made, field.name, value)
    return made


def _make_attrs(tree: dict[str, Any]) -> Any:
    cls = _class_of(tree, "an attrs class", _is_attrs)
    given = dict(tree["v"])
    made = object.__new__(cls)
    factory, nothing = loaded("attr", "Factory"), sys.modules["attr"].NOTHING
    for field in cls.__attrs_attrs__:
        value = given.get(field.name, _MISSING)
        if value is _MISSING:
            value = field.default
            if factory is not None and isinstance(value, factory):
                value = value.factory(made) if value.takes_self else value.factory()  # type: ignore[attr-defined]
            elif value is nothing:
                raise _no_default(tree, field.name)
        object.__setattr__(made, field.name, value)
    if "_attrs_cached_hash" in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ()):
        object.__setattr__(made, "_attrs_cached_hash", None)
    return made


def _no_default(tree: dict[str, Any], name: str) -> DecodeError:
    return DecodeError(f"{tree['t']} has a field {name!r} that was not recorded and has no default")


def _make_named_tuple(tree: dict[str, Any]) -> Any:
    cls = _class_of(tree, "a namedtuple", _is_named_tuple)
    items = tree["v"]
    if type(items) is not list:
        raise ValueError(f"expected a list, got {items!r:.80}")
    if len(items) != len(cls._fields):
        raise DecodeError(f"{tree['t']} has {len(cls._fields)} fields, {len(items)} were recorded")
    return tuple.__new__(cls, items)


MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "hooks": _make_by_class,
    "registered": _make_registered,
    SECRET: _make_secret,
    "enum": _make_enum,
    "exception": lambda t: exceptions.make(_class_of(t, "exception"), t),
    "struct": _make_struct,
    "pydantic": lambda t: models.make(_class_of(t, "pydantic model"), t),
    "attrs": _make_attrs,
    "dataclass": _make_dataclass,
    "namedtuple": _make_named_tuple,
}
