"""The process that is killed: an engine, and the world around it.

    python -m tests.crash.host URL EXECUTION... [--flow NAME | --file FILE:NAME] [--kill after:12] ...
    python -m tests.crash.host --serve

It starts the executions (as if for the first time, unless a start was acknowledged), answers what they ask (the same
answer to the same question, always), sends them their signals, waits for their ends, and prints these as JSON.
`--serve` runs jobs that come as JSON lines, each in a forked process of its own, one after another.

It logs to stderr, one JSON object a line, with the types of errors.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from perdure import AlreadyDecidedError, Engine, OpenRequest, Query, RollbackFailed, Workflow
from perdure.journal import ROLLBACK, UNDO
from perdure.records import ENDED
from perdure.stores import files_disk
from tests.crash import flows, ledger, undone
from tests.crash.plants import PLANTS

LOOK = 0.02
"""Seconds between two looks at what is asked."""


@dataclass
class Job:
    """What a host is told.

    kill: before, after or during (sent, not answered) `:` the how-many-th boundary; or what befalls the how-many-th
        access to the disk, see `DiskKiller`.
    of: which count as boundaries: `any` write; `writes`, those for executions; `entries`, commits to a journal;
        `rollback`, any from the one on that begins a rollback.
    dead: processes whose workers are declared dead at once.
    cancel: cancel what is started. resume: it is blocked, let it go on. mend: let all go on that are blocked.
    then: started once all others have ended.
    patience: seconds, then it gives up.
    """

    url: str
    executions: list[str]
    flow: str = "everything"
    file: str | None = None
    argument: str | None = None
    kill: str | None = None
    of: str = "any"
    lease: float = 15.0
    poll: float = 0.05
    queue: str = "default"
    dead: list[int] = field(default_factory=list)
    cancel: bool = False
    mend: bool = False
    then: str | None = None
    resume: bool = False
    plant: str | None = None
    patience: float = 60.0
    out: str | None = None
    err: str | None = None


# Boundaries ----------------------------------------------------------------------------------------------------


WRITES = ("open", "register", "deliver", "release", "declare_dead")
"""The verbs of a store that write, besides `claim` and `commit`."""


def begins_rollback(batch: Any) -> bool:
    """Is an order in it to roll back, or has it begun?"""
    return any(entry.kind in (ROLLBACK, UNDO) for entry in batch.entries)


class Killer:
    """Counts the writes of a store, and kills this process at one of them."""

    def __init__(self, store: Any, when: str, at: int, of: str) -> None:
        self.store = store
        self.when, self.at, self.of = when, at, of
        self.count = 0
        self.begun = of != "rollback"
        named = {"writes": ("deliver",), "entries": ()}
        for name in named.get(of, WRITES):
            self._wrap(name)
        self._wrap_claim()
        self._wrap_commit()

    def _here(self, counts: bool = True) -> bool:
        counts = counts and self.begun
        self.count += counts
        return counts and self.count == self.at

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _wrap(self, name: str) -> None:
        real = getattr(self.store, name)

        async def verb(*given: Any, **named: Any) -> Any:
            here = self._here()
            if here and self.when != "after":
                self._die()
            result = await real(*given, **named)
            if here:
                self._die()
            return result

        setattr(self.store, name, verb)

    def _wrap_claim(self) -> None:
        """Only a claim that took something is a boundary; before it is after the one before."""
        if self.of not in ("any", "rollback"):
            return
        real = self.store.claim

        async def claim(*given: Any, **named: Any) -> Any:
            rows = await real(*given, **named)
            if self._here(bool(rows)):
                self._die()
            return rows

        self.store.claim = claim

    def _wrap_commit(self) -> None:
        real = self.store.commit

        def counts(batch: Any) -> bool:
            self.begun = self.begun or begins_rollback(batch)
            return self.of != "entries" or bool(batch.entries)

        def commit(batch: Any) -> Any:
            here = self._here(counts(batch))
            if here and self.when != "after":
                self._die()
            verdicts = real(batch)
            if here:
                self._die()
            return verdicts

        async def commit_at_server(batch: Any) -> Any:
            here = self._here(counts(batch))
            if here and self.when == "before":
                self._die()
            answer = real(batch)
            if here and self.when == "during":
                answer.send(None)
                self._die()
            verdicts = await answer
            if here:
                self._die()
            return verdicts

        self.store.commit = commit if self.store.inline else commit_at_server


DISK = ("write", "torn", "short", "zeros", "sync", "lost")


class DiskKiller:
    """Counts the accesses of a folder of files to the disk, and kills this process at one of them.

    write: before the write. torn, short: some of it, or all but the last byte, was written. zeros: the file has grown
    by it, its bytes never came. sync: it is written and not flushed. lost: as if it had never been written.
    """

    def __init__(self, how: str, at: int) -> None:
        self.how, self.at = how, at
        self.count = 0
        self._write, self._sync = files_disk.write, files_disk.sync
        self._last: tuple[int, int] | None = None
        files_disk.write, files_disk.sync = self.write, self.sync

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        if self.how not in ("sync", "lost"):
            self.count += 1
            if self.count == self.at:
                part = {"write": b"", "torn": data[: len(data) // 3], "short": data[:-1], "zeros": bytes(len(data))}
                self._write(descriptor, part[self.how], at)
                os.kill(os.getpid(), signal.SIGKILL)
        self._last = descriptor, os.fstat(descriptor).st_size
        self._write(descriptor, data, at)

    def sync(self, descriptor: int) -> None:
        if self.how in ("sync", "lost"):
            self.count += 1
            if self.count == self.at:
                if self.how == "lost" and self._last is not None and self._last[0] == descriptor:
                    os.ftruncate(*self._last)
                os.kill(os.getpid(), signal.SIGKILL)
        self._sync(descriptor)


# The world -----------------------------------------------------------------------------------------------------


def answer_to(request: OpenRequest, root: str) -> Any:
    """The same question has the same answer, in the execution `root` and in any other; different ones differ."""
    name = f"{request.key} of {request.execution_id.removeprefix(root) or 'it'}"
    match json.loads(request.schema or "{}").get("type"):
        case "integer":
            return sum(name.encode()) % 1000
        case "string":
            return name
        case "array":
            return [len(name), 1]
    return {"verdict": "yes", "limit": len(name)}


class World:
    """What is outside of the executions. What it was told has happened, it does not do again."""

    def __init__(self, engine: Engine, job: Job, workflow: Workflow[..., Any]) -> None:
        self.engine = engine
        self.job = job
        self.workflow = workflow
        lines = ledger.here() if ledger.VARIABLE in os.environ else []
        self.done = {(line.execution, line.key) for line in lines if line.what == ledger.ACK}
        self.pulses = {line.execution for line in lines if line.what == ledger.ENTER and line.key == "pulse#3"}

    def ack(self, execution: str, key: str, value: str = "") -> None:
        self.done.add((execution, key))
        if ledger.VARIABLE in os.environ:
            ledger.write(ledger.ACK, execution, key, value)

    async def start(self, id: str) -> None:
        if (id, "start") not in self.done:
            given = json.loads(self.job.argument) if self.job.argument is not None else 1
            await self.engine.start(self.workflow.options(execution_id=id, queue=self.job.queue), given)
            self.ack(id, "start")

    async def signals(self, id: str) -> None:
        for n in (1, 2, 3):
            if self.workflow in (flows.everything, flows.compact) and (id, f"signal {n}") not in self.done:
                await self.engine.get(id).signal("note", n, id=f"s{n}")
                self.ack(id, f"signal {n}", str(n))

    async def answers(self) -> None:
        """Answer until cancelled."""
        while True:
            for request in await self.engine.requests():
                root = next((i for i in self.job.executions if f"{request.execution_id}/".startswith(f"{i}/")), None)
                wanted = request.kind == "input" and not request.message.startswith("nobody")
                if root and wanted and (request.id, "answer") not in self.done:
                    await self.answer(request, answer_to(request, root))
            await asyncio.sleep(LOOK)

    async def answer(self, request: OpenRequest, value: Any) -> None:
        try:
            await self.engine.answer(request.id, value, by="world")
        except AlreadyDecidedError:
            return  # its execution ended, or withdrew it
        self.ack(request.id, "answer", json.dumps(value))

    async def cancels(self, id: str) -> None:
        """Cancel once it is well under way; if that was recorded already, only wait for it."""
        handle = self.engine.get(id)
        while not self.pulses & {line.execution for line in ledger.here() if line.execution.startswith(id)}:
            lines = ledger.here()
            self.pulses = {line.execution for line in lines if line.what == ledger.ENTER and line.key == "pulse#9"}
            await asyncio.sleep(LOOK)
        if (await handle.row()).wish is None:
            await handle.cancel(reason="enough", by="world")
            self.ack(id, "cancel")

    async def settles(self, id: str) -> None:
        """What could not be undone, a person has undone by hand, and says so."""
        handle = self.engine.get(id)
        while isinstance(outcome := await handle.outcome(), RollbackFailed):
            for request in await handle.requests():
                errors = {key: [type(error).__name__, str(error)] for key, error in outcome.undo_errors.items()}
                cause = [type(outcome.error).__name__, str(outcome.error)]
                ledger.write(undone.STUCK, id, request.key, json.dumps([await handle.status(), cause, errors]))
                with suppress(AlreadyDecidedError):
                    await self.engine.resolve(request.id, "done", by="bo")

    async def one(self, id: str) -> dict[str, Any]:
        await self.start(id)
        await self.signals(id)
        if self.job.cancel and (id, "cancel") not in self.done:
            await self.cancels(id)
        handle = self.engine.get(id)
        if self.job.resume:
            await handle.resume(by="world")
        if self.workflow is undone.journey:
            await self.settles(id)
        found: dict[str, Any] = {"id": id}
        try:
            found["value"] = await handle.result()
        except Exception as error:
            found["error"] = [type(error).__name__, str(error)]
        row = await handle.row()
        if row.status in ENDED:
            self.ack(id, "result", json.dumps(found.get("value", found.get("error"))))
        with suppress(TimeoutError):  # the promises tell then
            async with asyncio.timeout(5.0):
                while await self.engine.store.tree(id):
                    await asyncio.sleep(LOOK)
        return {**found, "status": str(row.status)}


async def play(job: Job) -> list[dict[str, Any]]:
    workflow, workflows = flows_of(job)
    engine = Engine(job.url, workflows=workflows, queues=[job.queue], lease=job.lease, poll=job.poll)
    killer: Killer | DiskKiller | None = None
    if job.kill is not None:
        when, _, at = job.kill.partition(":")
        killer = DiskKiller(when, int(at)) if when in DISK else Killer(engine.store, when, int(at), job.of)
    if job.plant is not None:
        PLANTS[job.plant](engine)
    async with asyncio.timeout(job.patience), engine:
        await bury(engine, job.dead)
        if job.mend:
            await engine.resume(Query(status="blocked"))
        world = World(engine, job, workflow)
        answering = asyncio.create_task(world.answers())
        ones: asyncio.Future[list[dict[str, Any]]] = asyncio.gather(*[world.one(id) for id in job.executions])
        both: list[asyncio.Future[Any]] = [answering, ones]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not ones.done():
            await answering
        answering.cancel()
        await asyncio.wait([answering])
        results = await ones
        if job.then is not None:
            results.append(await world.one(job.then))
    if killer is not None:
        results.append({"boundaries": killer.count})
    return results


async def bury(engine: Engine, dead: Sequence[int]) -> None:
    """Whoever killed these processes knows that they are dead: no need to wait for their leases."""
    if dead:
        for row in await engine.store.workers():
            if row.pid in dead:
                await engine.store.declare_dead(row.id, anyway=True)
        assert engine.worker is not None
        engine.worker.poke()


def flows_of(job: Job) -> tuple[Workflow[..., Any], list[Workflow[..., Any]]]:
    """The workflow that is started, and all that may run."""
    for known in undone.FLOWS:
        if known.name == job.flow:
            return known, undone.FLOWS
    if job.file is None:
        return getattr(flows, job.flow), flows.FLOWS
    spec = importlib.util.spec_from_file_location("crash_flow", job.file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = getattr(module, job.flow)
    return made, [made]


# Running -------------------------------------------------------------------------------------------------------


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        given = record.args if isinstance(record.args, tuple) else ()
        errors = [type(arg).__name__ for arg in given if isinstance(arg, BaseException)]
        if record.exc_info and record.exc_info[0] is not None:
            errors.append(record.exc_info[0].__name__)
        told = {"level": record.levelname, "errors": errors, "text": record.getMessage()}
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told)


def run(job: Job) -> int:
    """One job in this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    print(json.dumps(asyncio.run(play(job))), flush=True)
    return 0


def serve() -> None:
    """Run the jobs of stdin. Before each its pid is told, after it its pid and how it ended."""
    for line in sys.stdin:
        job = json.loads(line)
        os.environ[ledger.VARIABLE] = job.pop("ledger")
        pid = os.fork()
        if pid == 0:
            _in_child(Job(**job))
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}), flush=True)


def _in_child(job: Job) -> None:
    code = 1
    try:
        for name, number in ((os.devnull, 0), (job.out, 1), (job.err, 2)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            descriptor = os.open(name or os.devnull, flags, 0o644)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = run(job)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    if sys.argv[1:] == ["--serve"]:
        return serve()
    parser = argparse.ArgumentParser(prog="python -m tests.crash.host")
    parser.add_argument("url")
    parser.add_argument("executions", nargs="+", metavar="EXECUTION")
    parser.add_argument("--flow", default="everything")
    parser.add_argument("--file", help="a file that holds the workflow")
    parser.add_argument("--argument", help="the workflow's argument, as JSON")
    parser.add_argument("--kill", metavar=f"{'|'.join(('before', 'during', 'after', *DISK))}:N")
    parser.add_argument("--of", choices=("any", "writes", "entries"), default="any")
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--poll", type=float, default=0.05)
    parser.add_argument("--queue", default="default")
    parser.add_argument("--dead", type=int, action="append", default=[])
    parser.add_argument("--cancel", action="store_true")
    parser.add_argument("--then", metavar="EXECUTION", help="one more, once all have ended")
    parser.add_argument("--resume", action="store_true", help="they are blocked: let them go on")
    parser.add_argument("--plant", choices=sorted(PLANTS))
    parser.add_argument("--patience", type=float, default=60.0)
    sys.exit(run(Job(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
