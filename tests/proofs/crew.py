"""A worker of three limited queues, run as a process of its own; and what the database itself says of its moves.

python -m tests.proofs.crew URL LEDGER [PLANT]
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg

from perdure import Engine, Queue, current, step, workflow
from perdure.limits import Place, admit
from perdure.records import Limit
from perdure.stores import mysql_claims, postgres_claims, sqlite_claims
from tests.own_transactions.drivers import by_asyncmy
from tests.proofs.programs import append

LOOK = 0.005
LEASE = 4.0  # decides over life and death where the server has not been up for so long
WINDOW = 0.4
STARTS = 3
QUEUES = (
    Queue("narrow", concurrency=3),
    Queue("each", concurrency=2, per="customer"),
    Queue("slow", rate=(STARTS, WINDOW)),
)
ROOM = {"narrow": 3, "each": 2}

# In the process -----------------------------------------------------------------------------------------------

LEDGER = Path(os.devnull)


def _tell(what: str, n: int) -> None:
    now = current()
    append(LEDGER, what=what, id=now.execution_id, key=now.key, n=n, fence=now.fence, pid=os.getpid())


@step
async def visit(n: int) -> int:
    _tell("enter", n)
    while LEDGER.with_name("closed").exists():
        await asyncio.sleep(LOOK)
    for _ in range(300):
        await asyncio.sleep(0)
    _tell("leave", n)
    return n * n


@workflow
async def visits(n: int) -> list[int]:
    return [await visit(n), await visit(n + 1)]


PLANTS = ("running", "recent")


def plant(what: str) -> None:
    """Make this process admit as if there were nothing running, or nothing that has started lately."""

    def careless(limit: Limit, running: Iterable[Place], recent: Iterable[Place], waiting: Sequence[Place]) -> Any:
        return admit(limit, () if what == "running" else running, () if what == "recent" else recent, waiting)

    for module in (sqlite_claims, postgres_claims, mysql_claims):
        module.admit = careless  # type: ignore[attr-defined]


async def serve(url: str) -> None:
    async with Engine(url, workflows=[visits], queues=QUEUES, concurrency=6, lease=LEASE, poll=0.05):
        append(LEDGER, what="serves", pid=os.getpid())
        await asyncio.Event().wait()


# What the database says ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """A change of a row, told by a trigger within the transaction that made it. Without an id: of a worker's state."""

    id: str | None
    queue: str
    customer: str
    before: str
    after: str
    owner: int | None


_COLUMNS = "id text, queue text, customer text, before text, after text, owner bigint"
_TABLE = f"create table proof_moves (n {{serial}} primary key, {_COLUMNS})"
_INSERT = "insert into proof_moves (id, queue, customer, before, after, owner) values"
_SQLITE = f"""
{_TABLE.format(serial="integer")};
create trigger proof_of_executions after update of status, owner on workflow_executions begin
    {_INSERT} (new.id, new.queue, coalesce(new.attributes, ''), old.status, new.status, new.owner);
end;
create trigger proof_of_workers after update of state on workers begin
    {_INSERT} (null, '', '', old.state, new.state, new.id);
end;
"""
_POSTGRES = f"""
{_TABLE.format(serial="bigserial")};
create function proof_of_execution() returns trigger language plpgsql as $$ begin
    {_INSERT} (new.id, new.queue, coalesce(new.attributes, ''), old.status, new.status, new.owner);
    return null;
end $$;
create trigger proof_of_executions after update of status, owner on workflow_executions
    for each row execute function proof_of_execution();
create function proof_of_worker() returns trigger language plpgsql as $$ begin
    {_INSERT} (null, '', '', old.state, new.state, new.id);
    return null;
end $$;
create trigger proof_of_workers after update of state on workers
    for each row execute function proof_of_worker();
"""
_QUOTED = "insert into proof_moves (id, queue, customer, `before`, `after`, owner) values"
_MYSQL = (
    "create table proof_moves (n bigint auto_increment primary key, id varchar(255), queue text, customer text,"
    " `before` text, `after` text, owner bigint)",
    f"""create trigger proof_of_executions after update on workflow_executions for each row
    if not (old.status <=> new.status and old.owner <=> new.owner) then
        {_QUOTED} (new.id, new.queue, coalesce(new.attributes, ''), old.status, new.status, new.owner);
    end if""",
    f"""create trigger proof_of_workers after update on workers for each row
    if old.state <> new.state then
        {_QUOTED} (null, '', '', old.state, new.state, new.id);
    end if""",
)


def watch_moves(url: str) -> None:
    """Have the database note every move from now on. A claim waits for nobody but the transactions it would anyway."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20)) as database:
            database.executescript(_SQLITE)
        return

    async def run() -> None:
        if url.startswith("mysql"):
            async with by_asyncmy(url) as own:
                for statement in _MYSQL:
                    await own.do(statement)
            return
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(_POSTGRES)
        finally:
            await connection.close()

    asyncio.run(run())


def moves_of(rows: Iterable[dict[str, Any]]) -> list[Move]:
    return [Move(**{name: value for name, value in row.items() if name != "n"}) for row in rows]


# What must hold -----------------------------------------------------------------------------------------------


def crowded(moves: Sequence[Move]) -> Iterator[str]:
    """More in a queue at once than there is room for, by the rows.

    An execution is inside from the claim that made it `running` until its row says otherwise, or until the row of
    its owner says that this one is not alive: a killed body keeps its place until somebody has declared its owner
    dead. The moves of a queue stand in the order in which its claims were admitted, since these wait for each other.
    """
    inside: dict[str, tuple[str, int | None]] = {}
    dead: set[int | None] = set()
    for move in moves:
        if move.id is None:
            if move.after != "live":
                dead.add(move.owner)
            continue
        if move.after != "running":
            inside.pop(move.id, None)
            continue
        room = f"{move.queue} {move.customer if move.queue == 'each' else ''}"
        entered = inside.get(move.id) != (room, move.owner)
        inside[move.id] = room, move.owner
        count = sum(place == room and owner not in dead for place, owner in inside.values())
        if entered and move.queue in ROOM and count > ROOM[move.queue]:
            yield f"{move.id} was admitted as the {count}th of {room}"


def met(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """More bodies of a queue inside at once than there is room for, by what they said themselves.

    A body is inside from its `enter` to its `leave`, or to the line `stopped` about its process: that one was written
    when the process stood still for good, before it was killed and anybody could take it for dead.
    """
    inside: dict[tuple[str, int], int] = {}
    for line in lines:
        if line["what"] == "enter":
            inside[line["id"], line["fence"]] = line["pid"]
            room = line["id"].rsplit("-", 1)[0]
            count = sum(id.rsplit("-", 1)[0] == room for id, _ in inside)
            if count > ROOM.get(room.split("-")[0], count):
                yield f"{line['id']} entered as the {count}th of {room}"
        elif line["what"] == "leave":
            inside.pop((line["id"], line["fence"]), None)
        elif line["what"] == "stopped":
            inside = {visit: pid for visit, pid in inside.items() if pid != line["pid"]}


def hasty(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """More than `STARTS` first starts of the queue `slow` within its window, by the store's clock."""
    times = sorted(row["started_at"] for row in rows if row["queue"] == "slow")
    for first, beyond in zip(times, times[STARTS:], strict=False):
        if beyond - first < WINDOW * 1_000_000:
            yield f"{STARTS + 1} starts within {(beyond - first) / 1_000_000:g} s"


def not_once(moves: Sequence[Move], rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """An execution that did not end, or ended more than once, or was somebody's again afterwards."""
    ends = Counter(move.id for move in moves if move.id and (move.before, move.after) == ("running", "completed"))
    for row in rows:
        n = int(row["id"].rsplit("-", 1)[1])
        if (row["status"], row["output"], ends[row["id"]]) != ("completed", f"[{n * n},{(n + 1) ** 2}]", 1):
            yield f"{row['id']} is {row['status']} with {row['output']}, and ended {ends[row['id']]} times"
    of: dict[str | None, list[Move]] = defaultdict(list)
    for move in moves:
        of[move.id].append(move)
    del of[None]
    for id, mine in of.items():
        yield from (f"{id} went from completed to {b.after}" for a, b in pairwise(mine) if a.after == "completed")


if __name__ == "__main__":
    LEDGER = Path(sys.argv[2])
    if sys.argv[3:]:
        plant(sys.argv[3])
    # As a module of this name, so that the workflow's module is the one that others import.
    from tests.proofs import crew

    crew.LEDGER = LEDGER
    asyncio.run(crew.serve(sys.argv[1]))
