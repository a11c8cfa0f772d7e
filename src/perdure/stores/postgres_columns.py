"""Records to the parameters of PostgreSQL's statements, and its verdicts back.

Entries, the hot path, travel as one text a column: the driver encodes 17 values instead of 17 for each entry. Other
records travel as JSON, all of one kind in one parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, replace
from typing import Any, get_type_hints

import msgspec

from perdure.errors import BadBatchError
from perdure.records import ENDED, Batch, Entry, Query, Request, Schedule, Verdict
from perdure.stores.attributes import plain_pairs
from perdure.stores.conditions import successor

SEPARATOR = "\x1f"
NULL = "\x1e"  # alone in its place: no payload and no key is that
# A message to the server holds at most 1 GiB, and so does a value there; more would break the connection.
MOST_CHARACTERS = 500_000_000
LONGEST_PAIR = 200  # as `perdure_pairs` cuts them
_IS_TEXT = tuple(hint is not int for hint in get_type_hints(Entry).values())
_SHARED = frozenset({"generation", "kind", "status", "attempt", "fence", "encoding", "build"})
_ABSENT = frozenset({"parent_key", "error"})
_NO_ENTRIES = [SEPARATOR, *("" if text else "{}" for text in _IS_TEXT)]


def pack_entries(entries: Sequence[Entry], token: str) -> list[str]:
    """The separator, then one text for each column. Raises `BadBatchError` for what is too large."""
    if not entries:
        return _NO_ENTRIES
    packed = _pack(entries, SEPARATOR)
    if packed is None:  # some name or id holds the separator: take one that nobody could foresee
        packed = _pack(entries, f"{SEPARATOR}{token}{SEPARATOR}")
    if packed is None:
        raise BadBatchError("an entry holds the token of its own batch")
    if sum(map(len, packed)) > MOST_CHARACTERS:
        raise BadBatchError(f"a batch is larger than {MOST_CHARACTERS:,} characters; nothing of it was recorded")
    return packed


def pack_plain(entries: Sequence[Entry]) -> list[Any] | None:
    """The parameters of `commit_plain` behind worker and epoch; None if these entries take `commit_entries`."""
    if not entries:
        return None
    packed: list[Any] = [SEPARATOR]
    gaps = len(entries) - 1
    size = 0
    for name, is_text, column in zip(Entry._fields, _IS_TEXT, zip(*entries, strict=True), strict=True):
        if name in _SHARED:
            if len(set(column)) != 1:
                return None
            packed.append(column[0])
        elif name in _ABSENT:
            if any(value is not None for value in column):
                return None
        elif is_text:
            if None in column:
                return None
            text = SEPARATOR.join(column)
            size += len(text)
            if text.count(SEPARATOR) != gaps or size > MOST_CHARACTERS:
                return None
            packed.append(text)
        else:
            packed.append(pack_numbers(column))
    return packed


def _pack(entries: Sequence[Entry], separator: str) -> list[str] | None:
    packed, gaps = [separator], len(entries) - 1
    for column, is_text in zip(zip(*entries, strict=True), _IS_TEXT, strict=True):
        if is_text:
            text = separator.join([NULL if value is None else value for value in column] if None in column else column)
            if text.count(separator) != gaps:
                return None
            # An array that is "" in text has no element: this one has two, of which the second meets no id.
            packed.append(text if text or gaps else separator)
        else:
            packed.append(pack_numbers(column))
    return packed


def pack_numbers(numbers: Iterable[object]) -> str:
    """An array as text: of an array's own type the driver asks each new connection, which takes longer than it all."""
    return "{" + ",".join(map(str, numbers)) + "}"


def pack_workflows(workflows: Sequence[tuple[str, int]]) -> tuple[list[str], str]:
    """Names and versions."""
    return [name for name, _ in workflows], pack_numbers(version for _, version in workflows)


def pack_creates(batch: Batch) -> list[Any]:
    """The parameters of `commit_creates`."""
    return [batch.worker, batch.epoch, batch.token, pack_records(batch.creates)]


def pack_changes(batch: Batch) -> list[Any]:
    """The parameters of `commit_changes`, with which those of `commit_batch` begin."""
    parents = {change.parent_id for change in batch.changes if change.parent_id is not None and change.status in ENDED}
    return [
        batch.worker,
        batch.epoch,
        *pack_entries(batch.entries, batch.token),
        sorted({change.execution_id for change in batch.changes} | parents),
        batch.token,
        pack_records(batch.changes),
        batch.now,
    ]


def pack_batch(batch: Batch) -> list[Any]:
    """The parameters of `commit_batch`."""
    return [
        *pack_changes(batch),
        pack_records(batch.creates),
        pack_records(_with_closed(batch)),
        batch.closes,
        [id for id, _ in batch.takes],
        pack_numbers(seq for _, seq in batch.takes),
        [id for id, _ in batch.untakes],
        pack_numbers(seq for _, seq in batch.untakes),
        pack_records(batch.actions),
        pack_records(batch.snapshots),
    ]


def _with_closed(batch: Batch) -> list[Request]:
    # What a batch asks and closes at once is closed as it is written: the statement's update cannot see it yet.
    if not (batch.requests and batch.closes):
        return batch.requests
    closed = set(batch.closes)
    return [
        replace(request, status="withdrawn", decided_at=batch.now)
        if request.id in closed and request.status == "open"
        else request
        for request in batch.requests
    ]


def pack_records(records: Sequence[object]) -> str:
    """Records of one kind as one parameter. Raises `BadBatchError`."""
    if not records:
        return "[]"
    try:
        text = msgspec.json.encode(records).decode()
    except (UnicodeError, msgspec.MsgspecError) as error:
        raise BadBatchError(f"a batch holds a text that UTF-8 cannot hold ({error}); nothing was recorded") from error
    if len(text) > MOST_CHARACTERS:
        raise BadBatchError(f"a batch is larger than {MOST_CHARACTERS:,} characters; nothing of it was recorded")
    return text


def pack_schedule(schedule: Schedule) -> tuple[Any, ...]:
    """The parameters of `put_schedule`, with which those of `move_schedule` begin."""
    return astuple(schedule)


def pack_query(query: Query) -> dict[str, Any]:
    """The values of a query's conditions."""
    pairs = plain_pairs(query.attributes)
    return {
        "status": list(query.status),
        "one_status": query.status[0] if query.status else None,
        "workflow": query.workflow,
        "version": query.version,
        "parent": query.parent,
        "by": query.by,
        "prefix": query.id_prefix,
        "prefix_end": successor(query.id_prefix or ""),
        "since": query.since,
        "until": query.until,
        "queue": query.queue,
        "pairs": [f"{name}={text}"[:LONGEST_PAIR] for name, text in pairs],
        "names": [name for name, _ in pairs],
        "texts": [text for _, text in pairs],
        "text": query.text,
        "ended_before": query.ended_before,
    }


def read_verdicts(batch: Batch, created: Sequence[str], changed: Sequence[str], verdicts: Sequence[str]) -> Any:
    """(of the creates, of the changes) in the order of the batch."""
    new = set(created)
    creates = []
    for create in batch.creates:
        creates.append(Verdict.OK if create.id in new else Verdict.EXISTS)
        new.discard(create.id)  # the second of one id finds the first
    given = dict(zip(changed, verdicts, strict=True))
    return creates, [Verdict(given[change.execution_id]) for change in batch.changes]
