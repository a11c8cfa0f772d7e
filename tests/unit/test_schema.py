"""A text fits its schema, or one line says where and why it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.codec import ANY, Coder
from perdure.errors import EncodeError
from perdure.schema import check, schema_of


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


@dataclass
class Address:
    street: str
    zip: Annotated[str, msgspec.Meta(pattern="^[0-9]{5}$")]
    tags: set[str] = field(default_factory=set)
    parent: Address | None = None


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    n: Annotated[int, msgspec.Meta(ge=1, le=9)]


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    legs: int


class Pair(NamedTuple):
    a: int
    b: str


HINTS: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "none": None,
    "list": list[int],
    "dict": dict[str, int],
    "tuple": tuple[int, str],
    "optional": int | None,
    "union": int | str | list[bool],
    "literal": Literal["a", 1],
    "enum": Color,
    "int enum": Level,
    "address": Address,
    "strict": Strict,
    "tagged": Cat | Dog,
    "pair": Pair,
    "datetime": Annotated[datetime, msgspec.Meta(tz=True)],
    "date": date,
    "time": Annotated[time, msgspec.Meta(tz=False)],
    "timedelta": timedelta,
    "uuid": UUID,
    "decimal": Decimal,
    "bytes": bytes,
    "set": set[int],
    "range": Annotated[float, msgspec.Meta(gt=0, lt=10, multiple_of=0.5)],
    "length": Annotated[str, msgspec.Meta(min_length=2, max_length=3)],
    "keys": dict[Annotated[str, msgspec.Meta(min_length=2)], int],
}


@pytest.mark.parametrize("hint", [Any, ANY, object])
def test_what_everything_fits_has_no_schema(hint: Any) -> None:
    assert schema_of(hint) is None
    assert check(None, '{"anything":[1]}') is None


@pytest.mark.parametrize("hint", HINTS.values(), ids=HINTS)
def test_a_schema_is_ascii_json_text(hint: Any) -> None:
    text = schema_of(hint)
    assert text is not None and text.isascii() and isinstance(json.loads(text), dict)


@pytest.mark.parametrize("hint", [complex, type("Custom", (), {}), int | complex, list["nowhere"], Cat | Address])  # type: ignore[name-defined]  # noqa: F821
def test_a_type_that_cannot_be_described_is_refused_in_words(hint: Any) -> None:
    with pytest.raises(EncodeError, match="no JSON Schema can be made of"):
        schema_of(hint)


def test_a_pydantic_model_is_described_by_itself() -> None:
    class Model:
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return {"type": "object", "properties": {"é": {"type": "integer"}}, "required": ["é"]}

    text = schema_of(Model)
    assert text is not None and text.isascii()
    assert check(text, '{"\\u00e9":1}') is None
    assert check(text, "{}") == "$: 'é' is missing"


@pytest.mark.parametrize(
    "hint, value, fault",
    [
        ("int", "5", None),
        ("int", "5.0", "$: expected an integer, got 5.0"),
        ("int", "5.5", "$: expected an integer, got 5.5"),
        ("int", "true", "$: expected an integer, got true"),
        ("int", '"5"', '$: expected an integer, got "5"'),
        ("float", "5", None),
        ("float", "false", "$: expected a number, got false"),
        ("str", "5", "$: expected a string, got 5"),
        ("bool", "1", "$: expected true or false, got 1"),
        ("none", "0", "$: expected null, got 0"),
        ("list", '[1,"a"]', '$[1]: expected an integer, got "a"'),
        ("list", "{}", "$: expected a list, got {}"),
        ("dict", '{"a":1,"b c":"x"}', '$["b c"]: expected an integer, got "x"'),
        ("tuple", '[1,"a"]', None),
        ("tuple", '["a",1]', '$[0]: expected an integer, got "a"'),
        ("tuple", "[1]", "$: expected at least 2 items, got 1"),
        ("tuple", '[1,"a",2]', "$: expected at most 2 items, got 3"),
        ("optional", "null", None),
        ("optional", '"x"', '$: expected an integer or null, got "x"'),
        ("union", "[true,0]", "$[1]: expected true or false, got 0"),
        ("union", "{}", "$: expected an integer or a string or a list, got {}"),
        ("literal", "1", None),
        ("literal", "true", '$: expected 1 or "a", got true'),
        ("enum", '"red"', None),
        ("enum", '"green"', '$: expected "blue" or "red", got "green"'),
        ("int enum", "2", "$: expected 1, got 2"),
        ("address", '{"street":"x","zip":"12345","more":1}', None),
        ("address", '{"street":"x","zip":5}', "$.zip: expected a string, got 5"),
        ("address", '{"street":"x","zip":"1234"}', '$.zip: expected a text that matches ^[0-9]{5}$, got "1234"'),
        ("address", '{"street":"x"}', "$: 'zip' is missing"),
        (
            "address",
            '{"street":"x","zip":"12345","tags":["a","a"]}',
            '$.tags[1]: expected no item twice, got "a" again',
        ),
        (
            "address",
            '{"street":"","zip":"12345","parent":{"street":"","zip":1}}',
            "$.parent.zip: expected a string, got 1",
        ),
        ("strict", '{"n":1,"m":2}', "$.m: is not among the members allowed"),
        ("strict", '{"n":0}', "$.n: expected at least 1, got 0"),
        ("strict", '{"n":10}', "$.n: expected at most 9, got 10"),
        ("tagged", '{"type":"Dog","legs":4}', None),
        ("tagged", '{"type":"Dog","legs":"x"}', '$.legs: expected an integer, got "x"'),
        ("datetime", '"2024-01-01T00:00:00Z"', None),
        ("datetime", '"yesterday"', '$: expected a date with a time, got "yesterday"'),
        ("date", '"2024-02-30"', '$: expected a date, got "2024-02-30"'),
        ("time", '"25:00"', '$: expected a time, got "25:00"'),
        ("uuid", '"123"', '$: expected a UUID, got "123"'),
        ("timedelta", '"PT3600S"', None),
        ("timedelta", '"P1DT2H"', None),
        ("timedelta", '"P"', '$: expected a duration, got "P"'),
        ("range", "2.5", None),
        ("range", "0", "$: expected more than 0, got 0"),
        ("range", "10", "$: expected less than 10, got 10"),
        ("range", "2.3", "$: expected a multiple of 0.5, got 2.3"),
        ("length", '"a"', "$: expected at least 2 characters, got 1"),
        ("length", '"abcd"', "$: expected at most 3 characters, got 4"),
        ("keys", '{"a":1}', "$.a: the name does not fit: expected at least 2 characters, got 1"),
    ],
)
def test_a_misfit_is_told_in_one_line_with_its_place(hint: str, value: str, fault: str | None) -> None:
    assert check(schema_of(HINTS[hint]), value) == fault


@pytest.mark.parametrize(
    "schema, value, fits",
    [
        ({"type": ["string", "null"]}, "null", True),
        ({"type": ["string", "null"]}, "1", False),
        ({"const": 1}, "1.0", True),
        ({"const": 1}, "true", False),
        ({"const": {"a": [1]}}, '{"a":[1]}', True),
        ({"enum": [[True]]}, "[1]", False),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, "3", False),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "1", False),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}], "discriminator": {"propertyName": "x"}}, "1", True),
        ({"anyOf": []}, "1", False),
        ({"items": False}, "[]", True),
        ({"items": False}, "[1]", False),
        ({"additionalProperties": {"type": "integer"}}, '{"a":"b"}', False),
        ({"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}, '{"x1":1}', True),
        ({"minProperties": 1}, "{}", False),
        ({"uniqueItems": True}, "[1,true,1.5]", True),
        ({"uniqueItems": True}, '[{"a":1},{"a":1.0}]', False),
        ({"multipleOf": 0.1}, "0.3", True),
        ({"minimum": 5}, '"text"', True),
        ({"pattern": "("}, '"x"', True),
        ({"format": "unheard-of", "unheard": 1}, '"x"', True),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}}, "1", True),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}}, '"1"', False),
        ({"$ref": "#/$defs/none"}, "1", False),
        ({"$ref": "#"}, "1", False),
        (True, "1", True),
        (False, "1", False),
        ({}, "NaN", False),
        ({}, "", False),
        ({}, "[" * 100_000, False),
    ],
)
def test_the_keywords_mean_what_json_schema_says(schema: Any, value: str, fits: bool) -> None:
    fault = check(json.dumps(schema), value)
    assert (fault is None) is fits, fault
    assert fault is None or "\n" not in fault


STRATEGIES = {
    "int": st.integers(-(2**60), 2**60),
    "list": st.lists(st.integers(-9, 9)),
    "tuple": st.tuples(st.integers(-9, 9), st.text()),
    "optional": st.none() | st.integers(-9, 9),
    "enum": st.sampled_from(Color),
    "datetime": st.datetimes(timezones=st.just(UTC)),
    "date": st.dates(),
    "timedelta": st.timedeltas(timedelta(-900), timedelta(900)),
    "uuid": st.uuids(),
    "set": st.sets(st.integers(-9, 9)),
    "address": st.builds(Address, st.text(), st.from_regex("^[0-9]{5}\\Z"), st.sets(st.text())),
    "bytes": st.binary(),
    "tagged": st.builds(Cat, st.integers(-9, 9)),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "pair": st.builds(Pair, st.integers(-9, 9), st.text()),
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_a_type_writes_fits_its_schema(data: Any) -> None:
    name = data.draw(st.sampled_from(sorted(STRATEGIES)))
    text = Coder(HINTS[name]).encode(data.draw(STRATEGIES[name]))
    if '"$":' not in text:
        assert check(schema_of(HINTS[name]), text) is None
