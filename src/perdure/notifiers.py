"""Telling people that something is asked of them: by webhook, by e-mail, in a chat.

Best effort: a notifier is told after the question is durable, and is never in the way of the execution. What it could
not deliver is logged. The inbox is the truth.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import logging
import smtplib
import ssl
import time
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from urllib.parse import urlsplit

from perdure.notices import Notice as Notice
from perdure.outcome import OpenRequest

logger = logging.getLogger("perdure")

PAUSES = 0.5, 2.0, 8.0, 30.0
"""Seconds between the tries of one message."""

TIMEOUT = 10.0
"""Seconds for one try."""

AGAIN = frozenset({408, 425, 429})
"""Answers of the kind "you are wrong" that are only for now."""


# Webhooks -------------------------------------------------------------------------------------------------


def sign(secret: str | bytes, at: int, body: bytes) -> str:
    """The signature of a webhook: HMAC-SHA256 over the time (Unix seconds), a dot, and the body."""
    key = secret.encode() if isinstance(secret, str) else secret
    return "sha256=" + hmac.new(key, b"%d." % at + body, hashlib.sha256).hexdigest()


def is_signed(secret: str | bytes, at: str, body: bytes, signature: str, *, now: float | None = None) -> bool:
    """For receivers: is the signature right, and not older than five minutes?"""
    if not (at.isascii() and at.isdigit()) or abs((time.time() if now is None else now) - int(at)) > 300:
        return False
    return hmac.compare_digest(sign(secret, int(at), body).encode(), signature.encode(errors="replace"))


class Webhook:
    """Posts each notice as JSON, signed (`Perdure-Time`, `Perdure-Signature`), and tries again where that fails."""

    def __init__(self, url: str, secret: str | bytes, *, pauses: Sequence[float] = PAUSES) -> None:
        _check_url(url)
        if not secret:
            raise ValueError("a webhook is signed: give it a secret")
        self.url = url
        self._secret = secret
        self._pauses = tuple(pauses)

    async def notify(self, notice: Notice) -> None:
        body = json.dumps(notice.document()).encode()

        def post() -> None:
            at = int(time.time())
            signature = sign(self._secret, at, body)
            _post(self.url, body, {"Perdure-Time": str(at), "Perdure-Signature": signature})

        await _insist(post, self._pauses)


class Slack:
    """Writes each notice into a channel, by an incoming webhook of Slack, Mattermost, or what takes the same JSON.

    `command`: gives a line of how to decide, for a request's id.
    """

    def __init__(
        self, url: str, *, command: Callable[[OpenRequest], str] | None = None, pauses: Sequence[float] = PAUSES
    ) -> None:
        _check_url(url)
        self.url = url
        self._command = command or _how
        self._pauses = tuple(pauses)

    async def notify(self, notice: Notice) -> None:
        text = f"{notice.headline}\n{self._command(notice.request)}"
        for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # else a message could mention everybody
            text = text.replace(plain, safe)
        body = json.dumps({"text": text}).encode()
        await _insist(lambda: _post(self.url, body, {}), self._pauses)


def _how(request: OpenRequest) -> str:
    """How it is settled on the command line."""
    verb = {"approval": "approve", "input": "answer", "budget": "answer"}.get(request.kind, "resolve")
    return f"perdure {verb} {request.id}"


class _Refused(Exception):
    """Trying again helps nobody."""


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"a webhook has a URL with http or https, not {url!r}")


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    assert parts.hostname is not None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        response.read(4096)
    finally:
        connection.close()
    if 200 <= response.status < 300:
        return
    words = f"{parts.hostname} answered {response.status} {response.reason}"
    if 300 <= response.status < 500 and response.status not in AGAIN:
        raise _Refused(words)
    raise OSError(words)


async def _insist(act: Callable[[], None], pauses: Sequence[float]) -> None:
    """Do it in a thread, and again after each pause where it failed."""
    for pause in pauses:
        try:
            return await asyncio.to_thread(act)
        except (OSError, http.client.HTTPException, smtplib.SMTPException) as error:
            logger.debug("a notice could not be delivered: %s; trying again", error)
            await asyncio.sleep(pause)
    return await asyncio.to_thread(act)


# E-mail ---------------------------------------------------------------------------------------------------


class Email:
    """Sends each notice by SMTP. `to`: addresses, or a function that is given the notice and names them.

    `tls`: STARTTLS, which is refused where the server does not offer it; needed where there is a password.
    """

    def __init__(
        self,
        host: str,
        sender: str,
        to: Sequence[str] | Callable[[Notice], Sequence[str]],
        *,
        port: int = 587,
        user: str | None = None,
        password: str | None = None,
        tls: bool = True,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        if password is not None and not tls:
            raise ValueError("a password is not sent in the clear: tls=True")
        self._host, self._port, self._sender = host, port, sender
        self._to = to
        self._user, self._password, self._tls = user, password, tls
        self._pauses = tuple(pauses)

    async def notify(self, notice: Notice) -> None:
        to = self._to(notice) if callable(self._to) else self._to
        if not to:
            return
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, ", ".join(to), notice.headline[:200]
        request = notice.request
        until = "" if request.expires_at is None else f"\nUntil {request.expires_at:%Y-%m-%d %H:%M} UTC.\n"
        mail.set_content(f"{request.message}\n{until}\nExecution: {request.execution_id}\n\n  {_how(request)}\n")
        await _insist(lambda: self._send(mail), self._pauses)

    def _send(self, mail: EmailMessage) -> None:
        with smtplib.SMTP(self._host, self._port, timeout=TIMEOUT) as server:
            if self._tls:
                server.starttls(context=ssl.create_default_context())
            if self._user is not None and self._password is not None:
                server.login(self._user, self._password)
            server.send_message(mail)
