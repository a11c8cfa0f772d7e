"""Fields that an object has from its class alone: a default that nobody wrote into the object."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as checked

from perdure.codec import Coder
from perdure.hinted import reach
from perdure.unset import unset

T = TypeVar("T")


@dataclass
class Price:
    amount: int
    currency: str = "EUR"


@dataclass(frozen=True)
class Frozen:
    amount: int
    currency: str = "EUR"


@dataclass(kw_only=True)
class Named:
    currency: str = "EUR"
    amount: int


@dataclass
class Sale(Price):
    buyer: str | None = None


@dataclass(slots=True)
class Slotted:
    amount: int
    currency: str = "EUR"


@dataclass
class Half(Slotted):
    """With a slot of its base and a `__dict__` of its own."""

    buyer: str = "Ana"


@dataclass
class Dear(Price):
    """Its class says another value than its field."""

    currency = "CHF"


@dataclass
class Node:
    name: str = "root"
    below: list[Node] = field(default_factory=list)
    price: Price | None = None


@dataclass
class Computed:
    amount: int
    kind: str = field(init=False, default="sum")
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.amount


@dataclass
class Locked(Price):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "currency" and value != "EUR":
            raise AttributeError("locked")
        super().__setattr__(name, value)


@dataclass
class Box(Generic[T]):
    held: T
    label: str = "box"


@checked
class Checked:
    amount: int
    currency: str = "EUR"


@dataclass
class Misfit:
    """A default that its own annotation would not read."""

    amount: int
    currency: str = None  # type: ignore[assignment]


class Pair(NamedTuple):
    first: Price
    second: Price = Price(2)


class Basket(TypedDict):
    price: Price


class Holder(msgspec.Struct):
    price: Price
    more: dict[str, list[Price]] = {}


@attrs.define
class Bag:
    price: Price
    n: int = 1


class Model(pydantic.BaseModel):
    price: Price


class Root(pydantic.RootModel[list[Price]]):
    pass


def lacking(cls: Callable[..., T], **given: Any) -> T:
    """An object that has only what was given, as msgspec makes it."""
    made: T = object.__new__(cls)  # type: ignore[call-overload]
    for name, value in given.items():
        object.__setattr__(made, name, value)
    return made


LACKING = lacking(Price, amount=5)
KINDS: list[tuple[Any, Any, Any]] = [
    (Price, LACKING, Price(5)),
    (Frozen, lacking(Frozen, amount=5), Frozen(5)),
    (Named, lacking(Named, amount=5), Named(amount=5)),
    (Sale, lacking(Sale, amount=5, buyer="Ana"), Sale(5, buyer="Ana")),
    (Half, lacking(Half, amount=5, currency="CHF"), Half(5, "CHF")),
    (Locked, lacking(Locked, amount=5), Locked(5)),
    (Checked, lacking(Checked, amount=5), Checked(5)),
    (Box[Price], lacking(Box, held=LACKING), Box(Price(5))),
    (Box[int], lacking(Box, held=5), Box(5)),
    (Node, lacking(Node, below=[lacking(Node, below=[], price=LACKING)]), Node(below=[Node(price=Price(5))])),
    (list[Price], [Price(1), LACKING], [Price(1), Price(5)]),
    (tuple[int, Price], (1, LACKING), (1, Price(5))),
    (tuple[Price, ...], (LACKING,), (Price(5),)),
    (set[Frozen], {lacking(Frozen, amount=5)}, {Frozen(5)}),
    (frozenset[Frozen], frozenset({lacking(Frozen, amount=5)}), frozenset({Frozen(5)})),
    (dict[str, Price], {"a": LACKING}, {"a": Price(5)}),
    (Price | None, LACKING, Price(5)),
    (int | list[Price], [LACKING], [Price(5)]),
    (Pair, Pair(LACKING, LACKING), Pair(Price(5), Price(5))),
    (Basket, {"price": LACKING}, {"price": Price(5)}),
    (Holder, Holder(LACKING, {"a": [LACKING]}), Holder(Price(5), {"a": [Price(5)]})),
    (Bag, Bag(LACKING), Bag(Price(5))),
    (Model, Model.model_construct(price=LACKING), Model(price=Price(5))),
    (Root, Root.model_construct([LACKING]), Root([Price(5)])),
]


@pytest.mark.parametrize("hint, value, full", KINDS, ids=lambda part: getattr(part, "__name__", None))
def test_a_default_that_only_the_class_has_is_recorded_as_if_it_had_been_given(
    hint: Any, value: Any, full: Any
) -> None:
    assert next(unset(value), None) is not None
    text, copy = Coder(hint).record(value)
    assert text == Coder(hint).record(full)[0] and '"$"' not in text
    assert type(copy) is type(full) and copy == full
    assert next(unset(copy), None) is None
    assert next(unset(value), None) is not None, "the value itself was changed"


def test_what_was_read_from_an_older_text_is_written_with_the_default_of_today() -> None:
    coder = Coder(list[Price])
    assert json.loads(coder.encode(coder.decode('[{"amount":5}]'))) == [{"amount": 5, "currency": "EUR"}]


def test_a_field_that_the_constructor_does_not_set_is_recorded() -> None:
    value = Computed(5)
    assert "kind" not in vars(value)
    assert json.loads(Coder(Computed).encode(value)) == {"amount": 5, "double": 10, "kind": "sum"}


def test_the_value_is_the_one_that_the_object_shows_not_the_one_of_the_field() -> None:
    value = lacking(Dear, amount=5)
    text, copy = Coder(Dear).record(value)
    assert value.currency == copy.currency == "CHF"
    assert json.loads(text) == {"amount": 5, "currency": "CHF"}


def test_a_default_that_its_annotation_would_not_read_is_recorded_under_a_tag() -> None:
    coder = Coder(Misfit)
    text, copy = coder.record(lacking(Misfit, amount=5))
    assert json.loads(text)["v"] == {"amount": 5, "currency": None}
    assert copy == coder.decode(text) == Misfit(5)


@pytest.mark.parametrize("hint", [int, dict[str, int], list[Slotted], Slotted, Basket | None, Computed])
def test_only_hints_that_lead_to_such_fields_are_looked_through(hint: Any) -> None:
    assert reach(hint).unset is (hint in (Computed, Basket | None))


def test_a_struct_that_omits_its_defaults_does_as_its_author_said() -> None:
    class Short(msgspec.Struct, omit_defaults=True):
        amount: int
        currency: str = "EUR"

    assert Coder(Short).encode(Short(5)) == '{"amount":5}'
