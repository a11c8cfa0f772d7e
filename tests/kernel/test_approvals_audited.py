"""The audit of approvals: what rules decide stands in the chain, and what was used is what was decided."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Action,
    Completed,
    Edit,
    Encryption,
    Engine,
    MemoryStore,
    NotApproverError,
    Question,
    Waiting,
    approval,
    interrupt,
    workflow,
)
from perdure.auditing import break_in
from perdure.codec import checksum
from perdure.records import AuditEvent, Dossier, Entry, Request
from perdure.testing import crash_everywhere
from perdure.testing.clock import Clock
from perdure.timeline import faults, timeline


def small(question: Question) -> str | None:
    return "approve" if question.details["cents"] < 10 else None


def large(question: Question) -> str | None:
    return "reject" if question.details["cents"] > 1000 else None


@workflow(name="spends")
async def spends(cents: int) -> str:
    decision = await approval(
        "Spend?",
        details={"cents": cents},
        actions=[Action("spend", "spend", {"cents": cents})],
        approvers=["ana"],
        rules=[small, large],
    )
    return f"{decision.approved} by {decision.by}"


class Record:
    """All that an audit reads, as it is in the store."""

    def __init__(self, row: Any, requests: list[Request], dossier: Dossier, entries: list[Entry]) -> None:
        self.row, self.requests, self.dossier, self.entries = row, requests, dossier, entries

    @classmethod
    async def of(cls, store: Any, id: str) -> Record:
        requests = await store.requests(execution_ids=[id], status=None)
        dossier = (await store.dossiers([id]))[id]
        return cls((await store.get([id]))[id], list(requests), dossier, list(await store.history(id)))

    def faults(self, *, opened: bool = False) -> list[str]:
        return faults(self.row, self.requests, self.dossier, self.entries, opened=opened)

    def events(self) -> list[AuditEvent]:
        return list(self.dossier.events)

    def moments(self) -> list[tuple[str, str | None]]:
        told = timeline(self.row, self.requests, self.dossier, self.entries)
        return [(moment.what, moment.who) for moment in told]

    def rewrite(self, find: str, put: str, *, answer: bool = False) -> None:
        """Change the output of the entry that used the decision; with `answer`, that of the request too."""
        [n] = [n for n, entry in enumerate(self.entries) if entry.kind == "approval"]
        text = self.entries[n].output or ""
        assert find in text
        self.entries[n] = self.entries[n]._replace(output=text.replace(find, put))
        if answer:
            [request] = self.requests
            self.requests = [replace(request, answer=(request.answer or "").replace(find, put))]


@pytest.mark.parametrize(("cents", "word", "rule"), [(5, "approved", "rule:small"), (5000, "rejected", "rule:large")])
async def test_what_a_rule_decides_is_an_event_of_the_chain(place: Any, cents: int, word: str, rule: str) -> None:
    async with Engine(place, workflows=[spends]) as engine:
        handle = await engine.start(spends.options(execution_id="s"), cents)
        assert await handle.result(timeout=30) == f"{word == 'approved'} by {rule}"
        record = await Record.of(engine.store, "s")
    [event], [request] = record.events(), record.requests
    assert (event.what, event.actor, event.request_id) == (word, rule, request.id)
    assert json.loads(event.details or "")["digest"] == request.digest
    assert break_in(record.events(), "s") is None
    assert record.faults() == []
    assert record.moments() == [
        ("started", None),
        ("asked", None),
        (word, rule),
        ("consumed", None),
        ("completed", None),
    ]
    record.dossier.events = []
    assert any("no event says by whom" in words for words in record.faults())


async def test_wherever_the_process_dies_a_rule_decides_once() -> None:
    report = await crash_everywhere(spends, 5, workflows=[spends])
    assert report.end == Completed("True by rule:small")
    assert not report.differences, report


async def _decided(store: MemoryStore, **options: Any) -> Record:
    async with Engine(store, workflows=[spends]) as engine:
        handle = await engine.start(spends.options(execution_id="s"), 100)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        await engine.decide(outcome.requests[0].id, {"spend": Edit({"cents": 99})}, by="ana")
        await handle.result(timeout=30)
        return await Record.of(store, "s")


@pytest.mark.parametrize(
    ("find", "put"),
    [
        ('"cents":99', '"cents":98'),
        ('"by":"ana"', '"by":"eva"'),
        ('"approved":true', '"approved":false'),
        ('"comment":null', '"comment":"yes"'),
        ('"digest"', '"undigested"'),
    ],
)
async def test_what_was_used_is_what_was_decided_or_the_audit_says_so(find: str, put: str) -> None:
    record = await _decided(MemoryStore())
    assert record.faults() == []
    record.rewrite(find, put)
    assert any("used another decision than was given" in words for words in record.faults())


async def test_an_answer_that_was_changed_together_with_its_use_is_not_that_of_the_chain() -> None:
    record = await _decided(MemoryStore())
    record.rewrite('"comment":null', '"comment":"yes"', answer=True)
    assert any("is not the one that the chain tells of" in words for words in record.faults())


async def test_edited_arguments_that_were_changed_everywhere_are_not_those_of_the_chain() -> None:
    record = await _decided(MemoryStore())
    record.rewrite('"cents":99', '"cents":1', answer=True)
    record.dossier.decisions = [replace(row, arguments='{"cents":1}') for row in record.dossier.decisions]
    assert any("is not the one that the chain tells of" in words for words in record.faults())


async def test_what_time_decided_is_bound_to_the_chain_too() -> None:
    @workflow(name="slow")
    async def slow() -> bool:
        return (await approval("Go?", approvers=["ana"], expires=60, on_expiry="approve")).approved

    clock, store = Clock(), MemoryStore()
    async with Engine(store, clock=clock, workflows=[slow]) as engine:
        await engine.start(slow.options(execution_id="s"))
        await clock.advance(61)
        assert await engine.get("s").outcome() == Completed(True)
        record = await Record.of(store, "s")
    assert record.faults() == []
    record.rewrite('"approved":true', '"approved":false', answer=True)
    assert any("is not the one that the chain tells of" in words for words in record.faults())


async def test_what_a_fork_has_inherited_is_no_fault_of_its_audit() -> None:
    store = MemoryStore()
    await _decided(store)
    async with Engine(store, workflows=[spends]) as engine:
        fork = await engine.get("s").fork()
        await fork.outcome(timeout=30)
        record = await Record.of(store, fork.id)
    assert [entry.kind for entry in record.entries if entry.kind == "approval"]
    assert record.requests == []
    assert record.faults() == []


@workflow(name="questions")
async def questions() -> list[int]:
    first = await interrupt("First?", schema=int)
    return [first, await interrupt("Second?", schema=int, expires=60, default=2)]


async def test_the_answer_of_a_question_is_what_was_answered_and_used_or_the_audit_says_so(place: Any) -> None:
    async with Engine(place, workflows=[questions]) as engine:
        handle = await engine.start(questions.options(execution_id="q"))
        for answer in (5, 6):
            await handle.outcome(timeout=30)
            [asked] = await handle.requests()
            await engine.answer(asked.id, answer, by="ana")
            waiting = await Record.of(engine.store, "q")
            assert waiting.faults() == []
        assert await handle.result(timeout=30) == [5, 6]
        record = await Record.of(engine.store, "q")
    assert record.faults() == []
    [request] = [each for each in record.requests if each.answer == "5"]
    others = [each for each in record.requests if each is not request]
    record.requests = [replace(request, answer="7"), *others]
    said = record.faults()
    assert f"the answer of {request.id} was changed after it was given: its checksum does not fit" in said
    assert any("used another answer than was given" in words for words in said)
    record.requests = [replace(request, answer="7", checksum=checksum("7")), *others]
    [said_of_use] = record.faults()
    assert "(interrupt#1) used another answer than was given" in said_of_use


async def test_what_a_question_came_to_when_its_time_was_over_is_no_fault() -> None:
    clock, store = Clock(), MemoryStore()
    async with Engine(store, clock=clock, workflows=[questions]) as engine:
        handle = await engine.start(questions.options(execution_id="q"))
        await clock.settle()
        await engine.answer((await handle.requests())[0].id, 5)
        await clock.advance(61)
        await clock.advance(61)
        assert await handle.outcome() == Completed([5, 2])
        assert (await Record.of(store, "q")).faults() == []


async def test_what_was_encrypted_is_compared_as_it_was_used(tmp_path: Path) -> None:
    url, codec = f"sqlite:///{tmp_path}/sealed.db", Encryption({"k": os.urandom(32)})
    async with Engine(url, workflows=[questions], codec=codec) as engine:
        handle = await engine.start(questions.options(execution_id="q"))
        for answer in (5, 6):
            await handle.outcome(timeout=30)
            [asked] = await handle.requests()
            await engine.answer(asked.id, answer)
        assert await handle.result(timeout=30) == [5, 6]
        record = await Record.of(engine.store, "q")
        assert record.faults(opened=True) == []
        record.requests = [replace(request, answer="7") for request in record.requests]
        assert len(record.faults(opened=True)) == 2
    async with Engine(url, workflows=[], worker=False) as engine:
        assert (await Record.of(engine.store, "q")).faults() == []


@workflow(name="bare")
async def bare() -> str:
    return str((await approval("Go?", rules=[lambda question: "approve"])).by)


async def test_what_is_encrypted_and_cannot_be_read_here_is_no_fault(tmp_path: Path) -> None:
    url, codec = f"sqlite:///{tmp_path}/sealed.db", Encryption({"k": os.urandom(32)})
    async with Engine(url, workflows=[bare, spends], codec=codec) as engine:
        await engine.run(bare.options(execution_id="bare"))
        await engine.run(spends.options(execution_id="spends"), 5)
        for id in ("bare", "spends"):
            record = await Record.of(engine.store, id)
            assert record.faults() == []
            record.requests = [replace(request, answer="nothing") for request in record.requests]
            assert any("was not given to what it asks" in words for words in record.faults())
    async with Engine(url, workflows=[], worker=False) as engine:
        for id in ("bare", "spends"):
            assert (await Record.of(engine.store, id)).faults() == []


class Between(MemoryStore):
    """Something happens just before the decisions and events of an execution are read."""

    def __init__(self) -> None:
        super().__init__()
        self.between: list[Callable[[], Awaitable[Any]]] = []

    async def dossiers(self, ids: Any, *, snapshots: bool = False) -> dict[str, Dossier]:
        while self.between:
            await self.between.pop()()
        return await super().dossiers(ids, snapshots=snapshots)


async def test_who_decides_is_read_together_with_what_has_happened_since() -> None:
    store = Between()
    async with Engine(store, workflows=[spends]) as engine:
        handle = await engine.start(spends.options(execution_id="s"), 100)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        id = outcome.requests[0].id
        store.between.append(lambda: engine.reassign(id, to="eva", by="ana"))
        with pytest.raises(NotApproverError):
            await engine.approve(id, by="ana")
        store.between.append(lambda: engine.reassign(id, to="fay", by="eva"))
        with pytest.raises(NotApproverError):
            await engine.claim(id, by="eva")
        await engine.approve(id, by="fay")
        assert await handle.result(timeout=30) == "True by fay"
