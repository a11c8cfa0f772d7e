"""What is known of an execution, now or behind an earlier entry: read from the store, and seen by the code at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from perdure.capturing import ALL, OFF, captured, of_frame
from perdure.errors import NotFoundError, PerdureError
from perdure.journal import CUT, INHERITED, cut_of, is_outcome, live
from perdure.protection import Protection
from perdure.records import ENDED, Dossier, Entry, Execution, Status
from perdure.rehearsing import Rehearsal, rehearse
from perdure.rollback import called, meant
from perdure.sealing import SEALED
from perdure.snapshots import latest, restored, standing
from perdure.state import (
    Found,
    State,
    attempts,
    attributes_behind,
    errors,
    metadata,
    position,
    reach,
    usage,
)
from perdure.store import Store
from perdure.variables import Shown
from perdure.views import ENCRYPTED, request_view
from perdure.workflow import Workflow

UNDONE = frozenset({Status.ROLLED_BACK, Status.ROLLBACK_FAILED, Status.ROLLING_BACK})


async def inspect(
    store: Store,
    execution_id: str,
    at: str | int | None,
    workflow: Workflow[Any, Any] | None,
    protection: Protection,
    capture: str,
) -> State:
    """See `Handle.inspect`. `workflow`: the code at hand, if there is some."""
    row, entries, dossier = await _read(store, execution_id)
    last = entries[-1].seq if entries else 0
    seq = last if at is None else _seq(entries, at, row)
    upto = [entry for entry in entries if entry.seq <= (last if at is None else reach(entries, seq))]
    then = _row_then(row, entries, upto, at)
    ahead = [e for e in live(entries) if e.key == INHERITED and e.seq > (upto[-1].seq if upto else 0)]
    found = await _frames(then, row, upto, dossier, workflow, protection, capture, at, ahead[-1:])
    said = dossier if at is None else _said_then(dossier, entries, upto)
    asked = [
        request
        for request in await store.requests(execution_ids=[execution_id], status=None)
        if at is None or _was_asked(request.created_at, request.generation, entries, upto, then)
    ]
    if at is not None:
        outcomes = {(entry.key, entry.generation) for entry in upto if is_outcome(entry)}
        asked = [
            request
            if (request.key, request.generation) in outcomes or request.generation != then.generation
            else replace(request, status="open", answer=None, answered_by=None, decided_at=None)
            for request in asked
        ]
    requests = [request_view(request, said) for request in asked]
    goes_on = at is not None or row.status not in ENDED
    where = position(found.tree, upto, requests, goes_on)
    if at is not None:
        then.status = Status.WAITING if where.waiting and not where.active else Status.RUNNING
    main = found.tree.get("branches", {}).get("", {})
    return State(
        id=row.id,
        workflow=row.workflow,
        version=row.version,
        status=then.status,
        at=seq,
        variables=main.get("variables", {}),
        position=where,
        attempts=attempts(upto),
        errors=errors(row, upto, at is None),
        requests=requests,
        decisions={request.id: request.decisions for request in requests if request.decisions},
        usage=usage(upto),
        metadata=metadata(then, upto, requests, said),
        source=found.source,
        of=found.of,
        note=found.note,
    )


async def _read(store: Store, id: str) -> tuple[Execution, list[Entry], Dossier]:
    """Row, journal and dossier; read again where a restart came in between."""
    while True:
        row = (await store.get([id])).get(id)
        entries = await store.history(id)
        dossier = (await store.dossiers([id], snapshots=True)).get(id)
        again = (await store.get([id])).get(id)
        if row is None or again is None:
            raise NotFoundError(f"there is no execution {id} in {store.url}", execution_id=id)
        if (row.generation, row.base_seq, row.input) == (again.generation, again.base_seq, again.input):
            return again, entries, dossier or Dossier()


def _seq(entries: Sequence[Entry], at: str | int, row: Execution) -> int:
    if isinstance(at, str):
        found = called(live(entries), at) or called(entries, at)
        if not found:
            raise PerdureError(
                f"{row.id} has no checkpoint, key or entry {at!r}{meant(live(entries), at)}", execution_id=row.id
            )
        return found[-1].seq
    last = entries[-1].seq if entries else 0
    if not 0 <= at <= last:
        raise PerdureError(f"{row.id} has entries up to {last}, there is none of number {at}", execution_id=row.id)
    return at


def _row_then(row: Execution, entries: Sequence[Entry], upto: Sequence[Entry], at: str | int | None) -> Execution:
    """The row as the code would have seen it."""
    if at is None:
        return replace(row)
    cuts = [entry for entry in entries if entry.kind == CUT and (not upto or entry.seq > upto[-1].seq)]
    later = [entry for entry in cuts if cut_of(entry).get("reason") != "retry"]
    return replace(
        row,
        generation=row.generation - len(later),
        attributes=attributes_behind(row, entries, upto[-1].seq if upto else 0),
        ended_at=None,
        reason=None,
        wish_by=None,
    )


def _next_outcome(entries: Sequence[Entry], upto: Sequence[Entry]) -> Entry | None:
    return next((e for e in entries if (not upto or e.seq > upto[-1].seq) and is_outcome(e)), None)


def _was_asked(at: int, generation: int, entries: Sequence[Entry], upto: Sequence[Entry], then: Execution) -> bool:
    """Was this asked before the entry that came next?"""
    after = _next_outcome(entries, upto)
    return generation <= then.generation and (after is None or at <= after.completed_at)


def _said_then(dossier: Dossier, entries: Sequence[Entry], upto: Sequence[Entry]) -> Dossier:
    """What had been said and done before the entry that came next."""
    after = _next_outcome(entries, upto)
    if after is None:
        return dossier
    at = after.completed_at
    return Dossier(
        decisions=[each for each in dossier.decisions if each.decided_at <= at],
        events=[each for each in dossier.events if each.created_at <= at],
        actions=[each for each in dossier.actions if (each.completed_at or each.started_at or at + 1) <= at],
    )


async def _frames(
    then: Execution,
    row: Execution,
    upto: Sequence[Entry],
    dossier: Dossier,
    workflow: Workflow[Any, Any] | None,
    protection: Protection,
    capture: str,
    at: str | int | None,
    ahead: Sequence[Entry],
) -> Found:
    """The frames of the code at rest there: by replay, or as they were recorded."""
    last = upto[-1].seq if upto else 0
    note: str | None = None
    capture = (workflow.options_.capture if workflow is not None else None) or capture
    if workflow is None:
        note = "the code of its workflow is not at hand"
    elif last < row.base_seq:
        note = "it was restarted since, with another input"
    elif at is None and row.status in UNDONE:
        note = f"it is {row.status}"
    else:
        try:
            tree = await _replayed(then, row, [*upto, *ahead], workflow, protection, capture)
            return Found(tree, "code", last)
        except PerdureError as error:
            note = f"the code at hand does not fit its journal: {error}"
        except Exception as error:  # what is damaged, or encrypted, cannot be begun
            note = f"it cannot be replayed: {type(error).__name__}: {error}"
    wanted = latest(standing(dossier.snapshots, upto), last)
    if wanted is None:
        return Found(note=f"{note}, and no snapshot of this life is recorded")
    if wanted.state.startswith(SEALED):
        return Found(note=f"{note}; its snapshots: {ENCRYPTED}")
    return Found(restored(dossier.snapshots, wanted), "snapshot", wanted.seq, note)


async def _replayed(
    then: Execution,
    row: Execution,
    upto: Sequence[Entry],
    workflow: Workflow[Any, Any],
    protection: Protection,
    capture: str,
) -> dict[str, Any]:
    shown = Shown(protection.hiding(workflow.options_.redact), values=capture == ALL)

    def look(rehearsal: Rehearsal) -> dict[str, Any]:
        if rehearsal.fault is not None:
            raise rehearsal.fault
        sequencer = rehearsal.sequencer
        main = sequencer.main
        error = main.exception() if main.done() and not main.cancelled() else None
        if main.done() and error is None:
            tree = {"branches": of_frame(rehearsal.frame, shown), "open": {}}
        else:
            tree = captured(sequencer, workflow.function, shown, error)
        if capture == OFF:
            for branch in tree["branches"].values():
                branch["variables"] = {}
        return tree

    plain = replace(then, checksum=row.checksum)
    return await rehearse(plain, workflow, upto, protection, look)
