"""The demo's verdicts, by tables."""

import pytest

from perdure.demo.audit import Verdict, inspect, installed, judge, weigh, wording

MIT_TEXT = b"Permission is hereby granted, free of charge, to any person"


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ("MIT", Verdict.PERMISSIVE),
        ("MPL-2.0", Verdict.COPYLEFT),
        ("GPL-3.0-or-later", Verdict.COPYLEFT),
        ("AGPL-3.0-only", Verdict.COPYLEFT),
        ("LGPL-2.1-or-later WITH GCC-exception-2.0", Verdict.COPYLEFT),
        ("Apache-2.0 OR GPL-2.0-only", Verdict.PERMISSIVE),
        ("Apache-2.0 AND GPL-2.0-only", Verdict.COPYLEFT),
        ("MIT AND (GPL-2.0-only OR BSD-3-Clause)", Verdict.PERMISSIVE),
        ("(MIT AND GPL-2.0-only) OR LicenseRef-Own", Verdict.COPYLEFT),
        ("MIT or gpl-3.0", Verdict.PERMISSIVE),
        ("LicenseRef-Proprietary", Verdict.DOUBTFUL),
        ("MIT BSD", Verdict.DOUBTFUL),
        ("MIT OR", Verdict.DOUBTFUL),
        ("(MIT", Verdict.DOUBTFUL),
        ("", Verdict.DOUBTFUL),
    ],
)
def test_of_or_the_mildest_and_of_and_the_strictest_counts(expression: str, verdict: Verdict) -> None:
    assert weigh(expression) is verdict


def test_the_expression_outranks_classifiers_and_field() -> None:
    licence, verdict, reason = judge(
        expression="MIT",
        field="GPL",
        classifiers=["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"],
        texts={"LICENSE": MIT_TEXT},
    )
    assert (licence, verdict) == ("MIT", Verdict.PERMISSIVE)
    assert reason == "by its licence expression"


def test_sources_that_contradict_each_other_are_doubtful() -> None:
    _, verdict, reason = judge(
        expression="",
        field="",
        classifiers=["License :: OSI Approved :: MIT License"],
        texts={"LICENSE": b"Mozilla Public License Version 2.0"},
    )
    assert verdict is Verdict.DOUBTFUL
    assert reason == "MIT by its classifiers, MPL-2.0 by the wording of its licence files"


def test_a_licence_without_its_text_is_doubtful() -> None:
    _, verdict, reason = judge(expression="MIT", field="", classifiers=[], texts={})
    assert verdict is Verdict.DOUBTFUL
    assert "no licence text" in reason


def test_a_free_text_field_is_understood() -> None:
    licence, verdict, _ = judge(expression="", field="MIT License", classifiers=[], texts={"LICENSE": MIT_TEXT})
    assert (licence, verdict) == ("MIT", Verdict.PERMISSIVE)


def test_what_nothing_names_is_doubtful() -> None:
    licence, verdict, _ = judge(expression="", field="", classifiers=["License :: OSI Approved"], texts={})
    assert (licence, verdict) == ("", Verdict.DOUBTFUL)


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (MIT_TEXT, "MIT"),
        (b"  Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        (b"GNU LESSER GENERAL\n PUBLIC LICENSE", "LGPL-3.0"),
        (b"All rights reserved.", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_a_licence_is_known_by_its_own_words(text: bytes, licence: str) -> None:
    assert wording(text) == licence


def test_what_is_installed_here_is_found_and_read() -> None:
    names = installed()
    assert names == sorted(set(names))
    finding = inspect("pytest")
    assert (finding.licence, finding.verdict) == ("MIT", Verdict.PERMISSIVE)
    assert finding.files
    assert len(finding.digest) == 12
