"""How large a value may be: 64 MiB, or what the database takes at once."""

from __future__ import annotations

from perdure import checking
from perdure.errors import TooLargeError
from perdure.packing import Window

BESIDE = 64 * 1024
"""Bytes of a packet that are left for all else of it."""


class Capacity:
    """What one store takes. `packet`: bytes at once, if it has a limit of its own. `sealed`: values are encrypted.

    In a packet quotes and backslashes are two bytes each; a sealed text has none, and is a third longer.
    """

    __slots__ = ("packet", "sealed", "sure")

    def __init__(self, packet: int | None = None, *, sealed: bool = False) -> None:
        self.packet = packet
        self.sealed = sealed
        self.sure = checking.VALUE_LIMIT if packet is None else min(checking.VALUE_LIMIT, (packet - BESIDE) // 2)
        """So many characters fit, whatever they are."""

    def check(self, text: str, what: str, *, packs: bool = True, copies: int = 1) -> None:
        """Raises `TooLargeError` for a text that does not fit, sent so often at once.

        `packs`: it is recorded compressed, if need be.
        """
        if len(text) * copies <= self.sure:
            return
        checking.check_size(text, what)
        size = self._size(text) * copies
        if packs and not self._fits(size):
            packed = Window().pack(text)
            size = size if packed is None else self._size(packed) * copies
        if not self._fits(size):
            raise self._too_large(what, size)

    def refusal(self, what: str, *texts: str) -> TooLargeError | None:
        """The same for texts that are sent together, as they are."""
        size = sum(map(self._size, texts))
        return None if self._fits(size) else self._too_large(what, size)

    def _size(self, text: str) -> int:
        if self.sealed:
            return len(text) * 4 // 3 + 100
        return len(text) + sum(map(text.count, "\"'\\"))

    def _fits(self, size: int) -> bool:
        return self.packet is None or size <= self.packet - BESIDE

    def _too_large(self, what: str, size: int) -> TooLargeError:
        return TooLargeError(
            f"{what} takes {size:,} bytes as the server reads it, with quotes and backslashes escaped; it takes"
            f" {self.packet:,} at once (max_allowed_packet). Nothing was recorded"
        )
