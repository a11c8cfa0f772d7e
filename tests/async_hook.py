"""Coroutine tests and fixtures, without one more plugin.

`async def test_...` and function-scoped `async def` fixtures of one test run on one event loop of its own, in one
context. What a task or callback of that loop let fall (an exception nobody retrieved, say) fails the test.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest

# Nothing here takes this long: what does is hung, and shall say where instead of blocking the whole run.
HUNG_AFTER = 900.0

RUNNER = pytest.StashKey["LoopOfOneTest"]()


class LoopOfOneTest:
    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.fallen: list[dict[str, Any]] = []
        self.runner.get_loop().set_exception_handler(lambda loop, context: self.fallen.append(context))

    def run(self, work: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(HUNG_AFTER):
                return await work

        return self.runner.run(bounded())

    def close(self) -> None:
        self.runner.close()
        if self.fallen:
            first = self.fallen[0]
            message = f"{len(self.fallen)} error(s) reached the event loop's handler: {first['message']} ({first})"
            raise AssertionError(message) from first.get("exception")


def loop_of(node: pytest.Item) -> LoopOfOneTest:
    if RUNNER not in node.stash:
        node.stash[RUNNER] = LoopOfOneTest()
    return node.stash[RUNNER]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    given = getattr(pyfuncitem.obj, "hypothesis", None)
    if given is not None and inspect.iscoroutinefunction(given.inner_test):
        given.inner_test = each_example_its_loop(given.inner_test)
        return None
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    loop_of(pyfuncitem).run(pyfuncitem.obj(**arguments))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    function: Any = fixturedef.func
    if not (inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)):
        return (yield)
    if fixturedef.scope != "function":
        raise TypeError(
            f"async fixture {fixturedef.argname!r} must be function-scoped: each test has a loop of its own"
        )
    plain: Any = plain_generator if inspect.isasyncgenfunction(function) else plain_function
    fixturedef.func = plain(function, loop_of(request.node))  # type: ignore[misc]
    try:
        return (yield)
    finally:
        fixturedef.func = function  # type: ignore[misc]


def each_example_its_loop(test: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., None]:
    @functools.wraps(test)
    def example(*args: Any, **kwargs: Any) -> None:
        loop = LoopOfOneTest()
        try:
            loop.run(test(*args, **kwargs))
        finally:
            loop.close()

    del example.__wrapped__
    return example


def plain_function(function: Callable[..., Coroutine[Any, Any, Any]], loop: LoopOfOneTest) -> Callable[..., Any]:
    @functools.wraps(function)
    def fixture(*args: Any, **kwargs: Any) -> Any:
        return loop.run(function(*args, **kwargs))

    # `wraps` would let inspect take this for the coroutine function it hides.
    del fixture.__wrapped__
    return fixture


def plain_generator(function: Callable[..., AsyncGenerator[Any, None]], loop: LoopOfOneTest) -> Callable[..., Any]:
    @functools.wraps(function)
    def fixture(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        generator = function(*args, **kwargs)
        yield loop.run(anext(generator))
        if loop.run(anext(generator, _END)) is not _END:
            raise RuntimeError(f"async fixture {function.__name__} yielded more than once")

    del fixture.__wrapped__
    return fixture


_END = object()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    try:
        yield
    finally:
        loop = item.stash.get(RUNNER, None)
        if loop is not None:
            del item.stash[RUNNER]
            loop.close()
