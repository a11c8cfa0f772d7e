"""The application of docs/how-to/fastapi.md, over the loopback: what curl cannot show there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import DOCS, blocks, environment
from tests.servers import free_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    (tmp_path / "app.py").write_text(next(b.text for b in blocks((DOCS / "how-to" / "fastapi.md").read_text())))
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--timeout-graceful-shutdown", "3"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment()) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                until_it_answers(client, process)
                yield client, process
        finally:
            process.kill()


def until_it_answers(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.get("/docs")
            return
        except httpx.TransportError:
            time.sleep(0.02)
    pytest.fail("uvicorn does not answer")


def ids(lines: Iterator[str], number: int) -> list[str]:
    """The ids of so many events."""
    found: list[str] = []
    while len(found) < number:
        line = next(lines)
        if line.startswith("id: "):
            found.append(line[4:])
    return found


def test_a_client_follows_comes_back_and_misses_nothing(
    server: tuple[httpx.Client, subprocess.Popen[bytes]],
) -> None:
    client, _ = server
    assert client.put("/articles/a", json="bees and wasps").status_code == 202
    with client.stream("GET", "/articles/a/events") as response:  # the execution waits: the stream stays open
        assert response.headers["content-type"].startswith("text/event-stream")
        assert ids(response.iter_lines(), 2) == ["1000", "1001"]
    # Gone in the middle. Back, behind the last event that was seen:
    with client.stream("GET", "/articles/a/events", headers={"Last-Event-ID": "1001"}) as response:
        lines = response.iter_lines()
        assert ids(lines, 3) == ["1002", "1003", "1004"]
        assert client.put("/answers/a:interrupt%231", json=True).json() == {"status": "decided"}
        assert [line for line in lines if line.startswith("id")] == []  # it ends with the execution
    assert client.get("/articles/a").json() == {"status": "completed", "questions": []}
    for wrong in ("-5", str(2**63)):
        assert client.get("/articles/a/events", headers={"Last-Event-ID": wrong}).status_code == 422

    for wrong in ("/articles/b", "/articles/b/events"):
        assert client.get(wrong).status_code == 404
    assert client.put("/answers/a:interrupt%231", json=False).status_code == 409
    assert client.put("/articles/a", json="ants").status_code == 409


def test_the_server_stops_though_somebody_follows(server: tuple[httpx.Client, subprocess.Popen[bytes]]) -> None:
    client, process = server
    client.put("/articles/a", json="bees")
    with client.stream("GET", "/articles/a/events") as response:
        ids(response.iter_lines(), 1)
        process.send_signal(signal.SIGINT)
        process.wait(60)
