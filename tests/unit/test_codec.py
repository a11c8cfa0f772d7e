"""`decode(encode(v))` is `v` with the same type, or writing fails and names the path (I7)."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import subprocess
import sys
import types
from collections import OrderedDict, namedtuple
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.codec import (
    ANY,
    Codec,
    Coder,
    checksum,
    decode_error,
    encode_error,
    error_traceback,
)
from perdure.errors import DecodeError, EncodeError, NotFoundError, StepFailedError
from perdure.tags import find_type, same, type_name

bounded = settings(max_examples=300, deadline=None)
T = TypeVar("T")


class Color(Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796
    BLUE = 2


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    HI = "hi"


class Suit(Enum):
    CLUBS = "clubs"


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    name: str
    price: Decimal
    when: Any = None


@dataclass
class Order:
    id: int
    items: list[Item]
    tags: set[str] = field(default_factory=set)
    parent: Order | None = None


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


@dataclass
class Doubling:
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


@dataclass
class Evolved:
    a: int
    b: int = 7


@dataclass
class Box(Generic[T]):
    value: T


@dataclass
class Hidden:
    _secret: int
    late: int = field(init=False, default=3)


class Pair(NamedTuple):
    left: int
    right: Any


Old = namedtuple("Old", "a b")


class Cell(msgspec.Struct):
    n: int
    what: Any = None


class Strict(msgspec.Struct, frozen=True, tag="strict", omit_defaults=True):
    n: int = 0


class Text(str):
    pass


class Numbers(list):  # type: ignore[type-arg]
    pass


def back(value: Any, hint: Any = ANY) -> Any:
    """What the value is after it was recorded, checked to be the same by both roads."""
    coder = Coder(hint)
    text, copy = coder.record(value)
    assert text.isascii()
    json.loads(text)
    read = coder.decode(text)
    assert same(read, value), text
    assert same(copy, value), text
    assert coder.encode(value) == text
    assert coder.record(read)[0] == text
    return read


# Round trips ------------------------------------------------------------------------------------------

text_strategy = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(["$", '"$":', '"$', "\ud800", "\x00"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), text_strategy, st.integers(-(2**70), 2**70), st.just(-0.0)
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text_strategy, inner, max_size=4),
    max_leaves=12,
)
zones = st.none() | st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Europe/Berlin")])
leaves = st.one_of(
    scalars,
    st.binary(max_size=8),
    st.complex_numbers(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.sampled_from([*Color, *Level, *Word, Right.READ | Right.WRITE, Right(0)]),
    st.builds(Point, st.floats(), st.floats()),
)
hashable = st.one_of(st.none(), st.booleans(), st.integers(), text_strategy, st.dates(), st.tuples(st.integers()))
rich_values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.builds(Item, text_strategy, st.decimals(), inner),
        st.builds(Cell, st.integers(), inner),
        st.builds(Pair, st.integers(), inner),
        st.builds(dict, **{"$": inner, "v": inner}),
    ),
    max_leaves=12,
)
HINTS = [
    ANY,
    dict,
    list,
    str,
    int,
    float,
    bool,
    None,
    list[int],
    dict[str, float],
    tuple[int, ...],
    set[str],
    Order,
    Item | None,
    Cell,
    Color,
    datetime,
    Decimal,
    bytes,
    int | str,
    float | None,
    list[Point],
    dict[int, str],
    Annotated[int, msgspec.Meta(gt=5)],
    Literal["a", 1],
    Item | Cell,
    socket.socket,
    Box[int],
    Pair,
    complex,
]


@bounded
@given(json_values)
def test_what_json_can_nearly_hold_comes_back_as_it_was(value: Any) -> None:
    back(value)


@bounded
@given(rich_values)
def test_every_known_type_comes_back_with_its_type(value: Any) -> None:
    back(value)


@bounded
@given(rich_values, st.sampled_from(HINTS))
def test_no_hint_changes_a_value_that_does_not_fit_it(value: Any, hint: Any) -> None:
    back(value, hint)


@bounded
@given(
    st.builds(
        Order,
        st.integers(),
        st.lists(st.builds(Item, text_strategy, st.decimals(allow_nan=False))),
        st.sets(text_strategy),
        st.none() | st.builds(Order, st.integers(), st.just([])),
    )
)
def test_a_dataclass_comes_back_by_its_hint_or_by_its_tags(order: Order) -> None:
    assert back(order, Order) == order
    assert back(order) == order


@pytest.mark.parametrize(
    "value, hint, text",
    [
        ({"i": 1, "ok": True}, dict, '{"i":1,"ok":true}'),
        (Point(1.5, -0.0), Point, '{"x":1.5,"y":-0.0}'),
        (Word.HI, Word, '"hi"'),
        (Suit.CLUBS, Suit, '"clubs"'),
        (Level.LOW, Level, "1"),
        ((1, 2), tuple[int, int], "[1,2]"),
        ({1: "a"}, dict[int, str], '{"1":"a"}'),
        (datetime(2024, 5, 1, 12, tzinfo=UTC), datetime, '"2024-05-01T12:00:00Z"'),
        (timedelta(hours=1), timedelta, '"PT3600S"'),
        (b"\x00\xff", bytes, '"AP8="'),
        ([Item("a", Decimal("1.50"))], list[Item], '[{"name":"a","price":"1.50","when":null}]'),
        (None, Order | None, "null"),
        (Box(3), Box[int], '{"value":3}'),
        (Strict(5), Strict, '{"type":"strict","n":5}'),
        (Pair(1, 2), Pair, "[1,2]"),
        ("é\U0001f600\x00", str, '"\\u00e9\\ud83d\\ude00\\u0000"'),
        ({"é": "\U0001f600"}, dict, '{"\\u00e9":"\\ud83d\\ude00"}'),
    ],
)
def test_by_the_annotation_the_text_is_plain_readable_json(value: Any, hint: Any, text: str) -> None:
    assert Coder(hint).encode(value) == text
    back(value, hint)


# The traps of K1 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        -0.0,
        [-0.0],
        [math.nan],
        {"a": [math.inf]},
        "\ud800",
        ["\udfff x"],
        {"\ud800": 1},
        2**63,
        2**64,
        2**70,
        -(2**63) - 1,
        [2**64],
        {1: "a"},
        {True: 1},
        {None: 1},
        {1.5: 1},
        {(1, 2): 3},
        (1, 2),
        [(1,)],
        {"a": ()},
        {1, 2},
        frozenset("a"),
        b"x",
        [b"x"],
        datetime(2024, 1, 1),
        date(2024, 1, 1),
        time(1, 2),
        timedelta(1, 2, 3),
        Decimal("1.10"),
        Decimal("sNaN"),
        UUID(int=5),
        1 + 2j,
        complex(-0.0, math.nan),
        Color.CRIMSON,
        Level.LOW,
        [Level.LOW],
        Word.HI,
        {"a": Word.HI},
        {Word.HI: 1},
        Right.READ | Right.WRITE,
        Point(1, 2),
        [Point(math.nan, 0.0)],
        Cell(1),
        [Cell(1, (2,))],
        Pair(1, 2),
        Old(1, 2),
        Hidden(4),
        Doubling(4),
        Box((1,)),
        {math.nan},
        {"", "a", "b"},
        {(1,), (True, 2)},
    ],
)
@pytest.mark.parametrize("hint", [ANY, dict, list, float, int, Order], ids=repr)
def test_nothing_loses_its_type_silently(value: Any, hint: Any) -> None:
    back(value, hint)


def test_an_int_of_any_length_comes_back() -> None:
    for value in (10**5000, [-(10**5000)], {"a": (2**70_000,)}):
        back(value)
        back(value, list[int])


def test_an_int_is_not_read_as_the_float_of_the_annotation_nor_the_reverse() -> None:
    assert type(back(1, float)) is int
    assert type(back([1], list[float])[0]) is int
    assert type(back(1.0, int)) is float
    assert type(back(True, int)) is bool
    assert type(back("2024-01-01", date)) is str


def test_a_constructor_that_changes_its_argument_does_not_change_the_copy() -> None:
    value = Doubling(4)
    assert back(value, Doubling).n == back(value).n == 8


def test_a_subclass_of_the_annotated_class_keeps_its_class() -> None:
    @dataclass
    class Local(Item):
        pass

    with pytest.raises(EncodeError, match="Local: its class is not found"):
        Coder(Item).encode(Local("a", Decimal(1)))
    assert type(back(Strict(1), Cell)) is Strict


@pytest.mark.parametrize(
    "value, what",
    [
        (Text("a"), "Text"),
        ({Text("a"): 1}, "Text"),
        (Numbers(), "Numbers"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (object(), "object"),
        (len, "builtin_function_or_method"),
        (bytearray(b"a"), "bytearray"),
        (Item, "type"),
        (range(3), "range"),
        (datetime(2024, 1, 1, tzinfo=type("Z", (type(UTC).__base__,), {})()), "zone"),
    ],
)
@pytest.mark.parametrize("hint", [ANY, dict, str, list, Order], ids=repr)
def test_what_is_not_known_is_refused(value: Any, what: str, hint: Any) -> None:
    with pytest.raises(EncodeError, match=what):
        Coder(hint).record(value)


def test_the_error_names_the_path_to_the_culprit() -> None:
    with socket.socket() as culprit:
        order = {"items": [1, 2, 3, Item("a", Decimal(1), culprit)]}
        with pytest.raises(EncodeError, match=r"^result\.items\[3\]\.when: cannot record a socket\.socket$"):
            Coder(dict).record(order, "result")
        with pytest.raises(EncodeError, match=r"^value\['a b'\]\[0\]"):
            Coder().record({"a b": (culprit,)})


def test_what_holds_itself_or_is_too_deep_is_refused_with_an_encode_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    try:
        for value in (loop, deep, {"a": loop}, (deep,)):
            with pytest.raises(EncodeError, match=r"^x.*(deeply|itself)"):
                Coder().record(value, "x")
    finally:
        while deep:  # freed step by step: the interpreter's own way down is limited, too
            deep = deep[0]


def test_a_deep_value_comes_back() -> None:
    deep: Any = (1,)
    for _ in range(100):
        deep = [deep]
    back(deep)


def test_times_keep_zone_fold_and_name() -> None:
    berlin = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    for hint in (ANY, datetime):
        read = back(berlin, hint)
        assert read.tzinfo is berlin.tzinfo and read.fold == 1 and read.utcoffset() == timedelta(hours=1)
        assert back(berlin.replace(tzinfo=timezone(timedelta(hours=1), "CET")), hint).tzname() == "CET"
        assert back(datetime(1, 1, 1, fold=1), hint).fold == 1
        assert type(back(datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")), hint).tzinfo) is ZoneInfo
    assert back(time(1, 2, tzinfo=timezone(timedelta(seconds=3725, microseconds=7)))).utcoffset()


def test_sets_of_strings_have_the_same_text_in_every_process() -> None:
    code = (
        "from perdure.codec import Coder; v = set(map(str, range(50)));"
        "print(Coder(set[str]).encode(v), Coder().encode(v), Coder(dict[str, set[str]]).encode({'b': v, 'a': v}))"
    )
    source = str(Path(__file__).parents[2] / "src")
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": source, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(texts) == 1


# Copies -----------------------------------------------------------------------------------------------


def test_the_copy_shares_nothing_mutable_with_the_value() -> None:
    value = {"a": [1], "b": (set(), [2])}
    for hint in (ANY, dict, Order):
        copy = Coder(hint).record(value)[1]
        assert copy is not value and copy["a"] is not value["a"] and copy["b"][0] is not value["b"][0]


@pytest.mark.parametrize("value", ["a" * 50, "é" * 50, 12345678, 2**63, True, None, 1.25])
def test_a_scalar_is_recorded_as_plain_text(value: Any) -> None:
    for hint in (ANY, type(value), type(value) | None):
        text, copy = Coder(hint).record(value)
        assert json.loads(text) == value == copy
        if not (isinstance(value, str) and not value.isascii()):
            assert copy is value


def test_a_coder_is_made_once_a_hint_and_takes_unhashable_ones() -> None:
    codec = Codec()
    odd = Annotated[int, {"not": "hashable"}]
    assert codec.coder(list[int]) is codec.coder(list[int])
    assert codec.coder(odd) is codec.coder(odd)
    assert codec.coder() is codec.coder(ANY)
    assert codec.decode(codec.encode(5, odd), odd) == 5


# Look-alikes and hostile texts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"$": "int", "v": "0x1"},
        {"$": 1},
        {"$": {"$": "plain"}},
        [{"$": "dataclass", "t": "a:B", "v": {}}],
        {'x"$': 1},
        {"a": '"$":'},
        '"$":',
        {"$": "dict", "v": [["$", 1]]},
        {"$": "plain", "v": math.nan},
        {"": {"$": ()}},
        {'"$":': [{"$": None}]},
    ],
)
@pytest.mark.parametrize("hint", [ANY, dict, list, str, dict[str, Any], Order], ids=repr)
def test_a_dict_that_looks_like_a_tag_comes_back_as_that_dict(value: Any, hint: Any) -> None:
    back(value, hint)


HOSTILE = [
    "",
    "{",
    "nul",
    "[1",
    '"\\ud800"',
    "NaN",
    "[Infinity]",
    '{"a":NaN}',
    "\x00",
    "1 2",
    "[" * 100_000,
    '{"$":"int","v":' * 50_000,
    '{"$":"unknown","v":1}',
    '{"$":["int"],"v":1}',
    '{"$":null}',
    '{"$":{"$":"plain","v":1}}',
    '{"$":"int"}',
    '{"$":"int","v":5}',
    '{"$":"int","v":"zz"}',
    '{"$":"float","v":"1"}',
    '{"$":"tuple","v":"ab"}',
    '{"$":"set","v":[[1]]}',
    '{"$":"dict","v":[[[],1]]}',
    '{"$":"dict","v":[1]}',
    '{"$":"bytes","v":"*"}',
    '{"$":"bytes","v":"é"}',
    '{"$":"datetime","v":"now"}',
    '{"$":"datetime","v":"2024-01-01","z":"../../etc/passwd"}',
    '{"$":"datetime","v":"2024-01-01","z":"No/Where"}',
    '{"$":"datetime","v":"2024-01-01","n":"X"}',
    '{"$":"timedelta","v":[1e99]}',
    '{"$":"decimal","v":"x"}',
    '{"$":"uuid","v":"x"}',
    '{"$":"complex","v":[1,2,3]}',
    '{"$":"enum","t":"tests:No","v":"A"}',
    '{"$":"enum","t":5,"v":"A"}',
    '{"$":"dataclass","t":"os:system","v":{}}',
    '{"$":"dataclass","t":"builtins:dict","v":{}}',
    '{"$":"dataclass","t":"subprocess:Popen","v":{"args":"true"}}',
    '{"$":"struct","t":"builtins:object","v":{}}',
    '{"$":"dataclass","t":"","v":{}}',
    '{"$":"dataclass","t":"os.path:join.__globals__","v":{}}',
    '{"$":"dataclass","v":{}}',
    '{"$":"plain"}',
    '{"$":"plain","v":NaN}',
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: t[:40])
@pytest.mark.parametrize("hint", [ANY, list[int], Order], ids=repr)
def test_a_damaged_or_hostile_text_is_a_decode_error(text: str, hint: Any) -> None:
    with pytest.raises(DecodeError, match="recorded"):
        Coder(hint).decode(text)


@bounded
@given(rich_values, st.data())
def test_a_text_cut_or_changed_anywhere_never_raises_anything_but_a_decode_error(value: Any, data: Any) -> None:
    text = Coder().encode(value)
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.sampled_from(["", "0", '"', "]", "}", "$", "é", "\\"])) + text[at + 1 :]
    with suppress(DecodeError):
        Coder().decode(changed)


@pytest.mark.parametrize(
    "tree, words",
    [
        ({"$": "enum", "t": type_name(Item), "v": "RED"}, "recorded as an enum, but is none"),
        ({"$": "enum", "t": type_name(Color), "v": "GREEN"}, "no member 'GREEN'"),
        ({"$": "dataclass", "t": type_name(Item), "v": {"name": "a"}}, "'price' that was not recorded"),
        ({"$": "dataclass", "t": type_name(Cell), "v": {"n": 1}}, "recorded as a dataclass, but is none"),
        ({"$": "struct", "t": type_name(Cell), "v": {}}, "damaged"),
        ({"$": "namedtuple", "t": type_name(Pair), "v": [1]}, "2 fields, 1 were recorded"),
        ({"$": "dataclass", "t": "gone.away:Order", "v": {}}, "gone.away:Order is not known here"),
    ],
)
def test_a_class_that_does_not_fit_is_named(tree: Any, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        Coder().decode(json.dumps(tree, separators=(",", ":")))


def test_reading_imports_nothing_and_asks_no_module_for_what_it_does_not_hold() -> None:
    asked = []
    module = types.ModuleType("shy")
    module.__getattr__ = lambda name: asked.append(name)  # type: ignore[method-assign]
    sys.modules["shy"] = module
    known = set(sys.modules)
    try:
        for name in ("this:Zen", "antigravity:X", "shy:Order", "xml.dom.minidom:Node", "shy:a.b"):
            for tag in ("dataclass", "struct", "enum", "namedtuple"):
                with pytest.raises(DecodeError, match=name):
                    Coder().decode(f'{{"$":"{tag}","t":"{name}","v":{{}}}}')
            text = json.dumps({"type": name, "message": "m", "args": []})
            assert type(decode_error(text)) is StepFailedError
        assert not asked and set(sys.modules) == known
    finally:
        del sys.modules["shy"]


def test_reading_a_dataclass_runs_no_constructor() -> None:
    text = f'{{"$":"dataclass","t":"{type_name(Doubling)}","v":{{"n":4}}}}'
    assert Coder().decode(text).n == 4


def test_a_field_added_since_takes_its_default_and_a_removed_one_is_dropped() -> None:
    for hint in (ANY, Evolved):
        tagged = f'{{"$":"dataclass","t":"{type_name(Evolved)}","v":{{"a":1,"gone":2}}}}'
        assert Coder(hint).decode(tagged) == Evolved(1, 7)
    assert Coder(Evolved).decode('{"a":1,"gone":2}') == Evolved(1, 7)


def test_a_text_that_does_not_fit_the_hint_says_so() -> None:
    with pytest.raises(DecodeError, match=r"does not fit Order: .*\$\.id"):
        Coder(Order).decode('{"id":"x","items":[]}')
    with pytest.raises(DecodeError, match="does not fit int"):
        Coder(int).decode('"x"')


SCRIPT = """
import sys
from dataclasses import dataclass
from perdure.codec import Coder, encode_error, decode_error
@dataclass
class Order:
    id: int
class Boom(Exception): pass
if __name__ == "__main__":
    if len(sys.argv) > 1:
        assert type(Coder().decode(sys.argv[1])) is Order and type(decode_error(sys.argv[2])) is Boom
    else:
        print(Coder().encode(Order(1)))
        print(encode_error(Boom(2)))
"""


def test_a_script_and_the_same_file_imported_read_each_other(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SCRIPT)
    paths = {"PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{tmp_path}"}

    def run(*args: str) -> list[str]:
        done = subprocess.run([sys.executable, *args], capture_output=True, env=paths, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    script = run(str(tmp_path / "shop.py"))
    imported = run(
        "-c", "import shop; print(shop.Coder().encode(shop.Order(1))); print(shop.encode_error(shop.Boom(2)))"
    )
    assert script[0] == imported[0] and '"shop:Order"' in script[0]
    assert run("-m", "shop") == script
    run(str(tmp_path / "shop.py"), *imported)
    run("-c", "import sys, shop; assert shop.Coder().decode(sys.argv[1]) == shop.Order(1)", script[0])


def test_a_class_is_found_by_name_and_nothing_else_is() -> None:
    assert find_type(type_name(Order)) is Order
    assert find_type("builtins:ValueError") is ValueError
    for name in ("", ":", "builtins", "builtins:len", "os:path", "json:decoder.JSONDecoder.decode", "a:b:c"):
        assert find_type(name) is None


@pytest.mark.parametrize(
    "a, b",
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ([1], (1,)),
        ({1}, {True}),
        ({1}, frozenset({1})),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Level.LOW, 1),
        (Decimal("1.0"), Decimal("1.00")),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))),
        (datetime(2024, 1, 1), datetime(2024, 1, 1, fold=1)),
        (Point(1, 0), Point(1.0, 0)),
        (Cell(1), Cell(True)),
        (Pair(1, 2), (1, 2)),
        ({(1,)}, {(True,)}),
        ({math.nan}, {1}),
        (object(), object()),
        ({1: 1}, {True: 1}),
        (complex(0, -0.0), 0j),
    ],
)
def test_same_tells_what_equality_does_not(a: Any, b: Any) -> None:
    assert not same(a, b) and not same(b, a)


# Checksums --------------------------------------------------------------------------------------------


def test_a_checksum_tells_none_from_empty_and_where_a_text_ends() -> None:
    sums = [
        checksum(*t) for t in [(), ("",), (None,), ("", ""), ("", None), (None, ""), ("ab", "c"), ("a", "bc"), ("abc",)]
    ]
    assert len(set(sums)) == len(sums)
    assert all(0 <= s < 2**32 for s in sums)


def test_a_checksum_never_changes_between_versions() -> None:
    assert checksum('{"a":1}', None, "\u00e9") == 2808159942


# Errors -----------------------------------------------------------------------------------------------


class Declined(Exception):
    def __init__(self, *, code: int, card: str) -> None:
        super().__init__(f"card {card} declined")
        self.code = code


class Slotted(Exception):
    __slots__ = ("why",)


class Hostile(Exception):
    def __str__(self) -> str:
        raise SystemExit("no")

    __repr__ = __str__


class MissingFile(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(2, "gone", name)


class Group(ExceptionGroup[Exception]):
    pass


def caught(function: Any) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 5),
        ValueError(),
        KeyError("k"),
        Declined(code=5, card="4242"),
        OSError(2, "No such file", "f.txt"),
        FileNotFoundError(2, "gone", "a", None, "b"),
        caught(lambda: Path("/no/such/file").read_text()),
        caught(lambda: int("x")),
        caught(lambda: {}["k"]),
        caught(lambda: b"\xff".decode()),
        caught(lambda: json.loads("{")),
        caught(lambda: missing),  # type: ignore[name-defined]  # noqa: F821
        caught(lambda: __import__("no_such_module")),
        caught(lambda: compile("a b", "f", "exec")),
        StopIteration(3),
        MissingFile("f"),
        TimeoutError(),
        asyncio.CancelledError("why"),
        UnicodeEncodeError("ascii", "é", 0, 1, "no"),
        ValueError((1, {2}), b"x", Decimal(1)),
        ValueError("\ud800é\x00"),
        ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [Declined(code=1, card="2")])]),
        Group("g", [KeyError(1)]),
    ],
    ids=repr,
)
def test_an_error_comes_back_with_type_args_and_message(error: BaseException) -> None:
    text = encode_error(error)
    read = decode_error(text)
    assert text.isascii()
    assert type(read) is type(error)
    assert str(read) == str(error)
    assert repr(read) == repr(error)
    assert not hasattr(read, "__notes__")
    if isinstance(error, ExceptionGroup):
        assert [type(e) for e in error.exceptions] == [type(e) for e in read.exceptions]  # type: ignore[attr-defined]
    else:
        assert same(read.args, error.args)


def test_an_error_keeps_what_it_holds_beside_its_args() -> None:
    assert decode_error(encode_error(Declined(code=5, card="1"))).code == 5  # type: ignore[attr-defined]
    slotted = Slotted("a")
    slotted.why = (1,)
    assert decode_error(encode_error(slotted)).why == (1,)  # type: ignore[attr-defined]
    missing_file = decode_error(encode_error(FileNotFoundError(2, "gone", "f")))
    assert isinstance(missing_file, OSError) and (missing_file.errno, missing_file.filename) == (2, "f")


def test_perdures_own_errors_keep_execution_and_key() -> None:
    read = decode_error(encode_error(NotFoundError("no", execution_id="e1", key="a#1")))
    assert isinstance(read, NotFoundError) and (read.execution_id, read.key) == ("e1", "a#1") and str(read) == "no"


def test_an_unknown_class_becomes_a_step_failed_error_with_type_and_message() -> None:
    class Local(Exception):
        pass

    for name in (
        "gone.away:Boom",
        "builtins:KeyboardInterrupt",
        "builtins:SystemExit",
        "builtins:BaseException",
        "builtins:dict",
    ):
        read = decode_error(json.dumps({"type": name, "message": "it broke", "args": ["x"]}))
        assert type(read) is StepFailedError and str(read) == f"{name.partition(':')[2]}: it broke"
    assert str(decode_error(encode_error(Local("m")))).endswith("Local: m")
    bad_args = json.dumps({"type": "builtins:ValueError", "message": "m", "args": [{"$": "nonsense"}]})
    assert str(decode_error(bad_args)) == "ValueError: m"


def test_recording_an_error_never_raises() -> None:
    class Meta(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise KeyboardInterrupt

    class Odd(Exception, metaclass=Meta):
        pass

    sock = socket.socket()
    sock.close()
    chained = ValueError(sock, Hostile())
    chained.__cause__ = Hostile()
    chained.extra = chained  # type: ignore[attr-defined]
    looped = ExceptionGroup("deep", [ValueError()])
    for _ in range(2000):
        looped = ExceptionGroup("deep", [looped])
    for error in (Hostile(), chained, Odd("a"), looped, ValueError(Hostile())):
        text = encode_error(error)
        assert json.loads(text)["message"] is not None
        assert isinstance(decode_error(text), Exception)
    assert decode_error(encode_error(chained)).args[0] == repr(sock)


def test_the_cause_and_the_traceback_are_recorded_the_tail_within_its_limit() -> None:
    def sink(n: int) -> None:
        if n:
            sink(n - 1)
        else:
            raise ValueError("é" * 20_000)

    try:
        try:
            sink(3)
        except ValueError as error:
            raise KeyError("outer") from error
    except KeyError as error:
        text = encode_error(error)
    assert json.loads(text)["cause"] == {"type": "builtins:ValueError", "message": "é" * 20_000}
    trace = error_traceback(text)
    assert trace.endswith("KeyError: 'outer'\n") and len(json.dumps(trace)) <= 16 * 1024
    try:
        sink(1)
    except ValueError as error:
        text = encode_error(error)
    assert error_traceback(text).endswith("éé\n") and len(json.dumps(error_traceback(text))) <= 16 * 1024
    assert "cause" not in json.loads(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"type":1,"message":"m"}', "nul", "[" * 100_000, '{"type":"a:b"}'])
def test_a_damaged_error_is_a_decode_error(text: str) -> None:
    for read in (decode_error, error_traceback):
        with pytest.raises(DecodeError, match="the recorded error is damaged"):
            read(text)
