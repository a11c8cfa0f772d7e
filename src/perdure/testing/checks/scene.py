"""What the checks of a store have in common: a worker, and names that no other check uses."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from perdure.clock import SECOND
from perdure.deliveries import Post
from perdure.records import Batch, Change, Entry, Execution, Message, Request, Status, Verdicts, WorkerRecord
from perdure.store import Store

HOUR = 3600 * SECOND


def equal(got: object, wanted: object, what: str = "") -> None:
    """Both are shown where they differ, whatever runs the checks."""
    if got != wanted:
        raise AssertionError(f"{what + ': ' if what else ''}got {got!r}, wanted {wanted!r}")


def true(condition: object, what: str) -> None:
    if not condition:
        raise AssertionError(what)


async def new_worker(store: Store, *, lease: float = 60.0, **fields: Any) -> WorkerRecord:
    """A worker that lives for `lease` seconds; with a negative one its lease is over from the start."""
    return await store.register(WorkerRecord(0, **fields), lease)


@dataclass
class Scene:
    """One worker of one store, and executions of a workflow and a queue that nobody else has."""

    store: Store
    worker: WorkerRecord
    now: int
    name: str = field(default_factory=lambda: f"check-{uuid.uuid4().hex[:12]}")

    @classmethod
    async def begin(cls, store: Store, *, lease: float = 60.0) -> Scene:
        worker = await new_worker(store, lease=lease)
        _, now = await store.heartbeat(worker.id, worker.epoch, lease)
        return cls(store, worker, now)

    async def other_worker(self, store: Store | None = None, *, lease: float = 60.0) -> Scene:
        """Another worker for the same executions, on this store or on another handle of it."""
        return Scene(store or self.store, await new_worker(store or self.store, lease=lease), self.now, self.name)

    def id(self, suffix: str = "x") -> str:
        return f"{self.name}/{suffix}"

    # Records --------------------------------------------------------------------------------------

    def execution(self, suffix: str = "x", **fields: Any) -> Execution:
        """A pending one."""
        defaults: dict[str, Any] = {
            "workflow": self.name,
            "queue": self.name,
            "created_at": self.now,
            "updated_at": self.now,
        }
        return Execution(id=self.id(suffix), **(defaults | fields))

    def entry(self, suffix: str = "x", seq: int = 1, **fields: Any) -> Entry:
        """A completed step."""
        plain = Entry(
            execution_id=self.id(suffix),
            seq=seq,
            generation=0,
            key=f"step#{seq}",
            kind="step",
            status="completed",
            attempt=1,
            fence=1,
            parent_key=None,
            input="{}",
            output="1",
            error=None,
            encoding="json",
            checksum=seq,
            build="b1",
            started_at=self.now,
            completed_at=self.now + seq,
        )
        return plain._replace(**fields)

    def change(self, suffix: str = "x", status: Status = Status.COMPLETED, **fields: Any) -> Change:
        defaults: dict[str, Any] = {"fence": 1, "nudges": 0, "at": self.now + 5}
        return Change(execution_id=self.id(suffix), status=status, **(defaults | fields))

    def request(self, suffix: str = "r", of: str = "x", **fields: Any) -> Request:
        defaults: dict[str, Any] = {"key": f"ask#{suffix}", "generation": 0, "kind": "input", "message": "Where to?"}
        return Request(self.id(suffix), self.id(of), **(defaults | {"created_at": self.now} | fields))

    def message(self, suffix: str = "m", of: str = "x", **fields: Any) -> Message:
        return Message(self.id(suffix), self.id(of), **({"name": "news", "value": '"hello"'} | fields))

    def batch(self, **fields: Any) -> Batch:
        return Batch(self.worker.id, self.worker.epoch, token=uuid.uuid4().hex, now=self.now + 10, **fields)

    # Deeds ----------------------------------------------------------------------------------------

    async def send(self, batch: Batch) -> Verdicts:
        """Commit it, on stores that answer at once and on those that are awaited."""
        answer = self.store.commit(batch)
        true(self.store.inline is not isawaitable(answer), "`inline` says whether commit gives an awaitable")
        return await answer if isawaitable(answer) else answer

    async def commit(self, **fields: Any) -> Verdicts:
        """Commit a batch of these parts, by a worker that lives."""
        verdicts = await self.send(self.batch(**fields))
        true(verdicts.alive, "the worker was refused although it lives")
        return verdicts

    async def create(self, *executions: Execution) -> None:
        await self.commit(creates=list(executions))

    async def run(self, suffix: str = "x", **fields: Any) -> Execution:
        """An execution that this worker owns, by fence 1."""
        owned: dict[str, Any] = {"status": Status.RUNNING, "owner": self.worker.id, "fence": 1}
        execution = self.execution(suffix, **(owned | fields))
        await self.create(execution)
        return execution

    async def park(self, suffix: str = "x", *, requests: Sequence[Request] = (), **fields: Any) -> None:
        """An execution that waits, with these requests."""
        parent = fields.pop("parent_id", None)
        await self.run(suffix, parent_id=parent)
        changes = [self.change(suffix, Status.WAITING, **fields)]
        await self.commit(changes=changes, requests=list(requests))

    async def post(self, suffix: str = "m", of: str = "x") -> None:
        await self.store.deliver(Post(self.message(suffix, of)), self.now)

    async def claim(self, *, limit: int = 100, **fields: Any) -> list[Execution]:
        wanted: dict[str, Any] = {"workflows": [(self.name, 1)], "queues": [self.name], "now": self.now}
        return await self.store.claim(self.worker.id, self.worker.epoch, limit, **(wanted | fields))

    async def die(self) -> None:
        """This worker is declared dead, though it lives."""
        true(await self.store.declare_dead(self.worker.id, anyway=True), "declare_dead(anyway=True) refused")

    # Looks ----------------------------------------------------------------------------------------

    async def row(self, suffix: str = "x") -> Execution:
        id = self.id(suffix)
        rows = await self.store.get([id])
        true(id in rows, f"{id!r} is not there")
        return rows[id]

    async def one_request(self, suffix: str = "r") -> Request:
        found = await self.store.requests(ids=[self.id(suffix)], status=None)
        equal(len(found), 1, "requests of this id")
        return found[0]

    async def message_ids(self, suffix: str = "x") -> list[str]:
        box = (await self.store.inbox([self.id(suffix)]))[self.id(suffix)]
        return [message.id.removeprefix(self.name + "/") for message in box.messages]

    async def seqs(self, suffix: str = "x") -> list[int]:
        return [entry.seq for entry in await self.store.history(self.id(suffix))]
