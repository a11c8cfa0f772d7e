"""Arguments are recorded by the signature and come back as fresh copies, or an error names the parameter."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.arguments import Arguments
from perdure.codec import Codec, Coder
from perdure.errors import DecodeError, EncodeError
from perdure.tags import same

CODEC = Codec()


@dataclass
class Order:
    items: list[Any]
    when: date | None = None


def charge(amount: int, note: str = "", *, fast: bool = False) -> str: ...  # type: ignore[empty-body]
def ship(order: Order, /, to: str, *rest: date, speed: float = 1.0, **extra: Any) -> Order: ...  # type: ignore[empty-body]
def free(a, b=1, /, c=2): ...  # type: ignore[no-untyped-def]
def must(a: int, *, b: int) -> None: ...
def many(*items: Any, **named: Any) -> None: ...
def nothing() -> None: ...
async def later(x: Order) -> list[Order]: ...  # type: ignore[empty-body]


def bind(fn: Any, *args: Any, **kwargs: Any) -> tuple[str, bool]:
    return Arguments(fn, CODEC).bind(args, kwargs)


@pytest.mark.parametrize(
    "bound, text, scalar",
    [
        (bind(charge, 5), '{"amount":5}', True),
        (bind(charge, 5, "é\U0001f600"), '{"amount":5,"note":"\\u00e9\\ud83d\\ude00"}', True),
        (bind(charge, amount=5), '{"amount":5}', True),
        (bind(charge, fast=True, note="x", amount=5), '{"amount":5,"note":"x","fast":true}', True),
        (bind(charge, 5, fast=True), '{"amount":5,"fast":true}', True),
        (bind(charge, "5"), '{"amount":{"$":"plain","v":"5"}}', True),
        (bind(charge, 2**70), '{"amount":1180591620717411303424}', True),
        (bind(charge, math.nan), '{"amount":{"$":"float","v":"nan"}}', True),
        (bind(charge, 5, "\ud800"), '{"amount":5,"note":{"$":"plain","v":"\\ud800"}}', True),
        (bind(nothing), "{}", True),
        (bind(free, None, 1.5, c="x"), '{"a":null,"b":1.5,"c":"x"}', True),
        (bind(free, math.inf), '{"a":{"$":"float","v":"inf"}}', True),
        (bind(free, [1]), '{"a":[1]}', False),
        (bind(free, (1,)), '{"a":{"$":"tuple","v":[1]}}', False),
        (bind(must, 1, b=2), '{"a":1,"b":2}', True),
        (bind(must, b=2, a=1), '{"a":1,"b":2}', True),
        (bind(many, 1, "a", z=1, a=2), '{"items":[1,"a"],"named":{"z":1,"a":2}}', True),
        (bind(many, []), '{"items":[[]]}', False),
        (bind(many, x=[]), '{"named":{"x":[]}}', False),
        (bind(many, **{"$": "int", "é": 1}), '{"named":{"$":"int","\\u00e9":1}}', True),
        (bind(later, Order([1], date(2024, 1, 2))), '{"x":{"items":[1],"when":"2024-01-02"}}', False),
        (
            bind(ship, Order([]), "x", date(2024, 1, 2), speed=2.0, order=1),
            '{"order":{"items":[],"when":null},"to":"x","rest":["2024-01-02"],"speed":2.0,"extra":{"order":1}}',
            False,
        ),
    ],
)
def test_arguments_are_recorded_as_given_in_the_signatures_order(
    bound: tuple[str, bool], text: str, scalar: bool
) -> None:
    assert bound == (text, scalar)


@pytest.mark.parametrize(
    "fn, args, kwargs",
    [
        (charge, (), {}),
        (charge, (1, 2, 3), {}),
        (charge, (1,), {"amount": 2}),
        (charge, (1,), {"nope": 2}),
        (charge, (), {"note": "x"}),
        (charge, (), {"amount": 1, "nope": 2}),
        (must, (1,), {}),
        (must, (1, 2), {}),
        (must, (), {"b": 1}),
        (free, (), {"a": 1}),
        (free, (1,), {"b": 1}),
        (nothing, (1,), {}),
        (nothing, (), {"x": 1}),
        (ship, (Order([]),), {}),
        (later, (), {}),
    ],
)
def test_wrong_arguments_raise_what_the_call_itself_would(fn: Any, args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError) as call:
        fn(*args, **kwargs)
    with pytest.raises(TypeError) as refused:
        Arguments(fn, CODEC).bind(args, kwargs)
    assert str(refused.value) == str(call.value)


def test_refusing_wrong_arguments_never_runs_a_body() -> None:
    ran = []

    @functools.wraps(charge)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        ran.append(args)

    for fn in (wrapper, functools.partial(lambda x, y: ran.append(x), 1)):
        with pytest.raises(TypeError, match=r"charge\(\) missing|partial.* missing"):
            Arguments(fn, CODEC).bind((), {})
    assert not ran


def test_what_cannot_be_recorded_is_named_by_its_parameter() -> None:
    with pytest.raises(EncodeError, match=r"^order\.items\[2\]: cannot record a object$"):
        bind(ship, Order([1, 2, object()]), "x")
    with pytest.raises(EncodeError, match=r"^items\[1\]\.a: "):
        bind(many, 1, {"a": object()})
    with pytest.raises(EncodeError, match=r"^named\.key: "):
        bind(many, key=object())
    with pytest.raises(EncodeError, match=r"^note: "):
        bind(charge, 1, object())


class Text(str):
    pass


@pytest.mark.parametrize("value", [Text("a"), [Text("a")]])
def test_a_subclass_of_a_scalar_is_not_taken_for_one(value: Any) -> None:
    for call in (lambda: bind(free, value), lambda: bind(charge, amount=value), lambda: bind(many, value)):
        with pytest.raises(EncodeError, match="Text"):
            call()


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None)), st.dates()),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["speed", "order", "x", "$", "é", '"$'])


@settings(max_examples=300, deadline=None)
@given(st.tuples(values, values), st.lists(values, max_size=3), st.dictionaries(names, values))
def test_unbind_gives_back_what_was_bound(first: Any, rest: Any, named: Any) -> None:
    arguments = Arguments(ship, CODEC)
    args = (*first, *rest)
    text, scalar = arguments.bind(args, named)
    assert text.isascii()
    json.loads(text)
    read_args, read_kwargs = arguments.unbind(text)
    assert same(read_args, args)
    assert read_kwargs.keys() == named.keys() and all(same(read_kwargs[k], named[k]) for k in named)
    assert arguments.normalize(text) == text
    assert scalar == all(type(v) in (str, int, float, bool, type(None)) for v in (*args, *named.values()))


@settings(max_examples=300, deadline=None)
@given(values, st.none() | values, st.none() | values)
def test_by_position_or_by_name_the_text_is_the_same(a: Any, b: Any, c: Any) -> None:
    def call(a: int, b: str | None = "x", c: Any = ()) -> None: ...

    arguments = Arguments(call, CODEC)
    text = arguments.bind((a, b, c), {})
    assert arguments.bind((a, b), {"c": c}) == text
    assert arguments.bind((a,), {"c": c, "b": b}) == text
    assert arguments.bind((), {"c": c, "a": a, "b": b}) == text
    assert same(arguments.unbind(text[0]), ((a, b, c), {}))


def test_unbind_gives_fresh_copies_each_time() -> None:
    arguments = Arguments(later, CODEC)
    order = Order([[1]])
    text = arguments.bind((order,), {})[0]
    (one,), (two,) = arguments.unbind(text)[0], arguments.unbind(text)[0]
    assert one == two == order
    assert one is not two is not order and one.items[0] is not two.items[0]


@pytest.mark.parametrize(
    "fn, text, words",
    [
        (charge, "{}", r"charge\(\) needs 'amount', which was not recorded"),
        (charge, '{"sum":1}', r"charge\(\) needs 'amount'"),
        (charge, '{"amount":1,"old":2}', r"charge\(\) has no parameter 'old' any more"),
        (charge, '{"amount":"x"}', r"charge\(\), argument 'amount': .*does not fit int"),
        (charge, '{"amount":{"$":"nonsense"}}', r"charge\(\), argument 'amount': .*tag"),
        (later, '{"x":{"items":3}}', r"later\(\), argument 'x'"),
        (ship, '{"order":{"items":[]},"to":"","rest":["x"]}', r"argument 'rest\[0\]'"),
        (ship, '{"order":{"items":[]},"to":"","rest":{}}', "expected list"),
        (ship, '{"order":{"items":[]},"to":"","extra":[]}', "expected dict"),
        (ship, '{"order":{"items":[]},"to":"","extra":{"to":1}}', "has a parameter 'to' now"),
        (must, '{"b":1}', "needs 'a'"),
        (free, '{"a":1,"b":2,"c":3,"d":4}', "no parameter 'd'"),
        (nothing, "[]", "damaged"),
        (nothing, "", "damaged"),
        (nothing, "{", "damaged"),
        (nothing, "[" * 100_000, "damaged"),
        (charge, '{"amount":"\\ud800"}', "'amount'"),
    ],
)
def test_arguments_that_the_function_does_not_take_any_more_are_a_decode_error(fn: Any, text: str, words: str) -> None:
    for read in (Arguments(fn, CODEC).unbind, Arguments(fn, CODEC).normalize):
        with pytest.raises(DecodeError, match=words):
            read(text)


def test_a_parameter_that_was_left_out_leaves_the_later_ones_to_their_names() -> None:
    assert Arguments(charge, CODEC).unbind('{"amount":1,"fast":true}') == ((1,), {"fast": True})
    assert Arguments(free, CODEC).unbind('{"a":1,"c":3}') == ((1,), {"c": 3})
    with pytest.raises(DecodeError, match=r"before \*rest"):

        def changed(a: int, b: int = 2, *rest: int) -> None: ...

        Arguments(changed, CODEC).unbind('{"a":1,"rest":[3]}')


def test_normalize_writes_by_todays_types() -> None:
    @dataclass
    class Today:
        items: list[Any]

    def now(x: Today) -> None: ...

    now.__annotations__["x"] = Today
    recorded = Arguments(later, CODEC).bind((Order([1], date(2024, 1, 1)),), {})[0]
    assert Arguments(now, CODEC).normalize(recorded) == '{"x":{"items":[1]}}'
    assert Arguments(charge, CODEC).normalize(' {"note": "x", "amount": 5}') == '{"amount":5,"note":"x"}'


def test_annotations_are_resolved_and_those_that_cannot_be_say_nothing() -> None:
    @dataclass
    class Local:
        x: int

    def mixed(a: Local, b: Order, c: no_such_name) -> list[Order]: ...  # type: ignore[name-defined,empty-body]  # noqa: F821

    arguments = Arguments(mixed, CODEC)
    assert arguments.bind((1, Order([]), "c"), {})[0] == '{"a":1,"b":{"items":[],"when":null},"c":"c"}'
    assert arguments.returns is CODEC.coder(list[Order])
    assert Arguments(later, CODEC).returns.decode('[{"items":[1]}]') == [Order([1])]
    assert Arguments(nothing, CODEC).returns is CODEC.coder(None)
    assert Arguments(free, CODEC).returns is CODEC.coder()
    assert isinstance(arguments.returns, Coder)


def test_names_are_the_parameters_in_order() -> None:
    assert Arguments(ship, CODEC).names == ("order", "to", "rest", "speed", "extra")
    assert Arguments(charge, CODEC).name == "charge"
