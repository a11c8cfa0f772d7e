"""Values to ASCII JSON text and back: `decode(encode(v))` is `v` with the same type, or writing fails.

Three ways, the first that gives the value back exactly is taken:
1. plain: msgspec writes and reads; the bytes that `marshal` makes of the value and of its copy are equal,
   which compares the exact types of all that is in it, in C;
2. annotated: msgspec writes, and reads by the hint; value and copy are compared by `tags.same`;
3. tagged: see `tags`. A text that holds `"$":` is read by its tags, any other one by the hint.
"""

from __future__ import annotations

import json
import marshal
import re
import traceback
import types
from collections.abc import Callable, Collection
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final, Union, get_args, get_origin
from zlib import crc32

import msgspec

from perdure import hinted, registered, tags, unset
from perdure.errors import DecodeError, EncodeError, StepFailedError
from perdure.exceptions import attribute_names, is_exception, revive
from perdure.redaction import veiled
from perdure.shapes import has_hooks

MARK = tags.MARK
REFUSED = "~!"
"""Begins what stands for a payload that could not be opened: the reason follows. No JSON text begins so."""

TRACEBACK_LIMIT = 16 * 1024


class _Anything:
    """The type of `ANY`."""

    def __repr__(self) -> str:
        return "ANY"


ANY: Final[Any] = _Anything()
"""The hint of a value about which nothing is said."""

SCALARS: frozenset[type] = frozenset({str, int, float, bool, type(None)})
_NO_SCALARS: frozenset[type] = frozenset()
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode
_encode_custom = msgspec.json.Encoder(enc_hook=hinted.to_plain).encode
_encode_custom_sorted = msgspec.json.Encoder(enc_hook=hinted.to_plain, order="deterministic").encode
_decode_any = msgspec.json.Decoder().decode
_marshal = marshal.dumps
_non_ascii = re.compile("[^\x00-\x7f]+").sub


def _escape(text: str) -> str:
    # Outside of strings JSON is ASCII, so whatever is not may be escaped where it stands.
    return _non_ascii(lambda run: quote(run.group())[1:-1], text)


def _is_any(hint: Any) -> bool:
    return hint is ANY or hint is Any or hint is object


def _is_plain(hint: Any) -> bool:
    """Does a value that fits the hint hold nothing but what marshal tells apart?"""
    if _is_any(hint) or hint is None or hint is Ellipsis or any(hint is t for t in (*SCALARS, list, dict, tuple)):
        return True
    if get_origin(hint) in (list, dict, tuple, Union, types.UnionType):
        return all(_is_plain(arg) for arg in get_args(hint))
    return False


def _scalars(hint: Any) -> frozenset[type]:
    """The scalar types whose plain text the hint reads back as they were."""
    if _is_any(hint):
        return SCALARS
    if hint is None:
        hint = type(None)
    if any(hint is t for t in SCALARS):
        return frozenset({hint})
    if get_origin(hint) in (Union, types.UnionType) and _is_plain(hint):
        return _NO_SCALARS.union(*map(_scalars, get_args(hint)))
    return _NO_SCALARS


class Coder:
    """Writes and reads the values of one hint. Made once a hint, by `Codec.coder`.

    `scalars`: the exact types for which `record` gives the value itself as the copy, without decoding
    (a float only if it is finite).
    """

    __slots__ = ("_classes", "_decode", "_encode", "_plain", "hint", "scalars")

    def __init__(self, hint: Any = ANY) -> None:
        self.hint = hint
        self.scalars = _scalars(hint)
        self._plain = _is_plain(hint)
        self._classes: frozenset[type] = frozenset()
        self._encode: Callable[[Any], bytes] = _encode
        self._decode: Callable[[str], Any] = _decode_any
        if not _is_any(hint):
            try:
                self._decode = hinted.decoder(hint)
                if not self._plain:
                    self._prepare(hinted.reach(hint))
            except Exception:
                # A hint that msgspec cannot read says nothing: such values are tagged.
                self._decode = _decode_any
                self._plain = True
                self.scalars = SCALARS

    def _prepare(self, reach: hinted.Reach) -> None:
        self._classes = reach.classes
        if any(map(has_hooks, reach.classes)):
            self._encode = hinted.refuse
        elif reach.custom:
            self._encode = _encode_custom_sorted if reach.sets else _encode_custom
        elif reach.sets:
            # Sets of strings come in another order in each process, and texts are compared.
            self._encode = _encode_sorted
        if reach.unset:
            self._encode = unset.complete(self._encode, self._decode)

    def record(self, value: Any, path: str = "value") -> tuple[str, Any]:
        """The value as ASCII JSON text, and the copy that `decode` makes of that text.

        `path` is what the value is called in errors. Exact immutable scalars are their own copy.
        Raises `EncodeError` that names the path to what cannot be recorded; nothing is lost silently.

            Coder(dict).record({"i": 1})   # ('{"i":1}', {'i': 1})
        """
        kind = type(value)
        if kind in self.scalars:
            if kind is str:
                if value.isascii():
                    return quote(value), value
            elif kind is int:
                if -0x8000000000000000 <= value <= 0xFFFFFFFFFFFFFFFF:
                    return repr(value), value
            elif kind is not float or value - value == 0.0:
                return _encode(value).decode(), value
        try:
            text = self._encode(value).decode()
            if MARK not in text:
                copy = self._decode(text)
                if _marshal(copy, 2) == _marshal(value, 2) if self._plain else self._is_same(value, copy):
                    return text if text.isascii() else _escape(text), copy
        except MemoryError:
            raise
        except Exception:
            # Whatever msgspec, marshal or the value's own methods object to, the tagged way decides.
            pass
        return self._record_tagged(value, path)

    def _is_same(self, value: Any, copy: Any) -> bool:
        # A class may have been registered since; its texts hold a version, and so a tag.
        return registered.BY_TYPE.keys().isdisjoint(self._classes) and tags.same(value, copy)

    def encode(self, value: Any, path: str = "value") -> str:
        """`record` without the copy."""
        return self.record(value, path)[0]

    def decode(self, text: str) -> Any:
        """The value of a recorded text: by its tags if it has any, else by the hint. Always a fresh one.

        Raises `DecodeError` for a damaged text, one that does not fit the hint, and classes not known here.
        """
        if MARK in text:
            return tags.load(text)
        try:
            return self._decode(text)
        except MemoryError:
            raise
        except Exception as error:
            # Not only msgspec's errors: a dataclass's `__post_init__` may raise anything.
            if text.startswith(REFUSED):
                raise DecodeError(text.removeprefix(REFUSED)) from None
            raise DecodeError(f"the recorded text does not fit {_name(self.hint)}: {error}") from error

    def _record_tagged(self, value: Any, path: str) -> tuple[str, Any]:
        try:
            text = tags.dump(tags.mark(value, path))
            if MARK not in text:
                try:
                    copy = self.decode(text)
                    if tags.same(value, copy):
                        return text, copy
                except DecodeError:
                    pass
                # Read by the hint it would become something else, so it says that it is plain.
                text = f'{{"$":"plain","v":{text}}}'
            copy = tags.load(text, path)
            if tags.same(value, copy):
                return text, copy
            path, value = tags.differing(value, copy, path)
        except (EncodeError, MemoryError):
            raise
        except DecodeError as error:
            raise EncodeError(f"{error}; what could not be read again is not recorded") from error.__cause__
        except RecursionError:
            raise EncodeError(f"{path}: cannot record what is nested so deeply, or holds itself") from None
        except Exception as error:
            raise EncodeError(f"{path}: cannot record this {tags.describe(type(value))}: {error}") from error
        raise EncodeError(f"{path}: cannot record this {tags.describe(type(value))}: it does not come back as it was")

    def __repr__(self) -> str:
        return f"Coder({_name(self.hint)})"


def _name(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else repr(hint)


class Codec:
    """Values to ASCII JSON text and back. Data only: reading imports nothing and runs no pickle.

    Knows the types of JSON, ints of any size, bytes, tuple, named tuples, set, frozenset, complex, datetime,
    date, time, timedelta, Decimal, UUID, paths, enums, exceptions (without their tracebacks), dataclasses, attrs
    classes, msgspec Structs, pydantic models, classes with hooks or registered ones (see `registered`), and
    where the text will be encrypted `Secret` and pydantic's secrets. All others raise `EncodeError`.
    """

    def __init__(self) -> None:
        self._coders: dict[Any, Coder] = {}
        self._unhashable: list[tuple[Any, Coder]] = []

    def coder(self, hint: Any = ANY) -> Coder:
        """The coder of a hint; the same one each time."""
        try:
            coder = self._coders.get(hint)
            if coder is None:
                coder = self._coders[hint] = Coder(hint)
            return coder
        except TypeError:
            for known, coder in self._unhashable:
                if known is hint:
                    return coder
            coder = Coder(hint)
            self._unhashable.append((hint, coder))
            return coder

    def encode(self, value: Any, hint: Any = ANY, path: str = "value") -> str:
        """The value as ASCII JSON text. Raises `EncodeError`, which names the path to the culprit."""
        return self.coder(hint).record(value, path)[0]

    def decode(self, text: str, hint: Any = ANY) -> Any:
        """The value of a recorded text, of the type it had. Raises `DecodeError`."""
        return self.coder(hint).decode(text)


def checksum(*texts: str | None) -> int:
    """One CRC-32 over all texts, in order; None and "" differ, and so does where one ends."""
    crc = 0
    try:
        for text in texts:
            crc = crc32(b"\xff" if text is None else text.encode(), crc + 1 & 0xFFFFFFFF)
    except UnicodeEncodeError:  # lone surrogates, in what somebody else has written
        crc = 0
        for text in texts:
            data = b"\xff" if text is None else text.encode("utf-8", "surrogatepass")
            crc = crc32(data, crc + 1 & 0xFFFFFFFF)
    return crc


# Errors -----------------------------------------------------------------------------------------------

_ANY_CODER = Coder(ANY)


def encode_error(exc: BaseException, hidden: Collection[str] = (), *, counts: bool = False) -> str:
    """The error as ASCII JSON text: type, message, args, attributes, traceback (its last 16 KiB), cause.

    Never raises, whatever the error's own methods do; args that cannot be recorded become their `repr`,
    such attributes are left out. Texts that are `hidden` are `***` wherever they stand in it; in one that `counts`
    (an outcome) only in the traceback.
    """
    try:
        tree = _error_tree(exc)
        tree["traceback"] = _traceback(exc, hidden)
        cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
        if cause is not None:
            tree["cause"] = {"type": tags.type_name(type(cause)), "message": _message(cause)}
        return tags.dump(_veiled(tree, hidden) if hidden and not counts else tree)
    except BaseException:
        # The error's methods may raise anything at all, and losing the outcome would be worse than its details.
        message = _message(exc)
        if hidden and not counts:
            message = veiled(message, hidden)
        return tags.dump({"type": _safe_name(type(exc)), "message": message, "args": [], "traceback": ""})


def _veiled(tree: dict[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    """The tree of an error without these texts. What its parts and its type are called stays."""
    shown: dict[str, Any] = {}
    for name, value in tree.items():
        if name == "errors":
            shown[name] = [_veiled(error, hidden) for error in value]
        elif name == "cause":
            shown[name] = _veiled(value, hidden)
        else:
            shown[name] = value if name == "type" else veiled(value, hidden)
    return shown


def decode_error(text: str) -> BaseException:
    """The error again: same type, args and message, if its class is imported here and is an `Exception` (or
    asyncio's `CancelledError`); else `StepFailedError("Type: message")`. No constructor of the user's runs.

    Raises `DecodeError` for a damaged text. `error_traceback` gives where it was raised.
    """
    return _rebuild(_parse_error(text))


def error_traceback(text: str) -> str:
    """The formatted traceback of a recorded error, at most its last 16 KiB. Raises `DecodeError`."""
    return str(_parse_error(text).get("traceback", ""))


def _error_tree(exc: BaseException) -> dict[str, Any]:
    tree: dict[str, Any] = {"type": tags.type_name(type(exc)), "message": _message(exc)}
    if isinstance(exc, BaseExceptionGroup):
        tree["errors"] = [_error_tree(error) for error in exc.exceptions]
        tree["args"] = [str(exc.message)]
    else:
        tree["args"] = [_argument(arg) for arg in exc.args]
    attributes = {}
    for name in attribute_names(exc):
        if name == "__notes__":  # in the traceback already
            continue
        try:
            value = getattr(exc, name)
            if value is not None:
                _ANY_CODER.record(value)
                attributes[name] = tags.mark(value, name)
        except Exception:
            # Unset, or something that cannot be recorded: then the rebuilt error goes without it.
            continue
    if attributes:
        tree["attributes"] = attributes
    return tree


def _argument(value: Any) -> Any:
    try:
        _ANY_CODER.record(value)
        return tags.mark(value, "argument")
    except Exception:
        try:
            return str.__str__(repr(value))
        except BaseException:
            # As in encode_error.
            return f"<{_safe_name(type(value))}>"


def _message(exc: BaseException) -> str:
    try:
        return str.__str__(str(exc))
    except BaseException as error:
        # As in encode_error.
        return f"<its __str__ raised {_safe_name(type(error))}>"


def _safe_name(cls: type) -> str:
    return type.__getattribute__(cls, "__name__")  # type: ignore[no-any-return]


def _traceback(exc: BaseException, hidden: Collection[str]) -> str:
    try:
        text = "".join(traceback.format_exception(exc))
    except Exception:
        text = "".join(traceback.format_tb(exc.__traceback__))
    if hidden:  # before it is cut, perhaps amidst one of them
        text = veiled(text, hidden)
    if len(quote(text)) > TRACEBACK_LIMIT:
        tail = text[-TRACEBACK_LIMIT + 2 :]
        # One character takes at most twelve as an escape.
        text = tail if len(quote(tail)) <= TRACEBACK_LIMIT else text[-TRACEBACK_LIMIT // 12 + 1 :]
    return text


def _parse_error(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
        if type(tree["type"]) is str and type(tree["message"]) is str:
            return tree  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DecodeError(f"the recorded error is damaged: {error}") from error
    raise DecodeError("the recorded error is damaged: it has no type and message")


def _rebuild(tree: dict[str, Any]) -> BaseException:
    cls = tags.find_type(tree["type"])
    if cls is not None and is_exception(cls):
        try:
            return _revive(cls, tree)
        except Exception:
            # Damaged args, an abstract class, a class that was given another base since.
            pass
    name = tree["type"].partition(":")[2] or tree["type"]
    return StepFailedError(f"{name}: {tree['message']}")


def _revive(cls: type, tree: dict[str, Any]) -> BaseException:
    args = tags.load(tags.dump(tree.get("args", [])))
    attributes = tags.load(tags.dump(tree.get("attributes", {})))
    errors = [_rebuild(error) for error in tree["errors"]] if issubclass(cls, BaseExceptionGroup) else None
    return revive(cls, args, attributes, errors)


CODEC = Codec()
"""The default codec: data only."""
