"""What is recorded only to be looked at holds no secret that somebody asked to hide; replay goes on as ever."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

import pytest

from perdure import (
    Completed,
    Encryption,
    Engine,
    Failed,
    MemoryStore,
    Protection,
    Retry,
    RolledBack,
    Secret,
    Waiting,
    checkpoint,
    current,
    generate_key,
    interrupt,
    step,
    transaction,
    workflow,
)
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


# What a body puts into a message -----------------------------------------------------------------------------

IBAN = "DE02 1203 0000 0000 2020 51"
PASSWORD = 'open "sesame"'


class Refused(ConnectionError):
    def __init__(self, message: str, account: str) -> None:
        super().__init__(message, account)
        self.said = message


def refuse(order: str, password: str, iban: str) -> None:
    made = Refused(f"refused {password} for {iban}", iban)
    made.add_note(f"order {order}, account {iban}")
    try:
        raise KeyError(password)
    except KeyError as error:
        raise made from error


@step(retry=Retry(attempts=2, initial=0.01))
async def transfers(order: str, password: str, iban: str) -> str:
    if current().attempt == 1:
        refuse(order, password, iban)
    return "done"


@step(retry=Retry(attempts=2, initial=0.01))
def in_a_thread(order: str, password: str, iban: str) -> str:
    if current().attempt == 1:
        refuse(order, password, iban)
    return "done"


@step(retry=Retry(attempts=2, initial=0.01))
async def around(order: str, password: str, iban: str) -> str:
    return await transfers(order, password, iban)


@step(retry=Retry(attempts=2, initial=0.01))
async def finds_one(order: str) -> str:
    iban = IBAN
    if current().attempt == 1:
        raise ConnectionError(f"refused {iban} of {order}", [iban, {iban: order}])
    return "done"


def no_accounts(name: str, value: Any) -> Any:
    if name == "at":
        value["iban"] = "(an account)"
    return f"...{value[-2:]}" if name == "iban" else value


async def calls(how: str) -> str:
    if how == "own":
        return await finds_one("order-77")
    body = {"plain": transfers, "thread": in_a_thread.aio, "nested": around}[how]
    return await body("order-77", PASSWORD, IBAN)


by_names = workflow(name="by_names", redact=["iban"])(calls)
by_function = workflow(name="by_function", redact=no_accounts)(calls)
by_nothing = workflow(name="by_nothing")(calls)


@pytest.mark.parametrize("how", ["plain", "thread", "nested", "own"])
@pytest.mark.parametrize("flow", [by_names, by_function])
async def test_an_attempt_that_was_tried_again_says_nothing_that_is_hidden(flow: Any, how: str) -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[flow]) as engine:
        assert await engine.run(flow.options(execution_id="x"), how) == "done"
    [entry] = [e for e in await store.history("x") if e.kind == "attempt"]
    error = json.loads(entry.error or "{}")
    assert "2020 51" not in entry.error and "sesame" not in entry.error  # type: ignore[operator]
    assert "refused ***" in error["message"] and "***" in error["args"][0] and "refused ***" in error["traceback"]
    if how == "own":
        assert error["args"] == ["refused *** of order-77", ["***", {"***": "order-77"}]]
    else:
        assert error["type"].endswith(":Refused") and error["message"] == "[Errno refused *** for ***] ***"
        assert error["attributes"]["said"] == "refused *** for ***" and error["cause"]["type"].endswith("KeyError")
        assert "order order-77, account ***" in error["traceback"] and "KeyError: '***'" in error["traceback"]


async def test_without_redaction_an_attempt_says_all_that_it_said() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[by_nothing]) as engine:
        assert await engine.run(by_nothing.options(execution_id="x"), "plain") == "done"
    [entry] = [e for e in await store.history("x") if e.kind == "attempt"]
    assert json.loads(entry.error or "{}")["args"] == [f"refused {PASSWORD} for {IBAN}", IBAN]


@step(retry=Retry(attempts=2, initial=0.01))
async def logs_in(name: Secret[str]) -> str:
    raise ConnectionError(f"refused {name.reveal()} at {current().attempt}")


@workflow(redact=["iban"])
async def has_a_secret(name: Secret[str]) -> str:
    try:
        return await logs_in(name)
    except ConnectionError as error:
        return str(error)


async def test_of_an_outcome_only_the_traceback_is_hidden_and_secrets_are_hidden_by_their_type() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[has_a_secret], codec=Encryption.from_text(f"1:{generate_key()}")) as engine:
        handle = await engine.start(has_a_secret.options(execution_id="x"), Secret("hunter2"))
        assert await handle.result() == "refused hunter2 at 2"
        first, last = [json.loads(e.error) for e in await engine.store.history("x") if e.error]
    assert first["message"] == "refused *** at 1" and "hunter2" not in json.dumps(first)
    assert last["message"] == "refused hunter2 at 2" and last["args"] == [last["message"]]
    assert "hunter2" not in last["traceback"] and "refused *** at 2" in last["traceback"]


@step(retry=Retry(attempts=2, initial=0.01), transactional=True)
async def writes(iban: str, db: sqlite3.Connection = transaction(sqlite3.Connection)) -> str:
    if current().attempt == 1:
        raise ConnectionError(f"refused {iban}")
    return "done"


async def unwrites(result: Any, iban: str) -> None:
    SEEN.append(iban)
    if len(SEEN) == 1:
        raise ConnectionError(f"cannot undo {iban}")


@checkpoint(undo=unwrites)
async def is_undone(iban: str) -> int:
    return 1


@workflow(redact=["iban"])
async def in_the_end_fails(iban: str) -> None:
    await is_undone(iban)
    await writes(iban)
    raise ValueError(f"in the end {iban} was refused")


async def test_transactional_attempts_undos_and_the_end_of_an_execution(tmp_path: Any) -> None:
    async with Engine(f"sqlite:///{tmp_path}/a.db", workflows=[in_the_end_fails]) as engine:
        handle = await engine.start(in_the_end_fails.options(execution_id="x"), IBAN)
        outcome = await handle.outcome()
        assert isinstance(outcome, Failed) and IBAN in str(outcome.error)
        row = (await engine.store.get(["x"]))["x"]
        told = json.loads(row.error or "{}")
        assert IBAN in told["message"] and IBAN not in told["traceback"]
        await handle.rollback()
        assert isinstance(await handle.outcome(), RolledBack)
        assert [e.key for e in await engine.store.history("x") if e.kind == "attempt"] == [
            "writes#1",
            "undo:is_undone#1",
        ]
    with sqlite3.connect(tmp_path / "a.db") as db:
        errors = [error for (error,) in db.execute("SELECT error FROM step_executions WHERE error IS NOT NULL")]
    assert len(errors) == 2 and not any(IBAN in error for error in errors)
    assert len(SEEN) == 2


@dataclass
class Account:
    iban: str
    holder: str


@step
async def looks_at(at: Account) -> str:
    return at.iban


@workflow(redact=no_accounts)
async def parks(at: Account) -> str:
    said = f"to {await looks_at(at)}"
    await interrupt("Sure?", schema=bool)
    return said


async def test_what_a_function_hides_is_hidden_wherever_it_stands_in_a_picture() -> None:
    store = MemoryStore()
    async with Engine(store, workflows=[parks]) as engine:
        handle = await engine.start(parks.options(execution_id="x"), Account(IBAN, "ana"))
        assert isinstance(await handle.outcome(), Waiting)
        assert (await handle.inspect()).variables["said"] == "to ***"
    [entry] = [e for e in await store.history("x") if e.key == "looks_at#1"]
    assert IBAN not in (entry.input or "") and "...t)" in (entry.input or "")
    [picture] = (await store.dossiers(["x"], snapshots=True))["x"].snapshots
    assert IBAN not in picture.state
