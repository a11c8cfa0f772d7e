"""A process is killed at every write of executions that roll back: all is undone all the same, and nothing else."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash import ledger
from tests.crash.places import shared_out
from tests.crash.processes import Servers
from tests.crash.rows import Rows
from tests.crash.trials import Trial
from tests.crash.undone import DID, UNDID

pytestmark = pytest.mark.slow

PARTS = 6


def broken(trial: Trial, rows: Rows, actions: list[dict[str, Any]], kills: int) -> Iterator[str]:
    """What does not hold of an execution and its children that were rolled back twice."""
    id = trial.ids[0]
    lines = [line for line in ledger.read(trial.book) if line.what in (DID, UNDID)]
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
    order: dict[tuple[str, int], list[int]] = defaultdict(list)
    for action in actions:
        if action["status"] != "completed":
            yield f"{action['execution_id']} {action['key']} is {action['status']}"
    for row in rows.executions:
        for entry in rows.journal(row["id"]):
            if entry["kind"] == "undo":
                done = [a for a in actions if (a["execution_id"], f"undo:{a['key']}") == (row["id"], entry["key"])]
                order[row["id"], entry["generation"]] += [
                    a["seq"] for a in done if a["generation"] == entry["generation"]
                ]
    yield from (
        f"I28: {place} was undone in the order {seqs}" for place, seqs in order.items() if seqs != sorted(seqs)[::-1]
    )


def look(trial: Trial) -> tuple[Rows, list[dict[str, Any]]]:
    with trial.tables:
        rows = trial.look()
        if trial.url.startswith("file"):
            return rows, []
        length = len(trial.ids[0])
        [actions] = trial.tables.query(
            f"select * from rollback_actions where substr(execution_id, 1, {length}) = '{trial.ids[0]}'"
        )
        mine = {row["id"] for row in rows.executions}
        return rows, [action for action in actions if action["execution_id"] in mine]


@pytest.mark.parametrize(("plant", "promise"), [("forget_undone", "I28"), ("undo_forwards", "I28")])
def test_a_planted_bug_is_convicted(servers: Servers, folder: Path, plant: str, promise: str) -> None:
    wrong: list[str] = []
    for n in (22, 26, 30, 34, 38):
        trial = Trial(servers, folder, "sqlite:///", f"trial-{n}", flow="undone", plant=plant)
        trial.run(kill=f"after:{n}", must_end=False)
        trial.run(must_end=False, patience=6.0)
        wrong += broken(trial, *look(trial), kills=1)
    print(*wrong[:5], sep="\n")
    assert [line for line in wrong if line.startswith(promise)]


@pytest.mark.parametrize(("url", "part"), shared_out(range(PARTS)), indirect=["url"])
def test_killed_at_any_write_of_a_rollback_it_is_undone_all_the_same(
    servers: Servers, folder: Path, url: str, part: int
) -> None:
    first = Trial(servers, folder, url, f"whole-{part}", flow="undone")
    ended = first.run(kill="before:1000000")
    result, last = ended.results
    assert result["error"] == ["Doomed", "generation 1"]
    assert list(broken(first, *look(first), kills=0)) == []

    def kill_at(n: int) -> tuple[int, list[str]]:
        kills, wrong = 0, []
        for when in ("before", "after"):
            trial = Trial(servers, folder, url, f"{when}-{n}", flow="undone")
            ended = trial.run(kill=f"{when}:{n}")
            if ended.killed:
                kills += 1
                ended = trial.run()
            if ended.results[0].get("error") != result["error"]:
                wrong.append(f"{trial.name}: the end is {json.dumps(ended.results[0])}")
            wrong += [f"{trial.name}: {line}" for line in broken(trial, *look(trial), kills=1)]
        return kills, wrong

    numbers = range(1 + part, last["boundaries"] + 1, PARTS)
    found = servers.each(kill_at, numbers)
    kills = sum(kills for kills, _ in found)
    print(f"{last['boundaries']} boundaries, {kills} kills at {len(numbers)} of them")
    assert kills >= len(numbers)
    assert [line for _, lines in found for line in lines] == []
