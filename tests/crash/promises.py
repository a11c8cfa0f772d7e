"""Pure: from the ledger and the rows, which promises were broken. Each in words, with its number in INVARIANTS.md."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from perdure.codec import checksum
from tests.crash.ledger import ACK, EFFECT, ENTER, HEARD, UNWOUND, Line
from tests.crash.rows import Row, Rows

ENDED = ("completed", "failed", "cancelled")
BESIDE = ("intent", "attempt", "note")


def is_outcome(entry: Row) -> bool:
    return entry["status"] in ("completed", "failed") and entry["kind"] not in BESIDE


def name_of(key: str) -> str:
    return key.rsplit("/", 1)[-1].split("#")[0]


def shape(rows: Rows) -> Counter[tuple[str, str, str, str]]:
    """What was recorded, whatever the order of branches: workflow, name, kind and status of each entry."""
    workflow = {row["id"]: row["workflow"] for row in rows.executions}
    return Counter(
        (workflow[e["execution_id"]], name_of(e["key"]), e["kind"], e["status"])
        for e in rows.entries
        if (e["kind"], e["status"]) != ("timer", "set")
        # It is given up once its message is there, which may be before that is in its journal.
        and (workflow[e["execution_id"]], e["kind"]) != ("raced", "send")
    )


def broken(lines: Sequence[Line], rows: Rows) -> list[str]:
    """All that does not hold, for executions that are to have ended. Empty if all holds."""
    return [
        *_journals(rows),
        *_fences(lines, rows),
        *_entered(lines, rows),
        *_heard(lines, rows),
        *_acknowledged(lines, rows),
        *_requests(rows),
        *_messages(rows),
        *_children(rows),
        *ends(lines, rows),
        *(f"of what has ended, {row} are not counted" for row in rows.miscounted),
    ]


def shrunk(before: Rows, after: Rows) -> Iterator[str]:
    """I33: what was in a journal is there for ever, unchanged."""
    now = {(e["execution_id"], e["seq"]): e for e in after.entries}
    for entry in before.entries:
        place = entry["execution_id"], entry["seq"]
        if now.get(place) != entry:
            yield f"I33: entry {place} was {entry}, and is {now.get(place)}"


def _journals(rows: Rows) -> Iterator[str]:
    journals: dict[str, list[Row]] = defaultdict(list)
    for entry in rows.entries:
        journals[entry["execution_id"]].append(entry)
    for id, entries in journals.items():
        if [e["seq"] for e in entries] != list(range(1, len(entries) + 1)):
            yield f"I33: the journal of {id} has gaps: {[e['seq'] for e in entries]}"
        fences = [e["fence"] for e in entries]
        if fences != sorted(fences) or (fences and fences[-1] > rows.execution(id)["fence"]):
            yield f"I9, I10: the fences of {id} decrease: {fences}"
        # Several publishes and changes of attributes have one key: they are told, and nobody asks for them again.
        outcomes = Counter(e["key"] for e in entries if is_outcome(e) and e["kind"] not in ("publish", "attributes"))
        yield from (f"I2: {id} has {n} outcomes of {key}" for key, n in outcomes.items() if n > 1)
        for entry in entries:
            if checksum(entry["input"], entry["output"], entry["error"]) != entry["checksum"]:
                yield f"I35: entry {entry['seq']} of {id} does not fit its checksum"
            if entry["kind"] == "note":
                yield f"I5: entry {entry['seq']} of {id} notes other arguments"
        yield from _attempts(id, entries)
        yield from _timers(id, entries)


def _attempts(id: str, entries: list[Row]) -> Iterator[str]:
    failures: Counter[str] = Counter()
    for entry in entries:
        key = entry["key"]
        if entry["kind"] == "attempt":
            failures[key] += 1
            if entry["attempt"] != failures[key]:
                yield f"I3: {id} {key}: failure {failures[key]} is recorded as attempt {entry['attempt']}"
        elif is_outcome(entry) and entry["attempt"] != failures[key] + 1:
            yield f"I3: {id} {key}: attempt {entry['attempt']} after {failures[key]} recorded failures"


def _timers(id: str, entries: list[Row]) -> Iterator[str]:
    deadlines = {e["key"]: int(e["output"]) for e in entries if (e["kind"], e["status"]) == ("timer", "set")}
    for entry in entries:
        if (entry["kind"], entry["status"]) == ("timer", "completed"):
            if entry["key"] not in deadlines:
                yield f"I23: {id} {entry['key']} fired and was never set"
            elif entry["completed_at"] < deadlines[entry["key"]]:
                yield f"I23: {id} {entry['key']} fired early"


def _fences(lines: Sequence[Line], rows: Rows) -> Iterator[str]:
    owners: dict[tuple[str, int], set[int]] = defaultdict(set)
    for line in lines:
        if line.fence:
            owners[line.execution, line.fence].add(line.pid)
    yield from (f"I9: {place} had the owners {sorted(pids)}" for place, pids in owners.items() if len(pids) > 1)
    known = {row["id"]: row["fence"] for row in rows.executions}
    yield from (f"I9: {id} ran under fence {f}, its row has {known.get(id)}" for id, f in owners if f > known[id])


def _outcomes(rows: Rows) -> dict[tuple[str, str], Row]:
    return {(e["execution_id"], e["key"]): e for e in rows.entries if is_outcome(e)}


def _entered(lines: Sequence[Line], rows: Rows) -> Iterator[str]:
    entered = [line for line in lines if line.what == ENTER]
    visits = Counter((e.execution, e.key, e.attempt, e.fence) for e in entered)
    yield from (
        f"I3: {place} (execution, key, attempt, fence) entered {n} times" for place, n in visits.items() if n > 1
    )
    outcomes = _outcomes(rows)
    failures: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for entry in rows.entries:
        if entry["kind"] == "attempt":
            failures[entry["execution_id"], entry["key"]][entry["attempt"]] = entry["fence"]
    for line in entered:
        place = line.execution, line.key
        outcome = outcomes.get(place)
        if outcome is not None and (line.fence > outcome["fence"] or line.attempt > outcome["attempt"]):
            yield f"I2: {place} entered again ({line}) after its outcome was recorded under fence {outcome['fence']}"
        if line.attempt > 1 and failures[place].get(line.attempt - 1, line.fence + 1) > line.fence:
            yield f"I3: {place} entered attempt {line.attempt}, and attempt {line.attempt - 1} is not recorded"
        if any(line.attempt <= a and line.fence > fence for a, fence in failures[place].items()):
            yield f"I3: {place} entered attempt {line.attempt} under fence {line.fence} after it had failed"
    keys: dict[str, set[tuple[str, str]]] = defaultdict(set)
    idempotency: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in entered:
        keys[line.idempotency].add((line.execution, line.key))
        idempotency[line.execution, line.key].add(line.idempotency)
    yield from (f"I3: one idempotency key for {places}" for places in keys.values() if len(places) > 1)
    yield from (f"I3: {place} had {len(made)} idempotency keys" for place, made in idempotency.items() if len(made) > 1)
    effects: Counter[tuple[str, str]] = Counter()
    newest: dict[tuple[str, str], int] = {}
    for line in lines:
        place = line.execution, line.key
        # A worker that was stopped and overtaken may wake up inside of a body: no store can hold that back.
        if line.what == EFFECT and line.fence >= newest.get(place, 0):
            effects[place] += 1
            newest[place] = line.fence
    yield from (f"U4: {place} is once-only and took place {n} times" for place, n in effects.items() if n > 1)


def _heard(lines: Sequence[Line], rows: Rows) -> Iterator[str]:
    outcomes = _outcomes(rows)
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in lines:
        if line.what == UNWOUND:
            yield f"I41: code ran because of parking: {line}"
        if line.what != HEARD:
            continue
        values[line.execution, line.key].add(line.value)
        if line.key.startswith("="):
            continue
        outcome = outcomes.get((line.execution, line.key))
        if outcome is None or outcome["fence"] > line.fence:
            under = "never" if outcome is None else f"under fence {outcome['fence']}"
            yield f"I1: {line.execution} heard {line.key} under fence {line.fence}; it was recorded {under}"
    yield from (f"I6, I8: {place} was heard as {sorted(told)}" for place, told in values.items() if len(told) > 1)


def _acknowledged(lines: Sequence[Line], rows: Rows) -> Iterator[str]:
    executions = {row["id"]: row for row in rows.executions}
    requests = {row["id"]: row for row in rows.requests}
    messages = {(row["execution_id"], row["value"]): row for row in rows.messages if row["name"] == "note"}
    for line in lines:
        if line.what != ACK:
            continue
        row: Any
        if line.key == "answer":
            row = requests.get(line.execution)
            if row is None or row["status"] != "decided" or json.loads(row["answer"]) != json.loads(line.value):
                yield f"I1, I18: the answer {line.value} to {line.execution} was acknowledged; the row is {row}"
        elif line.key.startswith("signal"):
            if (line.execution, line.value) not in messages:
                yield f"I1, I22: {line.key} to {line.execution} was acknowledged and is not there"
        elif line.execution not in executions:
            yield f"I1, I15: {line.execution} was started and is not there"
        elif line.key == "cancel" and executions[line.execution]["status"] not in ENDED:
            yield f"I27: {line.execution} was cancelled and goes on"
        elif line.key == "result":
            row = executions[line.execution]
            if row["status"] not in ENDED:
                yield f"I6, I26: the end of {line.execution} was acknowledged; it is {row['status']}"
            elif row["status"] == "completed" and json.loads(row["output"]) != json.loads(line.value):
                yield f"I6: the result of {line.execution} was acknowledged as {line.value}; it is {row['output']}"


def _requests(rows: Rows) -> Iterator[str]:
    outcomes = _outcomes(rows)
    status = {row["id"]: row["status"] for row in rows.executions}
    asked = {(row["execution_id"], row["key"]): row for row in rows.requests}
    for place, request in asked.items():
        outcome = outcomes.get(place)
        given = request["answer"] if request["status"] == "decided" else request["default_answer"]
        if request["status"] == "open" and status[place[0]] in ENDED:
            yield f"I20: {request['id']} is open and its execution has ended"
        if request["status"] == "decided" and status[place[0]] == "completed" and outcome is None:
            yield f"I18: the answer to {request['id']} never arrived"
        if outcome is not None and outcome["status"] == "completed" and outcome["output"] != given:
            yield f"I18, I20: {request['id']} was answered {given}; its wait got {outcome['output']}"
    for place, outcome in outcomes.items():
        if outcome["kind"] == "interrupt" and place not in asked:
            yield f"I20: {place} got an answer and never asked"


def _messages(rows: Rows) -> Iterator[str]:
    entries = {(e["execution_id"], e["seq"]): e for e in rows.entries}
    last: dict[tuple[str, str], int] = {}
    taken = set()
    for message in rows.messages:
        seq, queue = message["taken_seq"], (message["execution_id"], message["name"])
        if seq is None:
            continue
        entry = entries.get((queue[0], seq))
        taken.add((queue[0], seq))
        if entry is None or entry["kind"] != "receive" or entry["output"] != message["value"]:
            yield f"I22: {message['id']} was taken by entry {seq}, which is {entry}"
        if seq <= last.get(queue, 0):
            yield f"I22: {message['id']} was taken out of turn"
        last[queue] = seq
    for place, entry in entries.items():
        if entry["kind"] == "receive" and place not in taken:
            yield f"I22: {place} received {entry['output']}, which is no message's"


def _children(rows: Rows) -> Iterator[str]:
    executions = {row["id"]: row for row in rows.executions}
    begun = {(e["execution_id"], e["key"]) for e in rows.entries if e["kind"] == "intent"}
    outcomes = _outcomes(rows)
    for row in rows.executions:
        parent = executions.get(row["parent_id"] or "")
        if parent is None:
            continue
        place = parent["id"], row["parent_key"]
        if place not in begun:
            yield f"I31: {row['id']} is there, and its parent does not know of it"
        if parent["status"] in ("failed", "cancelled") and row["status"] not in ENDED:
            yield f"I31: {parent['id']} is {parent['status']}, its child {row['id']} is {row['status']}"
        outcome = outcomes.get(place)
        if outcome is None and parent["status"] in ENDED and row["status"] not in ENDED:
            yield f"R11: {parent['id']} withdrew its child {row['id']}, which is {row['status']}"
        if outcome is not None and outcome["kind"] == "child" and outcome["output"] != row["output"]:
            yield f"I1: {row['id']} gave {row['output']}, its parent got {outcome['output']}"


def ends(lines: Sequence[Line], rows: Rows) -> Iterator[str]:
    for row in rows.executions:
        if row["status"] not in ENDED and row["parent_id"] is None:
            yield f"I16: {row['id']} is {row['status']}: {row['reason']}"
        elif row["owner"] is not None:
            yield f"I26: {row['id']} has ended and is owned by {row['owner']}"
        if checksum(row["input"], row["output"], row["error"]) != row["checksum"]:
            yield f"I35: the row of {row['id']} does not fit its checksum"
    ended: set[str] = set()
    cancelled: set[str] = set()
    stopped = _Stopped(rows)
    for line in lines:
        late = line.what in (ENTER, HEARD) and line.execution in ended
        excused = late and stopped.excuses(line)
        if not late:
            stopped.goes_on(line.pid)
        if line.what == ACK and line.key == "result":
            ended.add(line.execution)
        elif line.what == ACK and line.key == "cancel":
            cancelled.add(line.execution)
        elif late and not excused:
            yield f"I26: {line.execution} has ended, and then: {line}"
        elif line.what == ENTER and any(f"{line.execution}/".startswith(f"{id}/") for id in cancelled):
            yield f"I27: cancelled, and then: {line}"


class _Stopped:
    """A worker may be stopped between what it begins and the ledger's line of it, and go on once it is overtaken.

    That is so of a body that it enters, and of one outcome that it has recorded itself and hands over: the next one
    finds out. So two such outcomes of a process with nothing between them are a broken promise. Nothing of it all is
    recorded (I10).
    """

    def __init__(self, rows: Rows) -> None:
        self._fences = {row["id"]: row["fence"] for row in rows.executions}
        self._recorded = {(e["execution_id"], e["key"], e["fence"]) for e in rows.entries}
        self._handed: set[int] = set()  # processes whose last line was an outcome handed over too late

    def excuses(self, line: Line) -> bool:
        if line.fence >= self._fences.get(line.execution, 0):
            return False
        if line.what == ENTER:
            return True
        first = line.pid not in self._handed
        self._handed.add(line.pid)
        return first and (line.execution, line.key, line.fence) in self._recorded

    def goes_on(self, pid: int) -> None:
        self._handed.discard(pid)
