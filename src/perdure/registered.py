"""Types that say themselves how they are recorded: by hooks in the class, or by `register`.

A class with hooks:

    class Money:
        __perdure_version__ = 2
        def __perdure_encode__(self) -> object: return [self.amount, self.currency]
        @classmethod
        def __perdure_decode__(cls, data, version):
            return cls(*data) if version == 2 else cls(data, "EUR")

The version is recorded with the data and handed to the decoder, so that data of old code can be migrated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from perdure.classes import describe, type_name
from perdure.errors import DecodeError

T = TypeVar("T")


class Hooks(NamedTuple):
    """How one class is written and read."""

    name: str
    version: int
    encode: Callable[[Any], object]
    decode: Callable[[Any, int], Any]


BY_TYPE: dict[type, Hooks] = {}
_BY_NAME: dict[str, tuple[type, Hooks]] = {}
# Their texts are written without a look at this table.
_BUILT_IN = (str, int, float, bool, type(None), list, dict, tuple, set, frozenset, bytes, complex)


def register(
    type: type[T],
    encode: Callable[[T], object],
    decode: Callable[[Any, int], T],
    name: str | None = None,
    version: int = 1,
) -> None:
    """Say how the values of a class that is not yours are recorded. Do it at import, wherever the class is used.

    `encode(value)` gives what is recorded instead, of any type that Perdure knows; `decode(data, version)` gives
    the value back, `version` being the one that was registered when it was written. `name` is what the class is
    called in the recorded texts, by default its module and name. Only the class itself, not its subclasses.
    Registering a class again replaces what was said before.

    Raises `TypeError` for what is not a class, for Python's own basic types and for what cannot be called,
    `ValueError` for a version below 1 or a name that another class has.

        register(Fraction, str, lambda data, version: Fraction(data))
    """
    given: Any = type
    if not inspect.isclass(given) or given in _BUILT_IN:
        raise TypeError(f"cannot register {type!r}: it is not a class, or one that Python and Perdure know")
    if not all(map(callable, (encode, decode))):
        raise TypeError(f"cannot register {describe(type)}: encode and decode are functions")
    _check_version(version, describe(type))
    chosen = name or type_name(type)
    taken = _BY_NAME.get(chosen)
    if taken is not None and type_name(taken[0]) != type_name(type):
        raise ValueError(f"cannot register {describe(type)}: {describe(taken[0])} has the name {chosen!r}")
    hooks = Hooks(chosen, version, encode, decode)
    BY_TYPE[type] = hooks
    _BY_NAME[chosen] = (type, hooks)


def hooks_of(cls: type) -> Hooks | None:
    """The hooks that the class has itself or inherited; None if it has none.

    Raises `TypeError` if only one of the two is there, `ValueError` for a version that is none.
    """
    encode = getattr(cls, "__perdure_encode__", None)
    decode = getattr(cls, "__perdure_decode__", None)
    if encode is None and decode is None:
        return None
    if encode is None or decode is None:
        raise TypeError(f"{describe(cls)} needs both __perdure_encode__ and __perdure_decode__")
    version = getattr(cls, "__perdure_version__", 1)
    _check_version(version, describe(cls))
    return Hooks(type_name(cls), version, encode, decode)


def registered_as(name: str) -> tuple[type, Hooks]:
    """The class registered under this name, and its hooks. Raises `DecodeError` if there is none."""
    found = _BY_NAME.get(name)
    if found is None:
        raise DecodeError(f"the recorded type {name!r} is not registered here: call perdure.register for it first")
    return found


def make(cls: type, hooks: Hooks, data: Any, version: Any) -> Any:
    """The value of recorded data.

    Raises `DecodeError` if the data is newer than the code, or if the decoder raises or gives something else.
    """
    if type(version) is not int or version < 1:
        raise DecodeError(f"the recorded {hooks.name} is damaged: {version!r:.80} is no version")
    if version > hooks.version:
        raise DecodeError(
            f"{hooks.name} was recorded in version {version}, and the code here knows it up to {hooks.version}:"
            " run the newer code"
        )
    try:
        made = hooks.decode(data, version)
    except MemoryError:
        raise
    except Exception as error:
        # The user's code.
        words = f"the recorded {hooks.name} cannot be decoded: {type(error).__name__}: {error}"
        raise DecodeError(words) from error
    if not isinstance(made, cls):
        raise DecodeError(f"the recorded {hooks.name} was decoded to a {describe(type(made))}")
    return made


def _check_version(version: object, name: str) -> None:
    if type(version) is not int or version < 1:
        raise ValueError(f"the version of {name} is a whole number from 1 on, not {version!r}")
