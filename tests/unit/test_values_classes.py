"""Objects of libraries and of the user's own: how they look in the text, what is refused, what old texts become."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import attrs
import pydantic
import pytest

from perdure.classes import find_type, type_name
from perdure.codec import ANY, Coder
from perdure.errors import DecodeError, EncodeError
from perdure.schema import check, schema_of
from tests.unit.value_kinds import (
    Address,
    Aliased,
    Car,
    Customer,
    Declined,
    Garage,
    Item,
    Loose,
    Numbers,
    Order,
    Page,
    Plate,
    picture,
)

HERE = "tests.unit.value_kinds"


@pytest.mark.parametrize(
    "value, hint, text",
    [
        (Numbers([1, 2]), Numbers, "[1,2]"),
        (Aliased(theWidth=3), Aliased, '{"theWidth":3}'),
        (Page[int](entries=[1]), Page[int], '{"entries":[1]}'),
        (Loose(n=1, more=2), Loose, '{"n":1,"more":2}'),
        (Garage([Car(4)]), Garage, '{"cars":[{"wheels":4}]}'),
        (Plate("é"), Plate, '{"text":"\\u00e9"}'),
        ([Path("a/b")], list[Path], '["a/b"]'),
        (PurePosixPath("/a"), PurePosixPath, '"/a"'),
        ({"street": "x"}, Address, '{"street":"x"}'),
        (
            Customer(name="a", limits={"x": {Decimal(2), Decimal(1)}}, parent=None, anything=[1]),
            Customer,
            '{"anything":[1],"limits":{"x":["1","2"]},"name":"a","parent":null}',
        ),
    ],
)
def test_by_the_annotation_the_text_is_plain_readable_json(value: Any, hint: Any, text: str) -> None:
    assert Coder(hint).record(value)[0] == text
    assert picture(Coder(hint).decode(text)) == picture(value)


@pytest.mark.parametrize(
    "hint, text, value",
    [
        (Customer, '{"name":"ann"}', Customer(name="ann")),
        (list[Customer] | None, '[{"name":"ann","limits":{"a":["1.5"]}}]', [Customer(name="ann", limits={"a": {1.5}})]),
        (Path, '"a/b"', Path("a/b")),
        (Order, '{"id":1,"items":[],"folder":"/x"}', Order(1, [], {}, Path("/x"))),
        (Page[Customer], '{"entries":[{"name":"ann"}]}', Page[Customer](entries=[Customer(name="ann")])),
    ],
)
def test_what_a_person_wrote_is_read_by_the_annotation_and_fits_its_schema(hint: Any, text: str, value: Any) -> None:
    read = Coder(hint).decode(text)
    assert read == value and type(read) is type(value)
    assert check(schema_of(hint), text) is None
    assert check(schema_of(hint), "5") is not None


@pytest.mark.parametrize(
    "hint, text, words",
    [
        (Customer, '{"name":5}', "name: Input should be a valid string"),
        (list[Aliased], '[{"theWidth":1},{}]', r"theWidth: Field required - at `\$\[1\]`"),
        (Path, "5", r"no pathlib\.\S*Path can be made of int"),
        (Customer, '{"name":"ann","limits":{"a":["s3cr3t"]}}', "valid decimal"),
    ],
)
def test_what_does_not_fit_is_told_by_place_and_not_by_value(hint: Any, text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words) as caught:
        Coder(hint).decode(text)
    assert "s3cr3t" not in str(caught.value)


def test_a_model_keeps_which_fields_were_given() -> None:
    value = Customer(name="a")
    for hint in (Customer, ANY):
        copy = Coder(hint).record(value)[1]
        assert copy.model_dump(exclude_unset=True) == {"name": "a"}
        assert copy == value


def test_a_model_that_its_validators_would_change_comes_back_as_it_was() -> None:
    value = Doubling(n=1)
    assert value.n == 2
    for hint in (Doubling, ANY):
        assert Coder(hint).record(value)[1].n == 2


class Doubling(pydantic.BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def _double(cls, n: int) -> int:
        return n * 2


def test_an_exception_comes_back_without_its_constructor_with_its_notes() -> None:
    error = Declined(code=5, card="42")
    error.add_note("tried twice")
    copy = Coder().record([error])[1][0]
    assert type(copy) is Declined and str(copy) == "card 42 declined" and copy.code == 5
    assert copy.__notes__ == ["tried twice"] and copy.__traceback__ is None


def test_an_exception_of_an_operation_comes_back_though_what_it_was_asked_of_cannot() -> None:
    for provoke in (lambda: object().missing, lambda: Path("/no/such").read_text(), lambda: {}["k"]):  # type: ignore[attr-defined]
        try:
            provoke()
        except Exception as error:
            copy = Coder().record(error)[1]
            assert type(copy) is type(error) and str(copy) == str(error)
        else:
            raise AssertionError


@pytest.mark.parametrize(
    "value, path",
    [
        ({"order": {"items": [1, {"price": object()}]}}, r"value\.order\.items\[1\]\.price: cannot record a object"),
        (Order(1, [Item("a", Decimal(1), object())]), r"value\.items\[0\]\.note: "),
        (Customer(name="a", anything=[object()]), r"value\.anything\[0\]: "),
        (Loose(n=1, more=object()), r"value\.more: "),
        (Garage([Car(1, object())]), r"value\.cars\[0\]\._owner: "),
        (ValueError("a", object()), r"value\.args\[1\]: "),
        (ExceptionGroup("g", [KeyError(object())]), r"value\.errors\[0\]\.args\[0\]: "),
        (KeyboardInterrupt(), "cannot record a KeyboardInterrupt"),
        (bytearray(b"a"), "cannot record a bytearray"),
        (range(3), "cannot record a range"),
        (Page[Any].model_construct(), "entries"),
    ],
)
@pytest.mark.parametrize("hint", [ANY, dict, Order, Customer], ids=repr)
def test_what_cannot_be_recorded_is_refused_at_the_call_with_its_path(value: Any, path: str, hint: Any) -> None:
    with pytest.raises(EncodeError, match=path):
        Coder(hint).record(value)


def test_a_local_class_is_refused_since_it_would_not_be_found_again() -> None:
    class Local(pydantic.BaseModel):
        n: int

    @attrs.define
    class Other:
        n: int

    for value in (Local(n=1), Other(1), Page[Local](entries=[])):
        with pytest.raises(EncodeError, match="is not found at"):
            Coder().record(value)


@pytest.mark.parametrize("name", ["value_kinds:Page[builtins:int]", f"{HERE}:Page[builtins:list[{HERE}:Item]]"])
def test_a_generic_model_is_named_by_its_arguments(name: str) -> None:
    name = name if name.startswith(HERE) else f"tests.unit.{name}"
    found = find_type(name)
    assert found is not None and type_name(found) == name


@pytest.mark.parametrize(
    "name",
    [
        f"{HERE}:Page[",
        f"{HERE}:Page[]",
        f"{HERE}:Page[builtins:int",
        f"{HERE}:Page[builtins:int]]",
        f"{HERE}:Page[builtins:int,builtins:int]",
        f"{HERE}:Page[gone:Item]",
        f"{HERE}:Customer[builtins:int]",
        f"{HERE}:Box[builtins:int]",
        "[" * 100_000,
        f"{HERE}:Page[" * 5_000,
        "builtins:list[builtins:int]",
        "Union[builtins:int,None]",
        "None",
        "?",
    ],
)
def test_a_name_that_is_none_finds_nothing(name: str) -> None:
    assert find_type(name) is None


@pytest.mark.parametrize("cls", [Customer, Car], ids=repr)
def test_a_field_added_since_takes_its_default_and_a_removed_one_is_dropped(cls: Any) -> None:
    tag, first = ("pydantic", "name") if cls is Customer else ("attrs", "wheels")
    old = {"$": tag, "v": {first: "x", "gone": 1}, "t": type_name(cls)}
    read = Coder().decode(json.dumps(old, separators=(",", ":")))
    assert getattr(read, first) == "x" and not hasattr(read, "gone")
    del old["v"][first]  # type: ignore[attr-defined]
    with pytest.raises(DecodeError, match=f"{first!r} that was not recorded and has no default"):
        Coder().decode(json.dumps([{"a": old}], separators=(",", ":")))


def test_a_fault_deep_in_a_text_is_told_with_its_path() -> None:
    text = '{"orders":[1,{"$":"dataclass","v":{"items":{"$":"tuple","v":[{"$":"gone","v":1}]}},"t":"a:B"}]}'
    with pytest.raises(DecodeError, match=r"^orders\[1\]\.items\[0\]: the recorded text has a tag"):
        Coder().decode(text)
    with pytest.raises(DecodeError, match=r"^\[0\]\['x y'\]: the recorded"):
        Coder().decode('[{"$":"dict","v":[["x y",{"$":"uuid","v":5}]]}]')


def test_a_path_of_another_system_is_refused_in_words() -> None:
    assert type(Coder().record(PureWindowsPath("C:\\a"))[1]) is PureWindowsPath
    foreign = "WindowsPath" if sys.platform != "win32" else "PosixPath"
    with pytest.raises(DecodeError, match="no path can be made of it"):
        Coder().decode(f'{{"$":"path","v":"a","t":"{foreign}"}}')


def test_neither_pydantic_nor_attrs_nor_cryptography_is_imported_by_us() -> None:
    code = (
        "import sys; from perdure.codec import Coder; import perdure.protection; Coder(dict).record({'a': (1, b'')});"
        "assert not {'pydantic', 'attr', 'attrs', 'cryptography'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
