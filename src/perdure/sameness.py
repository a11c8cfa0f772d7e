"""Are two values the same: deeply equal, of equal types? What `==` does not tell, and what replay depends on."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from perdure.shapes import shape_of

ATOMS: Final = frozenset({str, int, bool, type(None), bytes, UUID, timedelta, date})
_MISSING: Final[Any] = object()


def same(a: Any, b: Any) -> bool:
    """Deeply equal, with equal types, order of dicts, zones and signs of zero; NaN is the same as NaN.

    Objects are the same if what is recorded of them is: their own `__eq__` is not asked.
    """
    kind = type(a)
    if kind is not type(b):
        return False
    if kind in ATOMS:
        return bool(a == b)
    if kind is float:
        return (a == b and (a != 0.0 or math.copysign(1.0, a) == math.copysign(1.0, b))) or (a != a and b != b)
    if kind is dict:
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if kind is list or kind is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    if kind is datetime or kind is time:
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and _same_zone(a.tzinfo, b.tzinfo)
    if kind is set or kind is frozenset:
        return len(a) == len(b) and _same_items(a, b)
    if kind is Decimal:
        return bool(a.as_tuple() == b.as_tuple())
    if kind is complex:
        return same(a.real, b.real) and same(a.imag, b.imag)
    if issubclass(kind, PurePath):
        # By text: Windows paths that differ in case are equal.
        return str(a) == str(b)
    return _same_objects(a, b, kind)


def _same_objects(a: Any, b: Any, kind: type) -> bool:
    shape = shape_of(kind)
    if shape is None:
        return False
    if issubclass(kind, Enum) and shape.tag == "enum":
        return a is b
    if shape.fields is not None:
        return all(same(getattr(a, name), getattr(b, name)) for name in shape.fields)
    (a_main, a_rest), (b_main, b_rest) = shape.take(a), shape.take(b)
    return same(a_main, b_main) and same(a_rest, b_rest)


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
