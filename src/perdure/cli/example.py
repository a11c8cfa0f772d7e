"""An example of an answer, made from the JSON Schema of a request."""

from __future__ import annotations

import json
from typing import Any

from perdure.schema import check

_TEXTS = {
    "date-time": "2030-01-31T12:00:00Z",
    "date": "2030-01-31",
    "time": "12:00:00",
    "partial-time": "12:00:00",
    "duration": "PT1H",
    "decimal": "0.00",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
DEEP = 8


def example(schema: str | None) -> str:
    """JSON that fits the schema, or the word JSON where none was found."""
    if schema is None:
        return '"..."'
    try:
        root = json.loads(schema)
    except (ValueError, RecursionError):
        return "JSON"
    text = json.dumps(_make(root, root, 0), ensure_ascii=False)
    return text if check(schema, text) is None else "JSON"


def _make(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > DEEP:
        return None
    if "$ref" in schema:
        return _make(_resolve(schema["$ref"], root), root, depth + 1)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        options = [option for option in schema.get(keyword, ()) if option != {"type": "null"}]
        if options:
            return _make(options[0], root, depth + 1)
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "null")
    match kind:
        case "object":
            known = schema.get("properties", {})
            return {name: _make(known.get(name, {}), root, depth + 1) for name in schema.get("required", ())}
        case "array":
            first = [_make(item, root, depth + 1) for item in schema.get("prefixItems", ())]
            rest = max(0, schema.get("minItems", 0) - len(first))
            return first + [_make(schema.get("items", {}), root, depth + 1) for _ in range(min(rest, DEEP))]
        case "string":
            text = _TEXTS.get(schema.get("format", ""), "...")
            return text.ljust(schema.get("minLength", 0), ".")
        case "integer" | "number":
            return schema.get("minimum", schema.get("maximum", schema.get("exclusiveMinimum", -1) + 1))
        case "boolean":
            return True
        case _:
            return None


def _resolve(ref: str, root: Any) -> Any:
    target = root
    for part in ref.removeprefix("#").split("/")[1:]:
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return target
