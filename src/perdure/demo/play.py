"""The process that starts workers, kills one of them, asks the question and shows what happened."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

from perdure import Completed, Engine, Waiting
from perdure.demo import audit, ledger
from perdure.demo.flow import AT_ONCE, PAUSE, Ruling, audit_licences, inspect_distribution
from perdure.demo.proof import in_flight, prove
from perdure.demo.stage import EXECUTION, Failure, Stage, tail
from perdure.demo.tell import command, heading, say, show_commands, show_proof, show_report

PATIENCE = 60.0
LOOK = 0.005
RULINGS: dict[str, Ruling] = {"a": "accept", "r": "reject", "": "open", "o": "open"}


@click.command()
@click.option("--yes", is_flag=True, help="Accept every licence in question instead of asking.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("perdure-demo"),
    show_default=True,
    help="Where the database, the ledger and the report go.",
)
def main(yes: bool, folder: Path) -> None:
    """Audit the licences of the installed distributions, with a worker killed in the middle of it."""
    stage = Stage(folder)
    try:
        status = play(stage, yes=yes)
    except Failure as failure:
        click.echo(f"\nThe demo cannot go on: {failure}", err=True)
        status = 1
    except KeyboardInterrupt:
        click.echo("\nStopped. What was recorded is kept; the next demo starts afresh.", err=True)
        status = 130
    finally:
        stage.end()
    sys.exit(status)


def play(stage: Stage, *, yes: bool) -> int:
    started = time.monotonic()
    names = audit.installed()
    say("Perdure: a licence audit that outlives its worker")
    stage.clear()
    asyncio.run(submit(stage, names))
    heading("1. A worker starts, and is killed in the middle")
    say(f"{len(names)} distributions are installed here; the audit takes one step for each, {AT_ONCE} at a time.")
    padding = f"{PAUSE * 1000:.0f} ms"
    say(f"(A step reads files for a millisecond or two, then pauses for about {padding} to be worth killing.)")
    killed, recorded_before = kill_in_the_middle(stage, len(names))
    heading("2. Another worker goes on")
    killed_at = time.time()
    child = stage.start_worker()
    say(f"worker 2 started: pid {child.pid}")
    requests, recorded = asyncio.run(until_it_waits_or_ends(stage))
    lines = ledger.read(stage.ledger)
    first = min((line.at for line in lines if line.pid == child.pid), default=killed_at)
    say(f"Its first step entered {first - killed_at:.2f} s after the kill, most of which is Python's own start.")
    heading("3. What ran, and what was recorded")
    proof = prove(lines, recorded, recorded_before, killed.pid)
    show_proof(stage, proof, killed.pid)
    answered = True
    for request in requests:
        heading("4. A question for a person")
        answered = ask(stage, request, yes=yes)
    if not answered:
        return 3
    heading("5. The report")
    text = asyncio.run(result(stage))
    stage.report.write_text(text)
    stage.let_end(child)
    show_report(stage, text)
    heading("6. Look at it yourself")
    show_commands(stage)
    say()
    say(f"Done in {time.monotonic() - started:.1f} s.")
    return 1 if proof.broken else 0


async def submit(stage: Stage, names: list[str]) -> None:
    """Start the execution from here, where no worker is: it is a row that waits for one."""
    async with Engine(stage.url, worker=False, workflows=[audit_licences]) as engine:
        await engine.start(audit_licences.options(execution_id=EXECUTION, by=person()), names)


def kill_in_the_middle(stage: Stage, steps: int) -> tuple[subprocess.Popen[bytes], list[str]]:
    """Run worker 1 until about a third of the steps is done and others are under way; then SIGKILL."""
    child = stage.start_worker()
    say(f"worker 1 started: pid {child.pid}")
    patience = time.monotonic() + PATIENCE
    while True:
        lines = ledger.read(stage.ledger)
        done = sum(line.what == "leave" for line in lines)
        if done >= steps / 3 and in_flight(lines):
            break
        if child.poll() is not None or time.monotonic() > patience:
            raise Failure(f"worker 1 did not get to a third of its steps.\n{tail(stage.log(1))}")
        time.sleep(LOOK)
    os.kill(child.pid, signal.SIGKILL)
    status = child.wait()
    under_way = in_flight(ledger.read(stage.ledger))
    say(f"kill -9 {child.pid}: {done} of {steps} steps are done, {len(under_way)} are under way: ", end="")
    say(", ".join(under_way.values()))
    if status != -signal.SIGKILL:
        raise Failure(f"worker 1 ended with status {status}, not by SIGKILL.\n{tail(stage.log(1))}")
    say(f"The system confirms: pid {child.pid} ended by signal {-status} ({signal.Signals(-status).name}).")
    return child, asyncio.run(recorded_keys(stage))


async def recorded_keys(stage: Stage) -> list[str]:
    """The keys of the inspections whose outcome is in the store, each as often as it is there."""
    async with Engine(stage.url, worker=False, workflows=[audit_licences]) as engine:
        return await _recorded(engine)


async def _recorded(engine: Engine) -> list[str]:
    name = inspect_distribution.name
    history = await engine.get(EXECUTION).history()
    return [entry.key for entry in history if entry.name == name and entry.status == "completed"]


@dataclass(frozen=True)
class Question:
    """An open request, as far as it is needed here."""

    id: str
    message: str
    details: list[dict[str, str]]


async def until_it_waits_or_ends(stage: Stage) -> tuple[list[Question], list[str]]:
    """The open questions, and the recorded inspections, once worker 2 has got that far."""
    async with Engine(stage.url, worker=False, workflows=[audit_licences]) as engine:
        outcome = await engine.get(EXECUTION).outcome(timeout=PATIENCE)
        match outcome:
            case Waiting(requests=requests):
                questions = [Question(r.id, r.message, r.details) for r in requests]
            case Completed():
                questions = []
            case _:
                raise Failure(f"the execution is not waiting: {outcome}\n{tail(stage.log(2))}")
        return questions, await _recorded(engine)


def ask(stage: Stage, question: Question, *, yes: bool) -> bool:
    """Get the answer from the person at the terminal. False if there is none for now."""
    say(question.message)
    say("(It is a row in the database. It could wait for weeks, with no process running at all.)")
    say()
    names = [item["name"] for item in question.details]
    for item in question.details:
        say(f"  {item['name']}: {item['verdict']}, {item['reason']}")
    say()
    if yes:
        rulings: dict[str, Ruling] = dict.fromkeys(names, "accept")
        say("--yes: all accepted.")
    elif not sys.stdin.isatty():
        rulings = dict.fromkeys(names, "open")
        say("No terminal, so there is nobody to ask: all left open. (--yes accepts all.)")
    else:
        try:
            rulings = {name: prompt(name) for name in names}
        except (KeyboardInterrupt, EOFError):
            say()
            say("No answer now. The execution waits; answer it and let a worker finish it whenever you like:")
            example = '{"' + names[0] + '": "accept"}'
            command(stage, "answer", question.id, example)
            command(stage, "worker", "perdure.demo.flow")
            return False
    asyncio.run(answer(stage, question.id, rulings))
    return True


def prompt(name: str) -> Ruling:
    while True:
        letter = input(f"  {name}: [a]ccept, [r]eject, or Enter to leave it open? ").strip().lower()[:1]
        if letter in RULINGS:
            return RULINGS[letter]


async def answer(stage: Stage, request_id: str, rulings: dict[str, Ruling]) -> None:
    async with Engine(stage.url, worker=False, workflows=[audit_licences]) as engine:
        await engine.answer(request_id, rulings, by=person())


async def result(stage: Stage) -> str:
    async with Engine(stage.url, worker=False, workflows=[audit_licences]) as engine:
        return str(await engine.get(EXECUTION).result(timeout=PATIENCE))


def person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
