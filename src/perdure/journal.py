"""The journal of one execution, pure: what is live in it, what is folded away, what is still open.

The rows of an execution by seq are its journal. An entry is
- an *outcome* (`completed`, `failed`): replay hands it over to the open call of its key;
- *local* (uuid4, random, patched, race, note, emit, publish, attributes): a value that the code makes and checks by
  itself;
- *told* (stream, progress, usage, and what steps publish): what a body said while it ran; replay knows nothing of it;
- a *timer set*: the deadline of a timer; its firing is an outcome;
- an *intent* or an *attempt*: passed over by replay, they tell what a body already went through;
- a *rollback*, an *undo*: what is being undone, and how that ended; the cut that follows voids them, too;
- a *cut*: voids the entries from a seq on. Nothing is ever changed or deleted.
An entry with a `parent_key` was made inside a step's body: it is not replayed but found by its key when
the body asks for it again, and folded away once that body has an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from perdure.codec import CODEC, checksum
from perdure.errors import DecodeError
from perdure.packing import Unpacker, is_packed
from perdure.records import Entry

INTENT = "intent"
ATTEMPT = "attempt"
CUT = "cut"
TIMER = "timer"
NOTE = "note"
RACE = "race"
PATCHED = "patched"
UUID4 = "uuid4"
RANDOM = "random"
RECEIVE = "receive"
EMIT = "emit"
PUBLISH = "publish"
ATTRIBUTES = "attributes"
STREAM = "stream"
PROGRESS = "progress"
USAGE = "usage"
BUDGET = "budget"
RESTART = "restart"
LIFE = "life"
CHECKPOINT = "checkpoint"
ROLLBACK = "rollback"
UNDO = "undo"

LOCAL = frozenset({UUID4, RANDOM, PATCHED, RACE, NOTE, LIFE, EMIT, PUBLISH, ATTRIBUTES})
REPEATED = frozenset({PUBLISH, ATTRIBUTES})
"""Local entries of which several have one key: in `Journal.local` they are `key#n`."""

TOLD = frozenset({STREAM, PROGRESS, USAGE, BUDGET})
STARTED_AGAIN = "restarted"
"""The key of the first entry after a restart: it says when the execution's new life began."""
INHERITED = "inherited"
"""The key of the entry that a fork begins with: all before it was copied, and is never undone here."""
OUTCOME = frozenset({"completed", "failed"})


@dataclass(slots=True)
class Pending:
    """What is recorded of a call that has no outcome yet."""

    failures: int = 0
    forgiven: int = 0  # failures before an operator's retry: the policy does not count them
    intent: bool = False
    intended_at: int = 0  # the intent's seq
    not_before: int = 0  # microseconds: the next attempt waits until then


@dataclass(slots=True)
class Journal:
    """A journal, ready for replay."""

    last_seq: int = 0
    entries: list[Entry] = field(default_factory=list)
    local: dict[str, Entry] = field(default_factory=dict)
    inner: dict[str, Entry] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    streamed: set[str] = field(default_factory=set)
    usage: list[Entry] = field(default_factory=list)
    raises: list[Entry] = field(default_factory=list)
    unpacker: Unpacker | None = None
    rolled_back_at: int = 0  # the seq of the last rollback's cut: what was begun before it is not under way any more
    rollback_reason: str | None = None
    orders: set[str] = field(default_factory=set)  # the ids of the rollbacks that were carried out

    def began(self, created_at: int) -> int:
        """When this life of the execution began: what its code takes for the time until the first outcome."""
        first = self.entries[0] if self.entries else None
        if first is not None and first.key == STARTED_AGAIN:
            return first.completed_at
        return int(self._inherited().get("began", created_at))

    @property
    def origin(self) -> str | None:
        """Whose tasks those of this execution hash like, if it is a fork."""
        return self._inherited().get("origin")

    def _inherited(self) -> dict[str, Any]:
        entry = self.local.get(INHERITED)
        told: dict[str, Any] = {} if entry is None else msgspec.json.decode(entry.output or "{}")
        return told

    def attributes_at_first(self, now: Any) -> Any:
        """The attributes as they were before the code set any; `now`: as they are in the row."""
        first = self.local.get(f"{ATTRIBUTES}#1")
        return now if first is None else CODEC.decode(first.output or "{}")["before"]

    def whole_input(self, entry: Entry) -> str | None:
        """The input of an entry, unpacked. Raises `DecodeError`."""
        if self.unpacker is None or not is_packed(entry.input):
            return entry.input
        return self.unpacker.text(entry.seq, "i")


def is_outcome(entry: Entry) -> bool:
    """Does the entry say how its call ended?"""
    return entry.status in OUTCOME and entry.kind != ATTEMPT and entry.kind != INTENT


def cut_of(entry: Entry) -> dict[str, Any]:
    """What a cut says. Raises `DecodeError` for one that is damaged."""
    try:
        said: dict[str, Any] = msgspec.json.decode(entry.output or "{}")
        return {**said, "from_seq": int(said["from_seq"])}
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(entry, f"it is no cut: {type(error).__name__}") from error


def live(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that no later cut covers, without the cuts themselves; of a rollback under way, those before it."""
    begun = None
    for n, entry in enumerate(entries):
        if entry.kind == ROLLBACK:
            begun = n
        elif entry.kind == CUT:
            begun = None
    if begun is not None:
        entries = entries[:begun]
    if not any(entry.kind == CUT for entry in entries):
        return list(entries)
    kept: list[Entry] = []
    floor: int | None = None  # everything from here on is void, going backwards
    for entry in reversed(entries):
        if entry.kind == CUT:
            start = cut_of(entry)["from_seq"]
            floor = start if floor is None else min(floor, start)
        elif floor is None or entry.seq < floor:
            kept.append(entry)
        if floor is not None and entry.seq <= floor:
            floor = None
    kept.reverse()
    return kept


def fold(entries: Sequence[Entry]) -> Journal:
    """What replay needs of a journal. Raises `DecodeError` for an entry whose checksum does not fit."""
    journal = Journal()
    if not entries:
        return journal
    journal.last_seq = entries[-1].seq
    for entry in entries:
        if entry.kind == CUT:
            _note_cut(journal, entry)
    outer, local = journal.entries, journal.local
    counts: dict[str, int] = {}
    for entry in live(entries):
        if entry.encoding != "json":
            entry = _unpacked(journal, entries, entry)
        elif checksum(entry.input, entry.output, entry.error) != entry.checksum:
            raise _damaged(entry, "its checksum does not fit")
        if entry.kind == INTENT or entry.kind == ATTEMPT:
            _note(journal, entry)
        elif entry.kind in TOLD or (entry.kind == PUBLISH and entry.status == "set"):
            if entry.kind == STREAM:
                journal.streamed.add(entry.key)
            elif entry.kind == USAGE:
                journal.usage.append(entry)
            elif entry.kind == BUDGET:
                journal.raises.append(entry)
            continue
        elif entry.parent_key is not None:
            journal.inner[entry.key] = entry
            continue
        elif entry.kind in REPEATED:
            counts[entry.key] = n = counts.get(entry.key, 0) + 1
            local[f"{entry.key}#{n}"] = entry
        elif entry.kind in LOCAL:
            local[entry.key] = entry
        if entry.parent_key is None:
            outer.append(entry)
    for entry in entries:
        if entry.kind == CUT:
            _forgive(journal, entry)
    if journal.rolled_back_at:
        _forget_undone(journal)
    if journal.inner:
        _fold_bodies(journal)
    return journal


def _note_cut(journal: Journal, entry: Entry) -> None:
    cut = cut_of(entry)
    if cut.get("reason") == "rollback":
        journal.rolled_back_at, journal.rollback_reason = entry.seq, cut.get("words")
        journal.orders.add(cut.get("order", ""))


def _forget_undone(journal: Journal) -> None:
    """What was begun before a rollback, and has no outcome that stands, was undone: it begins anew."""
    for pending in journal.pending.values():
        if pending.intended_at < journal.rolled_back_at:
            pending.intent = False


def _damaged(entry: Entry, what: str) -> DecodeError:
    return DecodeError(
        f"entry {entry.seq} ({entry.key}) of {entry.execution_id} is damaged: {what}."
        " Nothing was changed; restore the row from a backup, then resume the execution",
        execution_id=entry.execution_id,
        key=entry.key,
    )


def _unpacked(journal: Journal, entries: Sequence[Entry], entry: Entry) -> Entry:
    """An entry with its whole output. Its input stays packed: replay compares digests."""
    if checksum(entry.input, entry.output, entry.error) != entry.checksum:
        raise _damaged(entry, "its checksum does not fit")
    if journal.unpacker is None:
        journal.unpacker = unpacker_of(entries)
    if not is_packed(entry.output):
        return entry
    try:
        return entry._replace(output=journal.unpacker.text(entry.seq, "o"))
    except DecodeError as error:
        raise _damaged(entry, str(error)) from error


def unpacker_of(entries: Sequence[Entry]) -> Unpacker:
    """Gives the whole texts of a journal's entries."""
    by_seq = {entry.seq: entry for entry in entries}

    def lookup(seq: int, column: str) -> str | None:
        entry = by_seq.get(seq)
        return None if entry is None else entry.input if column == "i" else entry.output

    return Unpacker(lookup)


def _forgive(journal: Journal, entry: Entry) -> None:
    """An operator has a failed step tried again: its attempts go on counting, its policy begins anew."""
    cut = cut_of(entry)
    if "retry" in cut:
        pending = journal.pending.setdefault(cut["retry"], Pending())
        if pending.failures <= cut["attempts"]:
            pending.failures, pending.not_before = cut["attempts"], 0
        pending.forgiven = cut["attempts"]
        forget_failures(journal, cut["retry"])


def _note(journal: Journal, entry: Entry) -> None:
    pending = journal.pending.setdefault(entry.key, Pending())
    if entry.kind == INTENT:
        pending.intent, pending.intended_at = True, entry.seq
        return
    pending.failures = max(pending.failures, entry.attempt)
    if entry.output is not None:
        pending.not_before = int(entry.output)
    forget_failures(journal, entry.key)


def forget_failures(journal: Journal, body: str) -> None:
    """A body is tried again: what failed inside it is tried again too, what succeeded is not."""
    prefix = body + "/"
    for key in [k for k, e in journal.inner.items() if e.status == "failed" and k.startswith(prefix)]:
        failed = journal.inner.pop(key)
        journal.pending.setdefault(key, Pending()).failures = failed.attempt


def _fold_bodies(journal: Journal) -> None:
    bodies = {e.key for e in journal.entries if is_outcome(e)} | {k for k, e in journal.inner.items() if is_outcome(e)}
    for key in list(journal.inner):
        if any(parent in bodies for parent in enclosing(key)):
            del journal.inner[key]


def name_of(key: str) -> str:
    """The name of what a key is of: `t1/pack#2` is of `pack`."""
    return key.rsplit("/", 1)[-1].rsplit("#", 1)[0]


def enclosing(key: str) -> Iterable[str]:
    """The keys of the bodies around an inner call, outermost first: `t1/a#1/b#2` is in `t1/a#1`."""
    parts = key.split("/")
    for n in range(1, len(parts)):
        if "#" in parts[n - 1]:
            yield "/".join(parts[:n])
