"""SQL lives in `.sql` files, as named statements; this reads them.

-- name: get_executions
-- The rows of these executions.
select ... ;
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).parent

_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


@cache
def load_queries(dialect: str) -> MappingProxyType[str, str]:
    """The statements of `<dialect>.sql` by name, without their comment lines and closing semicolon."""
    text = (FOLDER / f"{dialect}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{dialect}.sql has two statements of one name: {sorted(twice)}")
    return MappingProxyType({name: _statement(body) for name, body in zip(names, bodies, strict=True)})


def _statement(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip().removesuffix(";")
