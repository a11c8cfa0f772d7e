"""Migrations that are killed, and the library before on the schema of today: with real processes, on all databases."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("mysql", marks=pytest.mark.mysql),
]


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the kind that is asked for."""
    kind: str = request.param
    made: str = f"sqlite:///{tmp_path}/x.db" if kind == "sqlite" else request.getfixturevalue(f"{kind}_url")
    return made


# Each child of this program migrates, and dies at one statement more than the one before: with it on its way to the
# server, in SQLite as it begins. It prints how many had to die until one came to the end.
DYING = r"""
import asyncio, os, re, signal, sqlite3, sys
import asyncpg
from perdure.stores import open_store
from perdure.stores.mysql_sessions import Session

url, dies_at, seen = sys.argv[1], 0, 0
WRITING = re.compile(r"(?im)^\s*(create|alter|insert|update|commit)\b")


def is_last(statement):
    global seen
    if WRITING.search(statement) and dies_at:
        seen += 1
    return seen == dies_at > 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dying(run):
    async def said(self, *statements, **options):
        if not is_last(";".join(map(str, statements))):
            return await run(self, *statements, **options)
        task = asyncio.ensure_future(run(self, *statements, **options))
        for _ in range(5):
            await asyncio.sleep(0)  # it is sent
        die()

    return said


def connect(*args, _connect=sqlite3.connect, **options):
    connection = _connect(*args, **options)
    connection.set_trace_callback(lambda statement: die() if is_last(statement) else None)
    return connection


async def migrate():
    store = open_store(url)
    await store.open()
    await store.close()


Session.run = dying(Session.run)
asyncpg.Connection.execute = dying(asyncpg.Connection.execute)
sqlite3.connect = connect
deaths = 0
while True:
    dies_at = deaths + 1
    if not (child := os.fork()):
        asyncio.run(migrate())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    deaths += 1
print(deaths)
"""

# Today's library and the one before take turns with the same executions.
TURN = r"""
import asyncio, sys
from pathlib import Path
import perdure
from perdure import Completed, Engine, Waiting, interrupt, receive, sleep, step, workflow

root, turn, url = sys.argv[1:]
assert Path(perdure.__file__).is_relative_to(root), perdure.__file__


@step
async def double(number: int) -> int:
    return number * 2


@workflow(name="turns")
async def turns(number: int) -> int:
    number = await double(number)
    await sleep(0.01)
    number += await interrupt("How many more?", schema=int)
    return await double(number) + await receive("last")


async def main():
    async with Engine(url, workflows=[turns], build="one") as engine:
        if turn == "begin":
            for name in ("a", "b"):
                outcome = await (await engine.start(turns.options(execution_id=name), 4)).outcome(timeout=60)
                while isinstance(outcome, Waiting) and not outcome.requests:
                    outcome = await engine.get(name).outcome(timeout=60)
        elif turn == "answer":
            for request in await engine.requests():
                await engine.answer(request.id, 3)
            outcome = await (await engine.start(turns.options(execution_id="c"), 5)).outcome(timeout=60)
            await engine.get("c").cancel()
        else:
            for name in ("a", "b"):
                await engine.get(name).signal("last", 100)
                assert await engine.get(name).outcome(timeout=60) == Completed(122)
            assert (await engine.count())["cancelled"] == 1 if hasattr(engine, "count") else True
            assert len(await engine.get("a").history()) >= 4


asyncio.run(main())
"""


@pytest.mark.parametrize("url", KINDS, indirect=True)
def test_a_migration_that_is_killed_at_any_statement_is_resumed(url: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, url], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 3
    _turn(ROOT / "src", "begin", url, tmp_path)
    _turn(ROOT / "src", "answer", url, tmp_path)
    _turn(ROOT / "src", "end", url, tmp_path)


@pytest.fixture(scope="module")
def library_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they were before the newest migration was added."""
    log = ["log", "-1", "--diff-filter=A", "--format=%H", "--", "src/perdure/stores/migrations/*/*.sql"]
    added = _git(*log).decode().strip()
    if not added:
        pytest.skip("there is no git history here, so no library before the newest migration")
    archive = _git("archive", f"{added}^", "src")
    if not archive:
        pytest.skip(f"git's history ends at {added[:9]}, which added the newest migration")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    return folder / "src"


def _git(*words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True).stdout
    except FileNotFoundError:
        return b""


def _turn(source: Path, turn: str, url: str, folder: Path) -> None:
    program = folder / "turns.py"
    program.write_text(TURN)
    done = subprocess.run(
        [sys.executable, str(program), str(source), turn, url],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("first", ["today", "before"])
@pytest.mark.parametrize("url", KINDS, indirect=True)
def test_the_library_before_goes_on_working_on_the_schema_of_today(
    url: str, library_before: Path, tmp_path: Path, first: str
) -> None:
    today = ROOT / "src"
    subprocess.run([sys.executable, "-m", "perdure", "db", "init", "--db", url], check=True, capture_output=True)
    one, other = (today, library_before) if first == "today" else (library_before, today)
    _turn(one, "begin", url, tmp_path)
    _turn(other, "answer", url, tmp_path)
    _turn(one, "end", url, tmp_path)
