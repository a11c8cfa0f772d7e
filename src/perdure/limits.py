"""Which of a limited queue's executions may be claimed now, pure: the same rule for every store.

A store calls `admit` under a lock of the queue, with what it read under that lock, and claims what it gets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from perdure.records import Limit


class Place(NamedTuple):
    """An execution as the limits see it."""

    id: str
    attributes: str | None
    started_at: int | None


def admit(limit: Limit, running: Iterable[Place], recent: Iterable[Place], waiting: Sequence[Place]) -> list[str]:
    """The ids among `waiting`, in their order, that may be claimed now.

    `running`: those of the queue in somebody's memory. `recent`: those first claimed within the limit's window. Both
    numbers hold for each value of the attribute `per`, if the limit has one; executions without it share one place.
    One that was started before (it comes back from a wait) counts against the concurrency only.
    """
    inside = Counter(_value(place, limit.per) for place in running)
    started = Counter(_value(place, limit.per) for place in recent)
    admitted = []
    for place in waiting:
        value = _value(place, limit.per)
        if limit.concurrency is not None and inside[value] >= limit.concurrency:
            continue
        if limit.starts is not None and place.started_at is None:
            if started[value] >= limit.starts:
                continue
            started[value] += 1
        inside[value] += 1
        admitted.append(place.id)
    return admitted


def _value(place: Place, per: str | None) -> str:
    if per is None or not place.attributes:
        return ""
    try:
        known = msgspec.json.decode(place.attributes, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return ""  # attributes that cannot be read limit nobody else
    return str(bytes(known.get(per, b"")), "utf-8", "replace")
