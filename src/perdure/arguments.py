"""The arguments of a call as one JSON object `{parameter: value}`, and back.

Bound by the signature, in its order; defaults that were not given are omitted, so a default may change.
`*args` is a list and `**kwargs` an object under its name. Each value is written by its own annotation.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from json.encoder import encode_basestring_ascii as quote
from typing import Any

import msgspec

from perdure.codec import ANY, REFUSED, SCALARS, Codec
from perdure.errors import DecodeError, EncodeError
from perdure.tags import dump

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Arguments:
    """Binds, records and restores the arguments of one function. Made once a function.

    `names`: the parameters in order. `returns`: the coder of what the function returns.

        Arguments(charge, Codec()).bind((5,), {"note": "x"})   # ('{"amount":5,"note":"x"}', True)
    """

    __slots__ = (
        "_coders",
        "_function",
        "_head",
        "_high",
        "_high_alone",
        "_keywords",
        "_low",
        "_named_rest",
        "_parameters",
        "_positional",
        "_required",
        "_rest",
        "_signature",
        "_simple",
        "name",
        "names",
        "returns",
    )

    def __init__(self, fn: Callable[..., Any], codec: Codec, without: Collection[str] = ()) -> None:
        self._function = fn
        self._signature = inspect.signature(fn)
        if without:  # parameters that somebody else fills, and that are not recorded
            kept = [p for p in self._signature.parameters.values() if p.name not in without]
            self._signature = self._signature.replace(parameters=kept)
        self._parameters = tuple(self._signature.parameters.values())
        self.name: str = getattr(fn, "__qualname__", None) or repr(fn)
        self.names = tuple(p.name for p in self._parameters)
        hints = hints_of(fn)
        self._coders = {name: codec.coder(hints.get(name, ANY)) for name in self.names}
        self.returns = codec.coder(hints.get("return", ANY))

        positional = [p for p in self._parameters if p.kind in _POSITIONAL]
        required = [p.name for p in self._parameters if p.kind not in _VARIABLE and p.default is Parameter.empty]
        self._required = frozenset(required)
        self._keywords = tuple(p.name for p in self._parameters if p.kind in _BY_NAME)
        self._positional = tuple((p.name, self._coders[p.name].scalars) for p in positional)
        self._simple = all(p.kind not in _VARIABLE for p in self._parameters)
        self._low = sum(p.name in self._required for p in positional)
        self._high = len(positional)
        self._rest = next((p.name for p in self._parameters if p.kind is Parameter.VAR_POSITIONAL), None)
        self._named_rest = next((p.name for p in self._parameters if p.kind is Parameter.VAR_KEYWORD), None)
        # What the text of a call begins with if it gives the first parameter alone.
        self._head = f"{{{quote(positional[0].name)}:" if positional else ""
        # -1: positional arguments alone never make a call.
        self._high_alone = self._high if self._required.issubset(self.names[: self._high]) else -1

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, bool]:
        """The arguments as ASCII JSON text, and whether all are exact immutable scalars (which need no copy).

        Raises `TypeError`, worded as the call itself would, if they do not fit the signature, and
        `EncodeError` that names parameter and path (`order.items[2]`) of what cannot be recorded.
        """
        bound: dict[str, Any] | None = None
        if not kwargs and self._low <= len(args) <= self._high_alone:
            if len(args) == 1:
                value = args[0]
                kind = type(value)
                if kind in self._positional[0][1]:
                    if kind is int:
                        if -0x8000000000000000 <= value <= 0xFFFFFFFFFFFFFFFF:
                            return f"{self._head}{value}}}", True
                    elif kind is str and value.isascii():
                        return f"{self._head}{quote(value)}}}", True
            bound = {}
            scalar = True
            for (name, scalars), value in zip(self._positional, args):  # noqa: B905 - defaults are left out
                kind = type(value)
                if kind not in scalars or (kind is float and value - value != 0.0):
                    scalar = False
                bound[name] = value
            if scalar:
                text = self._encode_scalars(bound)
                if text is not None:
                    return text, True
        return self._bind(args, kwargs, bound)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], bound: dict[str, Any] | None) -> tuple[str, bool]:
        if bound is None and self._simple:
            bound = self._bind_simple(args, kwargs)
            if bound is not None and all(self._is_scalar(name, value) for name, value in bound.items()):
                text = self._encode_scalars(bound)
                if text is not None:
                    return text, True
        if bound is None:
            try:
                bound = self._signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                self._refuse(args, kwargs)
                raise TypeError(f"{self.name}() {error}") from None
        members = []
        scalar = True
        for name, value in bound.items():
            record = self._coders[name].record
            if name == self._rest:
                texts = [record(item, f"{name}[{i}]")[0] for i, item in enumerate(value)]
                members.append(f"{quote(name)}:[{','.join(texts)}]")
                scalar = scalar and all(type(item) in SCALARS for item in value)
            elif name == self._named_rest:
                texts = [f"{quote(key)}:{record(item, f'{name}.{key}')[0]}" for key, item in value.items()]
                members.append(f"{quote(name)}:{{{','.join(texts)}}}")
                scalar = scalar and all(type(item) in SCALARS for item in value.values())
            else:
                members.append(f"{quote(name)}:{record(value, name)[0]}")
                scalar = scalar and type(value) in SCALARS
        return "{" + ",".join(members) + "}", scalar

    def _bind_simple(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `Signature.bind` gives for a signature without `*args` and `**kwargs`, several times faster."""
        if len(args) > self._high:
            return None
        bound = dict(zip(self.names, args))  # noqa: B905 - defaults are left out
        for name in self._keywords:  # in the signature's order, not the caller's
            if name in kwargs:
                bound[name] = kwargs[name]
        # A name given twice, or one that is not a parameter, makes the lengths differ.
        if len(bound) == len(args) + len(kwargs) and bound.keys() >= self._required:
            return bound
        return None

    def _is_scalar(self, name: str, value: Any) -> bool:
        kind = type(value)
        return kind in self._coders[name].scalars and (kind is not float or value - value == 0.0)

    def _encode_scalars(self, bound: dict[str, Any]) -> str | None:
        try:
            text = _encode(bound).decode()
        except (UnicodeEncodeError, OverflowError, ValueError):
            # Lone surrogates, and integers beyond what msgspec writes.
            return None
        return text if text.isascii() else None

    def _refuse(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise the interpreter's own error for arguments that do not fit the signature."""
        fn = self._function
        # Only where the signature is the function's own: then the call fails before its body.
        if type(fn) is types.FunctionType and not {"__wrapped__", "__signature__"} & fn.__dict__.keys():
            fn(*args, **kwargs)

    def unbind(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh copies of the recorded arguments, ready for `fn(*args, **kwargs)`.

        Raises `DecodeError`, naming function and parameter, if the function does not take them any more.
        """
        given = self._members(text, "the recorded arguments")
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        gap = False  # a parameter before was left out, so that what follows goes by name
        for parameter in self._parameters:
            name, kind = parameter.name, parameter.kind
            recorded = given.pop(name, None)
            if recorded is None:
                gap = True
                if name in self._required:
                    raise DecodeError(f"{self.name}() needs {name!r}, which was not recorded: give it a default")
            elif kind is Parameter.VAR_KEYWORD:
                for key, item in self._members(recorded, name).items():
                    if key in self._keywords:
                        raise DecodeError(f"{self.name}() has a parameter {key!r} now, recorded as one of **{name}")
                    kwargs[key] = self._decode(name, f"{name}.{key}", item)
            elif kind is Parameter.VAR_POSITIONAL:
                items = self._list(recorded, name)
                if items and gap:
                    raise DecodeError(f"{self.name}() has parameters before *{name} that were not recorded")
                args += [self._decode(name, f"{name}[{i}]", item) for i, item in enumerate(items)]
            elif kind is Parameter.KEYWORD_ONLY or (gap and kind is Parameter.POSITIONAL_OR_KEYWORD):
                kwargs[name] = self._decode(name, name, recorded)
            elif gap:
                raise DecodeError(f"{self.name}() has parameters before {name!r} that were not recorded")
            else:
                args.append(self._decode(name, name, recorded))
        if given:
            names = ", ".join(map(repr, given))
            raise DecodeError(f"{self.name}() has no parameter {names} any more, which was recorded")
        return tuple(args), kwargs

    def normalize(self, text: str) -> str:
        """The recorded arguments read by today's types and written again, for comparing (R8).

        Raises `DecodeError` as `unbind` does.
        """
        args, kwargs = self.unbind(text)
        try:
            return self.bind(args, kwargs)[0]
        except (EncodeError, TypeError) as error:
            raise DecodeError(f"{self.name}(): the recorded arguments do not fit: {error}") from error

    def _decode(self, parameter: str, path: str, text: str) -> Any:
        try:
            return self._coders[parameter].decode(text)
        except DecodeError as error:
            raise DecodeError(f"{self.name}(), argument {path!r}: {error}") from error

    def _members(self, text: str, what: str) -> dict[str, str]:
        try:
            return {name: str(raw, "ascii") for name, raw in _decode_object(text).items()}
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # msgspec refuses lone surrogates even unread.
            return self._reread(text, dict, what)  # type: ignore[no-any-return]

    def _list(self, text: str, what: str) -> list[str]:
        try:
            return [str(raw, "ascii") for raw in _decode_list(text)]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self._reread(text, list, what)  # type: ignore[no-any-return]

    def _reread(self, text: str, kind: type, what: str) -> Any:
        try:
            tree = json.loads(text)
            if type(tree) is kind:
                if isinstance(tree, dict):
                    return {name: dump(value) for name, value in tree.items()}
                if isinstance(tree, list):
                    return [dump(value) for value in tree]
        except (ValueError, RecursionError) as error:
            if text.startswith(REFUSED):
                raise DecodeError(text.removeprefix(REFUSED)) from None
            raise DecodeError(f"{self.name}(): {what}: the recorded text is damaged: {error}") from error
        raise DecodeError(f"{self.name}(): {what}: the recorded text is damaged: expected {kind.__name__}")


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The annotations; what cannot be resolved (a name local to a function) is left out."""
    try:
        return inspect.get_annotations(fn, eval_str=True)
    except Exception:
        # An annotation may be any expression, and raise anything.
        pass
    scope = getattr(inspect.unwrap(fn), "__globals__", {})
    hints = {}
    for name, hint in inspect.get_annotations(fn).items():
        try:
            hints[name] = eval(hint, scope) if isinstance(hint, str) else hint
        except Exception:
            # As above: this one says nothing, the others stand.
            continue
    return hints
