"""Which execution or request is meant: its id, or the beginning of it that no other has."""

from __future__ import annotations

import click

from perdure.answering import SETTLED
from perdure.cli.session import USAGE
from perdure.deciding import seen_requests
from perdure.engine import Engine
from perdure.errors import AlreadyDecidedError, NotFoundError, PerdureError
from perdure.outcome import OpenRequest
from perdure.records import Execution, Query, Status

SHOWN = 20
PAGE = 200


async def find_execution(engine: Engine, text: str) -> Execution:
    """The execution of this id, else the only one whose id begins so (its children do not count).

    Raises `NotFoundError`, or `AmbiguousError` that lists the candidates.
    """
    found = (await engine.store.get([text])).get(text)
    if found is not None:
        return found
    candidates = await _beginning_with(engine, text) if text else []
    if not candidates:
        raise NotFoundError(f"there is no execution {text} in {engine.store.url}, nor one whose id begins so")
    if len(candidates) > 1:
        raise _ambiguous(text, "executions", [f"{row.id}  {row.workflow}  {row.status}" for row in candidates])
    return candidates[0]


async def _beginning_with(engine: Engine, text: str) -> list[Execution]:
    roots: list[Execution] = []
    known: set[str] = set()
    cursor = None
    while len(roots) <= SHOWN:
        # The oldest first: an execution comes before its children.
        page = await engine.list(Query(id_prefix=text, order="oldest"), limit=PAGE, cursor=cursor)
        for row in page.items:
            known.add(row.id)
            if row.parent_id not in known:
                roots.append(row)
        cursor = page.cursor
        if cursor is None:
            break
    return roots


class AmbiguousError(click.ClickException):
    """More than one thing may be meant."""

    exit_code = USAGE


def _ambiguous(text: str, kind: str, candidates: list[str]) -> AmbiguousError:
    shown = "\n".join(f"  {line}" for line in candidates[:SHOWN])
    more = "\n  ..." if len(candidates) > SHOWN else ""
    return AmbiguousError(f"{text} may be any of several {kind}:\n{shown}{more}")


async def find_request(engine: Engine, text: str) -> OpenRequest:
    """The request of this id, else the only open one of the execution that is meant, and of what is below it.

    Raises `NotFoundError`, `AlreadyDecidedError` where nothing is open any more, `AmbiguousError`.
    """
    exact = await engine.store.requests(ids=[text], status=None)
    if exact:
        return (await seen_requests(engine.store, exact))[0]
    try:
        execution = await find_execution(engine, text)
    except NotFoundError:
        return await _request_beginning_with(engine, text)
    below = [row.id for row in await engine.store.tree(execution.id)]
    rows = await engine.store.requests(execution_ids=[execution.id, *below], status=None)
    requests = await seen_requests(engine.store, rows)
    opened = [request for request in requests if request.status == "open"]
    if len(opened) == 1:
        return opened[0]
    if opened:
        raise _ambiguous(execution.id, "open requests", [f"{request.id}  {request.message}" for request in opened])
    if len(requests) == 1:
        return requests[0]  # decided: the engine says how, or takes an equal answer
    if requests:
        raise AlreadyDecidedError(f"{execution.id} asks nothing now; its last request was {requests[-1].id}")
    raise PerdureError(f"{execution.id} ({execution.status}) asks nothing of anybody")


async def find_unsettled(engine: Engine, text: str) -> OpenRequest:
    """The request of this id, else the only one of the execution that is meant which `resolve` settles.

    Raises `NotFoundError`, `AmbiguousError`, and `PerdureError` where nothing waits to be resolved.
    """
    if await engine.store.requests(ids=[text], status=None):
        return await find_request(engine, text)
    try:
        row = await find_execution(engine, text)
    except NotFoundError:
        return await _request_beginning_with(engine, text)
    family = [row, *await engine.store.tree(row.id)]
    rows = await engine.store.requests(execution_ids=[each.id for each in family], status=None)
    found = await seen_requests(engine.store, [request for request in rows if request.kind in SETTLED])
    waiting = [request for request in found if request.status == "open"]
    if len(waiting) > 1:
        raise _ambiguous(row.id, "requests", [f"{request.id}  {request.message}" for request in waiting])
    blocked = next((each for each in family if each.status is Status.BLOCKED), None)
    if waiting or (len(found) == 1 and blocked is None):
        return (waiting or found)[0]
    if blocked is not None:
        why = blocked.reason or "no reason was recorded"
        raise PerdureError(f"{blocked.id} is blocked, and is resolved by resume or by cancel: {why}")
    asked = [request.id for request in rows if request.status == "open"]
    also = f". What it asks is answered or decided: {', '.join(asked[:SHOWN])}" if asked else ""
    raise PerdureError(f"nothing of {row.id} ({row.status}) waits to be resolved{also}")


async def _request_beginning_with(engine: Engine, text: str) -> OpenRequest:
    execution_id = text.rpartition(":")[0]
    rows = await engine.store.requests(execution_ids=[execution_id], status=None) if execution_id else []
    found = await seen_requests(engine.store, [row for row in rows if row.id.startswith(text)])
    if not found:
        raise NotFoundError(f"there is no request or execution {text} in {engine.store.url}, nor one that begins so")
    if len(found) > 1:
        raise _ambiguous(text, "requests", [f"{request.id}  {request.message}" for request in found])
    return found[0]
