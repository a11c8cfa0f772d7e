"""Why a server was not reached, in words, as far as the network tells."""

from __future__ import annotations

import errno
import socket

_AWAY = (errno.ENETUNREACH, errno.EHOSTUNREACH)


def network_reason(error: BaseException) -> str | None:
    """The reason, or None where the network says nothing that helps. Drivers may have wrapped what it said."""
    if not isinstance(error, OSError):
        inner = error.__cause__ or error.__context__
        return None if inner is None else network_reason(inner)
    if isinstance(error, socket.gaierror):
        return "nobody knows its host's name: is it spelt right, and is there a network?"
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "nothing listens there: is the server running, and are host and port right?"
    if error.errno in _AWAY or any(f"[Errno {number}]" in str(error) for number in _AWAY):
        return (
            "there is no way to it from this network. A host that has only an IPv6 address, as Supabase's direct ones"
            " have, is not reached over IPv4: take its pooler's URL"
        )
    return None
