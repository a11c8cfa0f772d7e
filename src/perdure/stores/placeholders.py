"""A URL that was pasted from a page and still has a gap in it: `[YOUR-PASSWORD]`, `<password>`, `{host}`."""

from __future__ import annotations

import re

from perdure.errors import PerdureError

# None of these brackets may stand in a URL as they are, but for those around an address such as [::1].
_GAP = re.compile(r"\[(?![0-9A-Fa-f:.]*:[0-9A-Fa-f:.%]*\])[^\[\]]*\]|<[^<>]*>|\$?\{[^{}]*\}")
_WORDS = re.compile(r"(?<![A-Za-z0-9])(?:your|my)[-_ ]?(?:db[-_ ]?)?(?:password|project[-_ ]?ref)(?![A-Za-z0-9])", re.I)
# What may be shown of it: a password may have brackets of its own.
_TOLD = re.compile(r"pass|pwd|user|host|ref|project|data|db|port|your|region|name|server", re.I)


def refuse_placeholders(url: str) -> None:
    """Raises `PerdureError` for a URL in which something is still to be filled in. It shows that alone."""
    found = _GAP.search(url) or _WORDS.search(url)
    if found is not None:
        gap = found[0] if _TOLD.search(found[0]) else f"{found[0][0]}...{found[0][-1]}"
        raise PerdureError(
            f"the database's URL still has {gap} in it, which stands for something of yours. Put that there; in a"
            " password write special characters percent-encoded, as %40 for @"
        )
