"""Looking for attributes, compared as text: 1 and 1.0 are two values, whatever a database would say."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from perdure.records import Query


def plain(text: str) -> str:
    r"""JSON whose \u escapes are a backslash and a u, and whose backslashes are two.

    Python's strings hold what others refuse to read: \u0000 (PostgreSQL), half of a surrogate pair (msgspec, too). Two
    texts are equal after it if, and only if, they were before.
    """
    return ("\\" * 4).join(part.replace("\\u", "\\\\u") for part in text.split("\\\\"))


def plain_pairs(wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names and values as they are found in plain JSON."""
    return [(str(json.loads(plain(json.dumps(name)))), plain(text)) for name, text in wanted]


def first_attribute(query: Query) -> str:
    """The first of the attributes asked for, as JSON of an execution that has no other."""
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in query.attributes[:1]) + "}"


def has_attributes(attributes: str | None, wanted: Sequence[tuple[str, str]]) -> bool:
    """Whether these attributes, a JSON text, hold all of these plain pairs. What cannot be read holds none."""
    if not attributes:
        return False
    try:
        known = msgspec.json.decode(plain(attributes), type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return all(name in known and bytes(known[name]) == text.encode() for name, text in wanted)
