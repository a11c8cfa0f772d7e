"""docs/reference.md is what the docstrings say, and each public name is in it."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys

import perdure
import perdure.sync
import perdure.testing
from tests.docs.pages import DOCS, blocks

MAKE = DOCS / "make_reference.py"


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(MAKE), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_changed_is_noticed() -> None:
    maker = runpy.run_path(str(MAKE))
    made = maker["page"]()
    maker["GROUPS"].pop("Outcomes")
    assert maker["page"]() != made


def test_each_public_name_is_in_it_and_says_something() -> None:
    text = (DOCS / "reference.md").read_text()
    for module, prefix in ((perdure, ""), (perdure.sync, "sync."), (perdure.testing, "testing.")):
        for name in module.__all__:
            thing = getattr(module, name)
            if getattr(thing, "__module__", "").startswith("perdure") and getattr(thing, "__doc__", None):
                known = re.search(rf"^### {prefix}{name}$|^- `{name}\(", text, re.MULTILINE)
                assert known or getattr(perdure, name, None) is thing, f"{module.__name__}.{name}"


def test_its_stubs_and_examples_are_python() -> None:
    for block in blocks((DOCS / "reference.md").read_text()):
        assert block.language == "python"
        ast.parse(f"async def example():\n{''.join(f'    {line}' for line in block.text.splitlines(keepends=True))}")
