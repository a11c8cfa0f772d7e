"""Which executions: the query as users write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perdure.clock import from_datetime
from perdure.codec import CODEC
from perdure.outcome import User
from perdure.records import Query as RowQuery
from perdure.records import Status


@dataclass(slots=True, frozen=True)
class Query:
    """Which executions. What is not given does not filter; what is given must all hold.

    `status`: one or several. `attributes`: names with the values that they must have. `text`: part of the id, the
    workflow's name, the reason or who started it. `since` (included) and `until`: when it was created, `ended_before`:
    when it ended (datetimes with a zone). `order`: "newest" or "oldest" first.

    >>> await engine.list(Query(status="failed", attributes={"customer": 7}))
    """

    status: Status | str | Sequence[Status | str] = ()
    workflow: str | None = None
    version: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    by: str | User | None = None
    parent: str | None = None
    id_prefix: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ended_before: datetime | None = None
    queue: str | None = None
    order: str = "newest"

    def row_query(self) -> RowQuery:
        """The query as stores know it. Raises `ValueError` for an unknown status or order, and `TypeError`."""
        if self.order not in ("newest", "oldest"):
            raise ValueError(f"order is 'newest' or 'oldest', not {self.order!r}")
        if self.version is not None and type(self.version) is not int:
            raise TypeError(f"a query's version is a whole number, not {self.version!r:.100}")
        statuses = (self.status,) if isinstance(self.status, str) else tuple(self.status)
        return RowQuery(
            status=tuple(Status(status) for status in statuses),
            workflow=self.workflow,
            version=self.version,
            parent=self.parent,
            by=self.by.id if isinstance(self.by, User) else self.by,
            id_prefix=self.id_prefix,
            since=_time(self.since),
            until=_time(self.until),
            order=self.order,
            queue=self.queue,
            attributes=tuple((name, CODEC.encode(value, path=name)) for name, value in self.attributes.items()),
            text=self.text,
            ended_before=_time(self.ended_before),
        )


def _time(when: datetime | None) -> int | None:
    if not isinstance(when, datetime | None):
        raise TypeError(f"a query's time is a datetime with a time zone, not {when!r}")
    if when is not None and when.tzinfo is None:
        raise ValueError(f"{when} needs a time zone: datetime(..., tzinfo=...)")
    return None if when is None else from_datetime(when)


def row_query(query: Query | RowQuery | None) -> RowQuery:
    """Either kind of query, or none, as stores know it."""
    if query is None:
        return RowQuery()
    if not isinstance(query, Query | RowQuery):
        raise TypeError(f"give a Query(...), not {query!r:.100}; one execution has a handle: engine.get(id)")
    return query.row_query() if isinstance(query, Query) else query
