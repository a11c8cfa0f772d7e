"""One execution that is killed and resumed, and what is to hold of it in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from tests.crash import ledger
from tests.crash.host import Job
from tests.crash.processes import Ended, Servers
from tests.crash.promises import broken, shape, shrunk
from tests.crash.rows import Rows, Tables


class Trial:
    """Runs hosts for one or more executions, one after another or at once. Each trial has a ledger of its own.

    On SQLite it has a file of its own, too, and in files a folder; trials that share a server's database have a queue
    each.
    """

    def __init__(self, servers: Servers, folder: Path, url: str, name: str, *ids: str, **settings: Any) -> None:
        self.servers = servers
        self.name = name
        self.ids = ids or (name,)
        self.folder = folder / name
        self.folder.mkdir()
        self.book = self.folder / "ledger"
        if url.startswith("sqlite"):
            url = f"sqlite:///{self.folder}/perdure.db"
        elif url.startswith("file"):
            url = f"file://{self.folder}/perdure"
        self.url = url
        self.tables = Tables(url)
        self.job = Job(url, list(self.ids), queue=name, **settings)
        self.dead: list[int] = []
        self.seen: list[Rows] = []
        self.runs = count(1)

    def run(self, *, must_end: bool = True, **settings: Any) -> Ended:
        """One process, from its beginning to its end: an orderly one, unless it is killed or need not come to it."""
        stem = str(self.folder / f"run-{next(self.runs)}")
        job = replace(self.job, dead=list(self.dead), out=f"{stem}.out", err=f"{stem}.err", **settings)
        for path in (f"{stem}.out", f"{stem}.err"):
            Path(path).touch()
        ended = self.servers.run(job, self.book)
        if ended.killed:
            self.dead.append(ended.pid)
        elif must_end:
            assert ended.code == 0, f"{self.name}: {ended}\n{self._stuck()}"
        return ended

    def rival(self, settings: dict[str, Any]) -> Ended:
        """As `run`, at the same time as others."""
        return self.run(**settings)

    def _stuck(self) -> str:
        """How all stands, for whoever wants to know why a process did not come to its end."""
        rows = self.look()
        told = [
            f"{e['id']} {e['status']} fence {e['fence']} nudges {e['nudges']} owner {e['owner']}"
            for e in rows.executions
        ]
        told += [f"{e['execution_id']} {e['seq']} {e['key']} {e['kind']} {e['status']}" for e in rows.entries[-20:]]
        told += [f"{r['id']} {r['status']} {r['answer']}" for r in rows.requests]
        told += [f"{m['id']} {m['name']} {m['taken_seq']}" for m in rows.messages]
        told += [str(line) for line in ledger.read(self.book)[-10:]]
        return "\n".join(told)

    def look(self) -> Rows:
        """The rows now; what they hold of journals must stay."""
        found = Rows()
        for id in self.ids:
            part = self.tables.read(id).of(id)
            found.workers = part.workers
            for name in ("executions", "entries", "requests", "messages", "actions"):
                getattr(found, name).extend(getattr(part, name))
        self.seen.append(found)
        return found

    def wrong(self, reference: Reference | None = None, results: Sequence[dict[str, Any]] = ()) -> list[str]:
        """Which promises were broken, now that all has ended. Empty if none was."""
        with self.tables:
            end = self.look()
        found = [*broken(ledger.read(self.book), end)]
        for earlier in self.seen[:-1]:
            found += shrunk(earlier, end)
        if reference is not None:
            for result in results:
                if "id" in result:
                    found += reference.differs(result, end.of(result["id"]))
        return [f"{self.name}: {line}" for line in found]


_KNOWN: dict[tuple[object, ...], Reference] = {}


def undisturbed(servers: Servers, folder: Path, url: str, *, shaped: bool = True, **settings: Any) -> Reference:
    """What an undisturbed run gives on this kind of store, run once for all tests of this process."""
    key = url.partition(":")[0], shaped, *sorted(settings.items())
    if key not in _KNOWN:
        reference = Reference(Trial(servers, folder, url, "undisturbed", **settings))
        if not shaped:
            reference.shape = None
        _KNOWN[key] = reference
    return _KNOWN[key]


class Reference:
    """An undisturbed run, and what is recorded of it."""

    def __init__(self, trial: Trial) -> None:
        ended = trial.run(kill="before:1000000")
        self.result, last = ended.results
        self.boundaries: int = last["boundaries"]
        wrong = trial.wrong()
        assert not wrong, wrong
        self.shape: Counter[Any] | None = shape(trial.seen[-1])
        self.id = trial.ids[0]

    def differs(self, result: dict[str, Any], rows: Rows) -> list[str]:
        found = []
        for name in ("status", "value", "error"):
            mine, other = str(self.result.get(name)), str(result.get(name))
            if mine.replace(self.id, "ID") != other.replace(result["id"], "ID"):
                found.append(f"the end differs: {name} was {mine}, is {other}")
        now = shape(rows)
        if self.shape is not None and now != self.shape:
            found.append(f"the journal differs: more {now - self.shape}, less {self.shape - now}")
        return found
