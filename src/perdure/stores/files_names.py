"""The names of files: readable where the id allows it, safe and different on every file system.

Ids may hold any character. An id of lower-case letters, digits, `.`, `_` and `-` is the name of its file; of any
other one the name shows what it can, and a digest of the id tells it from all others, also where file systems take
upper and lower case, or two forms of an umlaut, for the same.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

FOLDER = "executions"
WORKERS = "workers.jsonl"
SCHEDULES = "schedules.jsonl"

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@lru_cache(maxsize=65536)
def file_of(execution_id: str) -> str:
    """The file of an execution, relative to the store's folder.

    >>> file_of("order-17"), file_of("Order/17")
    ('executions/order-17.jsonl', 'executions/Order_17@b22a1a8bcf0dae80fcf4b1d0.jsonl')
    """
    if _PLAIN.fullmatch(execution_id):
        return f"{FOLDER}/{execution_id}.jsonl"
    shown = _UNSAFE.sub("_", execution_id)[:80]
    if shown.startswith((".", "-")):
        shown = f"_{shown}"  # neither hidden nor taken for an option
    digest = hashlib.sha256(execution_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{FOLDER}/{shown}@{digest}.jsonl"
