"""`rollback`: what it tells, what it does, and who does it."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing

import pytest

from .conftest import Shell, read_until

TRIP = """
from perdure import Engine, checkpoint, interrupt, step, workflow

async def give_back(thing: str, name: str) -> None:
    if name == "stuck":
        raise OSError("the desk is closed")
    print(f"gave back {thing}")

@checkpoint(undo=give_back)
async def take(name: str) -> str:
    return f"a {name}"

@workflow
async def trip(name: str) -> str:
    first = await take("bag")
    second = await take(name)
    await interrupt("Go on?", schema=bool)
    return f"{first} and {second}"
"""


def test_it_tells_what_would_be_undone_and_does_nothing(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(TRIP)
    shell("run", "trips:trip", '"hat"', "--id", "t")
    told = shell("rollback", "t", "--dry-run")
    assert told.code == 0
    assert told.out.splitlines()[0] == "t would go back to its beginning, and these would be undone, in this order:"
    assert [line.split()[1] for line in told.out.splitlines()[1:3]] == ["take#2", "take#1"]
    plan = shell("rollback", "t", "--to", "take#1", "--dry-run", "--json").json
    assert ([undo["key"] for undo in plan["undos"]], plan["to"]) == (["take#2"], 2)
    assert shell("show", "t", "--json").json["status"] == "waiting"
    said = shell("rollback", "t", "--to", "nowhere")
    assert (said.code, "no checkpoint, key or entry 'nowhere'" in said.err) == (1, True)


def test_a_refusal_names_the_options_of_the_command(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(TRIP.replace("@checkpoint(undo=give_back)", "@step(pivot=True)"))
    shell("run", "trips:trip", '"hat"', "--id", "t")
    said = shell("rollback", "t", "--json")
    assert said.json["error"]["message"].endswith("is undone only with --force")
    said = shell("rollback", "t", "--force")
    assert (said.code, "force=True" in said.err, "by=" in said.err) == (1, False, False)
    assert "--force" in said.err and "--by" in said.err


@pytest.mark.parametrize("dry_run", [False, True])
def test_who_says_who_goes_beyond_a_point_of_no_return(shell: Shell, dry_run: bool) -> None:
    (shell.folder / "trips.py").write_text(TRIP.replace("@checkpoint(undo=give_back)", "@checkpoint(pivot=True)"))
    shell("run", "trips:trip", '"hat"', "--id", "t")
    said = shell("rollback", "t", "--force", "--by", "ana", *(["--dry-run"] if dry_run else []))
    assert (said.code, said.err) == ((0, "") if dry_run else (3, "")), said
    assert ("would go back to its beginning" if dry_run else "is to be rolled back") in said.out


SLOW = TRIP.replace(
    "    print(f", "    while not Path('go').exists():\n        await asyncio.sleep(0.01)\n    print(f"
).replace("from perdure import", "import asyncio\nfrom pathlib import Path\n\nfrom perdure import")


@pytest.mark.parametrize("name", ["hat", "stuck"])
def test_a_cancel_while_it_is_rolled_back_tells_what_became_of_it(shell: Shell, name: str) -> None:
    (shell.folder / "trips.py").write_text(SLOW)
    shell("run", "trips:trip", f'"{name}"', "--id", "t")
    shell("rollback", "t")
    with shell.worker("trips"):
        while shell("show", "t", "--json").json["status"] != "rolling_back":
            pass
        with shell.running("cancel", "t") as child:
            assert "It goes back, or is to" in read_until(child.stderr, "...")
            (shell.folder / "go").touch()
            out, err = child.communicate(timeout=60)
    if name == "hat":
        assert (child.returncode, out) == (0, "t was being rolled back: it is rolled back now\n")
    else:
        assert (child.returncode, out) == (1, "")
        assert "t was being rolled back: it is rollback_failed now" in err
    again = shell("cancel", "t")
    assert again.code == 1
    assert f"t had ended before: it is {'rolled_back' if name == 'hat' else 'rollback_failed'}" in again.err


def test_the_inbox_tells_the_error_of_an_undo_in_one_line(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(TRIP.replace("the desk is closed", "the desk\\nis closed"))
    shell("run", "trips:trip", '"stuck"', "--id", "t")
    shell("rollback", "t")
    shell("run", "trips:trip", '"stuck"', "--id", "t")
    for said in (shell("inbox"), shell("show", "t")):
        asked = said.out[said.out.index("  take#2 could not") :].splitlines()
        assert asked[0] == "  take#2 could not be undone: OSError: the desk is closed"
        assert asked[1].startswith("    (since ")


def test_without_a_worker_it_is_asked_for_and_one_that_comes_does_it(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(TRIP)
    shell("run", "trips:trip", '"hat"', "--id", "t")
    asked = shell("rollback", "t", "--reason", "ill", "--by", "ana")
    assert asked.code == 3
    assert "no live worker knows trip" in asked.out
    again = shell("rollback", "t")
    assert (again.code, "is being rolled back already" in again.err) == (1, True)
    done = shell("run", "trips:trip", '"hat"', "--id", "t")
    assert done.code == 1, "what was rolled back gave nothing"
    assert "gave back a hat\ngave back a bag" in done.out
    assert "t is rolled back" in done.err
    assert shell("show", "t", "--json").json["status"] == "rolled_back"


def test_what_cannot_be_undone_is_told_with_its_error(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(
        TRIP.replace("@checkpoint(undo=give_back)", "@checkpoint(undo=step(give_back))")
    )
    shell("run", "trips:trip", '"stuck"', "--id", "t")
    shell("rollback", "t")
    done = shell("run", "trips:trip", '"stuck"', "--id", "t")
    assert done.code == 1
    assert "take#2: OSError: the desk is closed" in done.err
    assert "gave back a bag" in done.out
    asked = shell("inbox", "--json").json
    assert "take#2 could not be undone" in str(asked)


def test_who_asked_for_it_is_unverified_and_nothing_is_told_before_it_is_so(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(TRIP)
    shell("run", "trips:trip", '"hat"', "--id", "t")
    shell("rollback", "t", "--to", "take#1", "--reason", "too big", "--by", "ana")
    asked = shell("audit", "t", "--json").json["moments"]
    assert [m["who"] for m in asked if m["what"] == "rollback asked" and m["via"] == "cli"] == ["ana"]
    assert "rolled back" not in {moment["what"] for moment in asked}
    told = shell("audit", "t").out
    assert "ana (unverified)" in told
    assert "wish        roll back to take#1 by ana: too big" in shell("show", "t").out
    shell("run", "trips:trip", '"hat"', "--id", "t")
    shown = shell("show", "t").out
    assert "wish        rolled back to take#1 by ana: too big" in shown
    assert "back to take#1, by ana: too big" in shown, "the history tells the order as JSON"
    assert "on: it was rolled back, what it did is undone" in shown
    with shell.worker("trips"):
        shell("watch", "t")
    moments = shell("audit", "t", "--json").json["moments"]
    verbs = ("rollback asked", "rollback begun", "rolled back")
    assert [(m["who"], m["via"]) for m in moments if m["what"] in verbs] == [("ana", "cli")] * 3
    assert shell("audit", "t").out.count("ana (unverified)") == 3
    read = list(csv.DictReader(io.StringIO(shell("audit", "t", "--csv").out)))
    assert [row["via"] for row in read if row["what"] in verbs] == ["cli"] * 3
    assert "wish        rolled back to take#1 by ana: too big" in shell("show", "t").out


def test_what_is_cancelled_is_undone_where_that_is_wanted(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(TRIP)
    for id in ("t", "u", "v"):
        shell("run", "trips:trip", '"hat"', "--id", id)
    alone = shell("cancel", "t", "--rollback")
    assert (alone.code, "nothing was changed: no live worker knows trip" in alone.err) == (1, True)
    assert shell("show", "t", "--json").json["status"] == "waiting"
    with shell.worker("trips"):
        done = shell("cancel", "t", "--rollback", "--reason", "ill", "--by", "ana")
        assert done.code == 0
        assert "Undone: take#2, take#1" in done.err
        shown = shell("show", "t", "--json").json
        assert (shown["status"], shown["wish_by"], shown["reason"]) == ("rolled_back", "ana", "ill")
        looked = shell("cancel", "--status", "waiting", "--rollback", "--dry-run")
        assert looked.out.split() == ["u", "v"] or looked.out.split() == ["v", "u"]
        assert "cancel --status waiting --rollback" in looked.err
        many = shell("cancel", "--status", "waiting", "--rollback", "--yes", "--json").json
        assert sorted(many["rolled back"]) == ["u", "v"]
        assert shell("cancel", "t", "--rollback").code == 1
    assert {row["status"] for row in shell("list", "--json").json["items"]} == {"rolled_back"}


def test_an_audit_of_what_was_undone_finds_what_does_not_fit_together(shell: Shell) -> None:
    (shell.folder / "trips.py").write_text(TRIP)
    shell("run", "trips:trip", '"hat"', "--id", "t")
    shell("rollback", "t", "--by", "ana")
    shell("run", "trips:trip", '"hat"', "--id", "t")
    told = shell("audit", "t", "--json")
    assert (told.code, told.json["faults"]) == (0, [])
    with closing(sqlite3.connect(shell.folder / "perdure.db")) as database, database:
        database.execute("delete from audit_events")
        database.execute("update rollback_actions set status = 'failed' where key = 'take#2'")
        database.execute("delete from step_executions where seq = 3")
    told = shell("audit", "t")
    assert told.code == 1
    for words in ("entry 3 is missing", "ana asked for this rollback, and no event", "the undo of take#2 in"):
        assert words in told.err
