"""pydantic's models: taken apart and made again without validation, and as plain JSON where a hint names them.

pydantic is never imported here: there are models only in a program that imported it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.classes import loaded
from perdure.errors import DecodeError

_encode = msgspec.json.Encoder().encode


def is_model(cls: type) -> bool:
    """Is this a model of pydantic 2?"""
    base = loaded("pydantic.main", "BaseModel")
    return base is not None and issubclass(cls, base) and hasattr(base, "__pydantic_fields_set__")


def take(value: Any) -> tuple[Any, dict[str, Any]]:
    """The fields as a dict, and beside them what else makes two models differ, where there is any of it."""
    held = value.__dict__
    fields = {name: held[name] for name in type(value).model_fields if name in held}
    extra, private, given = value.__pydantic_extra__, value.__pydantic_private__, value.__pydantic_fields_set__
    rest: dict[str, Any] = {}
    if extra:
        rest["extra"] = dict(extra)
    if private:
        rest["private"] = dict(private)
    if given != fields.keys() | (extra or {}).keys():
        # `model_dump(exclude_unset=True)` tells a field that was given from one that has its default.
        rest["set"] = sorted(given)
    return fields, rest


def make(cls: Any, tree: dict[str, Any]) -> Any:
    """The model that `take` took apart; a field added since has its default, a removed one is dropped.

    Raises `DecodeError` if the class is none of a model, or lacks a value.
    """
    if not is_model(cls):
        raise DecodeError(f"{tree['t']} was recorded as a pydantic model, but is none")
    given: dict[str, Any] = tree["v"]
    fields: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        if name in given:
            fields[name] = given[name]
        elif field.is_required():
            raise DecodeError(f"{tree['t']} has a field {name!r} that was not recorded and has no default")
        elif getattr(field, "default_factory_takes_validated_data", False):
            fields[name] = field.default_factory(fields)
        else:
            fields[name] = field.get_default(call_default_factory=True)
    extra = dict(tree.get("extra", {})) if cls.model_config.get("extra") == "allow" else None
    known = fields.keys() | (extra or {}).keys()
    made = object.__new__(cls)
    object.__setattr__(made, "__dict__", fields)
    object.__setattr__(made, "__pydantic_fields_set__", known & set(tree.get("set", known)))
    private = _private(cls, tree.get("private", {}))
    for name, value in (("__pydantic_extra__", extra), ("__pydantic_private__", private)):
        # Of a root model these are None in the class, and setting them would add to its fields.
        if value is not None or not cls.__pydantic_root_model__:
            object.__setattr__(made, name, value)
    return made


def _private(cls: Any, given: dict[str, Any]) -> dict[str, Any] | None:
    attributes = cls.__private_attributes__
    if not attributes:
        return None
    undefined = loaded("pydantic_core", "PydanticUndefinedType") or type(None)
    made = {}
    for name, attribute in attributes.items():
        value = given[name] if name in given else attribute.get_default()
        if not isinstance(value, undefined):
            made[name] = value
    return made


def to_plain(value: Any) -> Any:
    """The fields under the names that the model's own JSON Schema gives them, for msgspec to write.

    By the fields and not by the model's serializers: those may show a secret, or leave something out.
    Raises `TypeError` for what plain JSON would lose.
    """
    cls = type(value)
    fields, rest = take(value)
    if "set" in rest:
        raise TypeError("plain JSON would lose which fields were given")
    root = loaded("pydantic.root_model", "RootModel")
    if root is not None and issubclass(cls, root):
        return fields["root"]
    plain: dict[str, Any] = {}
    for name, item in fields.items():
        alias = cls.model_fields[name].validation_alias
        if alias is not None and not isinstance(alias, str):
            raise TypeError(f"{name} has an alias with alternatives")
        plain[alias or name] = item
    return plain | rest.get("extra", {})


def from_plain(cls: Any, tree: Any) -> Any:
    """What pydantic makes of the JSON values, validators and all. Raises `ValueError`, without the values."""
    try:
        return cls.__pydantic_validator__.validate_json(_encode(tree))
    except ValueError as error:
        if not hasattr(error, "errors"):
            raise
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        words = (f"{'.'.join(map(str, fault['loc'])) or 'value'}: {fault['msg']}" for fault in faults)
        # Not `from error`: pydantic's own text shows the values, and one may be a secret.
        raise ValueError("; ".join(words)) from None
