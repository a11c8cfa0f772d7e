"""Values, times and errors as a person reads them in a terminal."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from perdure.codec import Codec
from perdure.errors import DecodeError
from perdure.redaction import redact
from perdure.rollback import VOID

CODEC = Codec()
LONGEST = 200
"""Characters of a value in a table; `--json` gives all of it."""


def plain(text: str) -> str:
    """The text without what could drive a terminal: escape sequences come from whoever wrote a message."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str) -> str:
    return " ".join(plain(text).split())


def readable(text: str | None) -> Any:
    """A recorded value. Where its classes are not known here it keeps the form that it has in the database."""
    if text is None:
        return None
    try:
        return CODEC.decode(text)
    except DecodeError:
        try:
            return redact(json.loads(text))
        except (ValueError, RecursionError):
            return text


def to_data(value: Any) -> Any:
    """Any value in the types of JSON: what JSON has no word for becomes a text."""
    try:
        return _finite(msgspec.to_builtins(value, str_keys=True, enc_hook=str))
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0.0:
        return str(value)
    return value


def to_json(value: Any) -> str:
    """Any value as one line of JSON, readable: no escapes for what can be printed."""
    text = json.dumps(to_data(value), ensure_ascii=False)
    return text if text.isprintable() else json.dumps(to_data(value))


def error_words(words: str) -> str:
    """`Type: message` of a recorded error; a class that is not known here does not hide behind another name."""
    return words.removeprefix("StepFailedError: ")


def at_shell(message: str, options: Mapping[str, str]) -> str:
    """A message that speaks of arguments in Python, in the options of the command: `force=True`, `by=`."""

    def typed(match: re.Match[str]) -> str:
        return options.get(match[1], match[0])

    return re.sub(r"\b(\w+)=(?:True\b|(?=[\s.,;)]|$))", typed, message)


def void_words(cut: Any) -> str:
    """What the entry says behind which a part of the journal is void."""
    if not isinstance(cut, dict):
        return to_json(cut)
    why = VOID.get(cut.get("reason", ""), "it was taken back")
    return f"void from entry {cut.get('from_seq')} on: {why}"


def order_words(order: Any) -> str:
    """What the entry says with which a rollback begins."""
    if not isinstance(order, dict):
        return to_json(order)
    words = f"back to {order['name']}" if order.get("name") else "back to its beginning"
    words += f", by {order['by']}" if order.get("by") else ""
    return words + (f": {order['reason']}" if order.get("reason") else "")


def describe(error: BaseException) -> str:
    message = str(error)
    return error_words(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def when(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def took(start: datetime, end: datetime) -> str:
    """How long something took: 12 ms, 3.4 s, 5 min, 2.0 h."""
    seconds = (end - start).total_seconds()
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# Tables ---------------------------------------------------------------------------------------------------


def columns() -> int | None:
    """How wide the terminal is; None where the output goes elsewhere, and nothing has to fit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def width(text: str) -> int:
    """Cells of a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def cut(text: str, most: int) -> str:
    """The text in at most so many cells; what is missing is shown as an ellipsis."""
    if width(text) <= most:
        return text
    kept = ""
    for character in text:
        if width(kept + character) > most - 1:
            break
        kept += character
    return kept + "…"


def cut_middle(text: str, most: int) -> str:
    """The same for ids, which often begin alike: beginning and end are kept."""
    if width(text) <= most:
        return text
    end = text[-(most // 3) :] if text.isascii() and most >= 9 else ""
    return cut(text, most - len(end)) + end


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    narrow: Sequence[int],
    ids: Sequence[int] = (),
    indent: str = "",
) -> list[str]:
    """Lines of a table. Where it is wider than the terminal, the widest of the columns `narrow` are cut.

    `ids`: those that are cut in the middle.
    """
    cells = [list(headings), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(width(cell) for cell in column) for column in zip(*cells, strict=True)]
    room = columns()
    while room is not None and len(indent) + sum(widths) + 2 * (len(widths) - 1) > room:
        widest = max(narrow, key=lambda i: widths[i])
        if widths[widest] <= 8:
            break
        widths[widest] -= 1
    lines = []
    for row in cells:
        cut_row = [
            (cut_middle if n in ids else cut)(cell, most)
            for n, (cell, most) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cell + " " * (most - width(cell)) for cell, most in zip(cut_row, widths, strict=True))
        line = (indent + line).rstrip()
        lines.append(line if room is None else cut(line, room))
    return lines
