"""Classes of every kind that can be recorded, strategies for their values, and a picture of a value to compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntFlag
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
from hypothesis import strategies as st

T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = 2


class Right(IntFlag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    name: str
    price: Decimal
    note: Any = None


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: Any = None


@dataclass
class Order:
    id: int
    items: list[Item]
    labels: dict[str, set[Decimal]] = field(default_factory=dict)
    folder: Path | None = None


@dataclass
class Box(Generic[T]):
    value: T


class Cell(msgspec.Struct):
    n: int
    what: Any = None


class Frame(msgspec.Struct, Generic[T]):
    held: T


class Pair(NamedTuple):
    left: int
    right: Any


class Address(TypedDict):
    street: str
    zip: NotRequired[int]


class Customer(pydantic.BaseModel):
    name: str
    limits: dict[str, set[Decimal]] = {}
    parent: Customer | None = None
    anything: Any = None


class Page(pydantic.BaseModel, Generic[T]):
    entries: list[T]


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    n: int = 0
    _seen: Any = pydantic.PrivateAttr(default=None)


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Aliased(pydantic.BaseModel):
    width: int = pydantic.Field(alias="theWidth")


@attrs.define
class Car:
    wheels: int
    _owner: Any = None


@attrs.frozen(cache_hash=True)
class Plate:
    text: str


@attrs.define(slots=False)
class Garage:
    cars: list[Car]


class Declined(Exception):
    def __init__(self, *, code: int, card: str) -> None:
        super().__init__(f"card {card} declined")
        self.code = code


class Slotted(Exception):
    __slots__ = ("_hidden", "why")


text = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(["$", '"$":', "\ud800", "\x00", "v"])
zones = st.none() | st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Europe/Berlin")])
paths = st.sampled_from([PurePath, Path, PurePosixPath, PureWindowsPath]).flatmap(
    lambda kind: text.filter(lambda t: "\x00" not in t).map(kind)
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    text,
    st.binary(max_size=6),
    st.complex_numbers(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.sampled_from([*Color, Right.READ, Right.READ | Right.WRITE]),
    paths,
    st.builds(Plate, text),
)
hashable = st.one_of(st.none(), st.booleans(), st.integers(), text, st.dates(), paths, st.builds(Plate, text))


def _seen(value: Any) -> Loose:
    loose = Loose(n=1)
    loose._seen = value
    return loose


def _explained(why: Any) -> Slotted:
    error = Slotted("a")
    error.why = why
    error._hidden = 1
    error.add_note("a note")
    return error


def _containing(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashable, inner, max_size=3),
        st.sets(hashable, max_size=3),
        st.frozensets(hashable, max_size=3),
        st.builds(dict, **{"$": st.sampled_from(["dataclass", "secret", 1]), "v": inner, "t": inner}),
        st.builds(Item, text, st.decimals(), inner),
        st.builds(Point, st.floats(), inner),
        st.builds(Box, inner),
        st.builds(Cell, st.integers(), inner),
        st.builds(Frame, inner),
        st.builds(Pair, st.integers(), inner),
        st.builds(lambda v: Customer(name="a", anything=v), inner),
        st.builds(lambda v: Page[Any](entries=[v]), inner),
        st.builds(lambda v: Loose(n=1, more=v), inner),
        st.builds(_seen, inner),
        st.builds(lambda v: Car(4, v), inner),
        st.builds(lambda v: Garage([Car(4, v)]), inner),
        st.builds(ValueError, inner),
        st.builds(_explained, inner),
        st.builds(lambda v: ExceptionGroup("g", [ValueError(v)]), inner),
    )


values = st.recursive(leaves, _containing, max_leaves=6)

decimals = st.decimals(allow_nan=False, allow_infinity=False)
items = st.builds(Item, text, decimals)
orders = st.builds(
    Order, st.integers(), st.lists(items, max_size=2), st.dictionaries(text, st.sets(decimals, max_size=2), max_size=2)
)
customers = st.builds(lambda n, limits: Customer(name=n, limits=limits), text, st.just({}) | st.just({"a": {1}}))
HINTED: list[tuple[st.SearchStrategy[Any], Any]] = [
    (st.lists(orders, max_size=2), list[Order]),
    (
        st.dictionaries(text, st.sets(st.decimals().filter(lambda d: not d.is_snan()), max_size=3), max_size=2),
        dict[str, set[Decimal]],
    ),
    (st.none() | orders, Order | None),
    (items | st.builds(Cell, st.integers()), Item | Cell),
    (st.builds(Box, st.integers()), Box[int]),
    (st.builds(Frame, st.lists(text, max_size=2)), Frame[list[str]]),
    (customers, Customer),
    (st.lists(customers, max_size=2), list[Customer]),
    (st.none() | customers, Customer | None),
    (st.builds(lambda n: Page[int](entries=n), st.lists(st.integers(), max_size=2)), Page[int]),
    (st.builds(lambda c: Page[Customer](entries=[c]), customers), Page[Customer]),
    (st.builds(lambda n: Numbers([n]), st.integers()), Numbers),
    (st.builds(lambda n: Aliased(theWidth=n), st.integers()), Aliased),
    (st.builds(lambda n: Garage([Car(n)]), st.integers()), Garage),
    (st.builds(Plate, text), Plate),
    (st.fixed_dictionaries({"street": text}, optional={"zip": st.integers()}), Address),
    (paths, Path),
    (paths, PurePath),
    (st.floats(), float),
    (st.datetimes(timezones=zones), Any),
]


def picture(value: Any) -> Any:
    """Equal for values of equal types all the way down: the codec's own comparison is not asked."""
    kind = type(value)
    if kind is dict:
        return kind, [(picture(k), picture(v)) for k, v in value.items()]
    if kind is list or kind is tuple or isinstance(value, Pair):
        return kind, [picture(item) for item in value]
    if kind is set or kind is frozenset:
        return kind, sorted((picture(item) for item in value), key=repr)
    if isinstance(value, BaseExceptionGroup):
        return kind, value.message, [picture(error) for error in value.exceptions], picture(vars(value))
    if isinstance(value, BaseException):
        slots = {name: getattr(value, name) for name in getattr(kind, "__slots__", ())}
        return kind, picture(value.args), picture(vars(value)), picture(slots)
    if isinstance(value, pydantic.BaseModel):
        state = [vars(value), value.__pydantic_extra__, value.__pydantic_private__, value.model_fields_set]
        return kind, [picture(part) for part in state]
    if isinstance(value, msgspec.Struct):
        return kind, [picture(getattr(value, name)) for name in value.__struct_fields__]
    if kind in (Point, Car, Plate, Item, Order, Box, Garage):
        return kind, [picture(getattr(value, name)) for name in kind.__annotations__]
    return kind, repr(value)
