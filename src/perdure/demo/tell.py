"""What the demo says: plain lines and tables, on a terminal and elsewhere alike."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from perdure.demo.proof import Proof, Row
from perdure.demo.stage import EXECUTION, Stage, shown

ROWS = 40


def heading(text: str) -> None:
    say()
    say(text)
    say("-" * len(text))


def say(text: str = "", *, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def show_proof(stage: Stage, proof: Proof, killed: int) -> None:
    say(f"entered: by {shown(stage.ledger)}, to which each step appends a line (fsync) outside the store.")
    say("recorded: outcomes in the database.")
    say()
    workers = {child.pid: str(number) for number, child in enumerate(stage.children, 1)}
    rows = [row for row in proof.rows if row.entered > 1] if len(proof.rows) > ROWS else proof.rows
    cells = [("step", "distribution", "entered", "recorded", "by worker", "at the kill")]
    for row in rows:
        by = ", ".join(workers.get(pid, "?") for pid in row.pids)
        cells.append((row.key, row.about, str(row.entered), str(row.recorded), by, fate(row)))
    show_table(cells)
    if len(rows) < len(proof.rows):
        say(f"  ... and {len(proof.rows) - len(rows)} more steps that entered once.")
    say()
    say(f"{len(proof.rows)} steps entered {proof.entered} times; {proof.recorded} outcomes were recorded, ", end="")
    say("one for each step." if not proof.broken else "and this is wrong:")
    for promise in proof.broken:
        say(f"  BROKEN: {promise}")
    if proof.twice:
        say(f"{len(proof.twice)} of them had no recorded outcome when the worker died, and so ran again: ", end="")
        say("a step runs at least once, and is recorded exactly once.")
    if not proof.broken:
        say("No step entered again after its outcome was recorded.")


def fate(row: Row) -> str:
    if row.in_flight:
        return "under way"
    return "done, not yet recorded" if row.entered > 1 else ""


def show_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())


def show_report(stage: Stage, text: str) -> None:
    lines = text.splitlines()
    until = next(
        (i for i, line in enumerate(lines) if line.startswith("| distribution | licence | verdict | why | lic")), 12
    )
    for line in lines[:until]:
        say(f"  {line}".rstrip())
    say(f"The whole report (Markdown) is in {shown(stage.report)}.")


def show_commands(stage: Stage) -> None:
    command(stage, "list")
    command(stage, "show", EXECUTION)


def command(stage: Stage, *words: str) -> None:
    beside = Path(sys.executable).with_name("perdure")
    program = "perdure" if shutil.which("perdure") or not beside.exists() else shown(beside)
    say(f"  {shlex.join([program, '--db', stage.url, *words])}")
