"""Edited workflow code meets an old journal: named, refused, nothing changed; or, where it cannot matter, noted."""

from typing import Any

import pytest

from perdure import Blocked, Completed, JournalMismatchError, gather, interrupt, patched, race, sleep, step, uuid4
from perdure.options import WorkflowOptions
from perdure.records import Entry
from perdure.testing.replaying import play
from perdure.workflow import Workflow

pytestmark = pytest.mark.replay


@step(name="a")
async def a(x: Any) -> Any:
    return f"a{x}"


@step(name="b")
async def b(x: Any) -> Any:
    return f"b{x}"


@step(name="b", on_change="exact")
async def b_exact(x: Any) -> Any:
    return f"b{x}"


@step(name="c")
async def c(x: Any) -> Any:
    return f"c{x}"


def flow(function: Any) -> Workflow[..., Any]:
    """A workflow of the one name that all variants share, outside of the registry."""
    return Workflow(function, WorkflowOptions(name="edited"))


@flow
async def original() -> Any:
    first = await a(1)
    second = await b(2)
    third = await b(3)
    return [first, second, third, await interrupt("go on?", schema=str)]


async def recorded() -> list[Entry]:
    return (await play(original)).journal


@flow
async def inserted() -> Any:
    first = await a(1)
    await c("new")
    return [first, await b(2), await b(3), await interrupt("go on?", schema=str)]


@flow
async def removed() -> Any:
    return [await b(2), await b(3), await interrupt("go on?", schema=str)]


@flow
async def renamed() -> Any:
    return [await c(1), await b(2), await b(3), await interrupt("go on?", schema=str)]


@flow
async def reordered() -> Any:
    second = await b(2)
    return [await a(1), second, await b(3), await interrupt("go on?", schema=str)]


@flow
async def swapped() -> Any:
    return [await a(1), await b(3), await b(2), await interrupt("go on?", schema=str)]


@flow
async def concurrent_now() -> Any:
    return [await c(0), *await gather(a(1), b(2), b(3))]


@flow
async def ends_early() -> Any:
    return await a(1)


@flow
async def sleeps_first() -> Any:
    await sleep(5)
    return [await a(1), await b(2), await b(3), await interrupt("go on?", schema=str)]


@flow
async def exact_and_changed() -> Any:
    return [await a(1), await b_exact("other"), await b(3), await interrupt("go on?", schema=str)]


@flow
async def makes_an_id() -> Any:
    first = await a(1)
    uuid4()
    return [first, await b(2), await b(3), await interrupt("go on?", schema=str)]


EDITS = [
    inserted,
    removed,
    renamed,
    reordered,
    swapped,
    concurrent_now,
    ends_early,
    sleeps_first,
    exact_and_changed,
    makes_an_id,
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
async def test_edited_code_is_blocked_with_a_difference_and_the_old_code_goes_on(edit: Workflow[..., Any]) -> None:
    journal = await recorded()
    assert [entry.key for entry in journal] == ["a#1", "b#1", "b#2"]
    played = await play(edit, journal=journal)
    assert isinstance(played.outcome, Blocked)
    assert isinstance(played.outcome.error, JournalMismatchError)
    assert played.journal == journal, "the journal is untouched"
    words = played.outcome.reason
    assert "entry" in words
    assert "last entry that matched" in words or "the code asks" in words
    if edit is not ends_early:
        assert "test_mismatch.py:" in words, "names file and line"
    again = await play(original, journal=journal)
    assert again.journal == journal
    assert not isinstance(again.outcome, Blocked)


@flow
async def another_prompt() -> Any:
    return [await a("a better prompt"), await b(2), await b(3), await interrupt("go on?", schema=str)]


async def test_a_changed_argument_alone_goes_on_and_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    journal = await recorded()
    played = await play(another_prompt, journal=journal)
    assert not isinstance(played.outcome, Blocked)
    assert "arguments of a#1 differ" in caplog.text
    added = played.journal[len(journal) :]
    assert [(entry.kind, entry.key) for entry in added] == [("note", "note:1")]
    again = await play(another_prompt, journal=played.journal)
    assert again.journal == played.journal, "noted once"


@flow
async def more_at_the_end() -> Any:
    got = [await a(1), await b(2), await b(3)]
    return [*got, await c("appended")]


async def test_code_added_after_the_end_of_the_journal_just_runs() -> None:
    journal = await recorded()
    assert (await play(more_at_the_end, journal=journal)).outcome == Completed(["a1", "b2", "b3", "cappended"])


@flow
async def patched_code() -> Any:
    first = await a(1)
    if patched("with c"):
        await c("new")
    return [first, await b(2), await b(3)]


async def test_patched_keeps_old_executions_on_the_old_code() -> None:
    journal = await recorded()
    old = await play(patched_code, journal=journal)
    assert isinstance(old.outcome, Completed)
    assert "c#1" not in {entry.key for entry in old.journal}
    new = await play(patched_code)
    assert "c#1" in {entry.key for entry in new.journal}
    for length in range(len(new.journal) + 1):
        again = await play(patched_code, journal=new.journal[:length])
        assert isinstance(again.outcome, Completed), (length, again.outcome)


@flow
async def races_differently() -> Any:
    won = await race(other=a(1), second=b(1))
    return won.name


@flow
async def raced() -> Any:
    won = await race(first=a(1), second=b(1))
    return won.name


async def test_a_race_that_would_be_won_by_another_is_a_mismatch() -> None:
    journal = (await play(raced)).journal
    assert [entry.kind for entry in journal if entry.kind == "race"] == ["race"]
    played = await play(races_differently, journal=journal)
    assert isinstance(played.outcome, Blocked)
    assert played.journal == journal


async def test_a_damaged_entry_is_named_and_blocks_its_execution_only() -> None:
    journal = await recorded()
    journal[1] = journal[1]._replace(output='"b2 rotten"')
    played = await play(original, journal=journal)
    assert isinstance(played.outcome, Blocked)
    assert "entry 2 (b#1)" in played.outcome.reason
    assert "damaged" in played.outcome.reason
    assert played.journal == journal
