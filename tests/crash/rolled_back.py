"""What must hold of executions that were rolled back, told by the ledger and the rows."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.crash import ledger
from tests.crash.rows import Rows
from tests.crash.undone import DID, STUCK, UNDID


def broken(id: str, book: Path, rows: Rows, kills: int) -> Iterator[str]:
    """What does not hold of an execution and its children that were rolled back twice. `book`: the ledger."""
    lines = [line for line in ledger.read(book) if line.what in (DID, UNDID)]
    wanted = {
        *((id, generation, value) for generation in (0, 1) for value in ("left", "right")),
        (id, 0, "first"),
        *((f"{id}/undone_below#1{tail}", 0, f"child {n}") for tail in ("", "@1") for n in (1, 2)),
    }
    for what in (DID, UNDID):
        times: Counter[tuple[str, int, str]] = Counter()
        for line in lines:
            if line.what == what:
                # "first" was done in generation 0, and is undone by the last rollback.
                generation = 0 if line.value == "first" else line.attempt
                times[line.execution, generation, line.value] += 1
        # A body that was killed may run again; one whose end is recorded may not. Undos run one at a time.
        again = sum(times.values()) - len(times)
        if what == UNDID and again > kills:
            yield f"I28: {again} undos ran again after {kills} kills"
        if set(times) != wanted:
            yield f"{what}: {sorted(set(times) ^ wanted)} more or less than there should be"
        yield from (f"{what} {place} {n} times after {kills} kills" for place, n in times.items() if n > 1 + kills)
    over: set[tuple[str, str, int]] = set()
    for line in lines:
        place = line.execution, line.value, line.attempt
        if line.what == UNDID:
            over.add(place)
        elif place in over:
            yield f"I30: {place} was done after it was undone"
    for row in rows.executions:
        if row["status"] != "rolled_back" or row["generation"] != (2 if row["id"] == id else 1):
            yield f"{row['id']} is {row['status']} in generation {row['generation']}"
        seqs = [entry["seq"] for entry in rows.journal(row["id"])]
        if seqs != list(range(1, len(seqs) + 1)):
            yield f"I33: the journal of {row['id']} has gaps: {seqs}"
        undos = Counter(
            (e["key"], e["generation"])
            for e in rows.journal(row["id"])
            if (e["kind"], e["status"]) == ("undo", "completed")
        )
        yield from (f"I28: {row['id']} {key} is recorded {n} times" for key, n in undos.items() if n > 1)
        fences = [entry["fence"] for entry in rows.journal(row["id"])]
        if fences != sorted(fences):
            yield f"I9: the fences of {row['id']} decrease: {fences}"
    yield from (f"of what has ended, {row} are not counted" for row in rows.miscounted)
    order: dict[tuple[str, int], list[int]] = defaultdict(list)
    for action in rows.actions:
        if action["status"] != "completed":
            yield f"{action['execution_id']} {action['key']} is {action['status']}"
    for row in rows.executions:
        for entry in rows.journal(row["id"]):
            if entry["kind"] == "undo":
                done = [a for a in rows.actions if (a["execution_id"], f"undo:{a['key']}") == (row["id"], entry["key"])]
                order[row["id"], entry["generation"]] += [
                    a["seq"] for a in done if a["generation"] == entry["generation"]
                ]
    yield from (
        f"I28: {place} was undone in the order {seqs}" for place, seqs in order.items() if seqs != sorted(seqs)[::-1]
    )


# The journey ---------------------------------------------------------------------------------------------------

CAUSE = ["CardDeclined", "no money"]
GAVE_UP = {"hotel#1": ["OSError", "nobody answers the telephone"]}
FLIGHT = ("flight#1", "completed", 1, None)


def story(id: str, book: Path, rows: Rows) -> dict[str, Any]:
    """What became of a journey, however often its process died."""
    lines = ledger.read(book)
    row = rows.execution(id)
    undos = [entry for entry in rows.journal(id) if entry["kind"] in ("rollback", "undo", "attempt", "cut")]
    return {
        "end": (row["status"], row["generation"], json.loads(row["error"])["type"].rpartition(":")[2]),
        "actions": [(a["key"], a["status"], a["attempt"], a["resolved_by"]) for a in rows.actions],
        "recorded": [(e["kind"], e["key"].removesuffix(f":{e['seq']}"), e["status"]) for e in undos],
        "cancelled": list(dict.fromkeys(line.value for line in lines if line.what == UNDID)),
        "asked": [(r["kind"], r["key"], r["status"], r["answered_by"]) for r in rows.requests],
        "stuck": sorted({line.value for line in lines if line.what == STUCK}),
    }


def told(trouble: str) -> dict[str, Any]:
    """What must become of it."""
    failures = [("attempt", "undo:hotel#1", "failed")] * 2
    hotel, flight = ("undo", "undo:hotel#1", "completed"), ("undo", "undo:flight#1", "completed")
    never = trouble == "never"
    undos = {
        "": [hotel, flight],
        "twice": [*failures, hotel, flight],
        "never": [*failures, ("undo", "undo:hotel#1", "failed"), flight, hotel],
    }[trouble]
    return {
        "end": ("rolled_back", 1, "CardDeclined"),
        "actions": [("hotel#1", "completed", 3 if trouble else 1, "bo" if never else None), FLIGHT],
        "recorded": [("rollback", "rollback", "set"), *undos, ("cut", "cut", "completed")],
        "cancelled": ["flight"] if never else ["hotel", "flight"],
        "asked": [("undo", "undo:hotel#1", "decided", "bo")] if never else [],
        "stuck": [json.dumps(["rollback_failed", CAUSE, GAVE_UP])] if never else [],
    }


def wrong(id: str, book: Path, rows: Rows, trouble: str, kills: int) -> Iterator[str]:
    """What does not hold of a journey that was rolled back."""
    found, wanted = story(id, book, rows), told(trouble)
    yield from (f"{part}: {found[part]}, not {wanted[part]}" for part in wanted if found[part] != wanted[part])
    times = Counter(line.value for line in ledger.read(book) if line.what == UNDID)
    again = sum(times.values()) - len(times)
    if again > kills:
        yield f"I28: {again} undos ran again after {kills} kills"
    seqs = [entry["seq"] for entry in rows.journal(id)]
    if seqs != list(range(1, len(seqs) + 1)):
        yield f"I33: the journal has gaps: {seqs}"
    fences = [entry["fence"] for entry in rows.journal(id)]
    if fences != sorted(fences):
        yield f"I9: the fences decrease: {fences}"
