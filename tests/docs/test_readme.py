"""What the README shows is what happens: every example runs, in order, in one folder (see `pages`).

Its files are run as soon as they are shown, and end with 0.
"""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks, run_page

README = DOCS.parent / "README.md"


def test_every_example_of_the_readme_runs(tmp_path: Path) -> None:
    run_page(README, tmp_path, run_files=True)


def test_the_readme_has_examples_of_both_kinds() -> None:
    languages = [block.language for block in blocks(README.read_text())]
    assert languages.count("python") >= 2
    assert languages.count("console") >= 2


@pytest.mark.parametrize("claim", ["exactly-once execution", "executed exactly once", "runs exactly once"])
def test_the_readme_never_claims_exactly_once_execution(claim: str) -> None:
    assert claim not in README.read_text().lower()
