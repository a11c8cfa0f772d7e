"""What is recorded only to be looked at holds no secret that somebody asked to hide; replay goes on as ever."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from perdure import Completed, Engine, MemoryStore, Protection, Retry, Waiting, current, interrupt, step, workflow
from perdure.records import Entry

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()


@dataclass
class Card:
    number: str
    holder: str


@step(retry=Retry(attempts=2, initial=0.01))
async def pay(amount: int, password: str, card: Card) -> str:
    SEEN.append((amount, password, card.number))
    if current().attempt == 1:
        raise OSError(f"refused: password={password}, amount={amount}")
    return f"paid {amount}"


@step(retry=Retry(attempts=2, initial=0.01))
async def outer(token: str) -> str:
    found = await inner(token)
    if current().attempt == 1:
        raise OSError
    return found


@step
async def inner(token: str) -> str:
    SEEN.append(token)
    return "done"


@workflow(redact=["number"])
async def nests() -> str:
    return await outer("t-1")


def no_numbers(name: str, value: Any) -> Any:
    return "(a card)" if name == "number" else value


@workflow(redact=no_numbers)
async def shops(password: str) -> str:
    card = Card("4711", "ana")
    paid = await pay(5, password, card)
    await interrupt("Sure?", schema=bool)
    current().log.warning("the password: %s", password)
    return paid + await pay.options(name="again")(6, password, card)


@workflow(redact=["number"])
async def names(card: Card) -> str:
    return await pay(7, "open sesame", card)


def texts(journal: list[Entry]) -> str:
    return json.dumps([(e.input, e.error) for e in journal if e.kind in ("step", "attempt", "intent")])


async def journal_of(store: MemoryStore, id: str) -> list[Entry]:
    return await store.history(id)


async def test_hidden_inputs_are_hidden_in_the_journal_and_replay_fits(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[shops]) as engine:
        handle = await engine.start(shops.options(execution_id="s"), "hunter2")
        assert isinstance(await handle.outcome(), Waiting)
    async with Engine(store, workflows=[shops]) as engine:
        assert [v.fit async for v in engine.verify()] == ["fits"]
        (request,) = await engine.requests()
        await engine.answer(request.id, True)
        assert await engine.get("s").outcome() == Completed("paid 5paid 6")
    written = texts(await journal_of(store, "s"))
    assert "hunter2" not in written and "4711" not in written
    assert '\\"amount\\":5' in written and "(a card)" in written and "ana" in written
    assert SEEN == [(5, "hunter2", "4711")] * 2 + [(6, "hunter2", "4711")] * 2  # the bodies get what they were given
    assert "the password: ***" in caplog.text and "differ" not in caplog.text
    row = (await store.get(["s"]))["s"]
    assert "hunter2" in row.input  # replay needs it


async def test_names_may_be_given_and_errors_that_count_stay_equal() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[names]) as engine:
        await engine.run(names.options(execution_id="n"), Card("4711", "ana"))
    assert "4711" not in texts(await journal_of(store, "n"))


async def test_what_a_hiding_body_called_is_not_run_again_when_it_is_tried_again() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[nests]) as engine:
        assert await engine.run(nests.options(execution_id="x")) == "done"
    assert SEEN == ["t-1"] and "t-1" not in texts(await journal_of(store, "x"))


@step
async def refuses(password: str) -> None:
    raise ValueError(f"wrong password={password}")


@workflow
async def fails(password: str) -> str:
    try:
        await refuses(password)
    except ValueError as error:
        return str(error)
    return ""


async def test_an_engine_with_a_protection_hides_by_name_and_without_one_nothing() -> None:
    for codec in (None, Protection()):
        store = MemoryStore()
        async with Engine(store, workflows=[fails], codec=codec) as engine:
            assert await engine.run(fails.options(execution_id="f"), "pw-1") == "wrong password=pw-1"
        (entry,) = await journal_of(store, "f")
        assert ("pw-1" in (entry.input or "")) is (codec is None)


async def test_a_plain_journal_fits_an_engine_that_hides_and_the_other_way_round() -> None:
    for first, second in ((None, Protection()), (Protection(), None)):
        store = MemoryStore()
        async with Engine(store, workflows=[asks], codec=first) as engine:
            handle = await engine.start(asks.options(execution_id="a"), "pw-1")
            assert isinstance(await handle.outcome(), Waiting)
        async with Engine(store, workflows=[asks], codec=second) as engine:
            (request,) = await engine.requests()
            await engine.answer(request.id, True)
            assert await engine.get("a").result() == "said pw-1"


@step(on_change="strict")
async def says(password: str) -> str:
    return f"said {password}"


@workflow
async def asks(password: str) -> str:
    said = await says(password)
    await interrupt("Sure?", schema=bool)
    return said
