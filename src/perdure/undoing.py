"""What a step's `undo=` is given, and whether it can take that: no I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from perdure.resources import wanted


@final
class _Unknown:
    """The type of `Unknown`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "perdure.Unknown"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "Unknown"


Unknown: Final = _Unknown()
"""What an undo is given for the result of a step of which nobody knows whether it happened."""


def body_of(undo: Any) -> Callable[..., Any]:
    """The function behind an undo, which may be a step."""
    function: Callable[..., Any] = getattr(undo, "__wrapped__", undo)
    return function


def check_undo(undo: Any, function: Callable[..., Any]) -> None:
    """Raises `TypeError` unless the undo takes the step's result and arguments, or the result alone, or nothing."""
    if not callable(undo):
        raise TypeError(f"undo= is a function, not {undo!r:.100}")
    try:
        taken = inspect.signature(function)
    except (TypeError, ValueError):
        return
    names = [p for p in taken.parameters.values() if p.name not in wanted(function)]
    positional = [p for p in names if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = {p.name: None for p in names if p.kind is p.KEYWORD_ONLY}
    fitted(undo, (None, *[None] * len(positional)), named)


def completed(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a step's call, with the defaults of those that were left out. Raises `TypeError`."""
    signature = inspect.signature(function)
    filled = wanted(function)
    plain = signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in filled])
    bound = plain.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.args, bound.kwargs


def fitted(undo: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What of the result and the arguments an undo is called with: all of them, or the result, or nothing.

    Raises `TypeError` for an undo that takes none of these.
    """
    function = body_of(undo)
    signature = inspect.signature(function)
    filled = wanted(function)
    plain = signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in filled])
    for some_args, some_kwargs in ((tuple(args), dict(kwargs)), (tuple(args[:1]), {}), ((), {})):
        try:
            plain.bind(*some_args, **some_kwargs)
        except TypeError:
            continue
        return some_args, some_kwargs
    name = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"undo={name} takes neither the step's result and its arguments, nor the result alone, nor nothing")
