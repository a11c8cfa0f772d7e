"""Connections that notice that the other end is gone, though nothing is said for long."""

from __future__ import annotations

import socket
from typing import Any

IDLE, BETWEEN, TRIES = 3, 1, 3  # seconds, seconds, how often


def keep_alive(connection: Any) -> None:
    """Have the system ask the other end of a TCP connection, when nothing was said for some seconds."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", BETWEEN), ("TCP_KEEPCNT", TRIES)):
        if hasattr(socket, name):  # not all systems have them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def local_port(address: Any) -> int | None:
    """The port of a socket's own end, by its name; None for a unix socket."""
    return address[1] if isinstance(address, tuple) else None
