"""`show --at`, `show --diff` and `fork`."""

from __future__ import annotations

import pytest

from .conftest import Shell

APP = """
from perdure import checkpoint, interrupt, workflow

@checkpoint
async def pack(n: int) -> int:
    return n + 1

@workflow
async def packs(n: int) -> int:
    password = "xyzzy-planted"
    for _ in range(3):
        n = await pack(n)
    return n + int(await interrupt("How many more?", schema=int))
"""


@pytest.fixture
def packed(shell: Shell) -> Shell:
    (shell.folder / "packing.py").write_text(APP)
    assert shell("run", "packing:packs", "4", "--id", "box").code == 3
    return shell


def test_the_state_is_shown_as_it_was_behind_an_entry(packed: Shell) -> None:
    now = packed("show", "box", "--json").json["state"]
    assert (now["source"], now["variables"]) == ("snapshot", {"n": 7, "_": 2, "password": "***"})
    then = packed("show", "box", "--at", "pack#1", "--code", "packing", "--json").json
    assert (then["at"], then["source"], then["variables"]["n"]) == (1, "code", 5)
    assert [place["key"] for place in then["position"]["active"]] == ["pack#2"]
    shown = packed("show", "box", "--at", "2")
    assert shown.out.count("pack#2") == 1, "what is completed is not under way"
    assert "packs" in shown.out and "n = 5" in shown.out and "packing.py:" in shown.out
    assert packed("show", "box", "--at", "nowhere").code == 1
    assert packed("show", "box", "--at", "1", "--diff", "1", "2").code == 2
    assert "xyzzy" not in packed("show", "box").out


def test_what_differs_between_two_entries_is_told(packed: Shell) -> None:
    found = packed("show", "box", "--diff", "1", "pack", "--code", "packing", "--json").json
    assert {"name": "variables.main.n", "before": 5, "after": 7} in found["differences"]
    shown = packed("show", "box", "--diff", "1", "3", "--code", "packing")
    assert "- 5" in shown.out and "+ 7" in shown.out
    assert "Nothing differs" in packed("show", "box", "--diff", "1", "1").out


def test_a_fork_goes_on_with_other_results_and_says_where_it_comes_from(packed: Shell) -> None:
    made = packed("fork", "box", "--at", "pack#2", "--id", "other", "--by", "ana", "--reason", "why not")
    assert made.code == 0 and "other goes on from box" in made.out
    changed = packed("fork", "box", "--change", "pack#1=40", "--code", "packing", "--id", "third", "--json").json
    assert changed["forked_from"] == "box"
    lineage = packed("show", "other", "--json").json["state"]["metadata"]["lineage"]
    assert (lineage["forked_from"], lineage["forked_by"], lineage["fork_reason"]) == ("box", "ana", "why not")
    assert [entry["key"] for entry in packed("show", "third", "--json").json["history"]] == ["pack#1", "inherited"]
    assert packed("fork", "box", "--id", "box").code == 1
    assert packed("fork", "box", "--change", "pack#1").code == 2
    for words in (("fork", "box", "--at", "pac#2"), ("show", "box", "--at", "pack#9")):
        assert "; is pack#" in packed(*words).err
    assert packed("fork", "box", "--change", "pack#9=1", "--code", "packing").code == 1
    unfit = packed("fork", "box", "--change", 'pack#1="forty"', "--code", "packing")
    assert unfit.code == 1
    assert "the result of pack#1 cannot be 'forty': it does not fit int" in unfit.err
    assert "Nothing was forked" in unfit.err
