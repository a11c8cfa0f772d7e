"""What must always hold, read from the history of a simulation.

It shares no code with the kernel: it knows the records, and counts. Each violation is a line that begins with the
invariant's name. Lines of the list that need other means (a real process, a real clock) are not here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from perdure.deliveries import Answer, Post, Receipt, StartWith
from perdure.records import ENDED, Entry, Execution, Status, Verdict
from perdure.testing.history import Acknowledged, Body, Delivered, History, Recorded
from perdure.testing.witness import Witness, is_outcome

PLANNED = ("PlannedError", "TimeoutError", "ExecutionCancelledError")
"""Errors that plans may end with."""


def violations(history: History) -> list[str]:
    """All that was broken, in words; empty if nothing was."""
    witness = Witness()
    for event in history.events:
        witness.see(event)
    found = [*history.faults, *witness.found]
    if not history.dump.executions:
        return found  # it came to no end
    for check in (_journals, _requests, _messages, _acknowledged, _ends, _replays, _idempotency):
        found += check(history)
    return list(dict.fromkeys(found))


# The final dump -------------------------------------------------------------------------------------------


def _journals(history: History) -> Iterator[str]:
    recorded: dict[str, list[Entry]] = defaultdict(list)
    for event in history.events:
        if isinstance(event, Recorded) and event.verdicts.alive:
            pairs = zip(event.batch.changes, event.verdicts.changes, strict=True)
            refused = {c.execution_id for c, v in pairs if v in (Verdict.FENCED, Verdict.GONE)}
            for entry in event.batch.entries:
                if entry.execution_id not in refused:
                    recorded[entry.execution_id].append(entry)
    for id, journal in history.dump.journals.items():
        if [entry.seq for entry in journal] != list(range(1, len(journal) + 1)):
            yield f"I33 the journal of {id} has gaps: {[entry.seq for entry in journal]}"
        if journal != recorded[id]:
            yield f"I1 I33 the journal of {id} is not what was recorded, in that order"
        outcomes: set[str] = set()
        for entry in journal:
            if is_outcome(entry):
                if entry.key in outcomes:
                    yield f"I2 {entry.key} of {id} has two outcomes"
                outcomes.add(entry.key)


def _requests(history: History) -> Iterator[str]:
    given: dict[str, list[int]] = defaultdict(list)
    for event in history.events:
        if isinstance(event, Acknowledged) and event.what == "answer":
            given[event.subject].append(event.value)
    for id, values in given.items():
        request = history.dump.requests.get(id)
        if request is None:
            yield f"I18 the request {id} was answered and is gone"
        elif request.status != "decided" or any(json.loads(request.answer or "null") != v for v in values):
            yield f"I18 {id} was answered with {values}; it is {request.status} with {request.answer}"
    for event in history.events:
        if isinstance(event, Acknowledged) and event.what == "conflict":
            request = history.dump.requests.get(event.subject)
            value, shown = event.value
            if request is not None and request.status == "decided" and f": {request.answer};" not in shown:
                yield f"I18 the conflict about {event.subject} ({value}) did not show the first answer: {shown}"
    asked = {(request.execution_id, request.key): request for request in history.dump.requests.values()}
    for id, journal in history.dump.journals.items():
        for entry in journal:
            if entry.kind == "interrupt":
                found = asked.get((id, entry.key))
                if found is None or found.status not in ("decided", "expired"):
                    yield f"I20 {entry.key} of {id} was answered though nobody answered it"
                elif found.status == "decided" and entry.output != found.answer:
                    yield f"I20 {entry.key} of {id} took {entry.output}; its request got {found.answer}"
    firsts: dict[str, str] = {}
    for event in history.events:
        match event:
            case Delivered(delivery=Answer() as answer, receipt=Receipt(verdict=Verdict.OK)):
                if firsts.setdefault(answer.request_id, answer.value) != answer.value:
                    yield f"I18 {answer.request_id} took a second answer"


def _messages(history: History) -> Iterator[str]:
    unused = {
        (id, seq)
        for event in history.events
        if isinstance(event, Recorded) and event.verdicts.alive
        for id, seq in event.batch.untakes
    }
    kept = history.dump.messages
    for event in history.events:
        if isinstance(event, Acknowledged) and event.what == "signal" and event.subject not in kept:
            yield f"I22 the message {event.subject} was acknowledged and is lost"
        match event:
            case Delivered(
                delivery=Post(message) | StartWith(message=message), receipt=Receipt(verdict=Verdict.OK)
            ) if message.id not in kept:
                yield f"I22 the message {message.id} was delivered and is lost"
    ordinals = {(m.execution_id, json.loads(m.value)): (m.name, m.ordinal) for m in kept.values()}
    for id, journal in history.dump.journals.items():
        taken = [e for e in journal if e.kind == "receive" and (id, e.seq) not in unused and e.output is not None]
        heard = {h.value for h in history.replays[id].heard if h.kind == "receive"} if id in history.replays else None
        values = [json.loads(e.output or "null") for e in taken]
        used = [v for v in values if heard is None or v in heard]
        if heard is not None and len(set(used)) != len(used):
            yield f"I22 {id} received a message twice: {used}"
        if not any(place[0] == id for place in unused):
            for name in {ordinals[id, v][0] for v in used if (id, v) in ordinals}:
                order = [ordinals[id, v][1] for v in used if ordinals.get((id, v), ("", 0))[0] == name]
                if order != sorted(order):
                    yield f"I22 {id} received the messages {name!r} out of order: {order}"


def _acknowledged(history: History) -> Iterator[str]:
    rows = history.dump.executions
    for event in history.events:
        if not isinstance(event, Acknowledged):
            continue
        row = rows.get(event.subject)
        match event.what:
            case "start":
                if row is None:
                    yield f"I1 I16 {event.subject} was started and is gone"
                elif json.loads(row.input) != {"plan": event.value}:
                    yield f"I15 {event.subject} was acknowledged with another input than it has"
            case "taken":
                if row is None or json.loads(row.input) == {"plan": event.value}:
                    yield f"I15 {event.subject} was refused though its input is the same"
            case "cancel" | "outcome":
                status = event.value if event.what == "cancel" else event.value[0]
                if row is None or row.status.value != status:
                    now = None if row is None else row.status
                    yield f"I6 I26 {event.subject} was said to be {status}; it is {now}"
                elif status == "completed" and event.what == "outcome" and _plain(row) != event.value[1]:
                    yield f"I6 {event.subject} was said to have given {event.value[1]}"


def _plain(row: Execution) -> object:
    return json.loads(row.output or "null")


def _ends(history: History) -> Iterator[str]:
    for row in history.dump.executions.values():
        if row.status is Status.BLOCKED:
            yield f"I5 {row.id} is blocked: {row.reason}"
        if row.status is Status.FAILED and not any(name in (row.error or "") for name in PLANNED):
            yield f"I13 I38 {row.id} failed of something that its plan has not: {(row.error or '')[:300]}"
        if row.owner is not None and row.status is not Status.RUNNING:
            yield f"I33 {row.id} is {row.status} and has an owner"
        parent = history.dump.executions.get(row.parent_id or "")
        if parent is not None and parent.status in (Status.FAILED, Status.CANCELLED) and row.status not in ENDED:
            yield f"I31 {row.id} is {row.status}, its parent {parent.status}"
    open_requests = [r for r in history.dump.requests.values() if r.status == "open"]
    for request in open_requests:
        owner = history.dump.executions.get(request.execution_id)
        if owner is not None and owner.status in ENDED:
            yield f"I31 {request.id} is open, its execution {owner.status}"


def _replays(history: History) -> Iterator[str]:
    for id, replayed in history.replays.items():
        row = history.dump.executions[id]
        if replayed.entered:
            yield f"I5 replaying the whole journal of {id} began {replayed.entered}"
        if replayed.new:
            yield f"I5 replaying the whole journal of {id} added {[(e.key, e.kind) for e in replayed.new]}"
        if replayed.status != row.status.value:
            yield f"I5 {id} is {row.status}; replayed it is {replayed.status}: {replayed.value}"
        elif row.status is Status.COMPLETED and replayed.value != _plain(row):
            yield f"I5 {id} gave {row.output}; replayed it gives {replayed.value}"


def _idempotency(history: History) -> Iterator[str]:
    keys: dict[tuple[str, str], str] = {}
    for event in history.events:
        if isinstance(event, Body):
            place = event.execution, event.key
            if keys.setdefault(place, event.idempotency) != event.idempotency:
                yield f"I3 {place} has two idempotency keys"
    if len(set(keys.values())) != len(keys):
        yield "I3 an idempotency key is not unique"
