"""Who follows from another process hears every recorded event once and in order, whoever is killed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine
from tests.crash.processes import until
from tests.crash.rows import Row, Tables
from tests.proofs.programs import Program, append, read
from tests.proofs.speaker import ID, LAST, line_of, talk

Line = dict[str, Any]


def submit(url: str, beside: bool) -> None:
    async def run() -> None:
        async with Engine(url, worker=False, workflows=[]) as engine:
            await engine.start(talk.options(execution_id=ID), beside)

    asyncio.run(run())


def recorded(journal: Sequence[Row]) -> list[Line]:
    """The events of a journal, by its rows alone: what is told of progress is not among them."""
    found: list[Line] = []
    for row in journal:
        first, key = row["seq"] * 1000, None if row["kind"] == "emit" else row["key"]
        if row["kind"] == "stream" and row["status"] == "open":
            found.append({"what": "Restarted", "offset": first, "key": key, "attempt": row["attempt"]})
        elif row["kind"] in ("emit", "stream"):
            found += [
                {"what": "Event", "offset": first + place, "key": key, "attempt": row["attempt"], "value": value}
                for place, value in enumerate(json.loads(row["output"]))
            ]
    return found


def wrong_in(heard: Sequence[Line], lives: int) -> Iterator[str]:
    """What is not as it was said: by the values alone, whatever is recorded."""
    events = [line for line in heard if line["what"] != "Progress"]
    offsets = [line["offset"] for line in heard]
    if offsets != sorted(set(offsets)):
        yield f"the offsets do not rise: {offsets}"
    if [events[0].get("value"), events[-1].get("value")] != ["hello", "bye"]:
        yield f"it begins with {events[0]} and ends with {events[-1]}"
    said: list[list[int]] = [[]]
    fences: list[set[int]] = [set()]
    for line in events[1:-1]:
        if line["what"] == "Restarted":
            said.append([])
            fences.append(set())
        else:
            said[-1].append(line["value"]["n"])
            fences[-1].add(line["value"]["fence"])
    if len(said) != lives:
        yield f"it restarted {len(said) - 1} times, and had {lives} lives"
    yield from (f"a life says {numbers}" for numbers in said if numbers != list(range(len(numbers))))
    if said[-1] != list(range(LAST)):
        yield f"the last life says {said[-1]}"
    if any(len(those) != 1 for those in fences) or any(max(a) >= min(b) for a, b in pairwise(fences)):
        yield f"what owners say is not divided by restarts: {fences}"


def number(line: Line) -> int:
    value = line.get("value")
    return value["n"] if isinstance(value, dict) else -1


def fence(line: Line) -> int:
    value = line.get("value")
    return value["fence"] if isinstance(value, dict) else 0


@pytest.mark.parametrize("seed, beside", [(0, False), (1, True)])
def test_a_follower_hears_all_of_it_once_while_speakers_and_followers_are_killed(
    folder: Path, url: str, seed: int, beside: bool
) -> None:
    chance, heard, lives = random.Random(seed), folder / "heard", 3
    submit(url, beside)
    with ExitStack() as stack:

        def begin(what: str) -> Program:
            return stack.enter_context(Program(folder, "speaker", url, what, heard))

        def hears(worker: Program, after: int, mark: int) -> bool:
            """Has it heard so much of the life that follows this one?"""
            return worker.is_well() and any(fence(line) > after and number(line) >= mark for line in read(heard))

        follower, worker = begin("follow"), begin("work")
        for life in range(lives):
            before = max((fence(line) for line in read(heard)), default=0)
            first, second = sorted(chance.sample(range(4, LAST - 10), 2))
            until(partial(hears, worker, before, first), f"number {first} of life {life}")
            follower.kill()
            follower = begin("follow")
            until(partial(hears, worker, before, second), f"number {second} of life {life}")
            if life < lives - 1:
                heir = begin("work")
                worker.kill()
                worker = heir
        worker.ended()
        follower.ended()
    with Tables(url) as tables:
        journal = tables.read().journal(ID)
    lines = read(heard)
    assert list(wrong_in(lines, lives)) == []
    assert [line for line in lines if line["what"] != "Progress"] == recorded(journal)
    assert [line["done"] for line in lines if line["what"] == "Progress"][-1] == LAST
    assert asyncio.run(again(url)) == lines, "who asks for all of it at the end is told the same"


async def again(url: str) -> list[Line]:
    async with Engine(url, worker=False, workflows=[]) as engine:
        return [line_of(item) async for item in engine.get(ID).events()]


def test_whoever_hears_too_much_or_too_little_is_convicted(tmp_path: Path) -> None:
    def event(offset: int, **value: Any) -> Line:
        return {"what": "Event", "offset": offset, "value": value}

    again_ = {"what": "Restarted", "offset": 50}
    whole = [event(100 + n, fence=2, n=n) for n in range(LAST)]
    good = [
        {"what": "Event", "offset": 1, "value": "hello"},
        *[event(2 + n, fence=1, n=n) for n in range(7)],
        again_,
        *whole,
        {"what": "Event", "offset": 999, "value": "bye"},
    ]
    assert list(wrong_in(good, 2)) == []
    for bad in (
        [line for line in good if line is not again_],
        [line for line in good if line is not good[4]],
        [line for line in good if line is not good[-4]],
        [*good[:5], good[4], *good[5:]],
        [*good[:7], again_, good[7], *good[9:]],
        good[:-1],
    ):
        assert list(wrong_in(bad, 2))
    append(tmp_path / "heard", a=1)
    with (tmp_path / "heard").open("ab") as file:
        file.write(b'{"a":')
    assert read(tmp_path / "heard") == [{"a": 1}], "what a kill has cut off does not count"
