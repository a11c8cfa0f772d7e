"""Values that plain JSON cannot hold, as tagged JSON: `{"$": "<tag>", "v": ...}`.

`mark` makes a tree of plain JSON values out of a value, `load` reads such a text, `same` tells whether
two values are deeply equal with equal types. A dict of the user's that holds the key "$" is written as
pairs, so an object with that key is always a tag. Classes are found by name among the modules that are
already imported; reading never imports one and never calls a dataclass's constructor.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from functools import lru_cache
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from perdure.errors import DecodeError, EncodeError

MARK = '"$":'
_MISSING: Any = object()
_ATOMS = frozenset({str, int, bool, type(None), bytes, UUID, timedelta, date})


# Names of classes -------------------------------------------------------------------------------------


_MAIN = ("__main__", "__mp_main__")  # the second in the children of multiprocessing


def type_name(cls: type) -> str:
    """`module:qualname`. A class of `__main__` is named by the file's stem, as if it were imported."""
    module = cls.__module__
    return f"{_main_name() if module in _MAIN else module}:{cls.__qualname__}"


def find_type(name: str) -> type | None:
    """The class of this name in a module that is imported already, or None. Imports nothing."""
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


def describe(cls: type) -> str:
    """The class's name for a message: `socket.socket`, `int`."""
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


def _main_name() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(file))[0] if isinstance(file, str) else "__main__"


@lru_cache(maxsize=4096)
def _fields(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(vars(cls).get("_fields"), tuple)


# Writing ----------------------------------------------------------------------------------------------

_dump: Callable[[Any], str] = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode


def dump(tree: Any) -> str:
    """A tree of plain JSON values as ASCII JSON text."""
    return _dump(tree)


def mark(value: Any, path: str) -> Any:
    """The value as a tree of plain JSON values, tagged where plain JSON would lose something.

    Raises `EncodeError` that names the path to what cannot be recorded, `RecursionError` for cycles.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -0x8000000000000000 <= value <= 0xFFFFFFFFFFFFFFFF else {"$": "int", "v": hex(value)}
    if kind is float:
        return value if value - value == 0.0 else {"$": "float", "v": repr(value)}
    if kind is list:
        return [mark(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if kind is dict:
        return _mark_dict(value, path)
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value, path)
    return _mark_object(value, kind, path)


def _mark_dict(value: dict[Any, Any], path: str) -> Any:
    if "$" not in value and all(type(key) is str for key in value):
        return {key: mark(item, _member(path, key)) for key, item in value.items()}
    pairs = [[mark(k, f"{path}, a key"), mark(v, _member(path, k))] for k, v in value.items()]
    return {"$": "dict", "v": pairs}


def _member(path: str, key: Any) -> str:
    if type(key) is str:
        return f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"
    return f"{path}[{key!r}]" if type(key) in _ATOMS else f"{path}[a {describe(type(key))}]"


def _mark_set(value: set[Any] | frozenset[Any], path: str) -> Any:
    # Sorted by text: strings hash differently in each process, and texts are compared.
    items = sorted((mark(item, f"{path}, an item") for item in value), key=_dump)
    return {"$": "set" if type(value) is set else "frozenset", "v": items}


def _mark_zoned(tag: str, value: datetime | time, path: str) -> Any:
    zone = value.tzinfo
    tree: dict[str, Any] = {"$": tag}
    if type(zone) is ZoneInfo:
        if zone.key is None:
            raise EncodeError(f"{path}: cannot record a time whose zone has no name")
        # The wall's time and the zone's name: what the value means in Python.
        value = value.replace(tzinfo=None)
        tree["z"] = zone.key
    elif type(zone) is timezone:
        if zone.tzname(None) != timezone(zone.utcoffset(None)).tzname(None):
            tree["n"] = zone.tzname(None)
    elif zone is not None:
        raise EncodeError(f"{path}: cannot record a time in the zone of a {describe(type(zone))}")
    if value.fold:
        tree["fold"] = 1
    tree["v"] = value.isoformat()
    return tree


def _mark_object(value: Any, kind: type, path: str) -> Any:
    if issubclass(kind, Enum):
        tree = {"$": "enum", "v": value.name}
        if kind.__members__.get(value.name) is not value:
            if not issubclass(kind, Flag):
                raise EncodeError(f"{path}: cannot record this {describe(kind)}: it is not among its members")
            tree["v"] = mark(value.value, path)
    elif issubclass(kind, msgspec.Struct):
        fields = {name: mark(getattr(value, name), f"{path}.{name}") for name in kind.__struct_fields__}
        tree = {"$": "struct", "v": fields}
    elif dataclasses.is_dataclass(kind):
        fields = {name: mark(_field(value, name, path), f"{path}.{name}") for name in _fields(kind)}
        tree = {"$": "dataclass", "v": fields}
    elif _is_named_tuple(kind):
        tree = {"$": "namedtuple", "v": [mark(item, f"{path}[{i}]") for i, item in enumerate(value)]}
    else:
        raise EncodeError(f"{path}: cannot record a {describe(kind)}")
    name = type_name(kind)
    if find_type(name) is not kind:
        raise EncodeError(f"{path}: cannot record a {describe(kind)}: its class is not found at {name} again")
    tree["t"] = name
    return tree


def _field(value: Any, name: str, path: str) -> Any:
    try:
        return getattr(value, name)
    except AttributeError:
        raise EncodeError(f"{path}.{name}: cannot record a {describe(type(value))} without this field") from None


_WRITERS: dict[type, Callable[[Any, str], Any]] = {
    tuple: lambda v, path: {"$": "tuple", "v": [mark(item, f"{path}[{i}]") for i, item in enumerate(v)]},
    set: _mark_set,
    frozenset: _mark_set,
    bytes: lambda v, path: {"$": "bytes", "v": base64.b64encode(v).decode()},
    datetime: lambda v, path: _mark_zoned("datetime", v, path),
    time: lambda v, path: _mark_zoned("time", v, path),
    date: lambda v, path: {"$": "date", "v": v.isoformat()},
    timedelta: lambda v, path: {"$": "timedelta", "v": [v.days, v.seconds, v.microseconds]},
    Decimal: lambda v, path: {"$": "decimal", "v": str(v)},
    UUID: lambda v, path: {"$": "uuid", "v": str(v)},
    complex: lambda v, path: {"$": "complex", "v": [mark(v.real, path), mark(v.imag, path)]},
}


# Reading ----------------------------------------------------------------------------------------------


def load(text: str) -> Any:
    """The value of a text that `mark` and `dump` made. Raises `DecodeError`; imports nothing."""
    try:
        return _load(text)
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the recorded text is damaged: {error}") from error


def _read(tree: dict[str, Any]) -> Any:
    tag = tree.get("$", _MISSING)
    if tag is _MISSING:
        return tree
    reader = _READERS.get(tag) if type(tag) is str else None
    if reader is None:
        raise DecodeError(f"the recorded text has a tag that this version does not know: {tag!r:.80}")
    try:
        return reader(tree)
    except DecodeError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        # A reader meets whatever a damaged text holds, and a Struct's own `__post_init__`.
        raise DecodeError(f"the recorded text is damaged: no {tag} can be made of it ({error})") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_load: Callable[[str], Any] = json.JSONDecoder(object_hook=_read, parse_constant=_refuse_constant).decode


def _text(tree: dict[str, Any], member: str = "v") -> str:
    value = tree[member]
    if type(value) is not str:
        raise ValueError(f"expected a text, got {value!r:.80}")
    return value


def _items(tree: dict[str, Any]) -> list[Any]:
    value = tree["v"]
    if type(value) is not list:
        raise ValueError(f"expected a list, got {value!r:.80}")
    return value


def _read_zoned(tree: dict[str, Any], kind: type[datetime] | type[time]) -> Any:
    value = kind.fromisoformat(_text(tree))
    zone: tzinfo | None = value.tzinfo
    if "z" in tree:
        zone = ZoneInfo(_text(tree, "z"))
    elif "n" in tree:
        offset = value.utcoffset()
        if offset is None:
            raise ValueError("a zone's name without its offset")
        zone = timezone(offset, _text(tree, "n"))
    return value.replace(tzinfo=zone, fold=1 if tree.get("fold") == 1 else 0)


def _read_class(tree: dict[str, Any], what: str, fits: Callable[[type], bool]) -> Any:
    name = _text(tree, "t")
    cls = find_type(name)
    if cls is None:
        raise DecodeError(f"the recorded {what} {name} is not known here: import its module first")
    if not fits(cls):
        raise DecodeError(f"{name} was recorded as {what}, but is none")
    return cls


def _read_dataclass(tree: dict[str, Any]) -> Any:
    cls = _read_class(tree, "a dataclass", dataclasses.is_dataclass)
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
                raise DecodeError(f"{tree['t']} has a field {field.name!r} that was not recorded and has no default")
        object.__setattr__(made, field.name, value)
    return made


def _read_struct(tree: dict[str, Any]) -> Any:
    cls = _read_class(tree, "a Struct", lambda c: issubclass(c, msgspec.Struct))
    given = dict(tree["v"])
    return cls(**{name: given[name] for name in cls.__struct_fields__ if name in given})


def _read_enum(tree: dict[str, Any]) -> Any:
    cls = _read_class(tree, "an enum", lambda c: issubclass(c, Enum))
    value = tree["v"]
    if type(value) is int and issubclass(cls, Flag):
        return cls(value)
    member = cls.__members__.get(_text(tree))
    if member is None:
        raise DecodeError(f"{tree['t']} has no member {value!r}")
    return member


def _read_named_tuple(tree: dict[str, Any]) -> Any:
    cls = _read_class(tree, "a namedtuple", _is_named_tuple)
    items = _items(tree)
    if len(items) != len(cls._fields):
        raise DecodeError(f"{tree['t']} has {len(cls._fields)} fields, {len(items)} were recorded")
    return tuple.__new__(cls, items)


_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plain": lambda t: t["v"],
    "int": lambda t: int(_text(t), 16),
    "float": lambda t: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[_text(t)],
    "tuple": lambda t: tuple(_items(t)),
    "set": lambda t: set(_items(t)),
    "frozenset": lambda t: frozenset(_items(t)),
    "dict": lambda t: {k: v for k, v in _items(t)},  # noqa: C416 - dict() would take any two-letter text as a pair
    "bytes": lambda t: base64.b64decode(_text(t), validate=True),
    "datetime": lambda t: _read_zoned(t, datetime),
    "time": lambda t: _read_zoned(t, time),
    "date": lambda t: date.fromisoformat(_text(t)),
    "timedelta": lambda t: timedelta(*map(int, _items(t))),
    "decimal": lambda t: Decimal(_text(t)),
    "uuid": lambda t: UUID(_text(t)),
    "complex": lambda t: complex(*map(float, _items(t))),
    "enum": _read_enum,
    "dataclass": _read_dataclass,
    "struct": _read_struct,
    "namedtuple": _read_named_tuple,
}


# Comparing --------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Deeply equal, with equal types, order of dicts, zones and signs of zero; NaN is the same as NaN."""
    kind = type(a)
    if kind is not type(b):
        return False
    if kind in _ATOMS:
        return bool(a == b)
    if kind is float:
        return (a == b and (a != 0.0 or math.copysign(1.0, a) == math.copysign(1.0, b))) or (a != a and b != b)
    if kind is dict:
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if issubclass(kind, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if kind is datetime or kind is time:
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and _same_zone(a.tzinfo, b.tzinfo)
    if kind is set or kind is frozenset:
        return len(a) == len(b) and _same_items(a, b)
    if kind is Decimal:
        return bool(a.as_tuple() == b.as_tuple())
    if kind is complex:
        return same(a.real, b.real) and same(a.imag, b.imag)
    if issubclass(kind, Enum):
        return a is b
    if issubclass(kind, msgspec.Struct):
        return all(same(getattr(a, name), getattr(b, name)) for name in kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return all(same(getattr(a, name), getattr(b, name)) for name in _fields(kind))
    return False


def _same_zone(a: tzinfo | None, b: tzinfo | None) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, ZoneInfo):
        return a.key == cast(ZoneInfo, b).key
    return a is b or (a == b and cast(tzinfo, a).tzname(None) == cast(tzinfo, b).tzname(None))


def _same_items(a: Any, b: Any) -> bool:
    mates = {item: item for item in b}
    rest = []
    for item in a:
        mate = mates.pop(item, _MISSING)
        if mate is _MISSING:
            rest.append(item)
        elif not same(item, mate):
            return False
    # What is left is unequal to itself: NaN, or something that holds it.
    left = list(mates)
    for item in rest:
        for i, mate in enumerate(left):
            if same(item, mate):
                del left[i]
                break
        else:
            return False
    return True
