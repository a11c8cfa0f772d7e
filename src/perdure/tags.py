"""Values that plain JSON cannot hold, as tagged JSON: `{"$": "<tag>", "v": ...}`.

`mark` makes a tree of plain JSON values out of a value, `load` reads such a text. A dict of the user's that
holds the key "$" is written as pairs, so an object with that key is always a tag. What objects are taken apart
into is said in `shapes`. Reading never imports a module and never calls a dataclass's constructor.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from perdure.classes import describe, find_type, type_name
from perdure.errors import DecodeError, EncodeError
from perdure.sameness import ATOMS, same
from perdure.secrets import SECRETS_ALLOWED
from perdure.shapes import MAKERS, SECRET, shape_of

__all__ = ["MARK", "describe", "differing", "dump", "find_type", "load", "mark", "same", "type_name"]

MARK = '"$":'
PATHS: dict[str, type[PurePath]] = {
    kind.__name__: kind for kind in (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)
}
_MISSING: Any = object()
_zone_key = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*").fullmatch


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
    return f"{path}[{key!r}]" if type(key) in ATOMS else f"{path}[a {describe(type(key))}]"


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
    try:
        shape = shape_of(kind)
        if shape is None:
            raise EncodeError(f"{path}: cannot record a {describe(kind)}")
        if shape.tag == SECRET and not SECRETS_ALLOWED.get():
            raise EncodeError(f"{path}: a {describe(kind)} is recorded only where it is encrypted: {_ENCRYPT}")
        if shape.fields is not None:
            members = {name: mark(getattr(value, name), f"{path}.{name}") for name in shape.fields}
            return {"$": shape.tag, "v": members, "t": _found(shape.name, kind, path)}
        main, rest = shape.take(value)
    except (EncodeError, RecursionError, MemoryError):
        raise
    except AttributeError as error:
        if error.obj is value and error.name is not None:
            lost = f"{path}.{error.name}: cannot record a {describe(kind)} without this field"
            raise EncodeError(lost) from None
        raise _refusal(path, kind, error) from error
    except Exception as error:
        # The class's own hooks and properties.
        raise _refusal(path, kind, error) from error
    name = _found(shape.name, kind, path) if shape.found else shape.name
    tree = {"$": shape.tag, "v": mark(main, path), "t": name}
    for member, part in rest.items():
        # A dict has members of the value itself: `order._total`, not `order.private._total`.
        tree[member] = mark(part, path if type(part) is dict else f"{path}.{member}")
    return tree


_ENCRYPT = "configure the engine's encryption, or record something else"


def _found(name: str, kind: type, path: str) -> str:
    if find_type(name) is not kind:
        raise EncodeError(f"{path}: cannot record a {describe(kind)}: its class is not found at {name} again")
    return name


def _refusal(path: str, kind: type, error: Exception) -> EncodeError:
    return EncodeError(f"{path}: cannot record this {describe(kind)}: {type(error).__name__}: {error}")


def _mark_path(value: PurePath, path: str) -> Any:
    return {"$": "path", "v": str(value), "t": type(value).__name__}


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
    **dict.fromkeys(PATHS.values(), _mark_path),
}


def differing(a: Any, b: Any, path: str) -> tuple[str, Any]:
    """Of two values that are not the same: the path to the first part that differs, and what it is in the first."""
    parts: list[tuple[str, Any, Any]] = []
    if type(a) is type(b):
        shape = None if type(a) in (dict, list, tuple) else shape_of(type(a))
        if type(a) is dict and list(a) == list(b):
            parts = [(_member(path, key), item, b[key]) for key, item in a.items()]
        elif type(a) in (list, tuple) and len(a) == len(b):
            parts = [(f"{path}[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b, strict=True))]
        elif shape is not None and shape.fields is not None:
            parts = [(f"{path}.{name}", getattr(a, name), getattr(b, name)) for name in shape.fields]
    for inner, x, y in parts:
        if not same(x, y):
            return differing(x, y, inner)
    return path, a


# Reading ----------------------------------------------------------------------------------------------


def load(text: str, path: str = "") -> Any:
    """The value of a text that `mark` and `dump` made. Imports nothing.

    Raises `DecodeError`, which names the way from `path` to what cannot be read.
    """
    try:
        return _load(text)
    except DecodeError as error:
        raise _located(text, error, path) from error.__cause__
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the recorded text is damaged: {error}") from error


def _located(text: str, error: DecodeError, path: str) -> DecodeError:
    """The error with the path to the culprit: the text is read once more, from the top."""
    try:
        _read_below(_load_plain(text), path)
    except DecodeError as found:
        return found
    except (ValueError, RecursionError):
        # Damaged further on, or too deep for the way from the top: the error stands without its path.
        pass
    return error


def _read_below(tree: Any, path: str) -> Any:
    if type(tree) is list:
        return [_read_below(item, f"{path}[{i}]") for i, item in enumerate(tree)]
    if type(tree) is not dict:
        return tree
    if "$" not in tree:
        return {name: _read_below(item, _member(path, name)) for name, item in tree.items()}
    below = {}
    for name, item in tree.items():
        if tree["$"] == "dict" and name == "v" and type(item) is list:
            below[name] = [_read_pair(pair, path) for pair in item]
        else:
            # A tag's members are the value's own parts: they have its path.
            below[name] = _read_below(item, path)
    try:
        return _read(below)
    except DecodeError as error:
        if path:
            raise DecodeError(f"{path.removeprefix('.')}: {error}") from error.__cause__
        raise


def _read_pair(pair: Any, path: str) -> Any:
    if type(pair) is not list or len(pair) != 2:
        return _read_below(pair, path)
    key = _read_below(pair[0], f"{path}, a key")
    return [key, _read_below(pair[1], _member(path, key))]


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
        # A reader meets whatever a damaged text holds, a Struct's own `__post_init__`, and factories of defaults.
        raise DecodeError(f"the recorded text is damaged: no {tag} can be made of it ({error})") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_load: Callable[[str], Any] = json.JSONDecoder(object_hook=_read, parse_constant=_refuse_constant).decode
_load_plain: Callable[[str], Any] = json.JSONDecoder(parse_constant=_refuse_constant).decode


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
        key = _text(tree, "z")
        if not _zone_key(key):
            # ZoneInfo looks into the package tzdata, and a dot would name a module there.
            raise ValueError(f"{key!r:.80} is no zone")
        zone = ZoneInfo(key)
    elif "n" in tree:
        offset = value.utcoffset()
        if offset is None:
            raise ValueError("a zone's name without its offset")
        zone = timezone(offset, _text(tree, "n"))
    return value.replace(tzinfo=zone, fold=1 if tree.get("fold") == 1 else 0)


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
    "path": lambda t: PATHS[_text(t, "t")](_text(t)),
    **MAKERS,
}
