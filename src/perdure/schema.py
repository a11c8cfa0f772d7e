"""JSON Schema: what a type asks for, and whether a JSON text fits. The answering process has no code of the
workflow's, so it checks by the schema in the request's row. Covers what msgspec and pydantic write; a keyword
that is not known here is ignored.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from perdure.codec import ANY
from perdure.errors import EncodeError
from perdure.secrets import Secret
from perdure.shapes import secret_types

_NAMES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DURATION = re.compile(r"[+-]?P(?=[\dT])(\d+([.,]\d+)?[YMWD])*(T(\d+([.,]\d+)?[HMS])+)?\Z", re.IGNORECASE)


def schema_of(hint: Any) -> str | None:
    """The JSON Schema of a type as ASCII JSON text; None for `Any`, which everything fits.

    Takes what msgspec describes, pydantic's models and paths, and these in one another. Raises `EncodeError` for
    any other type.
    """
    if hint is ANY or hint is Any or hint is object:
        return None
    if hint is datetime:  # msgspec names no format for one that may have no zone
        return '{"type":"string","format":"date-time"}'
    shared: dict[str, Any] = {}
    try:
        schema = msgspec.json.schema(hint, schema_hook=lambda cls: _describe(cls, shared))
        if shared:
            schema["$defs"] = {**_agreeing(shared, schema.get("$defs", {})), **schema.get("$defs", {})}
        return json.dumps(schema, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, NameError, AttributeError, NotImplementedError, RecursionError) as error:
        raise EncodeError(f"no JSON Schema can be made of {hint!r}: {error}") from error


def _describe(cls: Any, shared: dict[str, Any]) -> dict[str, Any]:
    """The schema of a class that msgspec does not know; what it refers to goes to `shared`."""
    if issubclass(cls, PurePath):
        return {"type": "string", "format": "path"}
    if cls in secret_types():
        return {"writeOnly": True} if cls is Secret else {"type": "string", "writeOnly": True}
    schema: dict[str, Any] = cls.model_json_schema()
    definitions = schema.pop("$defs", {})
    shared |= _agreeing(definitions, shared)
    return schema


def _agreeing(definitions: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    for name in definitions.keys() & others.keys():
        if definitions[name] != others[name]:
            raise ValueError(f"it leads to two classes that are called {name}")
    return definitions


def check(schema_text: str | None, value_text: str) -> str | None:
    """Does the JSON text fit the schema? None if it does, else one line that says where and why it does not:
    `$.zip: expected a string, got 5`. Without a schema any JSON fits.
    """
    try:
        value = json.loads(value_text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return f"$: this is not JSON: {error}"
    if schema_text is None:
        return None
    root = _parse(schema_text)
    try:
        fault = _check(root, value, "$", root)
    except RecursionError:
        return "$: nested too deeply, or the schema refers to itself without end"
    return None if fault is None else f"{fault[0]}: {fault[1]}"


Fault = tuple[str, str] | None


@lru_cache(maxsize=256)
def _parse(schema_text: str) -> Any:
    return json.loads(schema_text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check(schema: Any, value: Any, path: str, root: Any) -> Fault:
    if schema is True:
        return None
    if schema is False:
        return path, "nothing is allowed here"
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        target = _resolve(schema["$ref"], root)
        if target is None:
            return path, f"the schema refers to {schema['$ref']!r}, which it does not hold"
        fault = _check(target, value, path, root)
        if fault is not None:
            return fault
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(_is(kind, value) for kind in kinds):
            return path, _expected([_NAMES.get(kind, kind) for kind in kinds], value)
    if "enum" in schema and not any(_equal(value, option) for option in schema["enum"]):
        return path, _expected([_show(option) for option in schema["enum"]], value)
    if "const" in schema and not _equal(value, schema["const"]):
        return path, _expected([_show(schema["const"])], value)
    for part in schema.get("allOf", ()):
        fault = _check(part, value, path, root)
        if fault is not None:
            return fault
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            fault = _check_choice(schema[keyword], value, path, root, keyword == "oneOf")
            if fault is not None:
                return fault
    if isinstance(value, dict):
        return _check_object(schema, value, path, root)
    if isinstance(value, list):
        return _check_list(schema, value, path, root)
    if isinstance(value, str):
        return _check_string(schema, value, path)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _check_number(schema, value, path)
    return None


def _check_choice(options: list[Any], value: Any, path: str, root: Any, exactly_one: bool) -> Fault:
    faults = []
    fits = 0
    for option in options:
        fault = _check(option, value, path, root)
        if fault is None:
            fits += 1
        else:
            faults.append(fault)
    if fits == 1 or (fits and not exactly_one):
        return None
    if fits:
        return path, f"fits {fits} of the choices, expected exactly one, got {_show(value)}"
    # The choice that got furthest is the one that was meant.
    deepest = max(faults, key=lambda fault: len(fault[0]), default=(path, "nothing is allowed here"))
    if deepest[0] != path:
        return deepest
    reasons = list(dict.fromkeys(reason for _, reason in faults)) or [deepest[1]]
    wanted = [reason.removeprefix("expected ").partition(", got ")[0] for reason in reasons]
    if all(reason.startswith("expected ") and ", got " in reason for reason in reasons):
        return path, _expected(wanted, value)
    return path, "; or ".join(reasons)


def _check_object(schema: dict[str, Any], value: dict[str, Any], path: str, root: Any) -> Fault:
    for name in schema.get("required", ()):
        if name not in value:
            return path, f"{name!r} is missing"
    fault = _check_size(schema, len(value), path, "Properties", "member")
    if fault is not None:
        return fault
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    extra = schema.get("additionalProperties", True)
    names = schema.get("propertyNames", True)
    for name, item in value.items():
        inner = f"{path}.{name}" if _IDENTIFIER.match(name) else f"{path}[{_show(name)}]"
        fault = _check(names, name, inner, root)
        if fault is not None:
            return inner, f"the name does not fit: {fault[1]}"
        matching = [part for pattern, part in patterns.items() if _search(pattern, name)]
        if name in known:
            matching.append(known[name])
        if not matching:
            if extra is False:
                return inner, "is not among the members allowed"
            matching = [extra]
        for part in matching:
            fault = _check(part, item, inner, root)
            if fault is not None:
                return fault
    return None


def _check_list(schema: dict[str, Any], value: list[Any], path: str, root: Any) -> Fault:
    fault = _check_size(schema, len(value), path, "Items", "item")
    if fault is not None:
        return fault
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    for i, item in enumerate(value):
        fault = _check(first[i] if i < len(first) else rest, item, f"{path}[{i}]", root)
        if fault is not None:
            return fault
    if schema.get("uniqueItems"):
        seen = set()
        for i, item in enumerate(value):
            key = _key(item)
            if key in seen:
                return f"{path}[{i}]", f"expected no item twice, got {_show(item)} again"
            seen.add(key)
    return None


def _check_string(schema: dict[str, Any], value: str, path: str) -> Fault:
    fault = _check_size(schema, len(value), path, "Length", "character")
    if fault is not None:
        return fault
    pattern = schema.get("pattern")
    if pattern is not None and not _search(pattern, value):
        return path, f"expected a text that matches {pattern}, got {_show(value)}"
    if schema.get("contentEncoding") == "base64":
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            return path, _expected(["bytes in base64"], value)
    known = _FORMATS.get(schema.get("format", ""))
    if known is not None:
        name, parse = known
        try:
            parse(value)
        except ValueError:
            return path, _expected([name], value)
    return None


def _check_number(schema: dict[str, Any], value: float, path: str) -> Fault:
    for keyword, fits, words in _LIMITS:
        limit = schema.get(keyword)
        if limit is not None and not isinstance(limit, bool) and not fits(value, limit):
            return path, f"expected {words} {limit}, got {_show(value)}"
    step = schema.get("multipleOf")
    if step and Fraction(str(value)) % Fraction(str(step)):
        return path, f"expected a multiple of {step}, got {_show(value)}"
    return None


_LIMITS: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("minimum", lambda v, limit: v >= limit, "at least"),
    ("maximum", lambda v, limit: v <= limit, "at most"),
    ("exclusiveMinimum", lambda v, limit: v > limit, "more than"),
    ("exclusiveMaximum", lambda v, limit: v < limit, "less than"),
)


def _check_size(schema: dict[str, Any], size: int, path: str, what: str, word: str) -> Fault:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None and size < least:
        return path, f"expected at least {least} {word}{'s' * (least != 1)}, got {size}"
    if most is not None and size > most:
        return path, f"expected at most {most} {word}{'s' * (most != 1)}, got {size}"
    return None


def _is(kind: str, value: Any) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "null":
        return value is None
    if kind == "array":
        return isinstance(value, list)
    if kind == "object":
        return isinstance(value, dict)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # JSON Schema would take 5.0 for an integer. Our types would not, and what is accepted here must be readable there.
    return kind == "number" or (kind == "integer" and isinstance(value, int))


def _resolve(ref: Any, root: Any) -> Any:
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    target = root
    for part in ref[1:].split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or part not in target:
            return None
        target = target[part]
    return target


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        return None  # another dialect of patterns: not ours to judge


def _search(pattern: str, text: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.search(text) is not None


def _check_duration(text: str) -> None:
    if not _DURATION.match(text):
        raise ValueError(text)


def _check_moment(text: str) -> None:
    if not _MOMENT.fullmatch(text):
        raise ValueError(text)
    datetime.fromisoformat(text.upper().replace(" ", "T"))


def _check_time(text: str) -> None:
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    time.fromisoformat(text.upper())


def _check_decimal(text: str) -> None:
    try:
        Decimal(text)
    except ArithmeticError:
        raise ValueError(text) from None


_CLOCK = r"\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)?"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]" + _CLOCK)
_TIME = re.compile(_CLOCK)

_FORMATS: dict[str, tuple[str, Callable[[str], object]]] = {
    "date-time": ("a date with a time", _check_moment),
    "decimal": ("a decimal number", _check_decimal),
    "date": ("a date", date.fromisoformat),
    "time": ("a time", _check_time),
    "partial-time": ("a time", _check_time),
    "uuid": ("a UUID", UUID),
    "duration": ("a duration", _check_duration),
}


def _key(value: Any) -> Any:
    """Equal for what JSON holds equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((name, _key(item)) for name, item in value.items())
    if isinstance(value, list):
        return tuple(map(_key, value))
    return (isinstance(value, bool), value)


def _equal(a: Any, b: Any) -> bool:
    return bool(_key(a) == _key(b))


def _expected(wanted: list[str], value: Any) -> str:
    return f"expected {' or '.join(dict.fromkeys(wanted))}, got {_show(value)}"


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
