"""`cancel`, `pause`, `resume` and `retry`, of one execution and of many."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure import Engine, Handle, PerdureError, Query, receive, workflow
from perdure.cli.filters import Filter
from perdure.cli.many import Manner, on_many
from perdure.cli.session import Session
from perdure.cli.steering import CANCEL

from .conftest import APP, Shell, read_until


def test_a_cancelled_execution_tells_who_and_why(shell: Shell) -> None:
    shell("run", "app:family", "--id", "x")
    assert shell("cancel", "x", "--reason", "too late", "--by", "ana").code == 0
    shown = shell("show", "x", "--json").json
    assert (shown["status"], shown["wish_by"], shown["wish_reason"]) == ("cancelled", "ana", "too late")
    assert shell("show", "x/fulfil#1", "--json").json["status"] == "cancelled"
    assert shell("cancel", "x").code == 0
    ran = shell("run", "app:family", "--id", "x")
    assert ran.code == 1
    assert "cancelled by ana: too late" in ran.err
    told = shell("audit", "x", "--json").json["moments"]
    assert [(m["who"], m["via"]) for m in told if m["what"] in ("cancel asked", "cancelled")] == [("ana", "cli")] * 2
    assert shell("audit", "x").out.count("ana (unverified)") == 2


def test_what_has_ended_cannot_be_cancelled(shell: Shell) -> None:
    shell("run", "app:add", "1", "--id", "x")
    said = shell("cancel", "x")
    assert said.code == 1
    assert "is completed" in said.err


@pytest.mark.parametrize("words", [["b"], ["--status", "blocked"], ["--status", "blocked", "--workflow", "fulfil"]])
def test_a_blocked_execution_goes_on_once_it_is_mended_and_resumed(shell: Shell, words: list[str]) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "b")
    shell("answer", "b", "here")
    (shell.folder / "app.py").write_text(APP.replace("    await note(item)\n", "    await sleep(0.001)\n"))
    blocked = shell("run", "app:fulfil", '"a lamp"', "--id", "b")
    assert blocked.code == 1
    assert "is blocked" in blocked.err
    assert "resume b" in blocked.err
    (shell.folder / "app.py").write_text(APP)
    assert shell("resume", "--status", "blocked", "--workflow", "other", "--json").json["resumed"] == []
    assert shell("resume", *words, "--json").json["resumed"] == ["b"]
    assert shell("run", "app:fulfil", '"a lamp"', "--id", "b", "--json").json["output"] == "a lamp to here"


def test_only_what_stands_still_is_resumed(shell: Shell) -> None:
    shell("run", "app:mail", "--id", "m")
    said = shell("resume", "m")
    assert said.code == 1
    assert "only a paused or blocked execution is resumed" in said.err
    assert shell("resume").code == 2
    assert shell("resume", "m", "--status", "blocked").code == 2


# pause and retry ------------------------------------------------------------------------------------------


def test_a_paused_execution_stands_still_until_it_is_resumed(shell: Shell) -> None:
    shell("run", "app:mail", "--id", "m")
    paused = shell("pause", "m", "--reason", "lunch", "--by", "ana")
    assert paused.code == 0
    shell("signal", "m", "letter", '"hi"')
    ran = shell("run", "app:mail", "--id", "m")
    assert ran.code == 3
    assert "m is paused by ana: lunch" in ran.out
    assert shell.paste(paused.err).code == 0
    assert shell("run", "app:mail", "--id", "m").out == '"hi"\n'
    late = shell("pause", "m")
    assert late.code == 1
    assert "is completed: it cannot be paused" in late.err


def test_a_running_step_is_recorded_before_its_execution_is_paused(shell: Shell) -> None:
    code = APP.replace(
        "    await asyncio.Event().wait()", "    while not Path('go').exists():\n        await asyncio.sleep(0.01)"
    )
    (shell.folder / "app.py").write_text(code)
    shell("start", "app:hangs", "--id", "h")
    with shell.running("worker", "app") as worker:
        read_until(worker.stdout, "hanging")
        with shell.running("pause", "h") as child:
            while shell("show", "h", "--json").json["wish"] != "pause":
                assert child.poll() is None
            (shell.folder / "go").touch()
            assert child.wait(60) == 0
    shown = shell("show", "h", "--json").json
    assert shown["status"] == "paused"
    assert [(entry["key"], entry["status"]) for entry in shown["history"]] == [("hang#1", "completed")]


def test_a_failed_execution_is_retried_once_its_code_is_mended(shell: Shell) -> None:
    shell("run", "app:fails", "7", "--id", "f")
    (shell.folder / "app.py").write_text(APP.replace('raise ValueError(f"cannot take {n}")', "return n"))
    shown = shell("show", "f")
    assert "retry f" in shown.err
    said = shell("retry", "f", "--json")
    assert (said.code, said.json["retried"]) == (0, ["f"])
    ran = shell("run", "app:fails", "7", "--id", "f")
    assert ran.out == "7\n"
    assert "1 done, last explode#1" in ran.err, "what is void counts as done"
    assert "void from entry 1 on: it failed, or came after what failed" in shell("show", "f").out
    again = shell("retry", "f")
    assert again.code == 1
    assert "only a failed execution is retried" in again.err


# Many -----------------------------------------------------------------------------------------------------


@pytest.fixture
def many(shell: Shell) -> Shell:
    """Three that wait, one of another workflow, one that has failed."""
    for n in range(3):
        shell("start", "app:mail", "--id", f"m{n}", "--by", "web:7" if n else "cron")
    shell("start", "app:order", "--id", "o", "--queue", "quick")
    shell("run", "app:fails", "1", "--id", "f")
    return shell


def statuses(shell: Shell) -> dict[str, str]:
    return {item["id"]: item["status"] for item in shell("list", "--json").json["items"]}


def test_a_dry_run_tells_which_and_changes_nothing(many: Shell) -> None:
    before = statuses(many)
    said = many("pause", "--workflow", "mail", "--dry-run", "--limit", "2")
    assert (said.code, said.out) == (0, "m2\nm1\n")
    assert statuses(many) == before
    assert many("pause", "--workflow", "mail", "--dry-run", "--json").json == {
        "paused": ["m2", "m1", "m0"],
        "refused": [],
        "dry_run": True,
    }
    assert many.paste(said.err).code == 0
    assert statuses(many) == {**before, "m2": "paused", "m1": "paused"}


def test_a_verb_reaches_exactly_what_the_filters_find(many: Shell) -> None:
    assert many("pause", "--workflow", "mail", "--started-by", "web:7", "--json").json["paused"] == ["m2", "m1"]
    assert many("resume", "--text", "M2").out == "m2 is resumed\n"
    assert many("cancel", "--queue", "quick", "--reason", "no", "--json").json["cancelled"] == ["o"]
    assert many("retry", "--status", "failed", "--since", "1h", "--json").json["retried"] == ["f"]
    assert statuses(many) == {"m0": "waiting", "m1": "paused", "m2": "pending", "o": "cancelled", "f": "pending"}
    nothing = many("retry", "--status", "failed")
    assert (nothing.code, nothing.out) == (0, "Nothing to retry: no such execution is failed.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cancel"], "which executions?"),
        (["cancel", "m0", "--workflow", "mail"], "not both"),
        (["pause", "m0", "--dry-run"], "not both"),
        (["resume", "--status", "completed"], "resume takes executions that are paused or blocked"),
        (["retry", "--status", "waiting"], "retry takes executions that are failed"),
        (["pause", "--attribute", "customer"], "write NAME=JSON"),
        (["pause", "--since", "yesterday"], "neither a time such as"),
    ],
)
def test_what_is_asked_of_many_is_said_in_full(shell: Shell, words: list[str], said: str) -> None:
    shell("run", "app:mail", "--id", "m0")
    refused = shell(*words)
    assert refused.code == 2
    assert said in refused.err


def test_on_a_terminal_several_are_asked_about(many: Shell) -> None:
    before = statuses(many)
    no = many.terminal("pause", "--workflow", "mail", typed="n\n")
    assert no.code == 1
    assert "Pause 3 executions?" in no.out
    assert "nothing was changed" in no.out
    assert statuses(many) == before
    assert many.terminal("pause", "--text", "m0").code == 0, "one is not asked about"
    assert many.terminal("pause", "--workflow", "mail", typed="y\n").code == 0
    assert many.terminal("resume", "--workflow", "mail", "--yes").code == 0
    assert {status for id, status in statuses(many).items() if id in ("m0", "m1", "m2")} <= {"pending", "waiting"}


def test_with_json_a_terminal_sees_json_alone(many: Shell) -> None:
    said = many.terminal("cancel", "--workflow", "mail", "--yes", "--json")
    assert sorted(json.loads(said.out)["cancelled"]) == ["m0", "m1", "m2"]


async def test_what_refuses_is_named_and_the_others_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    @workflow
    async def waits() -> None:
        await receive("letter")

    async def act(handle: Handle[Any]) -> None:
        if handle.id == "b":
            raise PerdureError("not this one")

    engine = Engine("memory://", worker=False, workflows=[waits])
    async with engine:
        for id in ("a", "b", "c"):
            await engine.start(waits.options(execution_id=id))
    engine = Engine(engine.store, worker=False, workflows=[waits])
    chosen = Filter(Query(workflow=waits.name), ("--workflow", waits.name))
    assert await on_many(Session(), engine, CANCEL, chosen, Manner(False, True, None), act) == 1
    said = capsys.readouterr()
    assert said.out == "c is cancelled\na is cancelled\n"
    assert "b is not cancelled: not this one" in said.err
    assert "2 of 3 cancelled." in said.err
