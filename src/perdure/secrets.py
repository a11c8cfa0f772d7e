"""`Secret[T]`: a value that is shown to nobody by accident, and recorded only where it is encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")

SECRETS_ALLOWED: ContextVar[bool] = ContextVar("perdure_secrets_allowed", default=False)
"""Is what is encoded here going to be encrypted before it is written?

A variable of the context, and not a flag of the codec or the process: coders are made once a function and know
no engine, one process may hold an engine that encrypts and one that does not, and tasks and threads that an
engine starts inherit its context. Whoever forgets to set it gets an `EncodeError`, never a plain secret.
"""


@contextmanager
def allowing_secrets(allowed: bool = True) -> Iterator[None]:
    """Within the block, and in tasks started there, secrets may be encoded: the caller encrypts the text.

    with allowing_secrets(): text = codec.encode(value)
    """
    token = SECRETS_ALLOWED.set(allowed)
    try:
        yield
    finally:
        SECRETS_ALLOWED.reset(token)


class Secret(Generic[T]):
    """A value that prints as `Secret('***')`. It is recorded only by an engine that encrypts, else `EncodeError`.

    Equal to another Secret of an equal value; hashable if the value is. It refuses to be pickled (`TypeError`).

        Secret("s3cr3t").reveal()   # 's3cr3t'
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret[T]:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: the pickle would hold the value in plain; reveal() it if you must")
