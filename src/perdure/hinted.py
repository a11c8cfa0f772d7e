"""What msgspec is told about the classes it does not know: paths, secrets, pydantic's models, classes with hooks.

By a hint these are read from plain JSON, as people and other programs write it. Written that way are paths and
models only: a secret, and what has hooks, is always written under its tag.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any, NamedTuple, NoReturn, get_args, get_origin

import msgspec

from perdure import models, registered
from perdure.classes import describe
from perdure.errors import PerdureError
from perdure.secrets import Secret
from perdure.shapes import has_hooks, secret_types
from perdure.tags import PATHS
from perdure.unset import may_be_unset

_HINTED_PATHS = frozenset({Path, PurePath, *PATHS.values()})
_encode = msgspec.json.Encoder().encode


class Reach(NamedTuple):
    """What a hint leads to: `classes`, `sets` of anything, `custom` classes that msgspec does not know, and whether
    objects may have fields that are `unset`."""

    classes: frozenset[type]
    sets: bool
    custom: bool
    unset: bool


def to_plain(value: Any) -> Any:
    """For msgspec's encoder. Raises `TypeError` for what is written under a tag."""
    cls = type(value)
    if isinstance(value, PurePath) and cls in _HINTED_PATHS:
        return str(value)
    if models.is_model(cls) and not has_hooks(cls):
        return models.to_plain(value)
    refuse(value)


def refuse(value: Any) -> NoReturn:
    """An encoder for what is never plain JSON. Raises `TypeError`."""
    raise TypeError(f"a {describe(type(value))} is written under a tag")


def from_plain(hint: Any, tree: Any) -> Any:
    """For msgspec's decoder, which adds the path to a `ValueError`."""
    cls = get_origin(hint) or hint
    try:
        hooks = registered.BY_TYPE.get(cls) or registered.hooks_of(cls)
        if hooks is not None:
            # Written by hand, so by what today's code knows.
            return registered.make(cls, hooks, tree, hooks.version)
    except PerdureError as error:
        raise ValueError(str(error)) from error
    if cls in _HINTED_PATHS and type(tree) is str:
        return cls(tree)
    if cls is Secret:
        held = get_args(hint)
        return Secret(decoder(held[0])(_encode(tree)) if held else tree)
    if cls in secret_types() and type(tree) is str:
        return cls(tree.encode() if secret_types()[cls] is bytes else tree)
    if models.is_model(cls):
        return models.from_plain(cls, tree)
    raise ValueError(f"no {describe(cls)} can be made of {type(tree).__name__}")


def decoder(hint: Any) -> Any:
    """The function that reads JSON by the hint. Raises `TypeError` for a hint that msgspec cannot read."""
    return msgspec.json.Decoder(hint, dec_hook=from_plain).decode


def reach(hint: Any) -> Reach:
    """What the hint leads to. Raises `TypeError` for a hint that msgspec cannot read."""
    classes: set[type] = set()
    sets = custom = vague = False
    seen: set[int] = set()
    todo: list[Any] = [msgspec.inspect.type_info(hint)]
    keep = list(todo)  # so that no id is given twice
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, tuple):
            todo += node
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            todo += [getattr(node, name) for name in node.__struct_fields__ if name != "default"]
            sets = sets or isinstance(node, msgspec.inspect.SetType | msgspec.inspect.FrozenSetType)
            cls = getattr(node, "cls", None)
            cls = get_origin(cls) or cls
            if isinstance(node, msgspec.inspect.CustomType):
                custom = True
            if isinstance(cls, type) and cls not in classes:
                classes.add(cls)
                if models.is_model(cls):
                    below, unknown = _fields_of(cls)
                    todo += below
                    keep += below
                    vague = vague or unknown
    return Reach(frozenset(classes), sets or vague, custom, vague or any(map(may_be_unset, classes)))


def _fields_of(model: Any) -> tuple[list[Any], bool]:
    """What msgspec says of the model's fields, and whether there is one of which it can say nothing."""
    found, unknown = [], False
    todo = [field.annotation for field in model.model_fields.values()]
    while todo:
        hint = todo.pop()
        try:
            found.append(msgspec.inspect.type_info(hint))
        except Exception:
            # An annotation may be anything that pydantic can read. Of a union the members may be known.
            todo += get_args(hint)
            unknown = True
    return found, unknown
