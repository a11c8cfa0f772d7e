"""A bar on a terminal that says how far long work has come; nothing elsewhere."""

from __future__ import annotations

import sys
import time

from perdure.cli.session import Session
from perdure.cli.words import columns, cut

WIDTH = 30
PAUSE = 0.1
"""Seconds between two drawings, at least."""


class Bar:
    """`[#########           ]  120 of 500`, drawn over and over on stderr."""

    def __init__(self, session: Session, total: int) -> None:
        self._total = total
        self._done = 0
        self._shown = False
        self._drawn_at = 0.0
        self._drawing = sys.stderr.isatty() and not session.json

    @property
    def is_drawn(self) -> bool:
        """There is a terminal to draw on."""
        return self._drawing

    def step(self) -> None:
        """One more is done."""
        self.reach(self._done + 1)

    def reach(self, done: int) -> None:
        """So many are done."""
        self._done = done
        now = time.monotonic()
        if self._drawing and (now - self._drawn_at >= PAUSE or self._done >= self._total):
            self._drawn_at = now
            self._draw()

    def _draw(self) -> None:
        total = max(self._total, self._done)
        full = WIDTH * self._done // total
        text = f"[{'#' * full}{' ' * (WIDTH - full)}]  {self._done} of {total}"
        sys.stderr.write(f"\r\x1b[K{cut(text, (columns() or 80) - 1)}")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Take it away, so that something else can be said; the next step draws it again."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown, self._drawn_at = False, 0.0
