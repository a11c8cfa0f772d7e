"""What came for the executions that run here is read together: one look serves all that were nudged meanwhile."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure.errors import LeaseLostError
from perdure.records import Inbox

if TYPE_CHECKING:
    from perdure.executor import Run
    from perdure.worker import Worker

logger = logging.getLogger("perdure")


class Refreshing:
    """Of one worker: whose inboxes are to be read again."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._nudged: dict[Run, None] = {}
        self._under_way = False

    def wants(self, run: Run) -> None:
        """Read an execution's inbox again, together with others'."""
        self._nudged[run] = None
        if not self._under_way:
            self._begin()

    def forget(self) -> None:
        self._nudged.clear()

    def _begin(self) -> None:
        self._under_way = True
        self._worker.spawn(self._read(), self._have_read)

    async def _read(self) -> list[tuple[Run, Inbox | None]]:
        worker, runs = self._worker, list(self._nudged)
        self._nudged = {}
        inboxes: dict[str, Inbox] = await worker.insist(lambda: worker.store.inbox([run.id for run in runs]))
        return [(run, inboxes.get(run.id)) for run in runs]

    def _have_read(self, found: list[tuple[Run, Inbox | None]] | None, error: BaseException | None) -> None:
        self._under_way = False
        if error is not None:
            logger.error("worker %s could not read what came", self._worker.record.id, exc_info=error)
        for run, inbox in found or ():
            if inbox is None:
                run.lose(LeaseLostError(f"{run.id} was deleted while it ran"))
            else:
                try:
                    run.refreshed(inbox)
                except Exception as defect:
                    run.broken(defect)
        if self._nudged:
            self._begin()
