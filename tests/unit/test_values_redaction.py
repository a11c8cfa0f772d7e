"""What is shown holds no secret that its name or its type gives away; and showing never fails."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.codec import Coder
from perdure.redaction import redact
from perdure.secrets import Secret, allowing_secrets


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "userPassword", "mypassword", "passwd", "db-pwd", "passphrase"),
        *("secret", "client_secret", "clientsecret", "Secrets", "token", "access_token", "accessToken", "authtoken"),
        *("key", "api_key", "apiKey", "API-KEYS", "apikey", "X-API-Key", "private.key", "AWSKey"),
        *("auth", "Authorization", "oauth2", "basic_auth", "cookie", "Set-Cookie", "cookies", "credentials"),
    ],
)
def test_a_value_is_hidden_by_its_name(name: str) -> None:
    for value in ("x", 5, None, ["x"], {"deep": "x"}):
        assert redact({"a": [{name: value, "b": 1}]}) == {"a": [{name: "***", "b": 1}]}


@pytest.mark.parametrize(
    "name", ["monkey", "keyboard", "author", "tokenizer", "secretary", "passenger", "turkeys", "", "7"]
)
def test_a_name_that_only_looks_alike_is_shown(name: str) -> None:
    assert redact({name: "x"}) == {name: "x"}


def test_a_count_of_tokens_is_shown_and_tokens_are_not() -> None:
    assert redact({"input_tokens": 512, "tokens": ["t"]}) == {"input_tokens": 512, "tokens": "***"}


def test_a_secret_is_hidden_by_its_type_whatever_its_name() -> None:
    with allowing_secrets():
        text = Coder().encode({"a": Secret("s3cr3t"), 1: [pydantic.SecretStr("s3cr3t")]})
    assert "s3cr3t" in text and "s3cr3t" not in json.dumps(redact(json.loads(text)))


def test_dicts_that_are_written_as_pairs_are_redacted_by_their_keys() -> None:
    tree = json.loads(Coder().encode({"$": 1, "password": "x", 2: {"token": "y"}, (1, 2): "z"}))
    shown = json.dumps(redact(tree))
    assert '"x"' not in shown and '"y"' not in shown and '"z"' in shown


def test_the_users_function_is_asked_of_what_is_left() -> None:
    asked = []

    def shorten(name: str, value: Any) -> Any:
        asked.append(name)
        return f"...{value[-4:]}" if name == "card" else value

    tree = {"card": "4242424242424242", "token": "t", "more": {"card": "12345"}}
    assert redact(tree, fn=shorten) == {"card": "...4242", "token": "***", "more": {"card": "...2345"}}
    assert asked == ["card", "more", "card"]


def test_a_function_that_fails_hides_the_value() -> None:
    def broken(name: str, value: Any) -> Any:
        return {"a": 1 / 0} if name == "a" else object()

    assert redact({"a": 1, "b": 2}, fn=broken) == {"a": "***", "b": "***"}


def test_names_of_the_users_replace_the_default_ones() -> None:
    assert redact({"IBAN": "x", "token": "y"}, names={"iban"}) == {"IBAN": "***", "token": "y"}


def test_the_tree_itself_is_left_as_it_was() -> None:
    tree = {"a": [{"token": "x"}]}
    redact(tree)
    assert tree == {"a": [{"token": "x"}]}


def test_what_nests_too_deeply_is_hidden() -> None:
    deep: Any = "s3cr3t"
    for _ in range(5_000):
        deep = [deep]
    assert "s3cr3t" not in json.dumps(redact(deep))


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary() | st.just(object()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$", "v"]) | st.integers(), inner),
        max_leaves=10,
    )
)
def test_nothing_makes_it_raise(tree: Any) -> None:
    redact(tree)
    redact({"$": "dict", "v": tree})
    assert redact({"token": tree}) == {"token": "***"}
