"""What people do from outside, kept in order and chained: each event bears the digest of the one before it.

The chain of an execution begins with its id. Whoever changes, drops or moves an event breaks it from there on; that the
last ones were cut off shows in the requests, whose rows say that they were decided.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from perdure.clock import Clock
from perdure.codec import CODEC
from perdure.deliveries import Decide, Note, Receipt
from perdure.errors import NotFoundError, PerdureError
from perdure.records import AuditEvent, Dossier, Request, Verdict
from perdure.store import Store

TRIES = 100

CANCEL_ASKED = "cancel asked"
"""The event of who wants an execution cancelled."""

ROLLBACK_ASKED = "rollback asked"
"""The event of who wants an execution rolled back."""

Part = Callable[[Request, Dossier], Decide]
"""What somebody does with a request as it stands; raises what the caller is to hear."""


def first_digest(execution_id: str) -> str:
    """What the first event of an execution is chained to."""
    return hashlib.sha256(execution_id.encode("utf-8", "surrogatepass")).hexdigest()


def event(
    events: Sequence[AuditEvent],
    execution_id: str,
    what: str,
    at: int,
    *,
    request_id: str | None = None,
    actor: str | None = None,
    via: str | None = None,
    comment: str | None = None,
    details: Any = None,
) -> AuditEvent:
    """The event that follows these."""
    plain = AuditEvent(
        execution_id=execution_id,
        ordinal=len(events) + 1,
        request_id=request_id,
        what=what,
        actor=actor,
        via=via,
        comment=comment,
        details=None if details is None else CODEC.encode(details, path="details"),
        previous=events[-1].digest if events else first_digest(execution_id),
        digest="",
        created_at=at,
    )
    plain.digest = digest_of(plain)
    return plain


def digest_of(event: AuditEvent) -> str:
    """SHA-256 of all that an event says, and of the digest before it."""
    said = [
        event.previous,
        event.execution_id,
        event.ordinal,
        event.request_id,
        event.what,
        event.actor,
        event.via,
        event.comment,
        event.details,
        event.created_at,
    ]
    return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()


def break_in(events: Sequence[AuditEvent], execution_id: str) -> str | None:
    """None, or where the chain is broken, in words."""
    previous = first_digest(execution_id)
    for ordinal, each in enumerate(events, 1):
        if each.ordinal != ordinal:
            return f"event {ordinal} is missing"
        if each.previous != previous:
            return f"event {ordinal} does not follow the one before it"
        if digest_of(each) != each.digest:
            return f"event {ordinal} was changed: its digest does not fit"
        previous = each.digest
    return None


async def take_part(store: Store, clock: Clock, request_id: str, part: Part) -> Receipt:
    """Do something with a request, as often as others come between. Raises `NotFoundError`, and what `part` raises.

    An open request is read after the events: whatever has changed it in between has added one that is not known. One
    that is settled is read before them: they tell how.
    """
    found = await store.requests(ids=[request_id], status=None)
    for _ in range(TRIES):
        dossiers = await store.dossiers([row.execution_id for row in found])
        found = await store.requests(ids=[request_id], status=None)
        if not found or found[0].execution_id not in dossiers:
            raise NotFoundError(f"there is no request {request_id} in {store.url}")
        if found[0].status != "open":
            dossiers = await store.dossiers([found[0].execution_id])
        delivery = part(found[0], dossiers[found[0].execution_id])
        receipt = await store.deliver(delivery, clock.now())
        if receipt.verdict != Verdict.OWNED:
            return receipt
    raise PerdureError(f"{request_id}: others decide all the time; try again")


async def note(store: Store, clock: Clock, execution_id: str, what: str, **said: Any) -> None:
    """Add an event to an execution's chain, if it is there."""
    await add(store, clock, execution_id, lambda d: [event(d.events, execution_id, what, clock.now(), **said)])


async def add(store: Store, clock: Clock, execution_id: str, make: Callable[[Dossier], Sequence[AuditEvent]]) -> None:
    """Add to an execution's chain, if it is there, what `make` gives for it as it stands; nothing: it is done."""
    for _ in range(TRIES):
        dossiers = await store.dossiers([execution_id])
        made = make(dossiers[execution_id]) if execution_id in dossiers else ()
        if not made:
            return
        known = len(dossiers[execution_id].events)
        receipt = await store.deliver(Note(execution_id, known, made), clock.now())
        if receipt.verdict != Verdict.OWNED:
            return
    raise PerdureError(f"{execution_id}: others act all the time; try again")
