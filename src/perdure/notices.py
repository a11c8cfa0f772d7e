"""What is told of to people, who tells them, and how an engine hands it over. The ways to tell: `perdure.notifiers`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perdure.outcome import OpenRequest
from perdure.records import Request
from perdure.views import request_view

logger = logging.getLogger("perdure")

LEAVING = 5.0
"""Seconds that what is on its way gets when the engine is closed."""


@dataclass(slots=True, frozen=True)
class Notice:
    """What a notifier is told. `what`: asked, reminded, escalated."""

    what: str
    request: OpenRequest

    @property
    def headline(self) -> str:
        """One line for people."""
        words = {"reminded": "Still open", "escalated": "Nobody decided in time"}.get(self.what)
        message = " ".join(self.request.message.split())
        return f"{words}: {message}" if words else message

    def document(self) -> dict[str, Any]:
        """For programs. It holds no details and no arguments: these stay in the database."""
        request = self.request
        return {
            "what": self.what,
            "request": request.id,
            "execution": request.execution_id,
            "kind": request.kind,
            "message": request.message,
            "approvers": list(request.approvers),
            "assignee": request.assignee,
            "actions": [action.id for action in request.actions],
            "digest": request.digest,
            "created_at": request.created_at.isoformat(),
            "expires_at": None if request.expires_at is None else request.expires_at.isoformat(),
        }


class Notifier(Protocol):
    """Tells people. It may fail, and take its time."""

    async def notify(self, notice: Notice) -> None:
        """Tell them; raises what went wrong."""
        ...


class Notices:
    """Hands what is asked to the notifiers of an engine, each by itself."""

    def __init__(self, notifiers: Sequence[Notifier]) -> None:
        self._notifiers = tuple(notifiers)
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, requests: Sequence[Request], what: str) -> None:
        """Something is asked, durably. Called from callbacks of the engine's loop; returns at once."""
        for request in requests:
            if request.status != "open":
                continue
            notice = Notice(what, request_view(request))
            for notifier in self._notifiers:
                task = asyncio.get_running_loop().create_task(self._notify(notifier, notice))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _notify(self, notifier: Notifier, notice: Notice) -> None:
        try:
            await notifier.notify(notice)
        except Exception as error:
            logger.warning("%s could not tell of %s: %s", type(notifier).__name__, notice.request.id, error)

    async def close(self) -> None:
        """What is on its way gets a little time."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LEAVING)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
