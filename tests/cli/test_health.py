"""`perdure worker --health-port`: what orchestrators ask."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from perdure import Engine, step, workflow
from perdure.cli.health import readiness
from perdure.stores.memory import MemoryStore

from .conftest import Shell, read_until


def asked(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def port_in(said: str) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)/live and /ready", said)
    assert found is not None, said
    return int(found[1])


def test_a_worker_says_that_it_lives_and_is_ready_and_is_gone_when_it_has_left(shell: Shell) -> None:
    with shell.running("worker", "app", "--health-port", "0") as child:
        port = port_in(read_until(child.stdout, "Ctrl-C stops it."))
        status, live = asked(port, "/live")
        assert (status, live["live"]) == (200, True)
        status, ready = asked(port, "/ready?verbose")
        assert (status, ready["ready"], ready["draining"], ready["executions"]) == (200, True, False, 0)
        assert asked(port, "/")[0] == 404
        assert asked(port, "/ready", "POST")[0] == 405
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.sendall(b"\r\n\r\n")
            assert rude.recv(100) == b"", "what is no question gets no answer"
        assert asked(port, "/live")[0] == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_worker_that_leaves_is_alive_and_not_ready(shell: Shell) -> None:
    assert shell("start", "app:hangs").code == 0
    with shell.running("worker", "app", "--health-port", "0") as child:
        port = port_in(read_until(child.stdout, "Ctrl-C stops it."))
        until(lambda: asked(port, "/ready")[1]["executions"] == 1)
        child.send_signal(signal.SIGTERM)
        until(lambda: asked(port, "/ready")[1]["draining"])
        assert asked(port, "/ready")[0] == 503
        assert asked(port, "/live")[0] == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 128 + signal.SIGTERM


def until(look: Callable[[], object]) -> None:
    for _ in range(10_000):
        if look():
            return
    raise AssertionError("it never came to that")


def test_a_port_that_is_taken_is_said_in_words(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = shell("worker", "app", "--health-port", str(port))
    assert said.code == 1
    assert f"--health-port {port}: Address already in use" in said.err or "in use" in said.err
    assert "Traceback" not in said.err


@step
async def nothing() -> None: ...


@workflow(name="health_nothing")
async def short() -> None:
    await nothing()


async def test_a_worker_that_was_declared_dead_or_lost_its_store_is_not_ready() -> None:
    async with Engine(MemoryStore(), workflows=[short]) as engine:
        worker = engine.worker
        assert worker is not None
        assert readiness(worker)["ready"]
        worker.reaches_store = False
        assert (readiness(worker)["ready"], readiness(worker)["store"]) == (False, False)
        worker.reaches_store = True
        worker.registered = False
        assert (readiness(worker)["ready"], readiness(worker)["registered"]) == (False, False)
        worker.registered = True
    assert (readiness(worker)["ready"], readiness(worker)["draining"]) == (False, True)
