"""Counts that look at so many executions at most: by an index that holds few, if there is one.

One condition leads, by its index, and the others are compared with what it gives. Where that is more than may be looked
at, the next one leads. If all give more, the count is what was found among those looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from perdure.records import Counts, Query, Status
from perdure.stores.conditions import COMMON, conditions

ALL = 1 << 62
"""More executions than there are."""

AGE = ["where_since", "where_until"]

Row = tuple[str, int, int]
"""A status, how many match, and how many of it were looked at."""


@dataclass(frozen=True, slots=True)
class Lead:
    """What an index gives, and what is compared with it. `name`: of the statement."""

    name: str
    names: list[str]
    others: list[str]


async def count_some(
    among: Sequence[Lead], at_most: int, look: Callable[[Lead, int], Awaitable[Iterable[Row]]]
) -> Counts:
    """What is found by one of these leads among `at_most` executions. `look` gives rows, having looked at so many."""
    best = Counts({}, complete=False)
    for lead in among:
        rows = list(await look(lead, at_most + 1))
        found = {status: number for status, number, _ in rows if number > 0}
        if sum(looked for *_, looked in rows) <= at_most:
            return Counts(found)
        best = max(best, Counts(_up_to(at_most, found), complete=False), key=lambda counts: counts.total)
    return best


def leads(query: Query, *, implied: bool = True, by_attributes: bool = True) -> list[Lead]:
    """The conditions that have an index each, likely to hold few first; without any, the newest are looked at.

    `implied`: see `conditions`. `by_attributes`: these have an index, too.
    """
    asked = conditions(query, implied=implied)
    compared = conditions(query, implied=False, wide={"prefix", "attributes"})
    first = [["where_parent"], ["where_prefix", "where_prefix_end"], ["where_by"], ["where_ended_before"]]
    if by_attributes:
        first.insert(1, ["where_attributes"])
    newest = [["where_queue", "where_other_queue"], ["where_workflow"]]
    if (query.status and not set(query.status) & COMMON) or set(query.status) == {Status.RUNNING}:
        by_age = newest if len(set(query.status)) == 1 else first
        by_age.insert(0, ["where_status", "where_one_status", "where_seldom", "where_owned"])
    found = [_lead("count_first", group, asked, compared) for group in first if set(group) & set(asked)]
    in_order = [[*group, *AGE] for group in newest if set(group) & set(asked)]
    if not in_order and (not found or set(AGE) & set(asked)):
        in_order = [AGE]
    return found + [_lead("count_newest", group, asked, compared) for group in in_order]


def _lead(name: str, group: Sequence[str], asked: Sequence[str], compared: Sequence[str]) -> Lead:
    known = {*group, *(part.replace("where_", "where_wide_", 1) for part in group)}
    return Lead(name, [part for part in asked if part in group], [part for part in compared if part not in known])


def count_tallied(rows: Iterable[Row], at_most: int) -> Counts:
    """The count of what is kept counted (nothing of it was looked at), and of what has not ended."""
    ended: dict[str, int] = {}
    waiting: dict[str, int] = {}
    running: dict[str, int] = {}
    for status, number, looked in rows:
        (running if status == Status.RUNNING else waiting if looked else ended)[status] = number
    complete = max(sum(waiting.values()), sum(running.values())) <= at_most
    return Counts({**ended, **_up_to(at_most, waiting), **_up_to(at_most, running)}, complete)


def _up_to(at_most: int, found: dict[str, int]) -> dict[str, int]:
    """Without what was looked at to know that there are more."""
    above = sum(found.values()) - at_most
    if above <= 0:
        return found
    largest = max(found, key=lambda status: found[status])
    return {status: left for status, n in found.items() if (left := n - above if status == largest else n) > 0}
