"""Starting what may be there already, and starting together with a first message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from perdure.checking import refused_message
from perdure.clock import new_id
from perdure.deliveries import Receipt, StartFrom, StartWith
from perdure.errors import AlreadyExistsError, StoreUnavailableError
from perdure.records import Entry, Execution, Message, Verdict, WorkerRecord
from perdure.stores.patience import PATIENCE

if TYPE_CHECKING:
    from perdure.store import Store
    from perdure.worker import Worker

PAUSE = 0.05
"""Seconds between two tries."""


async def check_same(store: Store, wanted: Execution, *, whatever_input: bool = False) -> None:
    """Is the execution that has this id the one that is wanted? Raises `AlreadyExistsError`."""
    row = (await store.get([wanted.id])).get(wanted.id)
    if row is None:
        raise StoreUnavailableError(f"{wanted.id} was deleted while it was being started: try again")
    if (row.workflow, row.version) != (wanted.workflow, wanted.version):
        raise AlreadyExistsError(
            f"{wanted.id} exists: it is a {row.workflow} (version {row.version}), not a {wanted.workflow}"
            f" (version {wanted.version})",
            execution_id=wanted.id,
        )
    if row.input != wanted.input and not whatever_input:
        raise AlreadyExistsError(f"{wanted.id} exists with another input; nothing was changed", execution_id=wanted.id)


async def start_with(worker: Worker, execution: Execution, message: Message) -> None:
    """Have an execution recorded unless it is there, and its message delivered, in one transaction.

    Raises what a start and a message raise.
    """
    receipt = await _deliver(worker, lambda record: StartWith(record.id, record.epoch, execution, message))
    if receipt.verdict is Verdict.EXISTS:
        await check_same(worker.store, execution, whatever_input=True)
    refused = refused_message(receipt.verdict, execution.id, message.name)
    if refused is not None:
        raise refused
    _expect(worker, execution, receipt)


async def start_from(worker: Worker, execution: Execution, entries: Sequence[Entry]) -> bool:
    """Have an execution recorded with the journal that it begins with, as one. False: its id is taken."""
    execution.token = f"start.{new_id(worker.clock)}"
    receipt = await _deliver(worker, lambda record: StartFrom(record.id, record.epoch, execution, entries))
    if receipt.verdict is Verdict.EXISTS:
        row = (await worker.store.get([execution.id])).get(execution.id)
        if row is None or row.token != execution.token:
            return False
    _expect(worker, execution, receipt)
    return True


def _expect(worker: Worker, execution: Execution, receipt: Receipt) -> None:
    worker.backlog = True
    worker.note_wake(execution.wake_at)
    known = (execution.workflow, execution.version) in worker.workflows
    if receipt.started and known and execution.wake_at is None:
        worker.submitted.add(execution.id)


async def _deliver(worker: Worker, wanted: Callable[[WorkerRecord], StartWith | StartFrom]) -> Receipt:
    since = perf_counter()
    while True:
        record = worker.record
        try:
            receipt = await worker.store.deliver(wanted(record), worker.clock.now())
        except StoreUnavailableError:
            # It may have happened: the message's id, or the row's token, tells the second time.
            if perf_counter() - since > PATIENCE:
                raise
            await worker.clock.sleep(PAUSE)
            continue
        if receipt.verdict is not Verdict.FENCED:
            return receipt
        await worker.stand(record.id)
