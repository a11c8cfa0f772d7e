"""The table of legal moves, and the lists in SQL that must equal it."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import product
from pathlib import Path

import pytest

import perdure.stores.migrations
from perdure.records import ENDED, MOVES, Entry, Execution, Message, Request, Status, WorkerRecord, is_legal
from perdure.stores.memory import MemoryStore
from perdure.testing.checks.scene import Scene

MIGRATIONS = sorted(Path(perdure.stores.migrations.__path__[0]).glob("*/0001_first.sql"))

# Written out once more, as a table: from a row's status to the statuses marked in it.
TABLE = """
                  pend run wait paus comp fail canc rlbk rbkd rbkf blkd
pending             .   x   .    x    .    .    x    x    .    .    x
running             x   .   x    x    x    x    x    x    .    .    x
waiting             x   x   .    x    .    .    x    x    .    .    x
paused              x   .   .    .    .    .    x    x    .    .    .
completed           .   .   .    .    .    .    .    x    .    .    .
failed              x   .   .    .    .    .    .    x    .    .    .
cancelled           x   .   .    .    .    .    .    x    .    .    .
rolling_back        x   .   .    .    .    x    .    .    x    x    x
rolled_back         x   .   .    .    .    .    .    .    .    .    .
rollback_failed     .   .   .    .    .    .    .    x    x    .    .
blocked             x   .   .    .    .    .    x    x    .    .    .
"""
LEGAL = {
    (Status(before), after)
    for before, *marks in (line.split() for line in TABLE.strip().splitlines()[1:])
    for after, mark in zip(Status, marks, strict=True)
    if mark == "x"
}


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_each_move_is_legal_or_not_as_the_table_says(before: Status, after: Status) -> None:
    assert is_legal(before, after) == ((before, after) in LEGAL or before == after)


def test_every_status_has_its_moves() -> None:
    assert set(MOVES) == set(Status)


def test_what_ended_goes_on_only_by_an_operator() -> None:
    for status in ENDED:
        onward = {Status.PENDING, Status.ROLLING_BACK, Status.ROLLED_BACK}
        assert MOVES[status] <= onward, status


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
async def test_the_memory_store_refuses_an_illegal_move_by_name(before: Status, after: Status) -> None:
    scene = await Scene.begin(MemoryStore())
    await scene.create(scene.execution(status=before, fence=1))
    if is_legal(before, after):
        await scene.commit(changes=[scene.change(status=after)])
        assert (await scene.row()).status is after
    else:
        with pytest.raises(AssertionError, match=f"illegal move of .*: {before} to {after}"):
            await scene.commit(changes=[scene.change(status=after)], entries=[scene.entry()])
        assert (await scene.row()).status is before
        assert await scene.seqs() == []


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.parent.name)
def test_the_check_in_sql_lists_the_statuses(path: Path) -> None:
    assert _checked(_table(path, "workflow_executions"), "status") == {status.value for status in Status}


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        ("step_executions", "status", {"completed", "failed", "set", "open"}),
        ("approval_requests", "status", {"open", "decided", "expired", "withdrawn"}),
        ("workers", "state", {"live", "dead", "gone"}),
    ],
)
def test_the_other_checks_in_sql(path: Path, table: str, column: str, values: set[str]) -> None:
    assert _checked(_table(path, table), column) == values


OF_THE_STORE = {"workers": ["presence"]}
"""Columns that stores keep for themselves: where, and under which lock, a worker shows that it lives."""
OF_MYSQL = {"workers": ["counts"]}
"""And there: whether its library adds to the tallies, which triggers do elsewhere."""


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.parent.name)
def test_columns_bear_the_names_of_the_fields(path: Path) -> None:
    wanted = {
        "workflow_executions": [field.name for field in fields(Execution)],
        "step_executions": list(Entry._fields),
        "approval_requests": [field.name for field in fields(Request)],
        "messages": [field.name for field in fields(Message)],
        "workers": [field.name for field in fields(WorkerRecord)],
    }
    for table, names in wanted.items():
        columns = re.findall(r"^    `?(\w+)`? ", _table(path, table), re.MULTILINE)
        made = [name for name in columns if name not in {"primary", "check", "constraint", "unique"}]
        if path.parent.name == "mysql":  # it quotes some, and computes columns of its own from others
            made = list(dict.fromkeys(name for name in made if name in names))
        own = OF_THE_STORE.get(table, []) + (OF_MYSQL.get(table, []) if path.parent.name == "mysql" else [])
        assert made + _added(path, table) == names + own, table


def _added(first: Path, table: str) -> list[str]:
    """The columns that later migrations add to a table."""
    later = [path.read_text() for path in sorted(first.parent.glob("*.sql")) if path != first]
    changes = [change for text in later for change in re.findall(rf"alter table {table}\b([^;]*);", text)]
    return [name for change in changes for name in re.findall(r"add column (\w+)", change)]


def _table(path: Path, name: str) -> str:
    found = re.search(rf"create table (?:if not exists )?{name} \((.*?)^\)", path.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{path} has no table {name}"
    return found[1]


def _checked(table: str, column: str) -> set[str]:
    """What a column's check names: in a list, or one by one."""
    found = re.search(rf"^    {column} [^\n]*\bcheck \((.*?)\)(?:\)|,$)", table, re.DOTALL | re.MULTILINE)
    assert found is not None, f"no check of {column}"
    listed = re.fullmatch(rf"\s*{column} in \((.*)", found[1], re.DOTALL)
    alone = re.fullmatch(rf"\s*{column} = '\w+'(?:\s+or {column} = '\w+')*\s*", found[1])
    assert listed or alone, found[1]
    return set(re.findall(r"'(\w+)'", found[1]))
