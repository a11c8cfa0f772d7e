"""Two hundred hostile texts through everything that reads: a `DecodeError`, nothing imported, nothing run."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfoNotFoundError

import pydantic
import pytest

from perdure.arguments import Arguments
from perdure.codec import ANY, Codec, decode_error, encode_error, error_traceback
from perdure.errors import DecodeError, StepFailedError
from perdure.tags import type_name
from tests.unit.value_kinds import Customer, Order, Page

ran: list[str] = []


class Trap:
    """Not a data class: whatever of it runs is noted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ran.append("init")

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        ran.append("new")
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        ran.append("setstate")

    def __reduce__(self) -> Any:
        return ran.append, ("reduce",)


@dataclass
class Bomb:
    """A dataclass whose constructors are noted."""

    n: int
    made: ClassVar[int] = 0

    def __post_init__(self) -> None:
        ran.append("post_init")


class Watched(pydantic.BaseModel):
    n: int

    def __init__(self, **data: Any) -> None:
        ran.append("model init")
        super().__init__(**data)

    def model_post_init(self, context: Any) -> None:
        ran.append("model post init")


class Raised(Exception):
    """An exception with a constructor and a property that has a setter."""

    def __new__(cls, *args: Any) -> Any:
        ran.append("exception new")
        return super().__new__(cls, *args)

    def __init__(self, *args: Any) -> None:
        ran.append("exception init")

    @property
    def level(self) -> int:
        return 0

    @level.setter
    def level(self, value: int) -> None:
        ran.append("setter")


NAMES = [
    *("os:system", "os.system", "os:path", "subprocess:Popen", "builtins:eval", "builtins:exec", "builtins:__import__"),
    *("builtins:type", "builtins:object", "builtins:dict", "builtins:memoryview", "builtins:SystemExit"),
    *("builtins:KeyboardInterrupt", "builtins:BaseException", "antigravity:X", "this:Zen", "xml.dom.minidom:Node"),
    *("", ":", "a", "a:b", "..:..", "json:decoder.JSONDecoder", "threading:Thread", "socket:socket", "pathlib:Path"),
    *("sys:modules", "os:environ", "\x00:\x00", "é:é", "pickle:Unpickler", "ctypes:CDLL", "perdure.engine:Engine"),
    *("Union[builtins:int,os:system]", "builtins:list[os:system]", f"{__name__}:Trap[builtins:int]"),
    type_name(Trap),
]
TAGS = ["dataclass", "struct", "enum", "namedtuple", "pydantic", "attrs", "exception", "hooks", "registered", "secret"]


def tagged(tag: Any, value: Any, name: Any = None, **more: Any) -> str:
    tree = {"$": tag, "v": value} | ({} if name is None else {"t": name}) | more
    return json.dumps(tree, separators=(",", ":"))


def _texts() -> Iterator[str]:
    # Classes: every name under one tag at least, the plain ones under all.
    for i, name in enumerate(NAMES):
        yield tagged(TAGS[i % len(TAGS)], {"args": "true", "n": 1}, name, n=1, args=["true"])
    for tag in TAGS:
        for name in (type_name(Trap), "os:system", 5, ["a"], {"a": 1}):
            yield tagged(tag, {}, name, n=1)
        yield tagged(tag, {})
        yield f'{{"$":"{tag}"}}'
    # A class under the tag of another kind, and with values that are none of its.
    for name in (type_name(Bomb), type_name(Watched), type_name(Raised), "builtins:ValueError"):
        for tag in ("struct", "enum", "namedtuple", "attrs", "hooks", "secret"):
            yield tagged(tag, {"n": 1}, name, n=1)
    for value in ("n", 5, None, [1], ["n", 1], True):
        yield tagged("dataclass", value, type_name(Bomb))
        yield tagged("pydantic", value, type_name(Watched))
        yield tagged("exception", value, "builtins:ValueError", args=[])
    for args in (None, 5, {"a": 1}):
        yield tagged("exception", {}, "builtins:OSError", args=args)
    yield tagged("exception", {}, "builtins:ExceptionGroup", args=["g"], errors=[])
    yield tagged("exception", {}, "builtins:ExceptionGroup", args=["g"], errors=[1])
    # Values that are none.
    for tag in ("int", "float", "tuple", "set", "frozenset", "dict", "bytes", "datetime", "date", "time", "timedelta"):
        for value in ({"a": 1}, "*", None):
            yield tagged(tag, value)
    for tag in ("decimal", "uuid", "complex", "path", "plain_", "", None, 1, ["int"], {"$": "int"}, "__class__"):
        yield tagged(tag, [["x"]])
    yield tagged("path", "a", "Path")
    yield tagged("path", "a", "os.PathLike")
    for zone in ("../../etc/passwd", "/etc/passwd", "a\x00b", "os.path", "", "No/Such", "x" * 10_000):
        yield tagged("datetime", "2024-01-01T00:00:00", z=zone)
    # Too deep, too large, cut off, no JSON at all.
    for opening in ("[", '{"a":', '{"$":"tuple","v":', '[{"$":"plain","v":'):
        yield opening * 20_000
        yield opening * 20_000 + "1" + ("]" if opening == "[" else "}") * 20_000
    yield tagged("int", "9" * 5_000 + "z")
    yield tagged("timedelta", [10**30, 0, 0])
    yield tagged("timedelta", ["9" * 5_000, 0, 0])
    yield tagged("set", [{"$": "plain", "v": []}])
    whole = tagged("dataclass", {"n": 1}, type_name(Bomb))
    for cut in (1, 5, 20, len(whole) - 2, len(whole) - 1):
        yield whole[:cut]
    yield from ("", "NaN", "[Infinity]", "nul", "\x00", "1 2", "{]", '{"a" 1}', "'a'", '"\\x"', '"\ud800', "\ufeff[]")
    for protocol in (0, 2, 5):
        yield pickle.dumps(Trap.__new__(Trap), protocol).decode("latin-1")
    yield "cos\nsystem\n(S'true'\ntR."
    yield "!!python/object/apply:os.system ['true']"
    yield "~e1:key:" + base64.b64encode(b"x" * 40).decode()


TEXTS = list(_texts())
READ_BY = [ANY, dict[str, int], Order, Customer, Page[int], list[Path]]


@pytest.fixture(scope="module", autouse=True)
def _known_modules() -> None:
    # What Python itself imports when it is asked for a zone that is not there, or decodes for the first time.
    from zoneinfo import ZoneInfo

    with pytest.raises(ZoneInfoNotFoundError):
        ZoneInfo("No/Such")


@pytest.fixture(autouse=True)
def _nothing_ran_and_nothing_was_imported() -> Iterator[None]:
    ran.clear()
    known = set(sys.modules)
    yield
    assert set(sys.modules) == known
    assert ran == []


def test_there_are_two_hundred_of_them() -> None:
    assert len(set(TEXTS)) >= 200


def _id(index: int) -> str:
    return str(index)


@pytest.mark.parametrize("index", range(len(TEXTS)), ids=_id)
def test_a_hostile_text_is_a_decode_error_by_every_hint_and_as_an_argument(index: int) -> None:
    text = TEXTS[index]
    for hint in READ_BY:
        with pytest.raises(DecodeError):
            Codec().decode(text, hint)

    def call(a: Any, b: Order | None = None, *rest: Any, **named: Customer) -> None:
        ran.append("called")

    arguments = Arguments(call, Codec())
    wrapped = (f'{{"a":{text}}}', f'{{"a":1,"rest":[{text}]}}', f'{{"a":1,"named":{{"x":{text}}}}}')
    # Nothing at all between brackets is an empty list.
    for recorded in (text, *(wrapped if text else ())):
        for read in (arguments.unbind, arguments.normalize):
            with pytest.raises(DecodeError):
                read(recorded)


@pytest.mark.parametrize("index", range(len(TEXTS)), ids=_id)
def test_a_hostile_error_is_a_decode_error_or_says_that_its_class_is_not_known(index: int) -> None:
    text = TEXTS[index]
    for read in (decode_error, error_traceback):
        with pytest.raises(DecodeError):
            read(text)
    for name in ("builtins:ValueError", text):
        quoted = json.dumps(name)
        for part in ("args", "attributes", "errors"):
            try:
                error = decode_error(f'{{"type":{quoted},"message":"m","{part}":{text}}}')
            except DecodeError:
                continue
            assert type(error) is StepFailedError or (part == "errors" and type(error) is ValueError)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_a_class_that_is_no_exception_is_a_step_failed_error(name: str) -> None:
    text = json.dumps({"type": name, "message": "m", "args": ["true"], "attributes": {"a": 1}})
    assert type(decode_error(text)) is StepFailedError


def test_making_a_dataclass_a_model_and_an_exception_runs_no_constructor_and_no_setter() -> None:
    assert Codec().decode(tagged("dataclass", {"n": 4}, type_name(Bomb))).n == 4
    assert Codec().decode(tagged("pydantic", {"n": 4}, type_name(Watched))).n == 4
    attributes = {"level": 5, "__class__": 1, "__dict__": {"a": 1}, "other": 2}
    for made in (
        Codec().decode(tagged("exception", attributes, type_name(Raised), args=["x"])),
        decode_error(json.dumps({"type": type_name(Raised), "message": "", "args": ["x"], "attributes": attributes})),
    ):
        assert type(made) is Raised and made.args == ("x",) and made.level == 0 and made.other == 2


def test_an_exception_of_the_users_is_recorded_and_read_without_its_constructor() -> None:
    error = Raised("x")
    ran.clear()
    assert decode_error(encode_error(error)).args == ("x",)
    assert Codec().decode(Codec().encode(error)).args == ("x",)


def test_a_generic_model_is_not_nested_without_end() -> None:
    name = f"{type_name(Page)}[builtins:int]"
    for _ in range(60):
        name = f"{type_name(Page)}[{name}]"
    with pytest.raises(DecodeError, match="not known here"):
        Codec().decode(tagged("pydantic", {"entries": []}, name))
