"""What anybody may bring to an execution, in the memory store."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from perdure.deliveries import (
    Answer,
    Cut,
    Decide,
    Delivery,
    Expiry,
    Note,
    Post,
    Receipt,
    Resume,
    Rewind,
    Settle,
    StartFrom,
    StartWith,
    Wish,
    goes_back,
    is_bound_back,
    rewinds,
    takes_answers,
)
from perdure.records import ENDED, Execution, Message, Status, Verdict, is_legal
from perdure.stores.memory_moves import MemoryMoves
from perdure.stores.outgoing import is_same_workflow


class MemoryDeliveries(MemoryMoves):
    """The verb `deliver`, and the moves that follow from it."""

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        match delivery:
            case Answer() | Expiry():
                receipt = self._decide(delivery, now)
            case Post():
                receipt = self._post(delivery.message, delivery.most, now)
            case StartWith():
                receipt = self._start(delivery, now)
            case StartFrom():
                receipt = self._start_from(delivery)
            case Wish() | Settle() | Resume():
                receipt = self._direct(delivery, now)
            case Cut():
                receipt = self._cut(delivery, now)
            case Rewind():
                receipt = self._rewind(delivery, now)
            case Decide():
                receipt = self._take_part(delivery, now)
            case Note():
                receipt = self._note(delivery)
        if receipt.verdict is Verdict.OK or receipt.started:
            self._signal.fire()
        return receipt

    def _decide(self, delivery: Answer | Expiry, now: int) -> Receipt:
        request = self._requests.get(delivery.request_id)
        row = self._executions.get(request.execution_id) if request is not None else None
        if request is None or row is None:
            return Receipt(Verdict.GONE)
        if request.status != "open":
            equal = isinstance(delivery, Answer) and request.status == "decided" and request.answer == delivery.value
            return Receipt(Verdict.REPEAT if equal else Verdict.DECIDED, row.id, copy(request))
        if row.status in ENDED or goes_back(row.status, row.wish, row.generation):
            return Receipt(Verdict.ENDED, row.id, copy(request))
        request.decided_at = now
        if isinstance(delivery, Answer):
            request.status, request.answer, request.checksum = "decided", delivery.value, delivery.checksum
            request.answered_by, request.answered_via = delivery.by, delivery.via
        else:
            request.status = "expired"
        self._nudge(row, now)
        return Receipt(Verdict.OK, row.id, copy(request))

    def _post(self, message: Message, most: int, now: int) -> Receipt:
        row = self._executions.get(message.execution_id)
        if row is None:
            return Receipt(Verdict.GONE)
        if message.id in self._messages:
            return Receipt(Verdict.REPEAT, row.id)
        if row.status in ENDED:
            return Receipt(Verdict.ENDED, row.id)
        # Each message was a nudge: mostly there is nothing to count.
        if row.nudges >= most and sum(it.taken_seq is None for it in self._posted[row.id]) >= most:
            return Receipt(Verdict.FULL, row.id)
        kept = copy(message)
        kept.ordinal = 1 + len(self._posted[row.id])
        kept.taken_seq, kept.created_at = None, now
        self._keep(kept)
        self._nudge(row, now)
        return Receipt(Verdict.OK, row.id)

    def _start(self, delivery: StartWith, now: int) -> Receipt:
        if not self._stands(delivery.worker, delivery.epoch):
            return Receipt(Verdict.FENCED)
        wanted = delivery.execution
        there = self._executions.get(wanted.id)
        if there is None:
            self._keep(copy(wanted))
        elif not is_same_workflow(wanted, there):
            return Receipt(Verdict.EXISTS, wanted.id)
        return replace(self._post(delivery.message, delivery.most, now), started=there is None)

    def _start_from(self, delivery: StartFrom) -> Receipt:
        if not self._stands(delivery.worker, delivery.epoch):
            return Receipt(Verdict.FENCED)
        id = delivery.execution.id
        if id in self._executions:
            return Receipt(Verdict.EXISTS, id)
        self._keep(copy(delivery.execution))
        for entry in delivery.entries:
            self._journals.setdefault(id, {})[entry.seq] = entry
        return Receipt(Verdict.OK, id, started=True)

    def _direct(self, delivery: Wish | Settle | Resume, now: int) -> Receipt:
        row = self._executions.get(delivery.execution_id)
        if row is None:
            return Receipt(Verdict.GONE)
        if row.status in ENDED:
            return Receipt(Verdict.ENDED, row.id)
        match delivery:
            case Wish():
                if is_bound_back(row.status, row.wish, row.generation):
                    return Receipt(Verdict.OWNED, row.id)
                if (row.wish, delivery.wish) != ("cancel", "cancel"):
                    row.wish, row.wish_by, row.wish_reason = delivery.wish, delivery.by, delivery.reason
                self._nudge(row, now)
            case Settle():
                owned = row.owner is not None and not self._is_dead(row.owner)
                wanted = {"cancel": Status.CANCELLED, "pause": Status.PAUSED}.get(row.wish or "")
                if owned or wanted is None or not is_legal(row.status, wanted):
                    return Receipt(Verdict.OWNED, row.id)
                if wanted is Status.PAUSED:
                    self._pause(row, now)
                else:
                    self._cancel(row, now)
            case Resume():
                if row.status not in (Status.PAUSED, Status.BLOCKED):
                    return Receipt(Verdict.OWNED, row.id)
                self._resume(row, now)
        return Receipt(Verdict.OK, row.id)

    def _pause(self, row: Execution, now: int) -> None:
        self._move(row, Status.PAUSED, now)
        row.owner, row.fence, row.wake_at, row.reason = None, row.fence + 1, None, row.wish_reason

    def _cut(self, cut: Cut, now: int) -> Receipt:
        row = self._executions.get(cut.execution_id)
        if row is None:
            return Receipt(Verdict.GONE)
        if (
            row.fence != cut.fence
            or row.status not in ENDED
            or not is_legal(row.status, Status.PENDING)
            or cut.entry.seq in self._journals.get(row.id, ())
        ):
            return Receipt(Verdict.OWNED, row.id)
        self._move(row, Status.PENDING, now)
        self._journals.setdefault(row.id, {})[cut.entry.seq] = cut.entry
        row.fence, row.nudges, row.crashes, row.checksum = row.fence + 1, row.nudges + 1, 0, cut.checksum
        row.output = row.error = row.reason = row.wake_at = row.refused = None
        row.wish = row.wish_by = row.wish_reason = None
        for message in self._posted.get(row.id, ()):
            if message.taken_seq is not None and message.taken_seq >= cut.from_seq:
                message.taken_seq = None
        return Receipt(Verdict.OK, row.id)

    def _rewind(self, delivery: Rewind, now: int) -> Receipt:
        row = self._executions.get(delivery.execution_id)
        if row is None:
            return Receipt(Verdict.GONE)
        verdict = rewinds(delivery, row.status, row.wish, row.generation)
        if verdict is not Verdict.OK:
            return Receipt(verdict, row.id)
        row.wish, row.wish_by, row.wish_reason = delivery.wish, delivery.by, delivery.reason
        if row.status is Status.RUNNING:  # its owner does it; if that is dead, whoever takes it over
            self._nudge(row, now)
        else:
            self._roll_back(row, now)
        return Receipt(Verdict.OK, row.id)

    def _roll_back(self, row: Execution, now: int) -> None:
        self._move(row, Status.ROLLING_BACK, now)
        row.nudges, row.crashes, row.wake_at = row.nudges + 1, 0, now

    def _take_part(self, delivery: Decide, now: int) -> Receipt:
        request = self._requests.get(delivery.request_id)
        row = self._executions.get(request.execution_id) if request is not None else None
        if request is None or row is None:
            return Receipt(Verdict.GONE)
        if request.status != "open":
            return Receipt(Verdict.DECIDED, row.id, copy(request))
        if not takes_answers(request.kind, row.status, row.wish, row.generation):
            return Receipt(Verdict.ENDED, row.id, copy(request))
        if len(self._events.get(row.id, ())) != delivery.known:
            return Receipt(Verdict.OWNED, row.id, copy(request))
        for decision in delivery.decisions:
            self._keep(copy(decision))
        for event in delivery.events:
            self._keep(copy(event))
        for name in ("policy", "assignee", "expires_at", "checksum"):
            if getattr(delivery, name) is not None:
                setattr(request, name, getattr(delivery, name))
        if delivery.status != "open":
            request.status, request.answer, request.decided_at = delivery.status, delivery.answer, now
            request.answered_by, request.answered_via = delivery.by, delivery.via
            self._settled(row, request.kind, now)
        return Receipt(Verdict.OK, row.id, copy(request))

    def _settled(self, row: Execution, kind: str, now: int) -> None:
        if kind == "undo" and row.status is Status.ROLLBACK_FAILED:
            self._roll_back(row, now)
        elif kind == "unknown" and row.status is Status.BLOCKED:
            self._resume(row, now)
        else:
            self._nudge(row, now)

    def _note(self, note: Note) -> Receipt:
        if note.execution_id not in self._executions:
            return Receipt(Verdict.GONE)
        if len(self._events.get(note.execution_id, ())) != note.known:
            return Receipt(Verdict.OWNED, note.execution_id)
        for event in note.events:
            self._keep(copy(event))
        return Receipt(Verdict.OK, note.execution_id)

    def _cancel(self, row: Execution, now: int) -> None:
        self._move(row, Status.CANCELLED, now)
        row.owner, row.fence, row.wake_at, row.reason = None, row.fence + 1, None, row.wish_reason
        for request in self._asked.get(row.id, ()):
            if request.status == "open":
                request.status, request.decided_at = "withdrawn", now
        if row.parent_id is not None:
            self._nudge_parent(row.parent_id, now)

    def _resume(self, row: Execution, now: int) -> None:
        self._move(row, Status.PENDING, now)
        row.nudges += 1
        row.reason, row.wake_at, row.crashes, row.refused = None, None, 0, None
        if row.wish == "pause":
            row.wish = row.wish_by = row.wish_reason = None

    def _nudge_parent(self, id: str, now: int) -> None:
        if id in self._executions:
            self._nudge(self._executions[id], now)

    def _nudge(self, row: Execution, now: int) -> None:
        row.nudges += 1
        row.updated_at = now
        if row.status is Status.WAITING:
            self._move(row, Status.PENDING, now)
            row.wake_at = None  # else it would not be claimed before that time

    def _move(self, row: Execution, status: Status, now: int) -> None:
        assert is_legal(row.status, status), f"illegal move of {row.id!r}: {row.status} to {status}"
        row.status, row.updated_at = status, now
        row.ended_at = now if status in ENDED else None
