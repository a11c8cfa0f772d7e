"""A secret shows itself to nobody by accident, and is encoded only where it will be encrypted."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import date
from typing import Any

import pydantic
import pytest

from perdure.arguments import Arguments
from perdure.codec import ANY, Codec, Coder, decode_error, encode_error
from perdure.errors import DecodeError, EncodeError
from perdure.schema import schema_of
from perdure.secrets import SECRETS_ALLOWED, Secret, allowing_secrets


@dataclass
class Login:
    user: str
    password: Secret[str]


class Account(pydantic.BaseModel):
    name: str
    token: pydantic.SecretStr
    seed: pydantic.SecretBytes = pydantic.SecretBytes(b"s3cr3t")

    @pydantic.field_serializer("token")
    def _show(self, token: pydantic.SecretStr) -> str:
        return token.get_secret_value()


ACCOUNT = Account(name="ann", token=pydantic.SecretStr("s3cr3t"), seed=pydantic.SecretBytes(b"s3cr3t"))
HOLDERS = [
    (Secret("s3cr3t"), Secret[str]),
    ([{"a": Secret("s3cr3t")}], list),
    (Login("ann", Secret("s3cr3t")), Login),
    (ACCOUNT, Account),
    ([ACCOUNT], list[Account]),
    (pydantic.SecretStr("s3cr3t"), pydantic.SecretStr),
    (ValueError("no", Secret("s3cr3t")), ValueError),
]


def test_a_secret_prints_as_stars_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret("s3cr3t")
    with caplog.at_level(logging.INFO):
        logging.getLogger(__name__).info("%s %r %s", secret, secret, Login("ann", secret))
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{[secret]}", caplog.text):
        assert "s3cr3t" not in shown and "Secret('***')" in shown
    assert secret.reveal() == "s3cr3t" and not hasattr(secret, "__dict__")
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_secrets_are_equal_by_value_and_only_to_secrets() -> None:
    assert Secret(1) == Secret(1) and Secret(1) != Secret(2) and Secret(1) != 1
    assert len({Secret("a"), Secret("a")}) == 1
    with pytest.raises(TypeError):
        hash(Secret([]))


def test_a_secret_is_copied_but_not_pickled() -> None:
    secret = Secret([1])
    assert copy.copy(secret) == copy.deepcopy([secret])[0] == secret
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)


@pytest.mark.parametrize("value, hint", HOLDERS)
def test_where_nothing_encrypts_a_secret_is_refused(value: Any, hint: Any) -> None:
    for each in (hint, ANY, Any, dict):
        with pytest.raises(EncodeError, match="recorded only where it is encrypted: configure") as caught:
            Coder(each).record(value)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("value, hint", HOLDERS)
def test_where_the_engine_encrypts_a_secret_comes_back(value: Any, hint: Any) -> None:
    with allowing_secrets():
        texts = [Coder(each).record(value)[0] for each in (hint, ANY)]
    # Whoever has the text may read it: it was encrypted, and is decrypted by now.
    for text in texts:
        read = Coder(hint).decode(text)
        assert type(read) is type(value)
        assert read == value or (read.args == value.args)


def test_the_refusal_names_the_path() -> None:
    def call(login: Login) -> None: ...

    with pytest.raises(EncodeError, match=r"^login\.password: a perdure\.secrets\.Secret is recorded only"):
        Arguments(call, Codec()).bind((Login("ann", Secret("x")),), {})


def test_an_error_that_holds_a_secret_is_recorded_without_it() -> None:
    text = encode_error(ValueError("no", Secret("s3cr3t"), {"a": [Secret("s3cr3t")]}))
    assert "s3cr3t" not in text
    assert decode_error(text).args[1] == "Secret('***')"


def test_secrets_are_read_by_the_annotation_from_what_a_person_wrote() -> None:
    assert Coder(Secret[date]).decode('"2024-01-02"') == Secret(date(2024, 1, 2))
    assert Coder(Secret).decode("[1]") == Secret([1])
    assert Coder(Login).decode('{"user":"a","password":"b"}') == Login("a", Secret("b"))
    assert Coder(list[pydantic.SecretBytes]).decode('["b"]') == [pydantic.SecretBytes(b"b")]
    with pytest.raises(DecodeError, match=r"Expected `int`, got `str`"):
        Coder(Secret[int]).decode('"a"')
    assert json.loads(schema_of(Login) or "")["$defs"]["Login"]["properties"]["password"] == {"writeOnly": True}
    assert json.loads(schema_of(list[pydantic.SecretStr]) or "")["items"]["writeOnly"] is True


def test_what_one_engine_allows_another_does_not() -> None:
    async def encrypting() -> str:
        with allowing_secrets():
            await asyncio.sleep(0)
            return Coder().encode(Secret(1))

    async def plain() -> None:
        await asyncio.sleep(0)
        with pytest.raises(EncodeError):
            Coder().encode(Secret(1))

    async def both() -> None:
        await asyncio.gather(encrypting(), plain(), encrypting(), plain())

    asyncio.run(both())
    assert SECRETS_ALLOWED.get() is False


def test_tasks_and_threads_started_within_inherit_the_permission() -> None:
    with allowing_secrets(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(copy_context().run, Coder().encode, Secret(1)).result()
        with allowing_secrets(False), pytest.raises(EncodeError):
            Coder().encode(Secret(1))
        assert Coder().encode(Secret(1))


@pytest.mark.parametrize(
    "text",
    [
        '{"$":"secret","v":"x","t":"builtins:str"}',
        '{"$":"secret","v":1,"t":"pydantic.types:SecretStr"}',
        '{"$":"secret","v":"x","t":"pydantic.types:SecretBytes"}',
        '{"$":"secret","v":"x"}',
        '{"$":"secret","t":"perdure.secrets:Secret"}',
    ],
)
def test_a_damaged_secret_is_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError, match="recorded"):
        Coder().decode(text)
