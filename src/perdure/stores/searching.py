"""Pages of a list: by an index that holds few, or by age, so many executions at a time.

Where no index helps, as for a text, a page looks at 10,000 executions, in the list's order, and its cursor goes on
behind them: it may be short, or empty, and more may follow. So does a page of what so many executions meet that to
sort them would take long; in the order of their age, the first ones are found soon.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.records import Execution, Page, Query
from perdure.stores.conditions import conditions, page_name
from perdure.stores.paging import cursor_after, read_cursor

LOOKED_AT = 10_000
"""How many executions a page looks at, at most."""

Place = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Search:
    """How one page is found: the statement, the names of its conditions, and where the looking ends, if it does."""

    name: str
    names: Sequence[str]
    place: Place | None
    end: Place | None = None

    def page(self, rows: Sequence[Execution], limit: int) -> Page:
        """The page of rows that are one more than the limit, if there are more."""
        if len(rows) > limit:
            return Page(list(rows[:limit]), cursor_after(rows[limit - 1]))
        return Page(list(rows), None if self.end is None else f"{self.end[0]}/{self.end[1]}")


@dataclass(frozen=True, slots=True)
class Searcher:
    """What a database has to tell before a page is looked for.

    `many`: whether more than so many meet a condition, by the index that it has. `behind`: the place that is so many
    executions behind another one, under these conditions. `probed`: the conditions that have such an index. `early`: is
    there anything that ended before it was made? None: it cannot be told. `plans`: it finds the
    best index by itself. `share`: a look takes it so much longer, so its pages look at so many times fewer.
    """

    many: Callable[[str, int], Awaitable[bool]]
    behind: Callable[[str, Sequence[str], Place | None, int], Awaitable[Place | None]]
    early: Callable[[], Awaitable[bool]] | None = None
    probed: frozenset[str] = field(default=frozenset({"prefix", "ended_before", "attributes"}))
    plans: bool = False
    share: int = 1

    async def search(self, query: Query, cursor: str | None) -> Search:
        """How to find the page behind a cursor."""
        order = "oldest" if query.order == "oldest" else "newest"
        most = max(1, LOOKED_AT // self.share)
        asked = {
            "prefix": bool(query.id_prefix),
            "ended_before": query.ended_before is not None,
            "attributes": bool(query.attributes),
        }
        wanted = [name for name, is_asked in asked.items() if is_asked]
        wide = {name for name in wanted if name not in self.probed or await self.many(name, most)}
        narrow = set(wanted) - wide
        by_end = "ended_before" in narrow and not narrow - {"ended_before"}
        names = conditions(query, implied=not self.plans, wide=wide)
        place = None if cursor is None else read_cursor(cursor)
        if place is not None:
            names.append("where_newer" if order == "oldest" else "where_older")
        if "ended_before" in wide and self.early is not None and not await self.early():
            names.append("where_begun_before")
        end = None
        if not narrow and (wide or query.text is not None):
            end = await self.behind(f"behind_{order}", [name for name in names if name not in _LOOKED], place, most)
        if end is not None:
            names.append("where_to_newer" if order == "oldest" else "where_to_older")
        return Search(page_name(query, by_end=by_end and not self.plans), names, place, end)


_LOOKED = {"where_text", "where_wide_prefix", "where_prefix_end", "where_wide_attributes", "where_ended_before"}
"""What has to be looked at, execution by execution."""


def places(place: Place | None, end: Place | None, time: Callable[[int], Any]) -> dict[str, Any]:
    """The values of a page's places."""
    values: dict[str, Any] = {}
    if place is not None:
        values |= {"at": time(place[0]), "after": place[1]}
    if end is not None:
        values |= {"end_at": time(end[0]), "end_id": end[1]}
    return values
