"""Where the tests of this folder run: on each kind of store; or, where it is long, some of it on each server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

EMBEDDED = [pytest.param("sqlite", id="sqlite"), pytest.param("file", id="file")]
SERVERS = [
    pytest.param("postgres", id="postgres", marks=pytest.mark.postgres),
    pytest.param("mysql", id="mysql", marks=pytest.mark.mysql),
]
PLACES = [*EMBEDDED, *SERVERS]


def shared_out(parts: Iterable[object]) -> list[Any]:
    """(url, part): all parts on each embedded store; on the servers in turn, as they are slower, and alike."""
    listed = list(parts)
    cases = [(place, part) for place in EMBEDDED for part in listed]
    cases += [(SERVERS[n % len(SERVERS)], part) for n, part in enumerate(listed)]
    return [pytest.param(*place.values, part, id=f"{place.id}-{part}", marks=place.marks) for place, part in cases]


def everywhere(parts: Iterable[object]) -> list[Any]:
    """(url, part): all parts on each kind of store."""
    listed = list(parts)
    return [
        pytest.param(*place.values, part, id=f"{place.id}-{part}", marks=place.marks)
        for place in PLACES
        for part in listed
    ]
