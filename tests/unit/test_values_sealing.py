"""Sealed texts open with their key at their place, and nothing else opens."""

from __future__ import annotations

import base64
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.codec import Coder
from perdure.errors import DecodeError, EncodeError, PerdureError
from perdure.protection import Protection
from perdure.sealing import Encryption, generate_key
from perdure.secrets import Secret

NEW, OLD = bytes(range(32)), bytes(32)
PLACE = {"execution_id": "e1", "key": "charge#1", "column": "output"}
KEY = base64.b64encode(NEW).decode()
NOW = Encryption({"new": NEW, "old": OLD})


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None)), st.text(), st.text(), st.text())
def test_a_sealed_text_opens_at_its_place(text: str, execution_id: str, key: str, column: str) -> None:
    place = {"execution_id": execution_id, "key": key, "column": column}
    sealed = NOW.seal(text, **place)
    assert sealed.isascii() and sealed.startswith("~e1:new:")
    assert NOW.open(sealed, **place) == text


def test_a_text_shows_nothing_and_is_sealed_anew_each_time() -> None:
    first, second = NOW.seal('"s3cr3t"', **PLACE), NOW.seal('"s3cr3t"', **PLACE)
    assert first != second
    assert b"s3cr3t" not in base64.b64decode(first.split(":")[2])


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"execution_id": "e2"},
        {"key": "charge#2"},
        {"column": "input"},
        {"execution_id": "e1c", "key": "harge#1"},
        {"key": "charge#", "column": "1output"},
    ],
)
def test_a_text_moved_to_another_place_does_not_open(elsewhere: dict[str, str]) -> None:
    with pytest.raises(DecodeError, match=r"does not open with the key 'new'.*moved") as caught:
        NOW.open(NOW.seal("5", **PLACE), **{**PLACE, **elsewhere})
    assert caught.value.execution_id == {**PLACE, **elsewhere}["execution_id"]


def test_a_text_changed_anywhere_does_not_open() -> None:
    sealed = NOW.seal('{"a":1}', **PLACE)
    for at in range(len(sealed)):
        for sign in ("A", "!", ""):
            changed = sealed[:at] + sign + sealed[at + 1 :]
            if changed != sealed:
                with pytest.raises(DecodeError):
                    NOW.open(changed, **PLACE)


@pytest.mark.parametrize("text", ["~e1:", "~e1:new", "~e1:new:", "~e1:new:AAAA", "~e1:new:é", "~e1:gone:AAAA", "~e9:x"])
def test_a_text_that_is_no_sealed_one_is_a_decode_error(text: str) -> None:
    for encryption in (NOW, Encryption({"new": NEW}, accept_plain=True)):
        with pytest.raises(DecodeError, match="output of charge#1 in e1 "):
            encryption.open(text, **PLACE)


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    before = Encryption({"old": OLD})
    sealed = before.seal("1", **PLACE)
    assert NOW.open(sealed, **PLACE) == "1"
    assert NOW.current == "new" and NOW.seal("1", **PLACE).startswith("~e1:new:")
    with pytest.raises(DecodeError, match="encrypted with the key 'new', which is not here"):
        before.open(NOW.seal("1", **PLACE), **PLACE)
    with pytest.raises(DecodeError, match="does not open"):
        Encryption({"old": NEW}).open(sealed, **PLACE)


def test_plain_text_is_refused_but_in_a_migration() -> None:
    for text in ('{"a":1}', "", "null", "e1:new:AAAA"):
        with pytest.raises(DecodeError, match="is not encrypted, and this engine reads only what is"):
            NOW.open(text, **PLACE)
        assert Encryption({"new": NEW}, accept_plain=True).open(text, **PLACE) == text


def test_keys_are_read_from_text() -> None:
    key = generate_key()
    assert len(base64.b64decode(key)) == 32 and key != generate_key()
    encryption = Encryption.from_text(f" a:{key}, b:{generate_key()} ,")
    assert encryption.current == "a"
    assert Encryption({"a": base64.b64decode(key)}).open(encryption.seal("1", **PLACE), **PLACE) == "1"
    assert repr(encryption) == "Encryption(a, b)"


@pytest.mark.parametrize("text", ["", "abc", "a:short", "a:!!", ":" + KEY, "a b:" + KEY])
def test_keys_that_are_none_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Encryption.from_text(text)
    assert len(text) < 10 or text.split(":")[1] not in str(caught.value)


def test_the_same_id_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two keys of the id 'a'"):
        Encryption.from_text(f"a:{generate_key()},a:{generate_key()}")


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(PerdureError, match=r"pip install 'perdure\[encryption\]'"):
        Encryption({"new": NEW})


def test_the_format_never_changes_between_versions() -> None:
    sealed = "~e1:old:Bw+64hbXzRTmPKVVgRashuIDM5Hz9QoweQOU5j0w0dRWNDw="
    assert Encryption({"old": OLD}).open(sealed, **PLACE) == '{"a":1}'


def test_an_engine_without_encryption_writes_as_it_is_and_does_not_take_sealed_text_for_json() -> None:
    plain, sealing = Protection(), Protection(NOW)
    assert plain.seal("5", **PLACE) == plain.open("5", **PLACE) == "5"
    assert sealing.open(sealing.seal("5", **PLACE), **PLACE) == "5"
    with pytest.raises(DecodeError, match="is encrypted, and this engine has no keys"):
        plain.open(sealing.seal("5", **PLACE), **PLACE)
    with pytest.raises(DecodeError, match="is not encrypted"):
        sealing.open("5", **PLACE)


def test_secrets_are_allowed_by_an_engine_that_encrypts_and_by_no_other() -> None:
    with Protection(NOW).encoding():
        text = Coder().encode(Secret("x"))
        with Protection().encoding(), pytest.raises(EncodeError):
            Coder().encode(Secret("x"))
    assert Coder().decode(text) == Secret("x")


def test_what_is_shown_is_redacted_as_the_engine_says() -> None:
    def redact(name: str, value: Any) -> Any:
        return value[-2:] if name == "card" else value

    tree = {"card": "4242", "token": "t", "pin": 1}
    assert Protection().redacted(tree) == {"card": "4242", "token": "***", "pin": 1}
    shown = Protection(names=frozenset({"pin"}), redact=redact).redacted(tree)
    assert shown == {"card": "42", "token": "t", "pin": "***"}
