"""What a worker may take over on SQLite. Once as a look, which takes no lock, and once more inside the transaction.

`begin immediate` is the lock of every queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from perdure.limits import Place, admit
from perdure.records import Limit
from perdure.stores.sqlite_damage import time_or_null
from perdure.stores.sqlite_database import Database
from perdure.stores.sqlite_rows import to_json
from perdure.stores.timestamps import to_text

MOST_WAITING = 1000  # of a limited queue, the first ones are judged


class Found(NamedTuple):
    """An execution that may be claimed. `orphaned`: its owner is dead."""

    id: str
    orphaned: bool
    priority: int
    created_at: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a claim asks for."""

    limit: int
    workflows: Sequence[tuple[str, int]]
    queues: Sequence[str]
    now: int
    limits: Sequence[Limit]
    build: str
    crashed: bool


def find(database: Database, wanted: Wanted) -> list[Found]:
    """What may be claimed now, the most urgent first."""
    limits = [limit for limit in wanted.limits if limit.queue in wanted.queues]
    if not limits:
        return _claimable(database, wanted)
    limited = {limit.queue for limit in limits}
    found = []
    if free := [queue for queue in wanted.queues if queue not in limited]:
        found = _claimable(database, replace(wanted, queues=free))
    for limit in limits:
        waiting = _claimable(database, replace(wanted, queues=[limit.queue], limit=MOST_WAITING))
        admitted = _admitted(database, limit, [row.id for row in waiting], wanted.now)
        found += [row for row in waiting if row.id in admitted]
    return sorted(found, key=lambda row: (-row.priority, row.created_at, row.id))[: wanted.limit]


def _claimable(database: Database, wanted: Wanted) -> list[Found]:
    values: dict[str, Any] = {
        "now": to_text(wanted.now),
        "limit": wanted.limit,
        "workflows": to_json(wanted.workflows),
        "queues": to_json(sorted(set(wanted.queues))),
        "build": wanted.build or None,
    }
    name = "claimable_suspects" if wanted.crashed else "claimable"
    found = database.run(name, values)
    return [
        Found(id, orphaned, priority if isinstance(priority, int) else 0, created_at)
        for id, orphaned, priority, created_at in found
    ]


def _admitted(database: Database, limit: Limit, waiting: Sequence[str], now: int) -> set[str]:
    if not waiting:
        return set()
    ahead = set(waiting)  # those of the dead run no more
    running = [place for place in _places(database, "running_places", {"queue": limit.queue}) if place.id not in ahead]
    recent: list[Place] = []
    if limit.starts is not None:
        most = limit.starts if limit.per is None else -1
        values = {"queue": limit.queue, "since": to_text(now - limit.window), "most": most}
        recent = _places(database, "recent_places", values)
    places = {place.id: place for place in _places(database, "places", (to_json(waiting),))}
    return set(admit(limit, running, recent, [places[id] for id in waiting]))


def _places(database: Database, name: str, values: Any) -> list[Place]:
    rows = database.run(name, values)
    return [Place(id, attributes, time_or_null(started_at)) for id, attributes, started_at in rows]
