"""`run`, `start` and `worker`."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .conftest import Shell, read_until


def test_run_gives_the_result_alone_on_stdout(shell: Shell) -> None:
    said = shell("run", "app:total", '[[{"item": "lamp", "cents": 5}], 2, 3]')
    assert (said.code, said.out) == (0, "10\n"), said.err


def test_piped_output_is_plain(shell: Shell) -> None:
    for said in (
        shell("run", "app:add", "1"),
        shell("list"),
        shell("show", shell("list", "--json").json["items"][0]["id"]),
    ):
        assert said.code == 0
        assert not {"\x1b", "\r", "\x08"} & set(said.out + said.err)


def test_an_object_gives_arguments_by_name_and_anything_else_is_one_argument(shell: Shell) -> None:
    assert shell("run", "app:add", '{"b": 2, "a": 1}', "--json").json["output"] == 3
    assert shell("run", "app:add", "41", "--json").json["output"] == 42
    assert shell("run", "app:one", '{"order": {"item": "a", "cents": 1}}', "--json").json["output"]["cents"] == 1


def test_a_file_is_as_good_as_a_module(shell: Shell) -> None:
    (shell.folder / "sub").mkdir()
    (shell.folder / "app.py").rename(shell.folder / "sub" / "my-app.py")
    said = shell("run", "sub/my-app.py:add", "1")
    assert said.code == 0, said.err
    assert said.out.endswith("2\n")


@pytest.mark.parametrize(
    ("target", "arguments", "words"),
    [
        ("app:add", "[]", "missing a required argument: 'a'"),
        ("app:add", "[1, 2, 3]", "too many positional arguments"),
        ("app:add", '{"a": 1, "c": 1}', "unexpected keyword argument 'c'"),
        ("app:add", '"x"', "argument 'a': it does not fit int"),
        ("app:total", '[[{"item": "x"}]]', "cents"),
        ("app:one", '{"item": "x", "cents": 1}', "'[{...}]'"),
        ("app:add", "NaN", "this is not JSON"),
        ("app:add", "[1", "this is not JSON"),
        ("app:fulfil", "lamp", "A text is written in quotes: '\"lamp\"'"),
    ],
)
def test_wrong_arguments_are_refused_in_words(shell: Shell, target: str, arguments: str, words: str) -> None:
    said = shell("run", target, arguments)
    assert said.code == 2
    assert words in said.err
    assert "Traceback" not in said.err
    if "not JSON" not in said.err:
        assert f"Its signature: {target.partition(':')[2]}(" in said.err
    assert not (shell.folder / "perdure.db").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("app:nope", "app has: add, anything, elsewhere"),
        ("app:note", "app:note is no workflow: mark it with @workflow"),
        ("app", "which workflow? app has:"),
        ("nope:add", "there is no module 'nope'"),
        ("app.nope:add", "there is no module 'app.nope'"),
        ("nope.py:add", "there is no file nope.py. Python files here: app.py"),
        ("not a module:add", "is no name of a module"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(shell: Shell, target: str, words: str) -> None:
    said = shell("run", target)
    assert said.code == 2
    assert words in said.err
    assert "Traceback" not in said.err


def test_a_module_that_cannot_be_imported_shows_its_own_lines_only(shell: Shell) -> None:
    (shell.folder / "broken.py").write_text("import app\n1 / 0\n")
    (shell.folder / "lacks.py").write_text("import no_such_thing\n")
    broken, lacks = shell("run", "broken:x"), shell("worker", "lacks")
    assert (broken.code, lacks.code) == (1, 1)
    assert 'broken.py", line 2' in broken.err
    assert "ZeroDivisionError" in broken.err
    assert "perdure/cli" not in broken.err
    assert "No module named 'no_such_thing'" in lacks.err
    assert "lacks.py, line 1" in lacks.err


def test_what_waits_is_answered_by_the_command_shown_and_goes_on(shell: Shell) -> None:
    waiting = shell("run", "app:fulfil", '"a lamp"', "--id", "order-42")
    assert waiting.code == 3, waiting.err
    assert "order-42 is started: fulfil" in waiting.err
    assert "Where to?" in waiting.out
    assert shell.paste(waiting.out).code == 0
    done = shell("run", "app:fulfil", '"a lamp"', "--id", "order-42")
    assert "order-42 goes on: fulfil" in done.err
    assert (done.code, done.out) == (0, '"a lamp to ..."\n'), done.err
    assert shell.ledger() == ["a lamp"]


def test_a_worker_goes_on_with_what_another_process_began(shell: Shell) -> None:
    assert shell("start", "app:fulfil", '"a lamp"', "--id", "order-42").out == "order-42\n"
    assert not (shell.folder / "ledger.txt").exists()
    with shell.worker():
        assert shell("watch", "order-42").code == 3
        assert shell("answer", "order-42", "Main Street").code == 0
        watched = shell("watch", "order-42")
    assert watched.code == 0
    assert watched.out.endswith('"a lamp to Main Street"\n')
    assert shell.ledger() == ["a lamp"]


def test_time_alone_is_waited_for(shell: Shell) -> None:
    said = shell("run", "app:naps")
    assert (said.code, said.out) == (0, '"rested"\n')
    assert "waits until" in said.err


def test_a_message_is_waited_for_by_somebody_else(shell: Shell) -> None:
    said = shell("run", "app:mail", "--id", "m")
    assert said.code == 3
    assert "signal m NAME JSON" in said.out


def test_a_failed_execution_shows_where_in_the_users_code(shell: Shell) -> None:
    failed = shell("run", "app:fails", "7", "--id", "f")
    assert failed.code == 1
    assert "ValueError: cannot take 7" in failed.err
    assert "Traceback" not in failed.err
    shown = shell("show", "f")
    assert shown.code == 0
    assert "In explode#1, attempt 1:" in shown.out
    assert 'raise ValueError(f"cannot take {n}")' in shown.out
    assert "In the workflow fails:" in shown.out


def test_failed_attempts_are_shown_with_their_errors(shell: Shell) -> None:
    assert shell("run", "app:retries", "--id", "r").code == 1
    history = shell("show", "r").out
    assert "attempt 1 failed" in history
    assert history.count("OSError: nobody there") >= 3


def test_watch_shows_each_entry_and_in_json_each_is_a_line(shell: Shell) -> None:
    assert "note#1  completed" in shell("run", "app:add", "1", "--watch").out
    lines = shell("run", "app:add", "1", "--watch", "--json").lines
    assert [line["event"] for line in lines] == ["entry", "outcome"]
    assert (lines[0]["key"], lines[1]["output"]) == ("note#1", 2)


def test_prints_of_the_users_code_stay_out_of_json(shell: Shell) -> None:
    said = shell("run", "app:add", "1", "--json")
    assert said.json["status"] == "completed"
    assert "note 1+1" in said.err
    assert "note 1+1" in shell("run", "app:add", "1").out


def test_at_the_keyboard_an_answer_that_does_not_fit_is_asked_again(shell: Shell) -> None:
    said = shell(
        "run", "app:order", "--interactive", "--by", "ana", stdin='x\n{"item": "x"}\n{"item": "x", "cents": 1}\n'
    )
    assert (said.code, said.out) == (0, '{"item": "x", "cents": 1}\n'), said.err
    assert "this is not JSON" in said.err
    assert "'cents' is missing" in said.err
    assert shell("run", "app:order", "--interactive").code == 3


def test_in_memory_nothing_is_left_behind(shell: Shell) -> None:
    done, waits, fails = (
        shell("--db", "memory://", "run", *words) for words in (["app:add", "1"], ["app:order"], ["app:fails", "1"])
    )
    assert (done.code, waits.code, fails.code) == (0, 3, 1)
    assert "ends with this process" in waits.err
    assert "perdure" not in waits.out  # no command could answer it
    assert "raise ValueError" in fails.out
    assert {path.name for path in shell.folder.iterdir()} == {"app.py", "ledger.txt"}


def test_an_interrupted_run_keeps_the_execution_and_says_how_to_go_on(shell: Shell) -> None:
    with shell.running("run", "app:hangs", "--id", "h") as child:
        read_until(child.stdout, "hanging")
        child.send_signal(signal.SIGINT)
        said = read_until(child.stderr, "run app:hangs --id h")
        child.send_signal(signal.SIGINT)  # the step would have 10 s more
        assert child.wait(60) == 130
    assert "h is kept" in said
    assert "worker app" in said
    assert shell("list", "--json").json["items"][0]["status"] in ("running", "pending")


def test_an_ended_execution_is_not_run_again(shell: Shell) -> None:
    assert shell("run", "app:add", "1", "--id", "x").code == 0
    again, other = shell("run", "app:add", "1", "--id", "x"), shell("run", "app:add", "2", "--id", "x")
    assert (again.code, again.out) == (0, "2\n")
    assert other.code == 1
    assert "exists with another input" in other.err
    assert shell.ledger() == ["1+1"]


# Workers --------------------------------------------------------------------------------------------------


def test_a_worker_says_what_it_runs_and_what_it_does_not(shell: Shell) -> None:
    with shell.worker() as said:
        shown = shell("start", "app:elsewhere", "--json").json
    assert "fulfil (version 1)" in said
    assert "elsewhere (version 1)   (its queue 'slow' is not served here)" in said
    assert "none of them serves its queue 'slow'" in shown["nobody_runs_it"]


def test_a_worker_serves_the_queues_it_is_told_to(shell: Shell) -> None:
    started = shell("start", "app:elsewhere", "--id", "e")
    assert started.code == 0
    assert started.err.endswith("worker app --queues slow\n"), "the hint is of a worker that would run it"
    for words in (("show", started.out.strip()), ("signal", started.out.strip(), "letter")):
        assert "worker MODULE --queues slow\n" in shell(*words).err
    with shell.worker("app", "--queues", "default,slow", "--concurrency", "2") as said:
        assert shell("watch", "e").code == 0
    assert "default, slow; up to 2 executions" in said


def test_a_queue_with_a_limit_runs_no_more_at_once(shell: Shell) -> None:
    for id in ("h1", "h2"):
        shell("start", "app:hangs", "--id", id, "--queue", "emails")
    with shell.running("worker", "app", "--queues", "emails:1,default") as child:
        said = read_until(child.stdout, "Ctrl-C stops it.")
        read_until(child.stdout, "hanging")
        # Younger than h2, so that h2 was passed over for its queue's sake.
        assert shell("start", "app:add", "1", "--id", "a").code == 0
        assert shell("watch", "a").code == 0
        statuses = {item["id"]: item["status"] for item in shell("list", "--json").json["items"]}
    assert "emails (at most 1 at once), default; up to 100 executions" in said
    assert statuses == {"h1": "running", "h2": "pending", "a": "completed"}


def test_a_queue_that_is_only_named_has_the_limits_that_the_module_gives_it(shell: Shell) -> None:
    (shell.folder / "limited.py").write_text(
        "from app import add\nfrom perdure import Queue\nemails = Queue('emails', concurrency=3, per='customer')\n"
    )
    (shell.folder / "unlike.py").write_text("from limited import *\nmore = Queue('emails', concurrency=4)\n")
    with shell.worker("limited", "--queues", "emails,default") as said:
        pass
    assert "emails (at most 3 at once, for each customer), default; up to 100" in said
    with shell.worker("limited", "--queues", "emails:1,default") as told:
        pass
    assert "emails (at most 1 at once), default; up to 100" in told, "what the command line says goes first"
    unlike = shell("worker", "unlike", "--queues", "emails")
    assert unlike.code == 2
    assert "two queues 'emails'" in unlike.err


@pytest.mark.parametrize("queues", ["emails:0", "emails:x", ":3", "a,a:2", ","])
def test_queues_that_make_no_sense_are_a_usage_error(shell: Shell, queues: str) -> None:
    said = shell("worker", "app", "--queues", queues)
    assert said.code == 2
    assert "--queues" in said.err
    assert not (shell.folder / "perdure.db").exists()


def test_run_serves_the_queue_of_its_workflow(shell: Shell) -> None:
    assert shell("run", "app:elsewhere").code == 0


def test_a_worker_takes_an_engine_a_maker_or_a_list(shell: Shell) -> None:
    (shell.folder / "apps.py").write_text(
        "from perdure import Engine\nfrom app import add, mail\n"
        "engine = Engine('sqlite:///other.db', workflows=[add])\n"
        "def make():\n    return Engine('sqlite:///other.db', workflows=[mail])\n"
        "some = [add, mail]\nwrong = 5\n"
    )
    with shell.worker("apps:engine") as engine, shell.worker("apps:make") as made, shell.worker("apps:some") as some:
        pass
    assert "other.db" in engine
    assert ("add" in engine, "mail" in engine) == (True, False)
    assert ("add" in made, "mail" in made) == (False, True)
    assert "perdure.db" in some
    assert ("add" in some, "mail" in some, "fulfil" in some) == (True, True, False)
    assert shell("worker", "apps:wrong").code == 2
    assert shell("worker", "apps:none").code == 2
    assert shell("worker", "apps:engine", "--queues", "x").code == 2


def test_a_worker_without_workflows_does_not_begin(shell: Shell) -> None:
    (shell.folder / "empty.py").write_text("")
    said = shell("worker", "empty")
    assert said.code == 2
    assert "mark an `async def` with @workflow" in said.err


@pytest.mark.parametrize("words", [["start", "app:mail"], ["worker", "app"]])
def test_memory_is_no_store_to_share(shell: Shell, words: list[str]) -> None:
    said = shell(*words, "--db", "memory://")
    assert said.code == 1
    assert "no other process can look at it" in said.err


# The store ------------------------------------------------------------------------------------------------


def test_the_database_is_found_where_it_is_named(shell: Shell, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / ".env").write_text(f"DATABASE_URL=sqlite:///{tmp_path}/env.db\n")
    assert shell("run", "../app.py:add", "1", cwd=below).code == 0
    assert (tmp_path / "env.db").exists()
    variable = {"PERDURE_DATABASE_URL": f"sqlite:///{tmp_path}/variable.db"}
    assert shell("run", "app:add", "1", **variable).code == 0
    assert (tmp_path / "variable.db").exists()
    assert shell("--db", "sqlite:///before.db", "run", "app:add", "1", **variable).code == 0
    assert shell("run", "app:add", "1", "--db", "sqlite:///after.db", **variable).code == 0
    assert (tmp_path / "before.db").exists()
    assert (tmp_path / "after.db").exists()
