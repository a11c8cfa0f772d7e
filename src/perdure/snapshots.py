"""States and the differences between them, pure: state -> difference to the one before, differences -> state.

A state is a JSON object. A *chain* begins with one in full; each further one is recorded as the difference to the one
before it, until the differences since the last full one would be larger than the state itself: then that is recorded
in full again. So a state that grows costs little more than it is large at the end, and none is read from more than
twice its own size. Each difference bears the digests of its base and of its result: a broken link is an error, and
never an empty state.

    ["=", VALUE]                        another value
    ["s", FRONT, BACK, TEXT]            a text that keeps so many characters in front and at the back
    ["l", FRONT, BACK, [VALUE, ...]]    a list that keeps so many items
    ["i", {INDEX: DIFFERENCE, ...}]     a list some of whose items differ
    ["d", {NAME: DIFFERENCE, ...}, [NAME, ...]]     an object: members that differ, members that are gone
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from perdure.codec import checksum
from perdure.errors import DecodeError
from perdure.journal import CUT, cut_of
from perdure.packing import digest
from perdure.records import Entry, Snapshot

FULL = "full"
DIFFERENCE = "difference"

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

MOST = 2
"""So many times its size the differences since the last full state may be."""

State = dict[str, Any]


def text_of(state: Any) -> str:
    """A state as it is recorded: ASCII JSON, equal for equal states."""
    return _encode(state)


class Link(NamedTuple):
    """One state as it is recorded."""

    kind: str
    base_digest: str | None
    digest: str
    text: str


class Chain:
    """States one after another, as they are recorded. A state that was given is not to be changed any more."""

    __slots__ = ("_digest", "_last", "_since")

    def __init__(self) -> None:
        self._last: State | None = None
        self._digest: str | None = None
        self._since = 0  # characters of differences since the last full one

    def add(self, state: State) -> Link:
        """The next state."""
        whole = text_of(state)
        base, self._digest = self._digest, digest(whole)
        last, self._last = self._last, state
        if last is not None:
            text = text_of(difference(last, state))
            self._since += len(text)
            if self._since <= MOST * len(whole):
                return Link(DIFFERENCE, base, self._digest, text)
        self._since = 0
        return Link(FULL, None, self._digest, whole)


# Differences ----------------------------------------------------------------------------------------------


def difference(old: Any, new: Any) -> list[Any]:
    """What makes the new value of the old one."""
    if isinstance(old, dict) and isinstance(new, dict):
        changed = {
            name: difference(old[name], value) if name in old else ["=", value]
            for name, value in new.items()
            if name not in old or not same(old[name], value)
        }
        return ["d", changed, [name for name in old if name not in new]]
    if isinstance(old, str) and isinstance(new, str):
        front = _common(old, new)
        back = _common(old[front:][::-1], new[front:][::-1])
        if front + back > 8:
            return ["s", front, back, new[front : len(new) - back]]
    elif isinstance(old, list) and isinstance(new, list):
        return _of_lists(old, new)
    return ["=", new]


def _of_lists(old: list[Any], new: list[Any]) -> list[Any]:
    differ = [n for n, (a, b) in enumerate(zip(old, new, strict=False)) if not same(a, b)]
    if len(old) == len(new) and 2 * len(differ) <= len(new):
        return ["i", {str(n): difference(old[n], new[n]) for n in differ}]
    front = differ[0] if differ else min(len(old), len(new))
    back, most = 0, min(len(old), len(new)) - front
    while back < most and same(old[-1 - back], new[-1 - back]):
        back += 1
    return ["l", front, back, new[front : len(new) - back]]


def same(a: Any, b: Any) -> bool:
    """Are these the same JSON? (1, 1.0 and True are equal in Python.)"""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[name]) for name, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def _common(a: str, b: str) -> int:
    """How many characters agree in front."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def applied(old: Any, step: Any) -> Any:
    """The new value that a difference makes of the old one. Any error: the difference is none, or not of this value."""
    match step:
        case ["=", value]:
            return value
        case ["s", int(front), int(back), str(text)] if isinstance(old, str):
            return old[:front] + text + old[len(old) - back :]
        case ["l", int(front), int(back), list(items)] if isinstance(old, list):
            return old[:front] + items + old[len(old) - back :]
        case ["i", dict(changed)] if isinstance(old, list):
            items = list(old)
            for n, change in changed.items():
                items[int(n)] = applied(items[int(n)], change)
            return items
        case ["d", dict(changed), list(gone)] if isinstance(old, dict):
            members = {name: value for name, value in old.items() if name not in gone}
            for name, change in changed.items():
                members[name] = applied(old.get(name), change)
            return members
    raise ValueError("it is no difference to what came before it")


# Reading --------------------------------------------------------------------------------------------------


def standing(rows: Sequence[Snapshot], entries: Sequence[Entry]) -> list[Snapshot]:
    """Those of the life that a journal's last entry belongs to. What a cut in it voids is another life's."""
    begin = -1
    voids: list[tuple[int, int]] = []
    for entry in entries:
        if entry.kind == CUT:
            cut = cut_of(entry)
            if cut.get("reason") == "restart":  # nothing before it stands, not even what its code held at first
                begin, voids = entry.seq, []
            else:
                voids.append((cut["from_seq"], entry.seq))
    return [row for row in rows if row.seq >= begin and not any(start <= row.seq < end for start, end in voids)]


def latest(rows: Sequence[Snapshot], seq: int | None = None) -> Snapshot | None:
    """The last snapshot at or before an entry (None: of all)."""
    found = [row for row in rows if seq is None or row.seq <= seq]
    return max(
        found, key=lambda row: (row.seq, row.created_at, row.cause == "failure", row.cause == "wait"), default=None
    )


def restored(rows: Sequence[Snapshot], wanted: Snapshot) -> State:
    """The state that a snapshot records. Raises `DecodeError`, which names execution and seq, for a broken link."""
    chain = sorted(
        (row for row in rows if row.branch == wanted.branch and row.seq <= wanted.seq), key=lambda row: row.seq
    )
    begin = max((n for n, row in enumerate(chain) if row.kind == FULL), default=None)
    if begin is None:
        raise _broken(wanted, "the full state that it builds on is missing")
    state: Any = None
    before: str | None = None
    for row in chain[begin:]:
        if checksum(row.state) != row.checksum:
            raise _broken(row, "its checksum does not fit")
        if row.kind == DIFFERENCE and row.base_digest != before:
            raise _broken(row, "the state before it is missing, or another one")
        try:
            tree = json.loads(row.state)
            state = tree if row.kind == FULL else applied(state, tree)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise _broken(row, f"it cannot be read: {error}") from error
        before = row.digest
    if not isinstance(state, dict) or digest(text_of(state)) != wanted.digest:
        raise _broken(wanted, "its digest does not fit")
    return state


def _broken(row: Snapshot, what: str) -> DecodeError:
    return DecodeError(
        f"the snapshot of {row.execution_id} at entry {row.seq} is damaged: {what}. The journal is not concerned by it",
        execution_id=row.execution_id,
    )
