"""Notifiers: told of what is durable, by real servers; never in the way."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from perdure import Completed, Engine, MemoryStore, Waiting, approval, workflow
from perdure.notifiers import Email, Notice, Slack, Webhook, is_signed, sign
from perdure.testing.clock import Clock

SECRET = "a secret"


@workflow(name="hello")
async def hello(message: str) -> bool:
    return (await approval(message, details={"pin": "hidden-1234"}, approvers=["ana"])).approved


@contextmanager
def server(*statuses: int) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A web server of this test's own, that answers so; gives its URL and what it was sent."""
    got: list[tuple[dict[str, str], bytes]] = []
    answers = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(answers.pop(0) if answers else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}/hook?x=1", got
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


async def ask(*notifiers: Any, message: str = "Go on?") -> str:
    """Have something asked; gives the request's id. Notices are on their way no more when it returns."""
    async with Engine(MemoryStore(), workflows=[hello], notifiers=notifiers) as engine:
        handle = await engine.start(hello, message)
        outcome = await handle.outcome(timeout=30)
        assert isinstance(outcome, Waiting)
        return outcome.requests[0].id


async def test_a_webhook_is_signed_over_body_and_time_and_tried_again() -> None:
    with server(500, 429, 200) as (url, got):
        id = await ask(Webhook(url, SECRET, pauses=(0, 0, 0)))
    assert len(got) == 3
    headers, body = got[-1]
    at, signature = headers["perdure-time"], headers["perdure-signature"]
    assert is_signed(SECRET, at, body, signature)
    assert not is_signed("another", at, body, signature)
    assert not is_signed(SECRET, at, body + b" ", signature)
    assert not is_signed(SECRET, str(int(at) + 1), body, signature)
    assert not is_signed(SECRET, at, body, signature, now=int(at) + 301)
    assert not is_signed(SECRET, "١٢", body, signature)
    said = json.loads(body)
    assert (said["request"], said["what"], said["approvers"]) == (id, "asked", ["ana"])
    assert b"hidden-1234" not in body, "details stay in the database"


def test_the_signature_is_the_one_that_receivers_compute() -> None:
    assert sign("key", 1, b"{}") == "sha256=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224"


async def test_who_refuses_is_not_asked_again() -> None:
    with server(404) as (url, got):
        await ask(Webhook(url, SECRET, pauses=(0, 0)))
    assert len(got) == 1


async def test_a_chat_is_told_how_to_decide_and_nobody_is_mentioned() -> None:
    with server() as (url, got):
        id = await ask(Slack(url), message="<!channel> Go & on?")
    [(_, body)] = got
    assert json.loads(body) == {"text": f"&lt;!channel&gt; Go &amp; on?\nperdure approve {id}"}


async def test_mail_is_sent_with_what_is_asked() -> None:
    mails: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            match line.split()[0].upper():
                case b"EHLO" | b"HELO":
                    writer.write(b"250 here\r\n")
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                    writer.write(b"250 taken\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 well\r\n")
        writer.close()

    made = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = made.sockets[0].getsockname()[1]
    mail = Email(
        "127.0.0.1", "perdure@here", lambda notice: [f"{notice.request.approvers[0]}@here"], port=port, tls=False
    )
    id = await ask(mail, message="Go on?\nBcc: all@there")
    made.close()
    await made.wait_closed()
    [text] = mails
    head, _, body = text.partition("\r\n\r\n")
    assert "To: ana@here" in head
    assert "Subject: Go on? Bcc: all@there" in head
    assert f"perdure approve {id}" in body
    with pytest.raises(ValueError, match="in the clear"):
        Email("here", "a@b", ["c@d"], password="x", tls=False)


class Broken:
    async def notify(self, notice: Notice) -> None:
        raise OSError("nobody there")


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    async def notify(self, notice: Notice) -> None:
        self.said.append(notice.what)


class Hanging:
    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def notify(self, notice: Notice) -> None:
        self.began.set()
        await asyncio.Event().wait()


async def test_a_notifier_that_fails_or_hangs_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    hanging, heard = Hanging(), Heard()
    clock = Clock()
    async with Engine(MemoryStore(), clock=clock, workflows=[hello], notifiers=[Broken(), hanging, heard]) as engine:
        handle = await engine.start(hello, "Go on?")
        outcome = await handle.outcome()
        assert isinstance(outcome, Waiting)
        await hanging.began.wait()
        await engine.approve(outcome.requests[0].id, by="ana")
        await clock.advance(1)
        assert await handle.outcome() == Completed(True)
        for task in list(engine._notices._tasks):
            task.cancel()
    assert heard.said == ["asked"]
    assert "Broken could not tell of" in caplog.text


async def test_reminders_and_escalations_are_told() -> None:
    @workflow(name="urgent")
    async def urgent() -> str:
        decision = await approval("Now?", expires=60, reminders=25, on_expiry="escalate", escalate_to=["bo"])
        return str(decision.by)

    heard, clock = Heard(), Clock()
    async with Engine(MemoryStore(), clock=clock, workflows=[urgent], notifiers=[heard]) as engine:
        handle = await engine.start(urgent)
        await clock.advance(61)
        await clock.settle()
        assert heard.said == ["asked", "reminded", "reminded", "escalated"]
        await clock.advance(61)
        assert await handle.outcome() == Completed("expiry")
