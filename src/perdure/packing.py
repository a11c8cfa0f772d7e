"""Large texts as differences to what the same execution recorded shortly before, pure.

An agent passes its whole history to each step, a document grows by a page: nearly all of the next text is recorded
already. So a text above a threshold is recorded as copies out of texts of earlier entries and the few characters that
are new; what is still large is compressed. Each packed text carries the digest of the whole, so that replay compares
without unpacking, and nothing damaged passes for a value.

The form: `~` and a JSON header, a line break, the new characters.

    ~["delta", DIGEST, LENGTH, [[SEQ, COLUMN], ...], [[BASE, FROM, COUNT] or COUNT, ...]]
    ~["zlib", DIGEST, LENGTH]          then base64

`COLUMN` is "i" (input) or "o" (output). Only entries outside of steps' bodies serve as bases: those are always loaded.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.errors import DecodeError

LARGE = 2048
"""Characters above which a text is packed."""

BASE_LEAST = 256
BASE_MOST = 4 * 1024 * 1024
WINDOW = 16
"""Texts that serve as bases: their sizes, and how many are kept."""

KEPT = 4 * WINDOW
"""Whole texts that an unpacker keeps, at most."""

COMPRESS = 16 * 1024
"""Characters above which what is still large is compressed."""

ANCHOR = 24
TRIES = 12
SEARCHED = 1024 * 1024
"""Characters of bases that are searched for one anchor, at most."""

Place = tuple[int, str]


def digest(text: str) -> str:
    """What tells texts apart: 128 bits of BLAKE2b."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_packed(text: str | None) -> bool:
    return text is not None and text.startswith("~[")


def digest_of(packed: str) -> str:
    """The digest of the whole text, from its header."""
    return str(_header(packed)[0][1])


def same(recorded: str | None, text: str | None) -> bool:
    """Is the recorded text, packed or not, this one?"""
    if recorded == text:
        return True
    return recorded is not None and text is not None and is_packed(recorded) and digest_of(recorded) == digest(text)


class Window:
    """The texts that one execution recorded last."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: dict[Place, str] = {}

    def add(self, seq: int, column: str, text: str) -> None:
        """An entry's text is (about to be) recorded."""
        if BASE_LEAST <= len(text) <= BASE_MOST:
            self._texts[seq, column] = text
            while len(self._texts) > WINDOW:
                del self._texts[next(iter(self._texts))]

    def forget(self, seq: int, column: str) -> None:
        """It is not recorded after all."""
        self._texts.pop((seq, column), None)

    def pack(self, text: str) -> str | None:
        """The packed form, or None where it would save too little to be worth it."""
        packed = self._delta(text)
        if packed is None and len(text) > COMPRESS:
            raw = text.encode("utf-8", "surrogatepass")
            body = binascii.b2a_base64(zlib.compress(raw, 1), newline=False).decode()
            packed = _form(["zlib", digest(text), len(text)], body)
        return packed if packed is not None and len(packed) < len(text) * 3 // 4 else None

    def _delta(self, text: str) -> str | None:
        if not self._texts:
            return None
        places = list(reversed(self._texts))
        texts = [self._texts[place] for place in places]
        prefix, head = max((_common(text, 0, base, 0), -n) for n, base in enumerate(texts))
        head = -head
        suffix = _common_end(text, texts[head], prefix)
        ops: list[Any] = [[head, 0, prefix]] if prefix else []
        fresh: list[str] = []
        _middle(text, prefix, len(text) - suffix, texts, ops, fresh)
        if suffix:
            ops.append([head, len(texts[head]) - suffix, suffix])
        used = sorted({op[0] for op in ops if isinstance(op, list)})
        ops = [[used.index(op[0]), op[1], op[2]] if isinstance(op, list) else op for op in ops]
        header = ["delta", digest(text), len(text), [places[n] for n in used], ops]
        return _form(header, "".join(fresh))


def pack_pair(
    window: Window, seq: int, text: str | None, output: str | None, *, is_base: bool, is_body: bool
) -> tuple[str | None, str | None, str]:
    """The input and output of an entry as they are recorded, and the entry's `encoding`.

    Of outputs only what a body gave is packed: the outcome of a wait is decoded from its entry. `is_base`: later texts
    may build on it.
    """
    packed, packed_output = None, None
    if text is not None and len(text) >= BASE_LEAST:
        packed = window.pack(text) if len(text) > LARGE else None
        if is_base:
            window.add(seq, "i", text)
    if output is not None and len(output) >= BASE_LEAST and is_body:
        packed_output = window.pack(output) if len(output) > LARGE else None
        if is_base:
            window.add(seq, "o", output)
    encoding = "json" if packed is None and packed_output is None else "packed"
    return packed or text, packed_output or output, encoding


def _middle(text: str, start: int, end: int, texts: list[str], ops: list[Any], fresh: list[str]) -> None:
    """Between prefix and suffix: what stands in some base is copied, wherever it stands there."""
    place, tries, stride, literal = start, 0, 1, start
    while place + ANCHOR <= end and tries < TRIES:
        found = _find(texts, text[place : place + ANCHOR])
        if found is None:
            tries += 1
            place += stride
            stride *= 2
            continue
        base, at = found
        count = min(_common(text, place, texts[base], at), end - place)
        if place > literal:
            ops.append(place - literal)
            fresh.append(text[literal:place])
        ops.append([base, at, count])
        place = literal = place + count
        tries, stride = 0, 1
    if end > literal:
        ops.append(end - literal)
        fresh.append(text[literal:end])


def _find(texts: list[str], anchor: str) -> tuple[int, int] | None:
    searched = 0
    for n, base in enumerate(texts):  # the newest first: what is new here is what was given last
        searched += len(base)
        at = base.find(anchor)
        if at >= 0:
            return n, at
        if searched > SEARCHED:
            return None
    return None


def _common(a: str, i: int, b: str, j: int) -> int:
    """How many characters agree from these places on."""
    most = min(len(a) - i, len(b) - j)
    count, step = 0, 64
    while count < most:
        step = min(step, most - count)
        if a[i + count : i + count + step] == b[j + count : j + count + step]:
            count += step
            step *= 2
        elif step == 1:
            break
        else:
            step //= 2
    return count


def _common_end(a: str, b: str, prefix: int) -> int:
    most = min(len(a), len(b)) - prefix
    count, step = 0, 64
    while count < most:
        step = min(step, most - count)
        if a[len(a) - count - step : len(a) - count] == b[len(b) - count - step : len(b) - count]:
            count += step
            step *= 2
        elif step == 1:
            break
        else:
            step //= 2
    return count


def _form(header: list[Any], body: str) -> str:
    return f"~{msgspec.json.encode(header).decode()}\n{body}"


def _header(packed: str) -> tuple[list[Any], str]:
    head, found, body = packed[1:].partition("\n")
    try:
        header = msgspec.json.decode(head)
        if not found or header[0] not in ("delta", "zlib"):
            raise ValueError(head)
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError, KeyError) as error:
        raise DecodeError("a packed text is damaged: its header cannot be read") from error
    return header, body


Lookup = Callable[[int, str], str | None]
"""The recorded text (packed or not) of an entry's column; None if there is no such entry."""


class Unpacker:
    """Whole texts from packed ones. Texts unpacked before are kept for a while, as the next ones build on them."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._kept: dict[Place, str] = {}

    def text(self, seq: int, column: str) -> str:
        """The whole text of an entry's column. Raises `DecodeError` for what is damaged or missing."""
        # Without recursion: a text may build on one that builds on one, a thousand deep.
        wanted = seq, column
        stack: list[Place] = [wanted]
        while stack:
            place = stack[-1]
            if len(self._kept) > KEPT:
                self._forget()
            if place in self._kept:
                stack.pop()
                continue
            recorded = self._lookup(*place)
            if recorded is None:
                raise DecodeError(f"entry {place[0]} is missing, on which entry {seq} builds")
            if not is_packed(recorded):
                self._kept[place] = recorded
                continue
            header, body = _header(recorded)
            missing = [base for base in _bases(header, place) if base not in self._kept]
            if missing:
                stack += missing
                continue
            self._kept[place] = text = self._build(place, header, body)
            if place == wanted and digest(text) != header[1]:
                del self._kept[place]
                raise DecodeError(f"the packed text of entry {seq} is damaged: its digest does not fit")
        return self._kept[wanted]

    def _forget(self) -> None:
        # What goes may be needed again, and is built again then; the newest stay, or there would be no end to it.
        while len(self._kept) > KEPT // 2:
            del self._kept[next(iter(self._kept))]

    def _build(self, place: Place, header: list[Any], body: str) -> str:
        try:
            if header[0] == "zlib":
                text = zlib.decompress(binascii.a2b_base64(body)).decode("utf-8", "surrogatepass")
            else:
                bases = [self._kept[base] for base in _bases(header, place)]
                parts, at = [], 0
                for op in header[4]:
                    if isinstance(op, list):
                        base, start, count = op
                        parts.append(bases[base][start : start + count])
                    else:
                        parts.append(body[at : at + op])
                        at += op
                text = "".join(parts)
        except DecodeError:
            raise
        except Exception as error:  # whatever a damaged header leads to
            raise DecodeError(f"the packed text of entry {place[0]} is damaged: {error}") from error
        if len(text) != header[2]:
            raise DecodeError(f"the packed text of entry {place[0]} is damaged: its length does not fit")
        return text


def _bases(header: list[Any], place: Place) -> list[Place]:
    if header[0] != "delta":
        return []
    try:
        bases = [(int(seq), str(column)) for seq, column in header[3]]
    except (ValueError, TypeError) as error:
        raise DecodeError(f"the packed text of entry {place[0]} is damaged: {error}") from error
    # An earlier entry's text, or the input of the same entry for its output: so nothing builds on itself.
    if any(seq > place[0] or (seq == place[0] and (column, place[1]) != ("i", "o")) for seq, column in bases):
        raise DecodeError(f"the packed text of entry {place[0]} is damaged: it builds on a later one")
    return bases
