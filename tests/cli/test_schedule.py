"""`schedule`: add, list, pause, resume, remove; and what a worker makes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from .conftest import Shell

NIGHTLY = ["schedule", "add", "nightly", "app:add", "0 2 * * *", "[41]", "--timezone", "Europe/Berlin"]


def test_a_schedule_is_added_listed_and_changed_by_its_name(shell: Shell) -> None:
    added = shell(*NIGHTLY, "--overlap", "allow", "--backfill", "--json").json
    assert "no live worker knows add" in added["nobody_runs_it"]
    view = added["schedule"]
    assert (view["workflow"], view["overlap"], view["backfill"], view["paused"]) == ("add", "allow", True, False)
    assert datetime.fromisoformat(view["next_at"]) > datetime.now(UTC)
    assert shell("schedule", "list", "--json").json["items"] == [view]
    assert shell("schedule", "add", "nightly", "app:add", "0 3 * * *", "[1]").code == 0
    [changed] = shell("schedule", "list", "--json").json["items"]
    assert (changed["cron"], changed["overlap"]) == ("0 3 * * *", "skip")


def test_a_paused_schedule_has_no_next_time_until_it_is_resumed(shell: Shell) -> None:
    shell(*NIGHTLY)
    paused = shell("schedule", "pause", "nightly")
    assert paused.code == 0
    assert shell("schedule", "list").out.splitlines()[1].split()[-1] == "paused"
    assert shell.paste(paused.err).code == 0
    assert shell("schedule", "list", "--json").json["items"][0]["paused"] is False


def test_a_removed_schedule_is_gone(shell: Shell) -> None:
    shell(*NIGHTLY)
    assert shell("schedule", "remove", "nightly", "--json").json == {"removed": "nightly"}
    assert shell("schedule", "list").out == "No schedules.\n"
    for verb in ("pause", "resume", "remove"):
        said = shell("schedule", verb, "nightly")
        assert said.code == 1
        assert "there is no schedule nightly" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["n", "app:add", "every day", "[1]"], "is no cron expression"),
        (["n", "app:add", "0 2 * * *", "[1]", "--timezone", "Mars/Base"], "is no time zone"),
        (["n", "app:add", "0 2 * * *"], "missing a required argument: 'a'"),
        (["n", "app:nope", "0 2 * * *"], "app has: add"),
        (["n", "app:add", "0 2 * * *", "[1]", "--overlap", "never"], "skip"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(shell: Shell, words: list[str], said: str) -> None:
    refused = shell("schedule", "add", *words)
    assert refused.code == 2
    assert said in refused.err
    assert "Traceback" not in refused.err


def test_a_worker_says_which_schedules_it_keeps(shell: Shell) -> None:
    shell(*NIGHTLY)
    shell("schedule", "add", "weekly", "app:mail", "0 2 * * 0")
    shell("schedule", "pause", "weekly")
    (shell.folder / "apps.py").write_text("from app import add\nsome = [add]\n")
    with shell.worker("apps:some") as said:
        added = shell(*NIGHTLY, "--json").json
    assert "nightly: 0 2 * * * (Europe/Berlin), next 20" in said
    assert "weekly: 0 2 * * 0 (UTC), paused   (mail (version 1) is not run here)" in said
    assert added["nobody_runs_it"] is None
