"""Recorded texts encrypted: `~e1:KEYID:BASE64`, AES-256-GCM, bound to the place where they stand.

No JSON text begins with `~`, so a sealed text and a plain one are never taken for each other. The key that seals
is derived from the configured one for each execution: nonces are random, and under one key AES-GCM admits 2**32
of them, which a busy engine would have used up within days.

Needs the package cryptography: `pip install 'perdure[encryption]'`.
"""

from __future__ import annotations

import base64
import hmac
import importlib
import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from perdure.errors import DecodeError, PerdureError

PREFIX = "~e1:"
SEALED = "~e"
"""Begins every encrypted text, of this version or another."""

_NONCE_BYTES = 12
_KEY_BYTES = 32
_is_id = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch


def generate_key() -> str:
    """A new random key as text, for the place where the secrets of your deployment are kept."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


class Encryption:
    """Seals texts by the first key, opens those that any of the keys sealed.

    `keys`: by id (letters, digits, `_`, `.`, `-`, at most 64), 32 bytes each. To change the key put the new one
    first and keep the old ones as long as there are texts of theirs. `accept_plain=True` also reads texts that were
    never encrypted: for the time of a migration only, since somebody who can write into the database can then
    write what he likes.

    Raises `PerdureError` if cryptography is not installed, `ValueError` for keys that are none.

        Encryption({"2025": new, "2024": old})
        Encryption.from_text("2025:BASE64,2024:BASE64")
    """

    def __init__(self, keys: Mapping[str, bytes], *, accept_plain: bool = False) -> None:
        if not keys:
            raise ValueError("encryption needs a key: generate_key() makes one")
        for key_id, key in keys.items():
            if not _is_id(key_id):
                raise ValueError(f"{key_id!r} is no id of a key: letters, digits, '_', '.' and '-', at most 64")
            if len(memoryview(key)) != _KEY_BYTES:
                raise ValueError(f"the key {key_id!r} is not {_KEY_BYTES} bytes long: generate_key() makes one that is")
        self._keys = dict(keys)
        self._cipher = _load_cipher()
        self._invalid = importlib.import_module("cryptography.exceptions").InvalidTag
        self._current = next(iter(self._keys))
        self._accept_plain = accept_plain
        # A cache: to derive a key takes longer than to seal a short text.
        self._of_execution = lru_cache(maxsize=1024)(self._derive)

    @classmethod
    def from_text(cls, text: str, *, accept_plain: bool = False) -> Encryption:
        """`ID:KEY,ID:KEY`, the current one first, each key as `generate_key` gives it. Raises `ValueError`."""
        keys = {}
        for part in filter(None, map(str.strip, text.split(","))):
            key_id, _, key = part.partition(":")
            if key_id in keys:
                raise ValueError(f"there are two keys of the id {key_id!r}")
            try:
                keys[key_id] = base64.b64decode(key, validate=True)
            except ValueError:
                # Without the text: it may be a key with a typing error.
                raise ValueError("the keys are written as ID:KEY,ID:KEY, each key in base64") from None
        return cls(keys, accept_plain=accept_plain)

    @property
    def current(self) -> str:
        """The id of the key that seals."""
        return self._current

    def seal(self, text: str, *, execution_id: str, key: str, column: str) -> str:
        """The text encrypted, so that it opens at this place only. ASCII, 4/3 of the text and some 50 characters."""
        nonce = os.urandom(_NONCE_BYTES)
        bound = _bound(self._current, execution_id, key, column)
        cipher = self._of_execution(self._current, execution_id)
        data = nonce + cipher.encrypt(nonce, text.encode("utf-8", "surrogatepass"), bound)
        return f"{PREFIX}{self._current}:{base64.b64encode(data).decode()}"

    def open(self, text: str, *, execution_id: str, key: str, column: str) -> str:
        """The text that was sealed at this place.

        Raises `DecodeError` for a text that is plain (unless `accept_plain`), was sealed by a key that is not here,
        comes from another execution, key or column, or was changed.
        """
        if not text.startswith(PREFIX):
            if text.startswith(SEALED):
                raise _refusal("was encrypted in a way that this version does not know", execution_id, key, column)
            if self._accept_plain:
                return text
            raise _refusal("is not encrypted, and this engine reads only what is", execution_id, key, column)
        key_id, _, coded = text[len(PREFIX) :].partition(":")
        if key_id not in self._keys:
            raise _refusal(f"was encrypted with the key {key_id!r:.80}, which is not here", execution_id, key, column)
        try:
            data = base64.b64decode(coded, validate=True)
            cipher = self._of_execution(key_id, execution_id)
            plain = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound(key_id, execution_id, key, column))
            return str(plain.decode("utf-8", "surrogatepass"))
        except (ValueError, self._invalid) as error:
            words = f"does not open with the key {key_id!r}: it is damaged, or was moved here from another place"
            raise _refusal(words, execution_id, key, column) from error

    def fingerprints(self, number: int, execution_id: str) -> list[int]:
        """A number that says nothing of another one to who has no key: one by each key, the current one first."""
        what = f"{number}\0{execution_id}".encode("utf-8", "surrogatepass")
        return [int.from_bytes(hmac.digest(key, b"sum\0" + what, "sha256")[:4], "big") for key in self._keys.values()]

    def _derive(self, key_id: str, execution_id: str) -> Any:
        name = b"perdure e1\0" + execution_id.encode("utf-8", "surrogatepass")
        return self._cipher(hmac.digest(self._keys[key_id], name, "sha256"))

    def __repr__(self) -> str:
        return f"Encryption({', '.join(self._keys)})"


def _bound(key_id: str, execution_id: str, key: str, column: str) -> bytes:
    # As JSON, which tells where one part ends and the next begins.
    return json.dumps([key_id, execution_id, key, column]).encode()


def _refusal(words: str, execution_id: str, key: str, column: str) -> DecodeError:
    return DecodeError(f"{column} of {key} in {execution_id} {words}", execution_id=execution_id, key=key)


def _load_cipher() -> Any:
    # Asked for by name when an engine encrypts: an extra, and slow to import for everybody else.
    try:
        return importlib.import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCM
    except ImportError as error:
        raise PerdureError("encryption needs the package cryptography: pip install 'perdure[encryption]'") from error
