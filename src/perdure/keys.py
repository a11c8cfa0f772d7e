"""The ids that are made from an execution's id and a call's key."""

from __future__ import annotations

import hashlib

ID_LIMIT = 255
"""Bytes an execution's id may have."""

NAMESPACE_MARK = "~"
"""The stored names of all namespaces but the default one begin so: `~shop/order-42`."""


def child_id(parent: str, key: str, generation: int, room: int = 0) -> str:
    """`PARENT/KEY`, with `@g` in a later generation; what is too long ends in a digest. `room`: bytes kept free."""
    tail = f"@{generation}" if generation else ""
    full = f"{parent}/{key}{tail}"
    raw = full.encode()
    if len(raw) + room <= ID_LIMIT:
        return full
    digest = hashlib.sha256(f"{key}{tail}\0{parent}".encode()).hexdigest()[:48]
    return f"{parent.encode()[: 200 - room].decode(errors='ignore')}/{digest}"


def request_id(execution_id: str, key: str, generation: int) -> str:
    """The id of what a call asks of the world; unique over all generations."""
    return f"{execution_id}:{key}" + (f"@{generation}" if generation else "")


def check_execution_id(execution_id: str, room: int = 0) -> str | None:
    """None, or why this is no id for an execution. Alike on every store. `room`: bytes that the namespace takes."""
    if type(execution_id) is not str or not execution_id:
        return "an execution's id is a text that is not empty"
    if "\0" in execution_id:
        return "an execution's id holds no NUL"
    try:
        size = len(execution_id.encode())
    except UnicodeEncodeError:
        return "an execution's id is valid Unicode"
    if size + room > ID_LIMIT:
        return f"an execution's id has at most {ID_LIMIT - room} bytes, this one has {size}"
    if execution_id.startswith(NAMESPACE_MARK):
        return f"an execution's id does not begin with {NAMESPACE_MARK}, which stands for namespaces"
    return None
