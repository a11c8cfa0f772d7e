"""Types that say themselves how they are recorded, and the versions of what they recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pydantic
import pytest

from perdure import registered
from perdure.codec import ANY, Coder, decode_error, encode_error
from perdure.errors import DecodeError, EncodeError
from perdure.registered import register
from perdure.tags import type_name


class Money:
    __perdure_version__ = 2

    def __init__(self, amount: int, currency: str) -> None:
        self.amount, self.currency = amount, currency

    def __perdure_encode__(self) -> object:
        return {"amount": self.amount, "currency": self.currency}

    @classmethod
    def __perdure_decode__(cls, data: Any, version: int) -> Money:
        if version == 1:
            return cls(data, "EUR")
        return cls(data["amount"], data["currency"])


class Tip(Money):
    pass


@dataclass
class Hooked:
    """A dataclass whose hooks go before what a dataclass is."""

    n: int

    def __perdure_encode__(self) -> object:
        return (self.n,)

    @classmethod
    def __perdure_decode__(cls, data: Any, version: int) -> Hooked:
        return cls(*data)


@dataclass
class Invoice:
    total: Hooked
    rest: Any = None


class Broken:
    def __init__(self, how: str) -> None:
        self.how = how

    def __perdure_encode__(self) -> object:
        if self.how == "encode":
            raise LookupError("no luck")
        if self.how == "deep":
            return {"inner": [object()]}
        return self.how

    @classmethod
    def __perdure_decode__(cls, data: Any, version: int) -> Any:
        if data == "decode":
            raise LookupError("no luck")
        return 5 if data == "another" else cls("changed")


class Half:
    def __perdure_encode__(self) -> object:
        return 1


class Odd(Half):
    __perdure_version__ = "new"

    @classmethod
    def __perdure_decode__(cls, data: Any, version: int) -> Odd:
        return cls()


@pytest.fixture(autouse=True)
def _nothing_stays_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registered, "_BY_NAME", {})
    yield
    registered.BY_TYPE.clear()


def tagged(cls: type, data: Any, version: Any, tag: str = "hooks") -> str:
    return json.dumps({"$": tag, "v": data, "t": type_name(cls), "n": version}, separators=(",", ":"))


def as_fraction(data: Any, version: int) -> Fraction:
    return Fraction(*data) if version == 2 else Fraction(data)


@pytest.mark.parametrize("hint", [ANY, Money, list[Money], dict[str, Any]], ids=repr)
def test_hooks_write_and_read_with_their_version(hint: Any) -> None:
    text, copy = Coder(hint).record({"a": [Money(5, "USD"), Tip(1, "EUR")]})
    money, tip = copy["a"]
    assert type(money) is Money and (money.amount, money.currency) == (5, "USD")
    assert type(tip) is Tip and tip.currency == "EUR"
    assert f'"t":"{type_name(Money)}","n":2' in text


def test_old_data_is_migrated_by_its_version() -> None:
    for hint in (ANY, Money):
        old = Coder(hint).decode(tagged(Money, 7, 1))
        assert (old.amount, old.currency) == (7, "EUR")


def test_data_of_newer_code_is_refused_in_words() -> None:
    with pytest.raises(DecodeError, match=r"Money was recorded in version 3, .* up to 2: run the newer code"):
        Coder().decode(tagged(Money, 7, 3))


@pytest.mark.parametrize("version", [0, -1, "2", None, True, 1.0, []])
def test_a_version_that_is_none_is_a_decode_error(version: Any) -> None:
    with pytest.raises(DecodeError, match="is no version"):
        Coder().decode(tagged(Money, 7, version))


def test_hooks_go_before_what_the_class_is_and_before_its_annotation() -> None:
    for hint in (ANY, Invoice, Hooked):
        text, copy = Coder(hint).record(Invoice(Hooked(3), [Hooked(4)]))
        assert text.count('"$":"hooks"') == 2
        assert copy == Invoice(Hooked(3), [Hooked(4)])


def test_a_persons_answer_is_read_by_the_hooks_of_the_annotation() -> None:
    money = Coder(list[Money]).decode('[{"amount":1,"currency":"EUR"}]')[0]
    assert type(money) is Money and money.amount == 1
    with pytest.raises(DecodeError, match=r"KeyError: 'currency' - at `\$\[0\]`"):
        Coder(list[Money]).decode('[{"amount":1}]')


@pytest.mark.parametrize(
    "how, words",
    [
        ("encode", r"^order\.items\[0\]: cannot record this .*Broken: LookupError: no luck"),
        ("deep", r"^order\.items\[0\]\.inner\[0\]: cannot record a object"),
        ("decode", r"^order\.items\[0\]: the recorded .*Broken cannot be decoded: LookupError: no luck"),
        ("another", r"^order\.items\[0\]: the recorded .*Broken was decoded to a int"),
        ("lost", r"^order\.items\[0\]: cannot record this .*Broken: it does not come back as it was"),
    ],
)
def test_hooks_that_fail_are_refused_at_the_call_with_the_path(how: str, words: str) -> None:
    with pytest.raises(EncodeError, match=words):
        Coder().record({"items": [Broken(how)]}, "order")


def test_a_decoder_that_fails_is_a_decode_error_with_the_path() -> None:
    with pytest.raises(DecodeError, match=r"^items\[1\]: .*LookupError: no luck") as caught:
        Coder().decode(f'{{"items":[1,{tagged(Broken, "decode", 1)}]}}')
    assert isinstance(caught.value.__cause__, LookupError)


def test_half_the_hooks_and_a_version_that_is_none_are_refused() -> None:
    with pytest.raises(EncodeError, match="Half needs both"):
        Coder().record(Half())
    with pytest.raises(EncodeError, match=r"version of .*Odd is a whole number"):
        Coder().record(Odd())
    with pytest.raises(DecodeError, match="has none any more"):
        Coder().decode(tagged(Fraction, 1, 1))


def test_a_registered_type_comes_back_with_its_version_under_its_name() -> None:
    with pytest.raises(EncodeError, match=r"cannot record a fractions\.Fraction"):
        Coder().record(Fraction(1, 3))
    register(Fraction, str, as_fraction, name="fraction")
    old, copy = Coder().record({"a": (Fraction(1, 3),)})
    assert copy == {"a": (Fraction(1, 3),)} and type(copy["a"][0]) is Fraction
    assert '"t":"fraction","n":1' in old
    register(Fraction, lambda f: [f.numerator, f.denominator], as_fraction, name="fraction", version=2)
    assert Coder().decode(old) == {"a": (Fraction(1, 3),)}
    assert Coder(list[Fraction]).record([Fraction(2, 3)])[1] == [Fraction(2, 3)]


def test_a_type_registered_after_its_annotation_was_read_is_written_by_what_was_registered() -> None:
    coder = Coder(list[Plain])
    assert "$" not in coder.record([Plain(1)])[0]
    register(Plain, lambda p: p.n, lambda data, version: Plain(data))
    assert '"$":"registered"' in coder.record([Plain(1)])[0]
    assert coder.decode('[{"n":1}]') == [Plain(1)]


@dataclass
class Plain:
    n: int


def test_what_is_not_registered_here_is_named() -> None:
    with pytest.raises(DecodeError, match=r"'money' is not registered here: call perdure\.register"):
        Coder().decode('{"$":"registered","v":1,"t":"money","n":1}')


def test_registering_what_cannot_be_is_refused() -> None:
    for wrong in (5, "Money", str, dict, list[int]):
        with pytest.raises(TypeError, match="cannot register"):
            register(wrong, str, as_fraction)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="encode and decode are functions"):
        register(Fraction, "str", as_fraction)  # type: ignore[arg-type]
    for version in (0, True, "1"):
        with pytest.raises(ValueError, match="whole number from 1 on"):
            register(Fraction, str, as_fraction, version=version)  # type: ignore[arg-type]
    register(Fraction, str, as_fraction, name="number")
    with pytest.raises(ValueError, match=r"fractions\.Fraction has the name 'number'"):
        register(Plain, str, as_fraction, name="number")  # type: ignore[arg-type]


def test_an_error_keeps_what_has_hooks() -> None:
    read = decode_error(encode_error(ValueError("no", Money(1, "EUR"))))
    assert type(read.args[1]) is Money and read.args[1].amount == 1


class Basket(pydantic.BaseModel):
    things: list[Hooked | Invoice]
    first: Any = None


def test_hooks_of_what_a_model_holds_are_asked_too() -> None:
    for value in (Basket(things=[Hooked(1)], first=None), Basket(things=[Invoice(Hooked(1))], first=Hooked(2))):
        for hint in (Basket, list[Basket], ANY):
            text, copy = Coder(hint).record([value])
            assert copy == [value] and text.count('"$":"hooks"') == 1 + (value.first is not None)
