"""A store whose payloads are encrypted before they reach the database, and opened when they come back.

It wraps any other store. Sealed are inputs, outputs, errors, details, defaults, answers, messages and what schedules
start with, each bound to the place where it stands. Ids, keys, names, attributes, questions and schemas stay readable:
they are what one searches and lists by. A payload that cannot be opened becomes a text that no codec reads: decoding it
says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from perdure.codec import REFUSED, checksum
from perdure.deliveries import Answer, Cut, Decide, Delivery, Post, Receipt, StartFrom, StartWith
from perdure.errors import DecodeError
from perdure.records import (
    Batch,
    Change,
    DecisionRow,
    Dossier,
    Entry,
    Execution,
    Folded,
    Inbox,
    Limit,
    Message,
    Outgoing,
    Page,
    Query,
    Request,
    RollbackAction,
    Schedule,
    Snapshot,
    Verdict,
    Verdicts,
)
from perdure.sealing import Encryption
from perdure.store import Same, Store, Transaction
from perdure.stores.outgoing import asks_for
from perdure.stores.translated import TranslatedTransaction


class SealedStore:
    """Any store, with an `Encryption` in front of it."""

    def __init__(self, store: Store, encryption: Encryption) -> None:
        self._store = store
        self._encryption = encryption

    def __getattr__(self, name: str) -> Any:
        # What carries no payload (leases, counts, wake-ups, migrations) is the other store's business.
        return getattr(self._store, name)

    @property
    def clock(self) -> Any:
        return self._store.clock  # type: ignore[attr-defined]

    @clock.setter
    def clock(self, clock: Any) -> None:
        self._store.clock = clock  # type: ignore[attr-defined]

    # Sealing and opening ------------------------------------------------------------------------------

    def _seal(self, text: str | None, execution_id: str, key: str, column: str) -> str | None:
        if text is None:
            return None
        return self._encryption.seal(text, execution_id=execution_id, key=key, column=column)

    def _open(self, text: str | None, execution_id: str, key: str, column: str) -> str | None:
        if text is None:
            return None
        try:
            return self._encryption.open(text, execution_id=execution_id, key=key, column=column)
        except DecodeError as error:
            return f"{REFUSED}{error}"

    def _sealed_entry(self, entry: Entry) -> Entry:
        place = f"{entry.seq}:{entry.key}"
        texts = [
            self._seal(text, entry.execution_id, place, column)
            for column, text in (("input", entry.input), ("output", entry.output), ("error", entry.error))
        ]
        return entry._replace(
            input=texts[0], output=texts[1], error=texts[2], encoding=f"{entry.encoding}+aes", checksum=checksum(*texts)
        )

    def _opened_entry(self, entry: Entry) -> Entry:
        if checksum(entry.input, entry.output, entry.error) != entry.checksum:
            return entry  # damaged: whoever decodes it finds that out
        place = f"{entry.seq}:{entry.key}"
        texts = []
        for column, text in (("input", entry.input), ("output", entry.output), ("error", entry.error)):
            if text is not None:
                text = self._encryption.open(text, execution_id=entry.execution_id, key=place, column=column)
            texts.append(text)
        encoding = entry.encoding.removesuffix("+aes")
        return entry._replace(
            input=texts[0], output=texts[1], error=texts[2], encoding=encoding, checksum=checksum(*texts)
        )

    def _sealed_execution(self, row: Execution) -> Execution:
        return replace(
            row,
            input=self._seal(row.input, row.id, "", "input") or "",
            output=self._seal(row.output, row.id, "", "output"),
            error=self._seal(row.error, row.id, "", "error"),
            encoding=f"{row.encoding}+aes",
            checksum=self._encryption.fingerprints(row.checksum, row.id)[0],
        )

    def _opened_execution(self, row: Execution) -> Execution:
        texts = [
            self._open(text, row.id, "", column)
            for column, text in (("input", row.input), ("output", row.output), ("error", row.error))
        ]
        # A change of the row knows nothing of the sealed input, so what stands there is a fingerprint of the plain sum.
        plain = checksum(*texts)
        fits = row.checksum == plain or row.checksum in self._encryption.fingerprints(plain, row.id)
        return replace(
            row,
            input=texts[0] or "",
            output=texts[1],
            error=texts[2],
            encoding=row.encoding.removesuffix("+aes"),
            checksum=plain if fits else row.checksum,
        )

    def _sealed_request(self, row: Request) -> Request:
        details = self._seal(row.details, row.execution_id, row.id, "details")
        default = self._seal(row.default_answer, row.execution_id, row.id, "default_answer")
        total = checksum(details, row.schema, default)
        answer = self._seal(row.answer, row.execution_id, row.id, "answer")  # of one that a rule has decided at once
        return replace(row, details=details, default_answer=default, answer=answer, checksum=total)

    def _opened_request(self, row: Request) -> Request:
        return replace(
            row,
            details=self._open(row.details, row.execution_id, row.id, "details"),
            default_answer=self._open(row.default_answer, row.execution_id, row.id, "default_answer"),
            answer=self._open(row.answer, row.execution_id, row.id, "answer"),
        )

    def _sealed_message(self, row: Message) -> Message:
        value = self._seal(row.value, row.execution_id, row.id, "value") or ""
        return replace(row, value=value, checksum=checksum(value))

    def _opened_message(self, row: Message) -> Message:
        return replace(row, value=self._open(row.value, row.execution_id, row.id, "value") or "")

    # Writing ------------------------------------------------------------------------------------------

    def _sealed_change(self, change: Change) -> Change:
        id = change.execution_id
        return replace(
            change,
            input=self._seal(change.input, id, "", "input"),
            output=self._seal(change.output, id, "", "output"),
            error=self._seal(change.error, id, "", "error"),
            checksum=None if change.checksum is None else self._encryption.fingerprints(change.checksum, id)[0],
        )

    def _sealed_batch(self, batch: Batch) -> Batch:
        return replace(
            batch,
            creates=[self._sealed_execution(row) for row in batch.creates],
            entries=[self._sealed_entry(entry) for entry in batch.entries],
            changes=[self._sealed_change(change) for change in batch.changes],
            requests=[self._sealed_request(row) for row in batch.requests],
            actions=[self._sealed_action(row) for row in batch.actions],
            snapshots=[self._sealed_snapshot(row) for row in batch.snapshots],
        )

    def _sealed_action(self, row: RollbackAction) -> RollbackAction:
        place = f"{row.generation}:{row.key}"
        output = self._seal(row.output, row.execution_id, place, "output")
        error = self._seal(row.error, row.execution_id, place, "error")
        total = checksum(None, output, error)
        return replace(row, output=output, error=error, encoding=f"{row.encoding}+aes", checksum=total)

    def _sealed_snapshot(self, row: Snapshot) -> Snapshot:
        state = self._seal(row.state, row.execution_id, f"{row.seq}:{row.branch}", "state") or ""
        return replace(row, state=state, encoding=f"{row.encoding}+aes", checksum=checksum(state))

    def commit(self, batch: Batch) -> Verdicts | Awaitable[Verdicts]:
        return self._store.commit(self._sealed_batch(batch))

    async def settle(self, batch: Batch) -> Verdicts | None:
        return await self._store.settle(self._sealed_batch(batch))

    async def deliver(self, delivery: Delivery, now: int) -> Receipt:
        match delivery:
            case Answer():
                return await self._answer(delivery, now)
            case Post(message):
                delivery = replace(delivery, message=self._sealed_message(message))
            case StartWith():
                execution = self._sealed_execution(delivery.execution)
                delivery = replace(delivery, execution=execution, message=self._sealed_message(delivery.message))
            case StartFrom():
                execution, entries = (
                    self._sealed_execution(delivery.execution),
                    map(self._sealed_entry, delivery.entries),
                )
                delivery = replace(delivery, execution=execution, entries=list(entries))
            case Decide():
                return await self._take_part(delivery, now)
            case Cut():
                sealed = self._sealed_entry(delivery.entry)
                mark = self._encryption.fingerprints(delivery.checksum, delivery.execution_id)[0]
                delivery = replace(delivery, entry=sealed, checksum=mark)
        receipt = await self._store.deliver(delivery, now)
        if receipt.request is not None:
            receipt.request = self._opened_request(receipt.request)
        return receipt

    async def _answer(self, answer: Answer, now: int) -> Receipt:
        found = await self._store.requests(ids=[answer.request_id], status=None)
        if not found:
            return Receipt(Verdict.GONE)
        value = self._seal(answer.value, found[0].execution_id, answer.request_id, "answer") or ""
        receipt = await self._store.deliver(replace(answer, value=value, checksum=checksum(value)), now)
        if receipt.request is not None:
            receipt.request = self._opened_request(receipt.request)
            # No two sealed texts are equal: whether it repeats the first answer is told by the opened one.
            if receipt.verdict is Verdict.DECIDED and receipt.request.answer == answer.value:
                receipt.verdict = Verdict.REPEAT
        return receipt

    async def _take_part(self, part: Decide, now: int) -> Receipt:
        found = await self._store.requests(ids=[part.request_id], status=None)
        if not found:
            return Receipt(Verdict.GONE)
        id = found[0].execution_id
        answer = self._seal(part.answer, id, part.request_id, "answer")
        decisions = [replace(d, arguments=self._seal(d.arguments, id, _voice(d), "arguments")) for d in part.decisions]
        total = None if answer is None else checksum(answer)
        receipt = await self._store.deliver(replace(part, answer=answer, decisions=decisions, checksum=total), now)
        if receipt.request is not None:
            receipt.request = self._opened_request(receipt.request)
        return receipt

    async def dossiers(self, ids: Sequence[str], *, snapshots: bool = False) -> dict[str, Dossier]:
        found = await self._store.dossiers(ids, snapshots=snapshots)
        return {id: self._opened_dossier(dossier, id) for id, dossier in found.items()}

    def _opened_dossier(self, dossier: Dossier, id: str) -> Dossier:
        return replace(
            dossier,
            decisions=[
                replace(d, arguments=self._open(d.arguments, id, _voice(d), "arguments")) for d in dossier.decisions
            ],
            actions=[self._opened_action(row) for row in dossier.actions],
            snapshots=[self._opened_snapshot(row) for row in dossier.snapshots],
        )

    def _opened_action(self, row: RollbackAction) -> RollbackAction:
        place = f"{row.generation}:{row.key}"
        output = self._open(row.output, row.execution_id, place, "output")
        error = self._open(row.error, row.execution_id, place, "error")
        fits = checksum(None, row.output, row.error) == row.checksum
        return replace(
            row,
            output=output,
            error=error,
            encoding=row.encoding.removesuffix("+aes"),
            checksum=checksum(None, output, error) if fits else row.checksum,
        )

    def _opened_snapshot(self, row: Snapshot) -> Snapshot:
        state = self._open(row.state, row.execution_id, f"{row.seq}:{row.branch}", "state") or ""
        fits = checksum(row.state) == row.checksum
        encoding = row.encoding.removesuffix("+aes")
        return replace(row, state=state, encoding=encoding, checksum=checksum(state) if fits else row.checksum)

    def outgoing(self, item: Execution | Message, *, any_input: bool = False) -> Outgoing:
        sealed = self._sealed_message(item) if isinstance(item, Message) else self._sealed_execution(item)
        return self._store.outgoing(sealed, any_input=any_input)

    async def fold(self, limit: int, same: Same | None = None) -> list[Folded]:
        # No two sealed texts are equal: whether a start repeats another is told by the opened ones.
        return await self._store.fold(
            limit, lambda wanted, there: (same or asks_for)(*map(self._opened_execution, (wanted, there)))
        )

    async def begin(self, seconds: float) -> Transaction:
        return TranslatedTransaction(await self._store.begin(seconds), self._sealed_batch)

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._store.put_schedule(self._sealed_schedule(schedule))

    async def move_schedule(self, schedule: Schedule, expected: int | None) -> bool:
        return await self._store.move_schedule(self._sealed_schedule(schedule), expected)

    def _sealed_schedule(self, row: Schedule) -> Schedule:
        return replace(row, input=self._seal(row.input, "", row.name, "input") or "")

    # Reading ------------------------------------------------------------------------------------------

    async def claim(
        self,
        worker: int,
        epoch: int,
        limit: int,
        workflows: Sequence[tuple[str, int]],
        queues: Sequence[str],
        now: int,
        *,
        limits: Sequence[Limit] = (),
        build: str = "",
        crashed: bool = False,
    ) -> list[Execution]:
        rows = await self._store.claim(
            worker, epoch, limit, workflows, queues, now, limits=limits, build=build, crashed=crashed
        )
        return [self._opened_execution(row) for row in rows]

    async def load(self, ids: Sequence[str]) -> dict[str, list[Entry]]:
        journals = await self._store.load(ids)
        return {id: [self._opened_entry(entry) for entry in journal] for id, journal in journals.items()}

    async def history(self, execution_id: str) -> list[Entry]:
        return [self._opened_entry(entry) for entry in await self._store.history(execution_id)]

    async def tail(self, execution_id: str, after: int, kinds: Sequence[str], limit: int) -> list[Entry]:
        return [self._opened_entry(e) for e in await self._store.tail(execution_id, after, kinds, limit)]

    async def latest(self, execution_id: str, key: str) -> Entry | None:
        entry = await self._store.latest(execution_id, key)
        return None if entry is None else self._opened_entry(entry)

    async def inbox(self, ids: Sequence[str]) -> dict[str, Inbox]:
        inboxes = await self._store.inbox(ids)
        return {id: self._opened_inbox(inbox) for id, inbox in inboxes.items()}

    def _opened_inbox(self, inbox: Inbox) -> Inbox:
        return replace(
            inbox,
            requests=[self._opened_request(row) for row in inbox.requests],
            messages=[self._opened_message(row) for row in inbox.messages],
            children=[self._opened_execution(row) for row in inbox.children],
        )

    async def get(self, ids: Sequence[str]) -> dict[str, Execution]:
        return {id: self._opened_execution(row) for id, row in (await self._store.get(ids)).items()}

    async def requests(
        self,
        *,
        ids: Sequence[str] = (),
        execution_ids: Sequence[str] = (),
        status: str | None = "open",
        limit: int = 1000,
    ) -> list[Request]:
        rows = await self._store.requests(ids=ids, execution_ids=execution_ids, status=status, limit=limit)
        return [self._opened_request(row) for row in rows]

    async def tree(self, execution_id: str) -> list[Execution]:
        return [self._opened_execution(row) for row in await self._store.tree(execution_id)]

    async def schedules(self) -> list[Schedule]:
        return [
            replace(row, input=self._open(row.input, "", row.name, "input") or "")
            for row in await self._store.schedules()
        ]

    async def list(self, query: Query, limit: int, cursor: str | None) -> Page:
        page = await self._store.list(query, limit, cursor)
        return Page([self._opened_execution(row) for row in page.items], page.cursor)


def _voice(row: DecisionRow) -> str:
    return f"{row.request_id}:{row.ordinal}"
