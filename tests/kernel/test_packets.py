"""MariaDB takes 16 MiB at once: what can be sent in parts is, and what cannot fails where it was asked for, by name."""

import random
from typing import Any

import pytest

from perdure import Encryption, Engine, TooLargeError, gather, generate_key, step, workflow

pytestmark = pytest.mark.mysql

MIB = 1024 * 1024


def noise(n: int, size: int) -> str:
    """Text that is not worth to be compressed."""
    return random.Random(n).randbytes(size // 2).hex()


@step
async def give(n: int, size: int) -> str:
    return noise(n, size)


@step(once=True)
async def give_once(n: int, size: int) -> str:
    return noise(n, size)


@step
async def take(text: str) -> int:
    return len(text)


@step
async def both(text: str, n: int, size: int) -> str:
    return noise(n, size)


@step
async def around(n: int, size: int) -> int:
    return len(await give(n, size))


@workflow
async def crowd(n: int, size: int) -> int:
    return sum(map(len, await gather(*[give(k, size) for k in range(n)], *[give_once(k, size) for k in range(n)])))


@workflow
async def child(text: str) -> int:
    return len(text)


@workflow
async def parents(n: int, size: int) -> list[int]:
    return await gather(*[child(noise(k, size)) for k in range(n)])


@workflow
async def goes(how: str, size: int) -> Any:
    try:
        match how:
            case "take":
                return await take(noise(1, size))
            case "even":
                return await take("x" * size)
            case "child":
                return await child(noise(1, size))
            case "give":
                return len(await give(1, size))
            case "once":
                return len(await give_once(1, size))
            case "inside":
                return await around(1, size)
            case "both":
                return len(await both(noise(1, size), 2, size))
            case _:
                return noise(1, size)
    except TooLargeError as error:
        return str(error)


WORKFLOWS = [crowd, child, parents, goes]


@pytest.mark.parametrize("codec", [None, Encryption.from_text(f"k:{generate_key()}")], ids=["plain", "encrypted"])
async def test_what_is_done_at_once_is_recorded_in_parts_if_it_is_too_much(mysql_url: str, codec: Any) -> None:
    async with Engine(mysql_url, workflows=WORKFLOWS, codec=codec) as engine:
        assert await engine.run(crowd, 4, 3 * MIB) == 8 * 3 * MIB
        assert await engine.run(parents, 6, 2 * MIB) == [2 * MIB] * 6


@pytest.mark.parametrize("codec", [None, Encryption.from_text(f"k:{generate_key()}")], ids=["plain", "encrypted"])
async def test_what_is_too_large_for_a_packet_fails_at_its_call_and_the_execution_goes_on(
    mysql_url: str, codec: Any
) -> None:
    async with Engine(mysql_url, workflows=WORKFLOWS, codec=codec) as engine:
        for how, size, words in (
            ("take", 17 * MIB, "the input of take#1 takes"),
            ("child", 9 * MIB, "the input of child#1 takes"),
            ("give", 17 * MIB, "the result of give#1 takes"),
            ("once", 17 * MIB, "the result of give_once#1 takes"),
            ("inside", 17 * MIB, "the result of around#1/give#1 takes"),
            ("both", 11 * MIB, "the result of both#1 takes"),
        ):
            told = await engine.run(goes.options(execution_id=how), how, size)
            assert str(told).startswith(words), how
            assert "it takes 16,777,216 at once (max_allowed_packet). Nothing was recorded" in told
            journal = await engine.store.history(how)
            assert [entry.key for entry in journal if entry.status == "completed"] == []
        handle = await engine.start(goes, "result", 17 * MIB)
        with pytest.raises(TooLargeError, match="the result of goes takes"):
            await handle.result()
        assert await engine.run(goes, "even", 60 * MIB) == 60 * MIB, "recorded compressed"
