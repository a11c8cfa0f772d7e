"""Values of a program as they are shown: JSON that is never read back, made without running any code of theirs.

Neither `repr` nor `str`, no property and no `__getattr__` is called: only exact types of Python's own are read, members
of records (dataclasses, `msgspec.Struct`, pydantic, attrs) where they lie. Of everything else the type's name and a
size are shown. Secrets are hidden by the names of what holds them, by their types, by what the workflow says, and
wherever else in the same picture the text of one that was hidden stands.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import datetime as _datetime
import decimal
import enum
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

import msgspec

from perdure.packing import digest
from perdure.redaction import HIDDEN, LEAST, Redaction, differing, veiled
from perdure.secrets import Secret

VALUE = 1024
"""Characters of a text that are shown; of a longer one length and digest."""

BRANCH = 16 * 1024
EXECUTION = 64 * 1024
DEPTH = 4
ITEMS = 100
"""How much of a branch, an execution, how deep and how many of a container is shown."""

DIGESTED = 256 * 1024
"""Characters of a text that its digest covers."""

MORE = "..."
"""Stands for what is left out."""

SECRETS = frozenset({"SecretStr", "SecretBytes", "Secret", "_SecretBase", "_SecretField"})
"""Classes of pydantic's."""

_mro: Callable[[Any], Any] = type.__dict__["__mro__"].__get__
_members_of: Callable[[Any], Any] = type.__dict__["__dict__"].__get__
_name_of: Callable[[Any], Any] = type.__dict__["__qualname__"].__get__

_secret: Callable[[Any], Any] = _members_of(Secret)["_value"].__get__

_ZONES = (_datetime.timezone, zoneinfo.ZoneInfo)


class Shown:
    """What is shown of one execution's values, within its limits.

    `values`: or only the types. Use it for one picture, branch after branch: `left` is what may still be shown.
    """

    def __init__(self, redaction: Redaction, *, values: bool = True) -> None:
        self._redaction = redaction
        self._values = values
        self._total = EXECUTION
        self.left = 0
        self.hidden: set[str] = set()

    def variables(self, items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """The variables of one branch. Never raises."""
        self.left = before = min(BRANCH, self._total)
        shown: dict[str, Any] = {}
        try:
            for name, value in items:
                if self.left <= 0:
                    shown[MORE] = MORE
                    break
                self.left -= len(name) + 6
                shown[name] = self._member(name, value, 0)
        except Exception:
            shown[MORE] = MORE
        self._total -= before - max(self.left, 0)
        return shown

    def veiled(self, tree: Any) -> Any:
        """The same without the texts of secrets that were hidden."""
        return veiled(tree, self.hidden) if self.hidden else tree

    def look(self, items: Iterable[tuple[str, Any]]) -> None:
        """Only find, in each variable by itself, what is hidden. Never raises."""
        for name, value in items:
            self.left = BRANCH
            with contextlib.suppress(Exception):
                self._member(name, value, 0)

    # One value ----------------------------------------------------------------------------------------

    def _member(self, name: str, value: Any, depth: int) -> Any:
        if self._redaction.hides(name) and not (name.lower().endswith("tokens") and type(value) in (int, float)):
            self._hide(value)
            return HIDDEN
        before = self._value(value, depth)
        if not self._redaction.asks:
            return before
        kept = copy.deepcopy(before)  # they may change what they are given
        after = self._redaction.asked(name, before)
        if after != kept:
            if type(value) is str:
                self._hide(value)
            else:
                self.hidden |= differing(kept, after)
        return after

    def _hide(self, value: Any, depth: int = 0) -> None:
        kind = type(value)
        if kind is str and len(value) >= LEAST:
            self.hidden.add(value)
        elif kind in (list, tuple, set, dict) and depth < DEPTH:
            for item in list(value.values() if kind is dict else value)[:ITEMS]:
                self._hide(item, depth + 1)
        elif kind is Secret:
            self._hide(_secret(value), depth + 1)
        elif id(kind) not in _READ:
            inner = _own(value, _mro(kind)).get("_secret_value")
            if inner is not None:
                self._hide(inner, depth + 1)

    def _value(self, value: Any, depth: int) -> Any:
        if not self._values:
            return {"$type": _name_of(type(value))}
        try:
            read = _READ.get(id(type(value)))
            return read(self, value, depth) if read is not None else self._other(value, depth)
        except Exception:  # a value that is changed while it is read, a class that is none
            return _opaque(value)

    def _text(self, value: str, depth: int) -> Any:
        size = len(value)
        self.left -= 4 + (size if value.isascii() else 6 * size) if size <= VALUE else 80
        if size > VALUE:
            return {"$type": "str", "length": size, "digest": digest(value[:DIGESTED])}
        return self._redaction.words(value) if "=" in value or ":" in value else value

    def _number(self, value: Any, depth: int) -> Any:
        self.left -= 8
        if type(value) is int and value.bit_length() > 8 * VALUE:
            return {"$type": "int", "bits": value.bit_length()}
        if type(value) is float and (value != value or value in (float("inf"), float("-inf"))):
            return float.__repr__(value)
        return value

    def _list(self, items: Iterable[Any], count: int, depth: int) -> Any:
        if depth >= DEPTH:
            self.left -= 8
            return [MORE] if count else []
        shown: list[Any] = []
        for item in items:
            if len(shown) >= ITEMS or self.left <= 0:
                shown.append(f"{MORE} {count - len(shown)} more")
                break
            self.left -= 2
            shown.append(self._value(item, depth + 1))
        return shown

    def _dict(self, items: Iterable[tuple[Any, Any]], count: int, depth: int) -> Any:
        if depth >= DEPTH:
            self.left -= 8
            return {MORE: f"{count} members"} if count else {}
        shown: dict[str, Any] = {}
        for key, value in items:
            if len(shown) >= ITEMS or self.left <= 0:
                shown[MORE] = f"{count - len(shown)} more"
                break
            name = _key(key)
            self.left -= len(name) + 6
            shown[name] = self._member(name, value, depth + 1)
        return shown

    def _other(self, value: Any, depth: int) -> Any:
        kind: Any = type(value)
        bases = _mro(kind)
        if any(base is Secret or _is_pydantic_secret(base) for base in bases):
            self._hide(value)
            return HIDDEN
        if any(base is enum.Enum for base in bases):
            return f"{_name_of(kind)}.{_own(value, bases).get('_name_')}"
        for base in bases:
            read = _READ.get(id(base))
            if read is not None and base is not object:
                return read(self, value, depth)
        if _is_record(kind, bases):
            return {"$type": _name_of(kind), **self._dict(_fields(value, bases), ITEMS, depth)}
        self.left -= 40
        return _opaque(value)


def _key(key: Any) -> str:
    kind = type(key)
    if kind is str:
        return str(key[:VALUE])
    if kind is int or kind is float or kind is bool or key is None:
        return str(key) if kind is not int or key.bit_length() <= VALUE else MORE
    if kind is tuple and all(type(item) in (str, int, bool) for item in key):
        return ", ".join(_key(item) for item in key)
    return f"<{_name_of(kind)}>"


def _opaque(value: Any) -> dict[str, Any]:
    return {"$type": _name_of(type(value)), "size": object.__sizeof__(value)}


def _is_pydantic_secret(base: Any) -> bool:
    return _name_of(base) in SECRETS and str(_members_of(base).get("__module__")).startswith("pydantic")


# Records --------------------------------------------------------------------------------------------------


def _is_record(kind: Any, bases: Any) -> bool:
    """A dataclass, a Struct, a class of attrs or pydantic: made to hold data."""
    marks = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__", "model_fields")
    return any(base is msgspec.Struct for base in bases) or any(
        mark in _members_of(base) for base in bases for mark in marks
    )


def _own(value: Any, bases: Any) -> dict[str, Any]:
    """What lies in the `__dict__` of an instance."""
    for base in bases:
        found = _members_of(base).get("__dict__")
        if found is not None:
            return dict(found.__get__(value)) if type(found) is GetSetDescriptorType else {}
    return {}


def _fields(value: Any, bases: Any) -> Iterable[tuple[str, Any]]:
    for base in reversed(bases):
        for name, slot in _members_of(base).items():
            if type(slot) is MemberDescriptorType and not name.startswith("__"):
                try:
                    yield name, slot.__get__(value)
                except AttributeError:
                    continue
    yield from ((n, v) for n, v in _own(value, bases).items() if type(n) is str and not n.startswith("__"))


# What is read, by type ------------------------------------------------------------------------------------


def _time(shown: Shown, value: Any, depth: int) -> Any:
    shown.left -= 36
    kind = type(value)
    zone = value.tzinfo if kind in (_datetime.datetime, _datetime.time) else None
    if kind not in _TIMES or not (zone is None or type(zone) in _ZONES):
        return _opaque(value)  # a zone of the user's would be asked for its offset
    return value.isoformat()


def _words(shown: Shown, value: Any, depth: int) -> Any:
    if type(value) not in _WORDS:
        return _opaque(value)
    return shown._text(str(value), depth)


def _sized(kind: Any) -> Callable[[Shown, Any, int], Any]:
    def read(shown: Shown, value: Any, depth: int) -> Any:
        shown.left -= 40
        return {"$type": kind.__name__, "length": kind.__len__(value)}

    return read


def _items(kind: Any) -> Callable[[Shown, Any, int], Any]:
    return lambda shown, value, depth: shown._list(kind.__iter__(value), kind.__len__(value), depth)


def _sorted(kind: Any) -> Callable[[Shown, Any, int], Any]:
    def read(shown: Shown, value: Any, depth: int) -> Any:
        found = shown._list(kind.__iter__(value), kind.__len__(value), depth)
        return sorted(found, key=lambda item: (str(type(item)), str(item)))  # the same in every process

    return read


_TIMES = (_datetime.datetime, _datetime.date, _datetime.time)
_WORDS = (
    decimal.Decimal,
    uuid.UUID,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.WindowsPath,
    pathlib.PureWindowsPath,
    _datetime.timedelta,
    complex,
)

_READ: dict[int, Callable[[Shown, Any, int], Any]] = {
    id(type(None)): lambda shown, value, depth: shown._number(None, depth),
    id(bool): Shown._number,
    id(int): lambda shown, value, depth: shown._number(int.__add__(value, 0), depth),
    id(float): lambda shown, value, depth: shown._number(float.__add__(value, 0.0), depth),
    id(str): lambda shown, value, depth: shown._text(value if type(value) is str else str.__str__(value), depth),
    **{id(kind): _sized(kind) for kind in (bytes, bytearray)},
    **{id(kind): _items(kind) for kind in (list, tuple, collections.deque)},
    **{id(kind): _sorted(kind) for kind in (set, frozenset)},
    id(dict): lambda shown, value, depth: shown._dict(dict.items(value), dict.__len__(value), depth),
    **{id(kind): _time for kind in _TIMES},
    **{id(kind): _words for kind in _WORDS},
}
"""By the id of a type: to look a class up by itself would ask its metaclass for a hash."""
