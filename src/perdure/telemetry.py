"""What happens in a worker, told to listeners: for metrics, traces and logs of one's own.

Listeners are plain functions, called on the engine's event loop after the fact is durable; they must be quick. What
they raise is logged and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perdure.journal import ATTEMPT
from perdure.records import Entry

logger = logging.getLogger("perdure")

EXECUTION_BEGAN = "execution.began"
EXECUTION_LEFT = "execution.left"
STEP_COMPLETED = "step.completed"
STEP_FAILED = "step.failed"
STEP_RETRIED = "step.retried"
WORKER_REGISTERED = "worker.registered"
WORKER_LOST = "worker.lost"


@dataclass(slots=True, frozen=True)
class Happening:
    """Something that happened.

    `name`: "execution.began" (in this worker's memory, for the first time or again), "execution.left" (it, with
    `status`: parked, ended, released), "step.completed", "step.failed", "step.retried" (an attempt failed, another one
    follows), "worker.registered", "worker.lost" (its lease). `at`, `started_at`: microseconds since 1970, UTC.
    """

    name: str
    worker: int
    at: int
    execution_id: str | None = None
    workflow: str | None = None
    status: str | None = None
    key: str | None = None
    attempt: int | None = None
    started_at: int | None = None


Listener = Callable[[Happening], object]


def step_happening(worker: int, workflow: str, entry: Entry) -> Happening | None:
    """What an entry says of a step; None if it is none of a step's."""
    if entry.kind == ATTEMPT:
        name = STEP_RETRIED
    elif entry.kind in ("step", "checkpoint"):
        name = STEP_COMPLETED if entry.status == "completed" else STEP_FAILED
    else:
        return None
    id, key = entry.execution_id, entry.key
    return Happening(name, worker, entry.completed_at, id, workflow, None, key, entry.attempt, entry.started_at)


def tell(listeners: Sequence[Listener], happening: Happening) -> None:
    """Tell everybody."""
    for listener in listeners:
        try:
            listener(happening)
        except Exception:
            logger.exception("a listener failed at %s", happening.name)
