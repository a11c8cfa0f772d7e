"""What is told of an execution while it is followed: one moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import click

from perdure.cli import documents
from perdure.cli.session import Session
from perdure.cli.words import columns, cut, error_words, one_line, plain, to_json, took, void_words, when
from perdure.journal import ATTEMPT, CUT, LOCAL, TIMER, is_outcome
from perdure.records import Entry
from perdure.views import HistoryEntry, told

SPINNER = "|/-\\"
LONGEST = 100


@dataclass(slots=True)
class State:
    """How far an execution is. `fresh`: the entries since the last look. `running`: keys of bodies, if known."""

    done: int = 0
    fresh: Sequence[Entry] = ()
    running: Sequence[str] = field(default_factory=tuple)


class Progress:
    """Says nothing."""

    pause = 1.0
    """Seconds between two looks, at most."""

    def tell(self, state: State) -> None:
        """It has come so far."""

    def waits_until(self, time: datetime) -> None:
        """It waits for nothing but time."""

    def note(self, text: str) -> None:
        """Something else to know."""

    def close(self) -> None:
        """Nothing more comes."""


class MovingLine(Progress):
    """One line on a terminal, written over and over: what is done, what runs."""

    pause = 0.1

    def __init__(self) -> None:
        self._turn = 0
        self._shown = ""

    def tell(self, state: State) -> None:
        self._turn += 1
        running = f", running: {', '.join(state.running)}" if state.running else ""
        self._show(f"{SPINNER[self._turn % len(SPINNER)]} {state.done} done{running}")

    def waits_until(self, time: datetime) -> None:
        self._show(f"waits until {when(time)} UTC")

    def note(self, text: str) -> None:
        self.close()
        click.echo(plain(text), err=True)

    def close(self) -> None:
        self._show("")

    def _show(self, text: str) -> None:
        text = cut(one_line(text), (columns() or 80) - 1)
        if text != self._shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._shown = text


class PlainLines(Progress):
    """A line on stderr now and then: what is done."""

    def __init__(self) -> None:
        self._done = 0

    def tell(self, state: State) -> None:
        if state.done != self._done:
            self._done = state.done
            last = next((e.key for e in reversed(state.fresh) if counts(e)), None)
            self.note(f"{state.done} done" + (f", last {last}" if last else ""))

    def waits_until(self, time: datetime) -> None:
        self.note(f"waits until {when(time)} UTC")

    def note(self, text: str) -> None:
        click.echo(plain(text), err=True)


class Journal(Progress):
    """A line on stdout for each entry of the journal; with `--json` a document in each line."""

    pause = 0.5

    def __init__(self, session: Session) -> None:
        self._session = session

    def tell(self, state: State) -> None:
        for entry in state.fresh:
            view = seen(entry)
            if view is not None:
                self._session.line({"event": entry.kind if entry.kind == ATTEMPT else "entry", **documents.entry(view)})
                self._session.say(entry_line(view))

    def waits_until(self, time: datetime) -> None:
        self._session.line({"event": "waits", "wake_at": time})
        self._session.say(f"      waits until {when(time)} UTC")

    def note(self, text: str) -> None:
        self._session.hint(text)


def counts(entry: Entry) -> bool:
    """Is it the outcome of a durable call?"""
    return is_outcome(entry) and entry.kind not in LOCAL and entry.kind != CUT


def seen(entry: Entry) -> HistoryEntry | None:
    """An entry as it is told: outcomes, failed attempts, new timers, what is void; None for what only replay needs."""
    if not (counts(entry) or entry.kind in (ATTEMPT, CUT) or (entry.kind == TIMER and entry.status == "set")):
        return None
    view = told([entry])[0]
    return view.attempts[0] if view.attempts else view


def entry_line(view: HistoryEntry) -> str:
    """`   3  charge#1  completed in 12 ms  "receipt"`"""
    if view.kind == CUT:
        return f"{view.seq:>4}  {void_words(view.output)}"
    words = [f"{view.seq:>4}  {view.key}"]
    if view.kind == ATTEMPT:
        words.append(f"attempt {view.attempt} failed")
    elif view.kind == TIMER:
        words.append("is set" if view.status == "set" else "is over")
    else:
        end = view.completed_at or view.started_at
        words.append(f"{view.status} in {took(view.started_at, end)}" + _attempts(view))
    if view.error:
        words.append(error_words(view.error))
    elif view.output is not None and view.kind != TIMER:
        words.append(cut(to_json(view.output), LONGEST))
    return one_line_kept("  ".join(words))


def one_line_kept(text: str) -> str:
    """On one line, the spaces in it kept."""
    return plain(text).replace("\n", " ").replace("\t", " ")


def _attempts(view: HistoryEntry) -> str:
    return f" ({view.attempt} attempts)" if view.attempt > 1 else ""


def progress_for(session: Session, *, lines: bool) -> Progress:
    """The way to tell it that fits where the output goes. `lines`: each entry is wanted."""
    if lines:
        return Journal(session)
    if sys.stderr.isatty():
        return MovingLine()
    return Progress() if session.json else PlainLines()
