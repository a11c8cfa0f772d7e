"""What people do with what is asked of them: the inbox and its verbs, a part of `Engine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perdure import auditing, deciding
from perdure.answering import answer_text, how_decided, is_overdue
from perdure.checking import check_positive
from perdure.clock import Clock, to_datetime
from perdure.codec import checksum
from perdure.deciding import Directory, seen_requests, who_is
from perdure.deliveries import Answer, Expiry
from perdure.errors import AlreadyDecidedError, InvalidAnswerError, NotFoundError
from perdure.keys import NAMESPACE_MARK
from perdure.outcome import OpenRequest, User
from perdure.protection import Protection
from perdure.records import Dossier, Execution, Query, Request, Status, Verdict
from perdure.rewinding import resolve
from perdure.store import Store
from perdure.views import request_view

if TYPE_CHECKING:
    from perdure.handle import Handle
    from perdure.worker import Worker

BLOCKED = "blocked"
"""The kind of the inbox's items that are executions which only a person can help."""

WAYS = ("resume", "cancel")


class People:
    """The inbox of an engine."""

    store: Store
    insight: Store
    clock: Clock
    protection: Protection
    directory: Directory | None
    worker: Worker | None

    if TYPE_CHECKING:

        def _check_open(self) -> None: ...
        def _hint(self, execution_id: str) -> None: ...
        def get(self, execution_id: str) -> Handle[Any]: ...

    async def requests(self, execution_id: str | None = None, *, limit: int = 1000) -> Sequence[OpenRequest]:
        """What waits for somebody, oldest first: the one inbox.

        Kinds: "approval", "input" (an interrupt), "budget", and what `resolve` settles: "undo", "unknown", "pivot",
        "blocked" (an execution; its id is the item's).
        """
        self._check_open()
        check_positive("limit", limit)
        rows = await self.insight.requests(execution_ids=[execution_id] if execution_id else (), limit=limit)
        items = await seen_requests(self.insight, rows)
        if execution_id is None:
            stand = (await self.insight.list(Query(status=(Status.BLOCKED,), order="oldest"), limit, None)).items
        else:
            stand = [r for r in (await self.insight.get([execution_id])).values() if r.status is Status.BLOCKED]
        asked = {row.execution_id for row in rows if row.kind == "unknown"}
        items += [_blocked(row) for row in stand if row.id not in asked]
        return sorted(items, key=lambda item: (item.created_at, item.id))[:limit]

    async def _who(self, by: str | User | None) -> User | None:
        return await who_is(by, self.directory)

    def _check_here(self, request_id: str) -> None:
        self._check_open()
        if self.store is not self.insight and request_id.startswith(NAMESPACE_MARK):
            raise NotFoundError(f"there is no request {request_id} in {self.store.url}")

    async def _check_keys(self, request_id: str, known: Sequence[Request] | None = None) -> None:
        """Raises `PerdureError` where what is said here could not be read by those who have the keys.

        `known`: the request, where it was read.
        """
        if self.protection.encryption is None:
            if known is None:
                known = await self.store.requests(ids=[request_id], status=None)
            for row in (await self.store.get([request.execution_id for request in known])).values():
                self.protection.check_keys(row)

    async def _seen(self, request: Request) -> OpenRequest:
        self._hint(request.execution_id)
        return (await seen_requests(self.store, [request]))[0]

    # Approvals ----------------------------------------------------------------------------------------

    async def decide(
        self, request_id: str, decision: Any, *, by: str | User | None = None, comment: str | None = None
    ) -> OpenRequest:
        """Decide an approval, or have one's part in it: "approve", "reject", or which of these for each action.

        `decision`: for actions `{"id": "approve" | "reject" | Rejected(reason) | Edit({...})}`; every action must be
        named. Gives the request as it then stands; where a quorum or stages are to follow it is still open. Until its
        stage is over, whoever has spoken may say something else, or reject: the latest word of each counts, every one
        is kept. The same word again changes nothing. Raises `NotApproverError`, `InvalidAnswerError` (nothing is
        changed), `AlreadyDecidedError` (after the decision, or in a later stage; it tells the first word),
        `NotFoundError`.
        """
        self._check_here(request_id)
        await self._check_keys(request_id)
        who = await self._who(by)
        with self.protection.encoding():
            request = await deciding.decide(self.store, self.clock, request_id, decision, who, comment)
        return await self._seen(request)

    async def approve(
        self, request_id: str, *, by: str | User | None = None, comment: str | None = None
    ) -> OpenRequest:
        """Approve all that a request asks for. See `decide`."""
        return await self.decide(request_id, "approve", by=by, comment=comment)

    async def reject(
        self,
        request_id: str,
        *,
        reason: str | None = None,
        by: str | User | None = None,
        comment: str | None = None,
    ) -> OpenRequest:
        """Reject all that a request asks for. See `decide`."""
        said = "; ".join(words for words in (reason, comment) if words)
        return await self.decide(request_id, "reject", by=by, comment=said or None)

    async def comment(self, request_id: str, text: str, *, by: str | User | None = None) -> OpenRequest:
        """Say something about an open request; it is kept in the audit."""
        self._check_here(request_id)
        who = await self._who(by)
        return await self._seen(await deciding.comment_on(self.store, self.clock, request_id, text, who))

    async def claim(self, request_id: str, *, by: str | User) -> OpenRequest:
        """Look after a request: its assignee is `by`. Others may still decide it. Raises `NotApproverError`,
        `PerdureError` if somebody else has claimed it."""
        self._check_here(request_id)
        who = await self._who(by)
        assert who is not None
        return await self._seen(await deciding.claim(self.store, self.clock, request_id, who))

    async def reassign(self, request_id: str, *, to: str | User, by: str | User | None = None) -> OpenRequest:
        """Hand a request on: `to` looks after it, and is an approver in the place of `by`, who must be one.

        Raises `NotApproverError`, also where `to` could never decide it: has asked for it, or decided an earlier stage.
        """
        self._check_here(request_id)
        who, name = await self._who(by), to.id if isinstance(to, User) else to
        return await self._seen(await deciding.reassign(self.store, self.clock, request_id, name, who))

    async def see(self, request_id: str, *, by: str | User) -> OpenRequest:
        """Record that somebody has seen a request; once for each person."""
        self._check_here(request_id)
        who = await self._who(by)
        assert who is not None
        return await self._seen(await deciding.see(self.store, self.clock, request_id, who))

    # Answering ----------------------------------------------------------------------------------------

    async def answer(self, request_id: str, value: Any, *, by: str | User | None = None) -> OpenRequest:
        """Answer a request. The first answer stands; an equal repeat is accepted.

        Raises `InvalidAnswerError` for what does not fit (nothing is changed), `AlreadyDecidedError` after another
        answer, an expiry or a withdrawal, `NotFoundError`.
        """
        self._check_here(request_id)
        found = await self.store.requests(ids=[request_id], status=None)
        if not found:
            raise NotFoundError(f"there is no request {request_id} in {self.store.url}")
        await self._check_keys(request_id, found)
        request = found[0]
        with self.protection.encoding():
            text = answer_text(request, value, None if self.worker is None else self.worker.asked.get(request_id))
        who = by if isinstance(by, User) else User(by) if by is not None else None
        delivery = Answer(
            request_id, text, who.id if who else None, who.via if who else None, checksum(text)
        )  # fmt: skip
        if is_overdue(request, self.clock.now()):  # no worker was there to say so
            await self.store.deliver(Expiry(request_id), self.clock.now())
        receipt = await self.store.deliver(delivery, self.clock.now())
        if receipt.verdict == Verdict.GONE:
            raise NotFoundError(f"there is no request {request_id} in {self.store.url}")
        decided = receipt.request or request
        if receipt.verdict in (Verdict.DECIDED, Verdict.ENDED):
            raise AlreadyDecidedError(how_decided(decided), execution_id=decided.execution_id, key=decided.key)
        self._hint(decided.execution_id)
        return request_view(decided)

    async def resolve(
        self,
        request_id: str,
        how: str,
        *,
        result: Any = None,
        by: str | User | None = None,
        comment: str | None = None,
    ) -> OpenRequest:
        """Settle what only a person can; the execution goes on with it.

        An undo that failed: "done" (it is undone now), "retry". A once-only step of which nobody knows whether it
        happened: "happened" (with its `result`), "not_done" (it is tried again). A pivot that bounded a rollback:
        "done". A blocked execution (its id): "resume", "cancel".
        Raises `NotFoundError`, `InvalidAnswerError`, `AlreadyDecidedError`.
        """
        self._check_here(request_id)
        who = by if isinstance(by, User) else User(by) if by is not None else None
        if how in WAYS:
            return await self._settle(request_id, how, who, comment)
        await self._check_keys(request_id)
        request = await resolve(self.store, self.clock, request_id, how, result, who, comment)
        self._hint(request.execution_id)
        return request_view(request)

    async def _settle(self, id: str, how: str, who: User | None, comment: str | None) -> OpenRequest:
        """Have a blocked execution go on, or end."""
        row = (await self.store.get([id])).get(id)
        if row is None:
            found = await self.store.requests(ids=[id], status=None)
            if found:
                raise InvalidAnswerError(f"{id} is of kind {found[0].kind!r}: only a blocked execution takes {how!r}")
            raise NotFoundError(f"there is no execution {id} in {self.store.url}")
        what = {"resume": "resumed", "cancel": "cancelled"}[how]
        if row.status is not Status.BLOCKED:
            events = (await self.store.dossiers([id])).get(id, Dossier()).events
            settled = [event.what for event in events if event.what in ("resumed", "cancelled")]
            if settled[-1:] == [what]:
                return _blocked(row, how)  # said again
            raise AlreadyDecidedError(f"{id} is {row.status}, and not blocked (any more)", execution_id=id)
        if how == "resume":
            await self.get(id).resume(by=who)
        else:
            await self.get(id).cancel(reason=comment, by=who)
        name, via = (who.id, who.via) if who is not None else (None, None)
        await auditing.note(self.store, self.clock, id, what, actor=name, via=via, comment=comment)
        return _blocked(row, how)


def _blocked(row: Execution, how: str | None = None) -> OpenRequest:
    """A blocked execution as an item of the inbox. `how`: what it was settled by."""
    return OpenRequest(
        id=row.id,
        execution_id=row.id,
        key="",
        kind=BLOCKED,
        message=f"{row.workflow} is blocked: {row.reason or 'no reason was recorded'}",
        details=None,
        status="open" if how is None else "decided",
        schema=None,
        assignee=None,
        answer=how,
        answered_by=None,
        created_at=to_datetime(row.updated_at),
        expires_at=None,
        decided_at=None,
    )
