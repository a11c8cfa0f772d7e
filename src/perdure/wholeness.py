"""Does what an execution recorded fit together: its journal, rollbacks, undos, its cancelling, its questions? Pure.

Each function gives what does not, in words.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perdure.approvals import APPROVAL
from perdure.auditing import CANCEL_ASKED, ROLLBACK_ASKED
from perdure.codec import checksum
from perdure.deliveries import PARENT
from perdure.journal import CUT, ROLLBACK, UNDO
from perdure.records import AuditEvent, Entry, Execution, Request, RollbackAction, Status
from perdure.rollback import Order, order_of

INTERRUPT = "interrupt"
WAITS = (INTERRUPT, APPROVAL)
"""Entries that say what a question came to."""

ENDS: Mapping[str, tuple[str, ...]] = {"completed": ("completed", "skipped"), "failed": ("failed", "unknown")}
"""How an undo's row says what its entry says."""

OVER = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
"""How an execution does not end while it is rolled back."""

Place = tuple[str, int]
"""A key and a generation."""


def json_object(text: str | None) -> dict[str, Any]:
    """What a text says; nothing if it is no JSON object."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def of_journal(row: Execution, entries: Sequence[Entry], actions: Sequence[RollbackAction]) -> Iterator[str]:
    """Is every entry there, and as it was written?"""
    last = 0
    for entry in entries:
        if entry.seq > last + 1:
            first, until = last + 1, entry.seq - 1
            yield f"entry {first} is missing" if first == until else f"entries {first} to {until} are missing"
        last = entry.seq
        if checksum(entry.input, entry.output, entry.error) != entry.checksum:
            yield f"entry {entry.seq} ({entry.key}) was changed: its checksum does not fit"
    told = max((row.base_seq, row.crash_seq, *(action.seq for action in actions)))
    if told > last:
        yield f"the journal ends with entry {last}, and there was an entry {told}: its end is missing"


def of_rollbacks(
    row: Execution, entries: Sequence[Entry], events: Sequence[AuditEvent], readable: bool
) -> Iterator[str]:
    """Was each rollback asked for by whom it says, and begun before it was done?"""
    begun: tuple[Entry, Order | None] | None = None
    last: str | None = None
    for entry in entries:
        if entry.kind == ROLLBACK:
            begun = entry, order_of(entry.output)
            yield from _of_order(row, *begun, events) if readable else ()
        elif entry.kind == CUT:
            said = json_object(entry.output)
            last = said.get("reason") if readable else ROLLBACK
            if last == ROLLBACK:
                yield from _of_cut(entry, said, begun, readable)
            begun = None
    if row.status is Status.ROLLBACK_FAILED and begun is None:
        yield f"{row.id} is {row.status}, and its journal tells of no rollback that is under way"
    elif row.status is Status.ROLLED_BACK and last != ROLLBACK:
        yield f"{row.id} is {row.status}, and its journal tells of no rollback that was done"
    elif row.status in OVER and begun is not None:
        yield f"{row.id} is {row.status}, and entry {begun[0].seq} began a rollback of it that was not done"


def _of_order(row: Execution, entry: Entry, order: Order | None, events: Sequence[AuditEvent]) -> Iterator[str]:
    if order is None:
        yield f"entry {entry.seq} ({entry.key}) does not say what was to be rolled back"
        return
    by_parent = order.by == PARENT and row.parent_key is not None and "/" in order.id
    if order.cause not in ("asked", "cancel") or not order.id or by_parent:
        return
    asked = [e for e in events if e.what == ROLLBACK_ASKED and json_object(e.details).get("order") == order.id]
    if not asked:
        yield (
            f"entry {entry.seq} ({entry.key}): {order.by or 'somebody'} asked for this rollback, and no event says so:"
            " the end of the chain is missing"
        )
    elif order.by not in {event.actor for event in asked}:
        yield (
            f"entry {entry.seq} ({entry.key}) says that {order.by or 'nobody known'} asked for this rollback, the chain"
            f" says {asked[-1].actor or 'nobody known'}"
        )


def _of_cut(
    entry: Entry, said: Mapping[str, Any], begun: tuple[Entry, Order | None] | None, readable: bool
) -> Iterator[str]:
    if not readable:
        return
    if begun is None:
        yield f"entry {entry.seq} ({entry.key}) says that a rollback was done, and no entry says that it was begun"
        return
    at, order = begun
    if order is not None and (said.get("order", order.id), said.get("by", order.by)) != (order.id, order.by):
        yield f"entry {entry.seq} ({entry.key}) ends another rollback than entry {at.seq} began"


def of_undos(
    entries: Sequence[Entry],
    actions: Sequence[RollbackAction],
    requests: Sequence[Request],
    events: Sequence[AuditEvent],
) -> Iterator[str]:
    """Is what the journal says of each undo what its row says?"""
    keys = {entry.seq: entry.key for entry in entries}
    undone = {(entry.key, entry.generation): entry for entry in entries if entry.kind == UNDO}
    rows: dict[Place, list[RollbackAction]] = defaultdict(list)
    for action in actions:
        place = f"undo:{action.key}", action.generation
        rows[place].append(action)
        which = _which(action)
        if keys.get(action.seq, action.key) != action.key:
            yield f"{which} is of entry {action.seq}, which is {keys[action.seq]}"
        if checksum(None, action.output, action.error) != action.checksum:
            yield f"{which} was changed: its checksum does not fit"
        if action.status not in ("planned", "running") and place not in undone:
            yield f"{which} is {action.status}, and the journal does not say so"
        if action.resolved_by is not None:
            yield from _of_settling(action, requests, events)
    for place, entry in undone.items():
        if not rows[place]:
            yield f"entry {entry.seq} ({entry.key}) is {entry.status}, and rollback_actions has no row of it"
        for action in rows[place]:
            if action.status not in ENDS.get(entry.status, ()):
                yield f"{_which(action)} is {action.status}, the journal says {entry.status} (entry {entry.seq})"
            elif _are_plain(entry, action) and (entry.output, entry.error) != (action.output, action.error):
                yield f"{_which(action)} did not end as the journal says (entry {entry.seq})"


def _are_plain(entry: Entry, action: RollbackAction) -> bool:
    return entry.encoding == action.encoding == "json"


def _which(action: RollbackAction) -> str:
    return f"the undo of {action.key} in generation {action.generation}"


def _of_settling(action: RollbackAction, requests: Sequence[Request], events: Sequence[AuditEvent]) -> Iterator[str]:
    place = f"undo:{action.key}", action.generation
    asked = {request.id for request in requests if (request.key, request.generation) == place}
    who = {event.actor for event in events if event.what == "done" and event.request_id in asked}
    if action.resolved_by not in who:
        yield f"{_which(action)} was settled by {action.resolved_by}, and no event says so"


def of_cancelling(row: Execution, events: Sequence[AuditEvent]) -> Iterator[str]:
    """Was it cancelled by one of those who asked for that? A child is cancelled with its parent, too."""
    asked = [event.actor for event in events if event.what == CANCEL_ASKED]
    is_named = row.status is Status.CANCELLED and row.wish_by is not None and row.parent_key is None
    if is_named and asked and row.wish_by not in asked:
        yield f"{row.id} says it was cancelled by {row.wish_by}, the chain says {asked[-1]}"


def of_questions(
    row: Execution, requests: Sequence[Request], entries: Sequence[Entry], events: Sequence[AuditEvent], inherited: int
) -> Iterator[str]:
    """Is every question there of which something else tells? `inherited`: up to this entry a fork took them along."""
    known = {request.id for request in requests}
    for id in dict.fromkeys(event.request_id for event in events):
        if id is not None and id not in known:
            yield f"{id} is missing: events tell of it"
    asked = {(request.key, request.generation) for request in requests}
    settled: dict[Place, int] = defaultdict(int)
    for request in requests:
        settled[request.key, request.generation] += request.kind == "undo" and request.status == "decided"
    undone: dict[Place, list[Entry]] = defaultdict(list)
    for entry in entries:
        place = entry.key, entry.generation
        if entry.kind in WAITS and entry.status == "completed" and entry.seq > inherited:
            if place not in asked:
                yield f"entry {entry.seq} ({entry.key}) came of a question that is missing"
        elif entry.kind == UNDO:
            undone[place].append(entry)
    latest = max((entry.seq for entry in entries if entry.kind == ROLLBACK), default=0)
    for place, tried in undone.items():
        last = tried[-1]
        if len(tried) > settled[place] + 1:
            yield f"entry {last.seq} ({last.key}) was undone again, and the question that settled it is missing"
        stuck = row.status is Status.ROLLBACK_FAILED and last.seq > latest and last.status == "failed"
        if stuck and place not in asked:
            yield f"entry {last.seq} ({last.key}) failed, and the question that was asked about it is missing"
