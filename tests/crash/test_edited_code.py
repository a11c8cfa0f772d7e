"""Code that is edited while an execution is under way: blocked in words and unharmed, or, if harmless, noted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.crash import ledger
from tests.crash.places import shared_out
from tests.crash.processes import Host, until
from tests.crash.promises import is_outcome
from tests.crash.rows import Rows, Tables

ID = "edited"

HEAD = """
from perdure import current, interrupt, patched, sleep, step, workflow
from tests.crash import flows, ledger

gate = flows.gate


@step(name="ask")
async def ask(prompt: str) -> str:
    with ledger.visit():
        return prompt.upper()


@step(name="book")
async def book(what: str) -> str:
    with ledger.visit():
        return "booked " + what


@step(name="reserve")
async def reserve(what: str) -> str:
    with ledger.visit():
        return "booked " + what


@workflow(name="edited")
async def edited(x: str) -> list[str]:
    out: list[str] = []
"""
OLD = [
    '    out.append(await ask("first"))',
    '    out.append(await book("hotel"))',
    '    out.append(await ask("second"))',
    "    await sleep(0.001)",
    '    out.append(await gate("g"))',
    '    out.append(await book("car"))',
    "    return out",
]

# The edit: what stands where OLD was, and the line (of it) that the message names.
BLOCKED = {
    "inserted": ([*OLD[:1], '    out.append(await reserve("new"))', *OLD[1:]], 1),
    "removed": ([*OLD[:1], *OLD[2:]], 1),
    "renamed": ([OLD[0], '    out.append(await reserve("hotel"))', *OLD[2:]], 1),
    "reordered": ([OLD[1], OLD[0], *OLD[2:]], 0),
    "arguments swapped": ([OLD[2], OLD[1], OLD[0], *OLD[3:]], 0),
    "a sleep removed": ([*OLD[:3], *OLD[4:]], 3),
    "a wait for a step": ([OLD[0], '    out.append(await interrupt("hotel?", schema=str))', *OLD[2:]], 1),
    "cut short": ([*OLD[:2], "    return out"], None),
}
UNHARMED = {
    "the same": OLD,
    "a changed prompt": ['    out.append(await ask("first, but better"))', *OLD[1:]],
    "what comes later": [*OLD[:5], '    out.append(await reserve("car"))', *OLD[6:]],
    "a patch": [OLD[0], '    if patched("p"):', '        out.append(await book("never"))', *OLD[1:]],
}
VALUE = ["FIRST", "booked hotel", "SECOND", "g", "booked car"]


class Edited:
    """An execution whose worker was killed in the middle of it, and the file that holds its workflow."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.file = folder / "edited_flow.py"
        self.edits = 0
        self.write(OLD)
        with self.host("first") as first:
            lines = folder / "ledger"
            until(lambda: [one for one in ledger.read(lines) if one.key == "gate#1"], "the step to be under way")
            first.kill()
        self.dead = first.pid
        for fence in range(2, 9):
            (folder / f"gate-{fence}").touch()

    def write(self, body: list[str]) -> None:
        self.file.write_text(HEAD + "\n".join(body) + "\n")
        # Python believes compiled code by its source's length and second: an edit in the same second would not be seen.
        self.edits += 1
        os.utime(self.file, (self.edits, self.edits))

    def place(self, line: int) -> str:
        """`file:line` of a line of the body."""
        return f"{self.file}:{HEAD.count(chr(10)) + 1 + line}"

    def host(self, name: str, *arguments: str) -> Host:
        file = ("--file", str(self.file), "--flow", "edited", "--argument", '"x"', "--lease", "2")
        return Host(self.folder, name, self.url, ID, *file, *arguments)

    def resume(self, name: str, *arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Another process goes on: how it ended, and what it logged."""
        with self.host(name, "--dead", str(self.dead), *arguments) as host:
            [result] = host.results()
            return result, host.log()

    def rows(self) -> Rows:
        with Tables(self.url) as tables:
            return tables.read()


@pytest.fixture
def edited(folder: Path, url: str) -> Edited:
    return Edited(folder, url)


@pytest.mark.parametrize(("url", "edit"), shared_out(BLOCKED), indirect=["url"])
def test_edited_code_blocks_names_the_place_and_leaves_the_journal_untouched(edited: Edited, edit: str) -> None:
    before = edited.rows()
    body, line = BLOCKED[edit]
    edited.write(body)
    result, log = edited.resume("after-edit")
    assert result["status"] == "blocked", result
    kind, message = result["error"]
    assert kind == "JournalMismatchError"
    if line is not None:
        assert edited.place(line) in message
    assert [told for told in log if told["level"] == "ERROR" and message in told["text"]]
    blocked = edited.rows()
    assert blocked.entries == before.entries
    assert blocked.execution(ID)["reason"] == message

    edited.write(OLD)
    result, _ = edited.resume("restored", "--resume")
    assert (result["status"], result["value"]) == ("completed", VALUE)
    after = edited.rows().journal(ID)
    assert after[: len(before.entries)] == before.entries
    assert not [entry for entry in after if entry["kind"] == "note"]
    entered = [one.key for one in ledger.read(edited.folder / "ledger") if one.what == ledger.ENTER]
    assert entered == ["ask#1", "book#1", "ask#2", "gate#1", "gate#1", "book#2"]


@pytest.mark.parametrize(("url", "edit"), shared_out(UNHARMED), indirect=["url"])
def test_harmless_edits_go_on_and_changed_arguments_are_noted(edited: Edited, edit: str) -> None:
    before = edited.rows()
    edited.write(UNHARMED[edit])
    result, log = edited.resume("after-edit")
    assert (result["status"], result["value"]) == ("completed", VALUE)
    after = edited.rows().journal(ID)
    assert after[: len(before.entries)] == before.entries
    new = after[len(before.entries) :]
    notes = [entry for entry in new if entry["kind"] == "note"]
    warnings = [told["text"] for told in log if told["level"] == "WARNING" and "ask#1" in told["text"]]
    assert (len(notes), len(warnings)) == ((1, 1) if edit == "a changed prompt" else (0, 0))
    last = "reserve#1" if edit == "what comes later" else "book#2"
    assert [entry["key"] for entry in new if is_outcome(entry)] == ["gate#1", last]


def test_a_worker_killed_after_it_noted_a_change_notes_it_once(edited: Edited) -> None:
    edited.write(UNHARMED["a changed prompt"])
    with edited.host("second", "--dead", str(edited.dead), "--kill", "after:1", "--of", "entries") as second:
        assert second.process.wait() == -signal.SIGKILL
        edited.dead = second.pid
    result, _ = edited.resume("third")
    assert result["value"] == VALUE
    assert [entry["key"] for entry in edited.rows().journal(ID) if entry["kind"] == "note"] == ["note:1"]
