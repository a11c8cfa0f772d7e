"""Encryption: a planted secret appears nowhere, keys rotate, nothing plain is accepted."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    AlreadyDecidedError,
    Blocked,
    Completed,
    DecodeError,
    EncodeError,
    Encryption,
    Engine,
    PerdureError,
    Secret,
    approval,
    emit,
    interrupt,
    publish,
    receive,
    start_child,
    step,
    workflow,
)

PLANT = "4711-PLANTED-SECRET"
KEYS = {"old": os.urandom(32), "new": os.urandom(32)}
OLD, NEW = Encryption({"old": KEYS["old"]}), Encryption({"new": KEYS["new"], "old": KEYS["old"]})


@step
async def login(password: Secret[str], history: list[str]) -> Secret[str]:
    assert password.reveal() == PLANT
    await emit({"said": PLANT})
    return Secret(password.reveal() + "!")


@step
async def fails() -> None:
    raise ValueError(f"wrong: {PLANT}")


@workflow
async def below(word: str) -> str:
    return word[::-1]


@workflow
async def keeps(password: Secret[str]) -> list[Any]:
    token = await login(password, [PLANT] * 500)
    await publish("last", PLANT)
    try:
        await fails()
    except ValueError as error:
        assert PLANT in str(error)
    answer = await interrupt("Which?", details={"hint": PLANT}, schema=str)
    message = await receive("word")
    child = await below(PLANT)
    detached = await start_child(below, PLANT)
    return [token, answer, message, child, detached.id]


def everything(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name))


async def begin(url: str, codec: Encryption) -> str:
    async with Engine(url, workflows=[keeps, below], codec=codec) as engine:
        handle = await engine.start(keeps.options(execution_id="k"), Secret(PLANT))
        await handle.outcome()
        assert [item.value for item in [i async for i in handle.events(follow=False)]] == [{"said": PLANT}]
        assert await handle.value("last") == PLANT
    return handle.id


async def test_a_planted_secret_appears_nowhere_and_keys_rotate(tmp_path: Path) -> None:
    path = tmp_path / "sealed.db"
    url = f"sqlite:///{path}"
    await begin(url, OLD)
    async with Engine(url, workflows=[keeps, below], codec=NEW) as engine:
        handle = engine.get("k")
        await handle.signal("word", PLANT)
        (request,) = await handle.requests()
        assert request.details == {"hint": PLANT}
        await engine.answer(request.id, PLANT)
        await engine.answer(request.id, PLANT)
        with pytest.raises(AlreadyDecidedError):
            await engine.answer(request.id, "another")
        token, answer, message, child, _ = await handle.result()
        assert (token, answer, message, child) == (Secret(PLANT + "!"), PLANT, PLANT, PLANT[::-1])
        assert any(PLANT in str(entry.error) for entry in await handle.history())
    data = everything(path)
    assert PLANT.encode() not in data
    assert PLANT[::-1].encode() not in data
    assert b"~e1:old:" in data
    assert b"~e1:new:" in data


async def test_without_encryption_a_secret_is_refused_at_the_call(tmp_path: Path) -> None:
    async with Engine(f"sqlite:///{tmp_path / 'plain.db'}", workflows=[keeps, below]) as engine:
        with pytest.raises(EncodeError, match="password"):
            await engine.start(keeps, Secret(PLANT))


@pytest.mark.parametrize("codec", [None, Encryption({"other": os.urandom(32)})])
async def test_with_other_keys_it_is_blocked_in_words_and_goes_on_with_the_right_ones(
    tmp_path: Path, codec: Encryption | None
) -> None:
    url = f"sqlite:///{tmp_path / 'sealed.db'}"
    await begin(url, OLD)
    async with Engine(url, workflows=[keeps, below], codec=codec) as engine:
        await engine.get("k").signal("word", "x")
        outcome: Any = await engine.get("k").outcome()
        assert isinstance(outcome, Blocked)
        if codec is None:
            assert "this engine has no keys" in outcome.reason
            assert "encrypted" in (await engine.get("k").history())[0].output
    async with Engine(url, workflows=[keeps, below], codec=OLD) as engine:
        handle = engine.get("k")
        await handle.resume()
        (request,) = await handle.requests()
        await engine.answer(request.id, "fine")
        assert isinstance(await handle.outcome(), (Blocked, Completed))


async def test_what_somebody_wrote_in_plain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sealed.db"
    url = f"sqlite:///{path}"
    await begin(url, OLD)
    async with Engine(url, worker=False, workflows=[keeps], codec=OLD) as engine:
        await engine.answer((await engine.get("k").requests())[0].id, "fine")
    with sqlite3.connect(path) as database:
        database.execute("update approval_requests set answer = '\"forged\"'")
    database.close()
    async with Engine(url, workflows=[keeps, below], codec=OLD) as engine:
        handle = engine.get("k")
        await handle.signal("word", "x")
        outcome: Any = await handle.outcome()
        assert isinstance(outcome, Blocked)
        assert "not encrypted" in outcome.reason


@workflow
async def asks_for_a_pin() -> Secret[str]:
    answered: Secret[str] = await interrupt("pin?", schema=Secret[str])
    return answered


async def test_a_secret_answer_is_refused_without_keys_and_hidden_with_them(tmp_path: Path) -> None:
    path = tmp_path / "pin.db"
    async with Engine(f"sqlite:///{path}", workflows=[asks_for_a_pin]) as engine:
        handle = await engine.start(asks_for_a_pin)
        await handle.outcome()
        with pytest.raises(EncodeError, match="encrypted"):
            await engine.answer((await handle.requests())[0].id, "hunter4")
    assert b"hunter4" not in everything(path)
    async with Engine("memory://", workflows=[asks_for_a_pin], codec=OLD) as engine:
        handle = await engine.start(asks_for_a_pin)
        await handle.outcome()
        await engine.answer((await handle.requests())[0].id, "hunter5")
        assert await handle.result() == Secret("hunter5")
        assert "hunter5" not in repr([entry.output for entry in await handle.history()])


# Who cannot read ----------------------------------------------------------------------------------------------


@step
async def said(word: str) -> str:
    return word


@workflow
async def asks_once(word: str) -> str:
    return await said(word) + await interrupt("And?", schema=str)


@workflow
async def approves_once() -> bool:
    return (await approval("May it?")).approved


@workflow
async def fails_at_once() -> None:
    await fails()


FLOWS = [asks_once, approves_once, fails_at_once]


async def left_answered(place: Any, codec: Encryption | None) -> None:
    async with Engine(place, workflows=[asks_once], codec=codec) as engine:
        handle = await engine.start(asks_once.options(execution_id="x"), "a")
        await handle.outcome()
        [asked] = await handle.requests()
    async with Engine(place, workflows=[], worker=False, codec=codec) as client:
        await client.answer(asked.id, "b")


async def met_by(place: Any, codec: Encryption | None) -> Blocked:
    async with Engine(place, workflows=[asks_once], codec=codec) as engine:
        outcome = await engine.get("x").outcome(timeout=30)
        assert isinstance(outcome, Blocked), outcome
        return outcome


@pytest.mark.parametrize("theirs", ["none", "other", "wrong"])
async def test_who_lacks_the_key_leaves_all_as_it_was_for_who_has_it(place: Any, theirs: str) -> None:
    wrong = {"none": None, "other": Encryption({"k": os.urandom(32)}), "wrong": Encryption({"old": os.urandom(32)})}
    await left_answered(place, OLD)
    outcome = await met_by(place, wrong[theirs])
    assert isinstance(outcome.error, DecodeError)
    async with Engine(place, workflows=[asks_once], codec=OLD) as engine:
        handle = engine.get("x")
        await handle.resume()
        assert await handle.result(timeout=30) == "ab"


async def test_who_lacks_the_keys_says_nothing_that_others_could_not_read(place: Any) -> None:
    async with Engine(place, workflows=FLOWS, codec=OLD) as engine:
        handle = await engine.start(asks_once.options(execution_id="x"), "a")
        await handle.outcome()
        [question] = await handle.requests()
        await (await engine.start(approves_once.options(execution_id="y"))).outcome()
        [approval] = await engine.get("y").requests()
        failed = await engine.start(fails_at_once.options(execution_id="z"))
        with pytest.raises(ValueError, match="wrong"):
            await failed.result()
    async with Engine(place, workflows=[], worker=False) as client:
        for act in (
            client.answer(question.id, "b"),
            client.approve(approval.id),
            client.get("z").retry(),
        ):
            with pytest.raises(PerdureError, match="is encrypted, and there are no keys here: nothing was changed"):
                await act
    async with Engine(place, workflows=FLOWS, codec=OLD) as engine:
        await engine.answer(question.id, "b")
        await engine.approve(approval.id)
        assert await engine.get("x").result(timeout=30) == "ab"
        assert await engine.get("y").result(timeout=30) is True


async def test_a_damaged_input_blocks_until_it_is_mended_however_often_it_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    place = f"sqlite:///{path}"
    await left_answered(place, None)

    def write(text: str) -> str:
        with sqlite3.connect(path) as connection:
            [(before,)] = connection.execute("select input from workflow_executions").fetchall()
            connection.execute("update workflow_executions set input = ?", (text,))
        connection.close()
        return str(before)

    before = write('{"word":"evil"}')
    for _ in range(2):
        outcome = await met_by(place, None)
        assert isinstance(outcome.error, DecodeError) and "damaged" in str(outcome.error)
        async with Engine(place, workflows=[], worker=False) as client:
            await client.get("x").resume()
    write(before)
    async with Engine(place, workflows=[asks_once]) as engine:
        assert await engine.get("x").result(timeout=30) == "ab"
