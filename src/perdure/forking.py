"""A fork: a new execution with the beginning of another one's journal, which is not touched.

What is inherited is replayed as it is, and never undone by the fork. Behind it stands an entry that says where it comes
from; what was under way there (intents, attempts, requests, messages nobody had received) is not taken along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from perdure.checking import check_size
from perdure.codec import CODEC, checksum
from perdure.errors import DecodeError, JournalMismatchError, PerdureError
from perdure.journal import (
    ATTEMPT,
    CHECKPOINT,
    INHERITED,
    INTENT,
    LIFE,
    LOCAL,
    NOTE,
    ROLLBACK,
    TIMER,
    TOLD,
    UNDO,
    fold,
    is_outcome,
    live,
    unpacker_of,
)
from perdure.packing import Window, is_packed, pack_pair
from perdure.protection import Protection
from perdure.records import Entry, Execution, Status
from perdure.rehearsing import Rehearsal, rehearse
from perdure.rollback import target
from perdure.scope import Call
from perdure.sequencer import Sequencer
from perdure.state import attributes_behind, inheritance
from perdure.workflow import Workflow

BODIES = frozenset({"step", CHECKPOINT})

FENCE = 1
"""Of what a fork begins with: its first owner has the next one, so that it is known to have a journal."""


def inherited(row: Execution, entries: Sequence[Entry], at: str | int | None) -> tuple[int, list[Entry]]:
    """The last entry that a fork takes along, and all that it takes: what stands, and is not under way.

    Raises `PerdureError` for an `at` that is not there.
    """
    standing = [e for e in live(entries) if e.seq > row.base_seq and e.kind not in (ROLLBACK, UNDO)]
    if at is None:
        seq = max((entry.seq for entry in standing), default=row.base_seq)
    else:
        seq = row.base_seq if at == 0 else target(entries, at, row.base_seq)
    return seq, _settled([entry for entry in standing if entry.seq <= seq])


def _settled(entries: Sequence[Entry]) -> list[Entry]:
    """Without what is under way: intents and attempts of calls that have no outcome."""
    outcomes = {entry.key for entry in entries if is_outcome(entry)}
    return [entry for entry in entries if entry.kind not in (INTENT, ATTEMPT) or entry.key in outcomes]


def changed(entries: Sequence[Entry], changes: Mapping[str, Any], protection: Protection) -> list[Entry]:
    """The entries with other results. Raises `PerdureError` where a key has none that can be changed."""
    whole = unpacked(entries)
    for key, result in changes.items():
        found = [n for n, entry in enumerate(whole) if entry.key == key and is_outcome(entry)]
        if not found or whole[found[-1]].kind in {*LOCAL, *TOLD, TIMER}:
            raise PerdureError(f"there is no result of {key!r} up to there that could be changed", key=key)
        entry = whole[found[-1]]
        if entry.parent_key is not None:
            raise PerdureError(f"{key} was called inside {entry.parent_key}: change the result of that", key=key)
        with protection.encoding():
            text = CODEC.encode(result, path=key)
        check_size(text, f"the result of {key}")
        whole[found[-1]] = entry._replace(
            status="completed", output=text, error=None, checksum=checksum(entry.input, text, None)
        )
    return whole


def unpacked(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with whole texts. Raises `DecodeError` for a damaged one."""
    unpacker = unpacker_of(entries)
    whole = []
    for entry in entries:
        if checksum(entry.input, entry.output, entry.error) != entry.checksum:
            raise DecodeError(
                f"entry {entry.seq} ({entry.key}) of {entry.execution_id} is damaged: its checksum does not fit",
                execution_id=entry.execution_id,
                key=entry.key,
            )
        text, output = (
            unpacker.text(entry.seq, column) if is_packed(recorded) else recorded
            for column, recorded in (("i", entry.input), ("o", entry.output))
        )
        if entry.encoding != "json":
            entry = entry._replace(
                input=text, output=output, encoding="json", checksum=checksum(text, output, entry.error)
            )
        whole.append(entry)
    return whole


# What still fits ------------------------------------------------------------------------------------------


class _Strict(Sequencer):
    """Behind the first changed result only the very same arguments fit."""

    changes: frozenset[str] = frozenset()
    passed = False

    def _replay_entry(self, entry: Entry) -> bool:
        fits = super()._replay_entry(entry)
        self.passed = self.passed or (entry.key in self.changes and is_outcome(entry))
        return fits

    def unread(self, call: Call, error: PerdureError) -> PerdureError:
        if call.key not in self.changes:
            return super().unread(call, error)
        error.execution_id, error.key = self.id, call.key
        return error

    def _same_input(self, call: Call, entry: Entry) -> bool:
        if not self.passed:
            return super()._same_input(call, entry)
        assert self.journal is not None
        recorded, asked = self.journal.whole_input(entry) or "", self.shown(call)
        if recorded == asked:
            return True
        try:
            return bool(self._hidden(call.spec.normalize(recorded)) == asked)
        except PerdureError:
            return False


def _strict(keys: frozenset[str]) -> type[Sequencer]:
    return type("Strict", (_Strict,), {"changes": keys})


async def fitting(
    row: Execution, workflow: Workflow[Any, Any], entries: Sequence[Entry], keys: frozenset[str], protection: Protection
) -> list[Entry]:
    """The longest beginning that replay still asks for, once the results of these keys are others.

    Raises what stops the replay before the first of them, and `DecodeError` for a result that does not fit its type.
    """
    first = min(entry.seq for entry in entries if entry.key in keys and is_outcome(entry))

    def look(rehearsal: Rehearsal) -> int:
        fault, sequencer = rehearsal.fault, rehearsal.sequencer
        if fault is None:
            return entries[-1].seq
        outer = fold(entries).entries
        came = sequencer.cursor - (0 if isinstance(fault, JournalMismatchError) and fault is sequencer.fault else 1)
        last = outer[came - 1].seq if came > 0 else 0
        if last < first or (isinstance(fault, DecodeError) and fault.key in keys):
            raise fault
        return last

    last = await rehearse(row, workflow, entries, protection, look, _strict(keys))
    return _settled([entry for entry in entries if entry.seq <= last])


# What is recorded -----------------------------------------------------------------------------------------


def fork_row(row: Execution, entries: Sequence[Entry], seq: int, id: str, by: str | None, now: int) -> Execution:
    """The row of the fork."""
    return Execution(
        id=id,
        workflow=row.workflow,
        version=row.version,
        status=Status.PENDING,
        fence=FENCE,
        queue=row.queue,
        priority=row.priority,
        input=row.input,
        checksum=checksum(row.input, None, None),
        started_by=by,
        attributes=attributes_behind(row, entries, seq),
        created_at=now,
        updated_at=now,
    )


def copies(fork: Execution, entries: Sequence[Entry], *, build: str, said: Mapping[str, Any]) -> list[Entry]:
    """The journal that a fork begins with: gapless, its large texts packed anew, and at last where it comes from."""
    seqs = {entry.seq: n for n, entry in enumerate(entries, 1)}
    packed = any(entry.encoding != "json" for entry in entries)
    window = Window()
    made = []
    for entry in unpacked(entries):
        seq, key = seqs[entry.seq], entry.key
        if entry.kind == NOTE:
            key = f"{NOTE}:{seqs.get(int(key.rpartition(':')[2]), 0)}"
        text, output, encoding = entry.input, entry.output, "json"
        if packed:
            text, output, encoding = pack_pair(
                window, seq, text, output, is_base=entry.parent_key is None, is_body=entry.kind in BODIES
            )
        made.append(
            entry._replace(
                execution_id=fork.id,
                seq=seq,
                generation=0,
                key=key,
                fence=FENCE,
                input=text,
                output=output,
                encoding=encoding,
                checksum=checksum(text, output, entry.error),
            )
        )
    told = json.dumps(said, separators=(",", ":"))
    at, sum_ = fork.created_at, checksum(None, told, None)
    plain = (None, None, told, None, "json", sum_, build, at, at)
    made.append(Entry(fork.id, len(made) + 1, 0, INHERITED, LIFE, "completed", 1, FENCE, *plain))
    return made


def lineage(row: Execution, entries: Sequence[Entry], seq: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What the fork says of where it comes from. `origin`: whose tasks it hashes like; `began`: when its code did."""
    before = None if row.base_seq else inheritance(entries)
    return {
        "from": row.id,
        "at": seq,
        "origin": row.id if before is None else before["origin"],
        "began": row.created_at if before is None else before["began"],
        "changed": list(changes),
    }


async def forked(
    row: Execution,
    entries: Sequence[Entry],
    at: str | int | None,
    changes: Mapping[str, Any],
    workflow: Workflow[Any, Any] | None,
    protection: Protection,
) -> tuple[int, list[Entry]]:
    """The last entry of the source that the fork takes along, and what it inherits, with the changes."""
    seq, kept = inherited(row, entries, at)
    if not changes:
        return seq, kept
    if workflow is None:
        raise PerdureError(
            f"to change results of {row.id}, the code of {row.workflow} (version {row.version}) must be at hand: what"
            " still fits is found by replaying it",
            execution_id=row.id,
        )
    kept = changed(kept, changes, protection)
    plain = replace(row, checksum=checksum(row.input, row.output, row.error))
    try:
        kept = await fitting(plain, workflow, kept, frozenset(changes), protection)
    except DecodeError as error:
        if error.key is None or error.key not in changes:
            raise
        raise DecodeError(
            f"the result of {error.key} cannot be {changes[error.key]!r:.200}: it does not fit"
            f" {str(error).removeprefix('the recorded text does not fit ')}. Nothing was forked",
            execution_id=row.id,
            key=error.key,
        ) from error
    stands = {entry.key for entry in kept}
    for key in changes:
        if key not in stands:
            raise PerdureError(
                f"the result of {key} cannot be changed too: with the other changes the code does not come to it any"
                " more with the same arguments. Nothing was forked",
                execution_id=row.id,
                key=key,
            )
    return kept[-1].seq, kept
