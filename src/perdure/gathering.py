"""What gathers for one batch, and what of it may be recorded apart from the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.journal import INTENT
from perdure.records import Change, Entry, Execution, Request, RollbackAction, Snapshot, Verdict

if TYPE_CHECKING:
    from perdure.executor import Run

GATHERED = ("items", "changes", "creates", "requests", "closes", "takes", "untakes", "actions", "snapshots")

Created = Callable[[Verdict, BaseException | None], None]
Item = tuple["Run | None", Any, Entry]


class Work:
    """A batch, and who is to hear of it."""

    __slots__ = (
        "actions",
        "changes",
        "closes",
        "creates",
        "items",
        "requests",
        "snapshots",
        "takes",
        "token",
        "untakes",
    )

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.changes: list[tuple[Run, Change]] = []
        self.creates: list[tuple[Execution, Created]] = []
        self.requests: list[Request] = []
        self.closes: list[tuple[str, str]] = []
        self.takes: list[tuple[str, str, int]] = []
        self.untakes: list[tuple[str, int]] = []
        self.actions: list[RollbackAction] = []
        self.snapshots: list[Snapshot] = []
        self.token = ""

    def part(self, wanted: Callable[[str], bool]) -> Work:
        """The part that concerns some executions; a child's row goes with its parent."""
        part = Work()
        part.items = [i for i in self.items if wanted(i[2].execution_id)]
        part.changes = [c for c in self.changes if wanted(c[1].execution_id)]
        part.creates = [c for c in self.creates if wanted(c[0].parent_id or c[0].id)]
        part.requests = [r for r in self.requests if wanted(r.execution_id)]
        part.closes = [c for c in self.closes if wanted(c[0])]
        part.takes = [t for t in self.takes if wanted(t[0])]
        part.untakes = [t for t in self.untakes if wanted(t[0])]
        part.actions = [a for a in self.actions if wanted(a.execution_id)]
        part.snapshots = [s for s in self.snapshots if wanted(s.execution_id)]
        return part

    def rest(self, told: int) -> Work:
        """Of what is recorded, what is still to be told when so many of its entries are."""
        rest = Work()
        rest.items, rest.changes, rest.requests = self.items[told:], self.changes, self.requests
        rest.token = self.token
        return rest

    def split(self) -> tuple[Work, Work] | None:
        """That of one execution in two, to be recorded in this order, as if it had gathered more slowly."""
        half = (len(self.items) + 1) // 2
        first, rest = self.part(lambda other: True), self.part(lambda other: True)
        first.items, rest.items = self.items[:half], self.items[half:]
        last = first.items[-1][2].seq if first.items else 0
        intents = {entry.key for _, _, entry in first.items if entry.kind == INTENT}
        first.creates = [c for c in self.creates if c[0].parent_key in intents]
        rest.creates = [c for c in self.creates if c[0].parent_key not in intents]
        first.takes = [t for t in self.takes if t[2] <= last]
        rest.takes = [t for t in self.takes if t[2] > last]
        for name in GATHERED:
            if name not in ("items", "creates", "takes"):
                getattr(first, name).clear()
        return (first, rest) if first.items and rest.executions() else None

    def executions(self) -> list[str]:
        found: dict[str, None] = {}
        for item in self.items:
            found[item[2].execution_id] = None
        for _, change in self.changes:
            found[change.execution_id] = None
        for execution, _ in self.creates:
            found[execution.parent_id or execution.id] = None
        for request in self.requests:
            found[request.execution_id] = None
        for action in self.actions:
            found[action.execution_id] = None
        for snapshot in self.snapshots:
            found[snapshot.execution_id] = None
        for execution_id, _ in (*self.closes, *self.untakes):
            found[execution_id] = None
        for execution_id, _, _ in self.takes:
            found[execution_id] = None
        return list(found)
