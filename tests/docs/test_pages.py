"""The tutorial and the how-to pages: every file they show is written, every command they show is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, FLEET, FLEET_URL, PAGES, blocks, run_page

ROOT = DOCS.parent
ALL = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])


@pytest.mark.parametrize("page", [page for page in PAGES if page != FLEET], ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.postgres
def test_from_one_file_to_a_fleet_word_by_word(tmp_path: Path, postgres_url: str) -> None:
    run_page(FLEET, tmp_path, instead={FLEET_URL: postgres_url})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_no_block_that_nobody_runs(page: Path) -> None:
    shown = blocks(page.read_text())
    assert {block.language for block in shown} <= {"python", "console"}
    console = "".join(block.text for block in shown if block.language == "console")
    code = "".join(block.text for block in shown if block.language == "python")
    for block in shown:
        if block.language == "python":
            file = re.match(r"# (?:\w+/)*(\w+)\.py\n", block.text)
            assert file is not None, f"line {block.line}: the first line names no file"
            assert re.search(rf"\b{file[1]}\b", console) or f"from {file[1]} import" in code, f"{file[1]}.py is not run"


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
