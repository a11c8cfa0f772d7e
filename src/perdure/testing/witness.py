"""Follows a history from its beginning: what was recorded, by whom, and what ran meanwhile."""

from __future__ import annotations

import json
from collections import defaultdict

from perdure.deliveries import Decide, Delivery, Note, Settle, StartWith
from perdure.records import ENDED, Batch, Entry, Execution, Status, Verdict
from perdure.testing.history import Acknowledged, Body, Buried, Claimed, Delivered, Heard, Left, Recorded, Told

STEPS = ("work", "tried", "hasty", "mark", "pay", "outer")


class Witness:
    """Follows the history and knows at each moment what was recorded."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.owners: dict[tuple[str, int], int] = {}
        self.fences: dict[str, int] = {}
        self.last_fence: dict[str, int] = {}
        self.dead: dict[int, int] = {}
        self.told: dict[int, int] = {}
        self.journals: dict[str, list[Entry]] = defaultdict(list)
        self.statuses: dict[str, Status] = {}
        self.nudges: dict[str, int] = defaultdict(int)
        self.children: dict[str, list[str]] = defaultdict(list)
        self.attempts: set[tuple[str, str, int, int]] = set()
        self.cancelled: set[str] = set()
        self.deadlines: dict[tuple[str, str], int] = {}

    def see(self, event: object) -> None:
        match event:
            case Recorded():
                self._recorded(event)
            case Claimed():
                self._claimed(event)
            case Delivered():
                self._delivered(event)
            case Buried():
                self.dead.setdefault(event.worker, event.at)
            case Left():
                self.dead.setdefault(event.worker, event.at)
                self.told.setdefault(event.worker, event.at)
                for (id, fence), owner in self.owners.items():
                    if owner == event.worker and self.fences[id] == fence and self.statuses[id] is Status.RUNNING:
                        self.statuses[id] = Status.PENDING
            case Told():
                self.told.setdefault(event.worker, event.at)
            case Body(what="enter"):
                self._entered(event)
            case Heard():
                self._heard(event)
            case Acknowledged(what="cancel", value="cancelled"):
                self.cancelled.add(event.subject)
            case _:
                pass

    def _broken(self, line: str) -> None:
        self.found.append(line)

    # Claims ---------------------------------------------------------------------------------------------

    def _claimed(self, event: Claimed) -> None:
        if event.worker in self.dead:
            self._broken(f"I10 worker {event.worker} claimed after it was declared dead")
        for row in event.rows:
            before = self.fences.get(row.id, 0)
            if row.fence != before + 1:
                self._broken(f"I9 {row.id} was claimed with fence {row.fence} after fence {before}")
            owner = self.owners.get((row.id, before))
            if self.statuses.get(row.id) is Status.RUNNING and owner not in self.dead:
                self._broken(f"I10 {row.id} was taken from worker {owner}, which nobody had declared dead")
            if self.statuses.get(row.id) in ENDED:
                self._broken(f"I26 {row.id} was claimed though it had ended")
            self._owns(row.id, row.fence, event.worker)
            self.statuses[row.id] = Status.RUNNING

    def _owns(self, id: str, fence: int, worker: int) -> None:
        other = self.owners.setdefault((id, fence), worker)
        if other != worker:
            self._broken(f"I9 {id} has two owners under fence {fence}: workers {other} and {worker}")
        self.fences[id] = max(fence, self.fences.get(id, 0))

    # Commits --------------------------------------------------------------------------------------------

    def _recorded(self, event: Recorded) -> None:
        batch, verdicts = event.batch, event.verdicts
        if not verdicts.alive:
            return
        if batch.worker in self.dead:
            self._broken(f"I13 worker {batch.worker} recorded {batch.token} after it was declared dead")
        for row, verdict in zip(batch.creates, verdicts.creates, strict=True):
            if verdict is Verdict.OK:
                self._created(row, batch)
        refused = {
            change.execution_id
            for change, verdict in zip(batch.changes, verdicts.changes, strict=True)
            if verdict in (Verdict.FENCED, Verdict.GONE)
        }
        for entry in batch.entries:
            if entry.execution_id not in refused:
                self._entry(entry, event)
        for change, verdict in zip(batch.changes, verdicts.changes, strict=True):
            if verdict is Verdict.OK:
                if change.fence != self.fences.get(change.execution_id, 0):
                    now = self.fences.get(change.execution_id)
                    self._broken(
                        f"I10 {change.execution_id} was changed under fence {change.fence}, it stands at {now}"
                    )
                if change.status is Status.WAITING and change.nudges != self.nudges[change.execution_id]:
                    self._broken(
                        f"I21 {change.execution_id} parked knowing {change.nudges} nudges of"
                        f" {self.nudges[change.execution_id]}"
                    )
                self._moved(change.execution_id, change.status)
                if change.status in ENDED and change.parent_id is not None:
                    self._nudged(change.parent_id)

    def _created(self, row: Execution, batch: Batch) -> None:
        if row.id in self.statuses:
            self._broken(f"I15 {row.id} was created twice")
        self.statuses[row.id] = row.status
        self.fences[row.id] = row.fence
        if row.owner is not None:
            if row.owner != batch.worker:
                self._broken(f"I9 {row.id} was created by worker {batch.worker} for {row.owner}")
            self._owns(row.id, row.fence, batch.worker)
        if row.parent_id is not None:
            self.children[row.parent_id].append(row.id)

    def _entry(self, entry: Entry, event: Recorded) -> None:
        id, journal = entry.execution_id, self.journals[entry.execution_id]
        if entry.seq != len(journal) + 1:
            self._broken(f"I33 entry {entry.seq} of {id} was recorded after entry {len(journal)}")
        if entry.fence < self.fences.get(id, 0):
            self._broken(f"I10 entry {entry.seq} of {id} has fence {entry.fence}, it stands at {self.fences.get(id)}")
        if entry.fence < self.last_fence.get(id, 0):
            self._broken(f"I9 entry {entry.seq} of {id} has fence {entry.fence} after {self.last_fence[id]}")
        if self.owners.get((id, entry.fence)) != event.batch.worker:
            self._broken(f"I9 entry {entry.seq} of {id} is of worker {event.batch.worker}, which never owned it")
        if self.statuses.get(id) is not Status.RUNNING:
            self._broken(f"I9 entry {entry.seq} of {id} was recorded while it was {self.statuses.get(id)}")
        if entry.kind == "timer":
            self._timer(entry, event.at)
        if entry.kind == "attempt":
            failures = 1 + sum(e.kind == "attempt" and e.key == entry.key for e in journal)
            if entry.attempt != failures:
                self._broken(f"I3 attempt {entry.attempt} of {id} {entry.key} is its failure number {failures}")
        self.last_fence[id] = max(entry.fence, self.last_fence.get(id, 0))
        journal.append(entry)

    def _timer(self, entry: Entry, at: int) -> None:
        place = entry.execution_id, entry.key
        if entry.status == "set":
            self.deadlines[place] = int(entry.output or 0)
        elif place not in self.deadlines:
            self._broken(f"I23 {place} fired and was never set, or fired twice")
        elif min(at, entry.completed_at) < self.deadlines.pop(place):
            self._broken(f"I23 {place} fired early")

    def _moved(self, id: str, status: Status) -> None:
        before = self.statuses.get(id)
        if before in ENDED:
            self._broken(f"I26 {id} went from {before} to {status}")
        if status in (Status.FAILED, Status.CANCELLED):
            for child in self.children[id]:
                if self.statuses.get(child) not in ENDED:
                    self._broken(f"I31 {id} is {status} while its child {child} is {self.statuses.get(child)}")
        self.statuses[id] = status

    # Deliveries -----------------------------------------------------------------------------------------

    def _delivered(self, event: Delivered) -> None:
        id = event.receipt.execution_id
        if event.receipt.started and isinstance(event.delivery, StartWith):
            self.statuses[event.delivery.execution.id] = Status.PENDING
        if event.receipt.verdict is not Verdict.OK or id is None or _leaves_open(event.delivery):
            return
        if isinstance(event.delivery, Settle):
            self._moved(id, Status.CANCELLED)
            self.fences[id] = self.fences.get(id, 0) + 1
            for parent, children in self.children.items():
                if id in children:
                    self._nudged(parent)
            return
        self._nudged(id)

    def _nudged(self, id: str) -> None:
        self.nudges[id] += 1
        if self.statuses.get(id) is Status.WAITING:
            self.statuses[id] = Status.PENDING

    # Bodies and workflow code ---------------------------------------------------------------------------

    def _entered(self, event: Body) -> None:
        id, place = event.execution, (event.execution, event.key, event.attempt, event.fence)
        name = f"{event.key} of {id} (attempt {event.attempt}, fence {event.fence})"
        if place in self.attempts:
            self._broken(f"I3 {name} entered twice")
        self.attempts.add(place)
        known = [e for e in self.journals[id] if e.key == event.key and e.fence <= event.fence]
        if any(is_outcome(entry) for entry in known):
            self._broken(f"I2 {name} entered after its outcome was recorded")
        failures = sum(entry.kind == "attempt" for entry in known)
        if event.fence < self.fences.get(id, 0):
            failures = event.attempt - 1  # a stopped worker may have read what its successor recorded
        if event.attempt != failures + 1 and not _is_inner(event.key):
            self._broken(f"I3 {name} entered after {failures} recorded failures")
        owner = self.owners.get((id, event.fence), 0)
        told = self.told.get(owner)
        if told is not None and event.at > told:
            self._broken(f"I13 {name} entered at worker {owner}, which knew that it was dead")
        if id in self.cancelled and owner not in self.dead:
            self._broken(f"I27 {name} entered after the cancelling was acknowledged")
        if event.fence == self.fences.get(id) and self.statuses.get(id) in ENDED and owner not in self.dead:
            self._broken(f"I26 {name} entered after the end")
        if (id, event.fence) not in self.owners:
            self._broken(f"I9 {name} entered under a fence that nobody was given")

    def _heard(self, event: Heard) -> None:
        name = f"{event.kind} {event.number} of {event.execution} (fence {event.fence})"
        if event.unwinding:
            self._broken(f"I41 code went on after {name} because of parking")
        entries = self.journals[event.execution]
        if event.kind in STEPS or event.kind == "ask":
            said = [e for e in entries if is_outcome(e) and _number(e) == event.number]
            if not any(e.status == "completed" and json.loads(e.output or "null") == event.value for e in said):
                self._broken(f"I1 code went on after {name} with {event.value!r}, which was not recorded")
        elif event.kind == "receive":
            said = [e for e in entries if e.kind == "receive" and json.loads(e.output or "null") == event.value]
            if not said:
                self._broken(f"I1 code went on after {name} with {event.value!r}, which was not recorded")


def _leaves_open(delivery: Delivery) -> bool:
    """Does it change nothing for the owner? Then it is not nudged."""
    return isinstance(delivery, Note) or (isinstance(delivery, Decide) and delivery.status == "open")


def is_outcome(entry: Entry) -> bool:
    return entry.status in ("completed", "failed") and entry.kind not in ("intent", "attempt")


def _is_inner(key: str) -> bool:
    return "#" in key.rpartition("/")[0]


def _number(entry: Entry) -> int | None:
    """The number of the operation that an entry is of."""
    if entry.input is None or entry.kind not in ("step", "checkpoint", "interrupt"):
        return None
    given = json.loads(entry.input)
    if "message" in given:
        return int(given["message"][1:])
    number = given.get("number")
    return int(number) if number is not None else None
