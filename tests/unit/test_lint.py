"""What `lint` says about which lines of workflow code."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from perdure.linting import RULES, Severity, lint

HEAD = """
import asyncio
import contextlib
import datetime as dt
import logging
import os
import random as dice
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from asyncio import to_thread as aside
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime
from pathlib import Path
from time import time as t
from urllib import request as web

import httpx
import numpy as np
import requests

import perdure
from perdure import checkpoint, gather, interrupt, receive, sleep, step, workflow

log = logging.getLogger(__name__)
client = httpx.AsyncClient()
seen = []
cache: dict[str, int] = {}
count = 0
clock = time.monotonic
ledger = Path("ledger.txt")


@step
async def charge(order: str) -> str:
    return f"{order} at {time.time()}"


@step
def weigh(order: str) -> int:
    return len(order)


@workflow
async def child(order: str) -> str:
    return await charge(order)


quick = charge.options(timeout=1)
"""


def workflow_of(body: str, signature: str = "flow(order: str) -> None") -> str:
    return f"{HEAD}\n\n@workflow\nasync def {signature}:\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"


def codes(body: str, signature: str = "flow(order: str) -> None") -> list[str]:
    return [finding.code for finding in lint(workflow_of(body, signature)).findings]


def marked(source: str) -> list[tuple[int, str]]:
    """The lines that end with `#! P001`, or several codes, each as line and code."""
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        _, mark, named = line.partition("#!")
        found += [(number, code) for code in named.split() if mark]
    return found


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("time.time()", "P001"),
        ("t()", "P001"),
        ("clock()", "P001"),
        ("x = time.monotonic() - time.perf_counter()", "P001 P001"),
        ("time.sleep(1)", "P001"),
        ("time.localtime()", "P001"),
        ("datetime.now()", "P001"),
        ("dt.datetime.now(dt.UTC)", "P001"),
        ("dt.datetime.utcnow()", "P001"),
        ("date.today()", "P001"),
        ("dt.date.today()", "P001"),
        ("dice.random()", "P002"),
        ("dice.Random()", "P002"),
        ("dice.shuffle([1, 2])", "P002"),
        ("uuid.uuid4()", "P002"),
        ("uuid.uuid1()", "P002"),
        ("os.urandom(8)", "P002"),
        ("np.random.rand()", "P002"),
        ("np.random.default_rng()", "P002"),
        ("import secrets; secrets.token_hex()", "P002"),
        ("from secrets import token_hex as token; token()", "P002"),
        ("open('x')", "P003"),
        ("input()", "P003"),
        ("requests.get('http://x')", "P003"),
        ("httpx.AsyncClient()", "P003"),
        ("await client.get('http://x')", "P003"),
        ("web.urlopen('http://x')", "P003"),
        ("socket.socket()", "P003"),
        ("sqlite3.connect('x')", "P003"),
        ("os.remove('x')", "P003"),
        ("os.system('x')", "P003"),
        ("os.path.exists('x')", "P003"),
        ("Path('x').read_text()", "P003"),
        ("(Path('x') / 'y').with_suffix('.z').parent.mkdir()", "P003"),
        ("ledger.write_text('x')", "P003"),
        ("subprocess.run(['ls'])", "P004"),
        ("threading.Thread(target=print)", "P004"),
        ("await asyncio.to_thread(sum, [1])", "P004"),
        ("await aside(sum, [1])", "P004"),
        ("await asyncio.get_running_loop().run_in_executor(None, sum, [1])", "P004"),
        ("ProcessPoolExecutor()", "P004"),
        ("await asyncio.create_subprocess_exec('ls')", "P004"),
        ("await asyncio.open_connection('x', 1)", "P004"),
        ("asyncio.run(asyncio.sleep(1))", "P004"),
        ("hash(order)", "P006"),
        ("id(order)", "P006"),
        ("global count; count += 1", "P007"),
        ("seen.append(order)", "P007"),
        ("cache[order] = 1", "P007"),
        ("cache[order] += 1", "P007"),
        ("del cache[order]", "P007"),
        ("cache.update(x=1)", "P007"),
        ("os.environ['X']", "P007"),
        ("os.environ.get('X')", "P007"),
        ("os.getenv('X')", "P007"),
        ("sys.argv[1]", "P007"),
        ("charge(order)", "P008"),
        ("quick(order)", "P008"),
        ("charge.options(timeout=1)(order)", "P008"),
        ("charge.map([order])", "P008"),
        ("weigh.aio(order)", "P008"),
        ("child(order)", "P008"),
        ("sleep(1)", "P008"),
        ("perdure.sleep(1)", "P008"),
        ("interrupt('What?')", "P008"),
        ("gather(charge('a'), charge('b'))", "P008"),
        ("checkpoint('here')", "P008"),
        ("perdure.calls.sleep(1)", "P008"),
        ("while True: pass", "P010"),
        ("while True: len(order)", "P010"),
        ("while not order: pass", "P010"),
        ("weigh(order)", "P011"),
        ("x = weigh(order)", "P011"),
        ("weigh.options(timeout=1)(order)", "P011"),
        ("asyncio.as_completed([charge(n) for n in 'ab'])", "P012"),
        ("calls = [charge('a'), child('b')]; asyncio.as_completed(calls)", "P012"),
        ("print(order)", "P013"),
        ("logging.info(order)", "P013"),
        ("log.warning(order)", "P013"),
        ("logging.getLogger('x').error(order)", "P013"),
        ("x = lambda: time.time()", "P001"),
        ("x = [time.time() for _ in range(2)]", "P001"),
        ("def inner(at=time.time()): pass", "P001"),
    ],
)
def test_what_does_not_replay_is_found(line: str, code: str) -> None:
    assert codes(line) == code.split()


@pytest.mark.parametrize(
    "body",
    [
        "for x in {order, 'b'}: await charge(x)",
        "for x in {n for n in order}: await charge(x)",
        "for x in set(order): seen_here.append(x)",
        "for x in frozenset(order): await charge(x)",
        "names = set(order)\nfor x in names: await charge(x)",
        "names = set(order)\nfor x in names | {'a'}: await charge(x)",
        "names = set(order)\nfor x in names.union('a'): await charge(x)",
        "names = set()\nnames.add(order)\nfor x in names: await charge(x)",
        "names: set[str] = make()\nfor x in names: await charge(x)",
        "for x in {}.keys() - {'a'}: await charge(x)",
        "await gather(*[charge(x) for x in set(order)])",
        "await gather(*{charge('a'), charge('b')})",
        "await charge.map(set(order))",
        "x = list(set(order))",
        "x = tuple({order, 'b'})",
        "x = [*set(order)]",
        "x = ', '.join({order, 'b'})",
        "for n, x in enumerate(set(order)): await charge(x)",
        "x = any([await charge(x) for x in set(order)])",
        "names = set(order)\nwhile names: await charge(names.pop())",
        "for x in set(order):\n    if len(x) > 2: return x",
    ],
)
def test_the_order_of_a_set_is_found(body: str) -> None:
    assert codes(body) == ["P005"]


def test_a_set_that_is_a_parameter_is_known_by_its_annotation() -> None:
    assert codes("for x in names: await charge(x)", "flow(names: set[str]) -> None") == ["P005"]
    assert codes("for x in names: await charge(x)", "flow(names: 'frozenset[str]') -> None") == ["P005"]
    assert codes("for x in names: await charge(x)", "flow(names: set[int]) -> None") == []
    assert codes("for x in names: await charge(x)", "flow(names: list[str]) -> None") == []


@pytest.mark.parametrize(
    "body",
    [
        "try: await charge(order)\nexcept: pass",
        "try: await charge(order)\nexcept BaseException: pass",
        "try: await charge(order)\nexcept (ValueError, BaseException) as error: print_later = error",
        "with contextlib.suppress(BaseException): await charge(order)",
    ],
)
def test_an_except_that_swallows_a_cancelling_is_found(body: str) -> None:
    assert codes(body) == ["P009"]


@pytest.mark.parametrize(
    "body",
    [
        "await sleep(1)",
        "await asyncio.sleep(1)",
        "x = charge(order)\nawait x",
        "task = asyncio.create_task(charge(order))\nawait task",
        "asyncio.create_task(charge(order))",
        "await gather(*[charge(x) for x in sorted(set(order))])",
        "await gather(*(charge(x) for x in sorted({n for n in order})))",
        "x = sum(len(n) for n in set(order))",
        "x = sorted(list(set(order)))",
        "x = len({*order}) + max(n for n in set(order))",
        "x = {n for n in set(order)}",
        "x = order in {'a', 'b'}",
        "names = set(order)\nx = names.pop() if len(names) == 1 else next(iter(names))",
        "found = list(set(order))\nfound.sort()",
        "found = []\nfor x in set(order): found.append(x)\nawait charge.map(sorted(found))",
        "for x in set(order):\n    if len(x) > 2: return False",
        "for n in {1, 2, 3}: await charge(str(n))",
        "for n in set(range(3)): await charge(str(n))",
        "for n in {k for k in range(3)}: await charge(str(n))",
        "total = 0\nfor n in set(order): total += len(n)",
        "tasks = {asyncio.create_task(charge(n)) for n in order}\nfor task in tasks: await task",
        "tasks = set()\ntasks.add(asyncio.create_task(charge(order)))\nawait asyncio.gather(*tasks)",
        "tasks = [asyncio.create_task(charge(n)) for n in order]\nfor task in set(tasks): await task",
        "tasks = [asyncio.create_task(charge(n)) for n in order]\nfor task in asyncio.as_completed(tasks): await task",
        "task = asyncio.create_task(charge(order))\ndone, late = await asyncio.wait({task})\nfor x in done: await x",
        "try: await charge(order)\nexcept BaseException: raise",
        "try: await charge(order)\nexcept BaseException as error:\n    if order: raise\n    raise ValueError",
        "try: await charge(order)\nexcept asyncio.CancelledError: raise\nexcept BaseException: pass",
        "try: await charge(order)\nexcept Exception: pass",
        "try: x = int(order)\nexcept: pass",
        "try:\n    async def inner(): await charge(order)\nexcept: pass",
        "while True:\n    if await charge(order): break",
        "while True:\n    await sleep(1)",
        "while order: order = order[1:]",
        "queue = asyncio.Queue()\ntry:\n    while True: queue.get_nowait()\nexcept asyncio.QueueEmpty: pass",
        "while not asyncio.current_task().cancelling(): pass",
        "x = dice.Random(7).random()",
        "x = perdure.random().choice(order)",
        "x = perdure.uuid4(), perdure.now()",
        "perdure.current().log.info(order)",
        "x = np.random.default_rng(7)",
        "x = dt.datetime(2026, 1, 1) + dt.timedelta(days=1)",
        "x = datetime.fromisoformat(order), time.strftime('%Y', time.gmtime(0))",
        "x = uuid.uuid5(uuid.NAMESPACE_URL, order)",
        "x = os.path.join('a', order)",
        "x = Path('a') / order\ny = x.name, x.with_suffix('.b').parent",
        "x = asyncio.get_running_loop().time()",
        "async with asyncio.timeout(3): await charge(order)",
        "seen_here = []\nseen_here.append(order)",
        "x = cache.get(order), seen[0]",
        "global count",
        "x = await weigh.aio(order)",
        "x = await weigh.map([order])",
        "x = client.base_url",
        "class Local:\n    at = time.time()",
        "def never_called(): return time.time()",
        "x: time.time() = 1",
        "quiet = httpx.Timeout(5)",
    ],
)
def test_what_replays_is_left_in_peace(body: str) -> None:
    assert codes(body) == []


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        ("time.time()", "flow(time: object) -> None"),
        ("open('x')", "flow(open: object) -> None"),
        ("time = fake()\ntime.time()", "flow() -> None"),
        ("for time in clocks: time.time()", "flow(clocks: list) -> None"),
        ("with fake() as time: time.time()", "flow() -> None"),
        ("try: pass\nexcept ValueError as time: time.time()", "flow() -> None"),
        ("if (time := fake()): time.time()", "flow() -> None"),
        ("x = [time.time() for time in clocks]", "flow(clocks: list) -> None"),
        ("x = lambda time: time.time()", "flow() -> None"),
        ("from mine import time\ntime.time()", "flow() -> None"),
        ("from .time import t\nt()", "flow() -> None"),
        ("def print(x): pass\nprint(1)", "flow() -> None"),
        ("match order:\n    case {'a': time, **open}: time.time(); open()", "flow(order: dict) -> None"),
        ("charge = fake()\ncharge(1)", "flow() -> None"),
        ("seen = []\nseen.append(1)", "flow() -> None"),
        ("client = fake()\nclient.get(1)", "flow() -> None"),
        ("set = fake()\nfor x in set(1): await x", "flow() -> None"),
        ("def inner():\n    nonlocal time\n    time = fake()\ntime = 1\ninner()\ntime.time()", "flow() -> None"),
    ],
)
def test_a_name_that_means_something_else_here_is_not_reported(body: str, signature: str) -> None:
    assert codes(body, signature) == []


def test_a_name_with_two_meanings_in_the_module_is_not_reported() -> None:
    source = """
try:
    from time import time
except ImportError:
    from mine import time
from perdure import workflow

@workflow
async def flow():
    time()
"""
    assert lint(source).findings == ()


def test_what_workflow_code_calls_is_workflow_code_and_steps_are_not() -> None:
    source = """
import asyncio
import functools
import time

import perdure
from perdure import step, workflow
from elsewhere import tool


def deep():
    return time.time() #! P001


async def helper():
    return deep()


def as_a_key(x):
    return time.time() #! P001


@functools.cache
def cached():
    return time.time() #! P001


def only_in_steps():
    return time.time()


def in_a_thread():
    return time.time()


@tool
def behind_an_unknown_decorator():
    return time.time()


@step
async def charge():
    return only_in_steps() + time.time()


@perdure.checkpoint(name="packed")
async def pack():
    return only_in_steps()


@workflow(name="other", version=2)
async def flow(items):
    sorted(items, key=as_a_key)
    cached()
    behind_an_unknown_decorator()
    await asyncio.to_thread(in_a_thread) #! P004
    await asyncio.to_thread(lambda: time.time()) #! P004

    @step
    async def inner_step():
        return time.time()

    async def inner():
        helper() #! P008
        return time.time() #! P001

    await inner_step()
    return await asyncio.create_task(inner())


class Shop:
    @staticmethod
    @perdure.workflow
    async def sell():
        time.time() #! P001


def make():
    @perdure.workflow
    async def made():
        async def own():
            time.time() #! P001

        await own()

    return made


async def main():
    time.time()
    charge()
"""
    report = lint(source)
    assert [(finding.line, finding.code) for finding in report.findings] == marked(source)
    assert report.workflows == ("flow", "sell", "made")
    deep = next(finding for finding in report.findings if finding.function == "deep")
    assert "deep is run by the workflow flow" in deep.message


def test_what_describes_a_step_is_not_workflow_code() -> None:
    source = """
import time
from perdure import step, workflow


def look():
    return time.time()


def undo(result):
    time.time()


@step(once=True, verify=look, undo=undo)
async def charge():
    return time.time()


@workflow
async def flow():
    await charge.options(verify=look)()
    await charge.options(verify=lambda: time.time())()
    await step(look).aio()
    await charge.options(timeout=time.time())() #! P001
"""
    assert [(finding.line, finding.code) for finding in lint(source).findings] == marked(source)


def test_lines_are_counted_as_python_counts_them() -> None:
    source = "import time\nfrom perdure import workflow\nX = '\u2028\x0c'\n@workflow\nasync def w():\n    time.time()\n"
    source = source.replace("\n", "\r\n")
    assert [(found.line, found.column) for found in lint(source).findings] == [(6, 5)]
    assert lint(source.replace("()\r\n", "()  # perdure: ignore\r\n")).findings == ()


def test_a_function_that_calls_itself_is_read_once() -> None:
    source = """
import time
from perdure import workflow

@workflow
async def flow():
    a()

def a():
    b()

def b():
    a()
    time.time() #! P001
"""
    assert [(finding.line, finding.code) for finding in lint(source).findings] == marked(source)


def test_a_star_import_of_perdure_is_understood_and_of_others_trusts_no_builtin() -> None:
    flow = "@workflow\nasync def flow():\n    sleep(1)\n    open('x')\n"
    assert [f.code for f in lint(f"from perdure import *\n{flow}").findings] == ["P008", "P003"]
    assert [f.code for f in lint(f"from perdure import *\nfrom mine import *\n{flow}").findings] == ["P008"]


def test_a_file_without_workflows_has_nothing_to_say() -> None:
    assert lint("import time\ntime.time()\ndef workflow(f): return f\n@workflow\ndef x(): time.time()").findings == ()


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("time.time()  # perdure: ignore", []),
        ("time.time()  #perdure:ignore[P001]", []),
        ("time.time()  # noqa: X1  # perdure: ignore[p003, p001] the clock is only shown", []),
        ("time.time()  # perdure: ignore[P003]", ["P001"]),
        ("time.time()  # perdure: ignored", ["P001"]),
        ("time.time(), '# perdure: ignore'", ["P001"]),
        ("open(\n    time.time(),\n)  # perdure: ignore[P003]", ["P001"]),
        ("# perdure: ignore\ntime.time()", ["P001"]),
    ],
)
def test_a_comment_in_the_line_silences_it(line: str, left: list[str]) -> None:
    assert codes(line) == left


ROOT = Path(__file__).parents[2]
README = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("source", README)
def test_the_examples_of_the_readme_are_clean(source: str) -> None:
    report = lint(source)
    assert report.findings == ()
    assert report.workflows


@pytest.mark.parametrize("file", ["src/perdure/demo/flow.py", "bench/flows.py"])
def test_the_demo_and_the_measured_workflows_are_clean(file: str) -> None:
    report = lint((ROOT / file).read_text())
    assert report.findings == ()
    assert report.workflows


@pytest.mark.parametrize("source", ["def f(:\n", "x = 'abc", "a\0b", "if x:\npass", "(" * 300 + ")" * 300])
def test_a_file_that_is_no_python_is_one_finding(source: str) -> None:
    found = lint(source, "broken.py").findings
    assert [finding.code for finding in found] == ["P000"]
    assert found[0].file == "broken.py"
    assert found[0].message.startswith("this ")


def test_an_expression_too_deep_to_follow_is_a_finding() -> None:
    found = lint("x = " + "-" * 3000 + "1").findings
    assert {finding.code for finding in found} <= {"P000"}


def test_an_odd_escape_is_not_ours_to_tell() -> None:
    assert lint("x = '\\d'").findings == ()


def test_a_finding_names_the_place_in_characters_and_says_what_to_do() -> None:
    source = "import time\nfrom perdure import workflow\n@workflow\nasync def w():\n    'ä'; time.time()"
    (found,) = lint(source, "a.py").findings
    assert (found.file, found.line, found.column, found.function) == ("a.py", 5, 10, "w")
    assert found.severity is Severity.ERROR
    assert "time.time()" in found.message
    assert "perdure.now()" in found.message


def test_what_may_be_harmless_is_a_warning_and_what_is_only_said_twice_is_information() -> None:
    assert {code for code, rule in RULES.items() if rule.severity is Severity.INFO} == {"P013"}
    assert {code for code, rule in RULES.items() if rule.severity is Severity.WARNING} == {"P005", "P006", "P007"}
