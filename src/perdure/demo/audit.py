"""What a distribution says about its licence, and what to make of it. Knows nothing of Perdure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import Distribution, distributions


class Verdict(StrEnum):
    """In the order of the care that they ask for."""

    PERMISSIVE = "permissive"
    COPYLEFT = "copyleft"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True)
class Finding:
    """What was found about one distribution. `licence` is empty if it names none."""

    name: str
    version: str
    licence: str
    verdict: Verdict
    reason: str
    files: list[str]
    digest: str
    ruling: str = ""


PERMISSIVE = frozenset(
    {
        "0BSD",
        "AFL-3.0",
        "Apache-2.0",
        "Artistic-2.0",
        "BlueOak-1.0.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "HPND",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "NCSA",
        "OFL-1.1",
        "PostgreSQL",
        "PSF-2.0",
        "Python-2.0",
        "Unicode-3.0",
        "Unlicense",
        "WTFPL",
        "X11",
        "Zlib",
        "ZPL-2.1",
    }
)
COPYLEFT = re.compile(r"(A?GPL|LGPL|MPL|EPL|EUPL|CDDL|CECILL|OSL|CC-BY-SA|SSPL)-\d", re.IGNORECASE)

# Of the classifiers, those that name one licence; the others ("OSI Approved", "Public Domain") decide nothing.
CLASSIFIERS = {
    "Academic Free License (AFL)": "AFL-3.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "GNU Affero General Public License v3": "AGPL-3.0",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0",
    "GNU General Public License (GPL)": "GPL-2.0",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.0",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}

# A licence's own words, for a text without a name. The first that fits counts.
WORDINGS = (
    ("GNU AFFERO GENERAL PUBLIC LICENSE", "AGPL-3.0"),
    ("GNU LESSER GENERAL PUBLIC LICENSE", "LGPL-3.0"),
    ("GNU GENERAL PUBLIC LICENSE", "GPL-3.0"),
    ("MOZILLA PUBLIC LICENSE VERSION 2.0", "MPL-2.0"),
    ("PYTHON SOFTWARE FOUNDATION LICENSE", "PSF-2.0"),
    ("APACHE LICENSE VERSION 2.0", "Apache-2.0"),
    ("THIS IS FREE AND UNENCUMBERED SOFTWARE", "Unlicense"),
    ("PERMISSION IS HEREBY GRANTED, FREE OF CHARGE", "MIT"),
    ("REDISTRIBUTION AND USE IN SOURCE AND BINARY FORMS", "BSD"),
    ("PERMISSION TO USE, COPY, MODIFY, AND/OR DISTRIBUTE", "ISC"),
)

# What people write into the free-text field, where it is not an identifier already.
SPELLINGS = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "mit license": "MIT",
    "the mit license": "MIT",
    "the mit license (mit)": "MIT",
    "mpl 2.0": "MPL-2.0",
    "psf": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}

LICENCE_FILE = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", re.IGNORECASE)


def installed() -> list[str]:
    """The names of the distributions that are installed here, each once, sorted."""
    names = {re.sub(r"[-_.]+", "-", name).lower() for d in distributions() if (name := header(d, "Name"))}
    return sorted(names)


def inspect(name: str) -> Finding:
    """Read the metadata, classifiers and licence files of one installed distribution."""
    distribution = Distribution.from_name(name)
    texts = licence_texts(distribution)
    digest = hashlib.sha256(b"\0".join(texts[path] for path in sorted(texts))).hexdigest()
    licence, verdict, reason = judge(
        expression=header(distribution, "License-Expression"),
        field=header(distribution, "License"),
        classifiers=distribution.metadata.get_all("Classifier") or [],
        texts=texts,
    )
    return Finding(
        name=name,
        version=distribution.version,
        licence=licence,
        verdict=verdict,
        reason=reason,
        files=sorted(texts),
        digest=digest[:12] if texts else "",
    )


def header(distribution: Distribution, name: str) -> str:
    """The first value of a header of the metadata, or nothing."""
    value = (distribution.metadata.get_all(name) or [""])[0].strip()
    return "" if value == "UNKNOWN" else value


def licence_texts(distribution: Distribution) -> dict[str, bytes]:
    """The licence files of a distribution, by path. One that cannot be read is left out: it proves nothing."""
    texts = {}
    for path in distribution.files or []:
        if LICENCE_FILE.match(path.name) and path.suffix not in (".py", ".pyc", ".pyi"):
            try:
                texts[str(path)] = path.read_binary()
            except OSError:
                continue
    return texts


def judge(
    *, expression: str, field: str, classifiers: Iterable[str], texts: dict[str, bytes]
) -> tuple[str, Verdict, str]:
    """The licence, the verdict and its reason, from all that a distribution says.

    The expression outranks the classifiers, they the free-text field, and that the wording of the files.
    What the sources contradict each other in is doubtful, and so is what no source names.
    """
    named = [CLASSIFIERS[leaf] for c in classifiers if (leaf := c.rpartition(" :: ")[2]) in CLASSIFIERS]
    worded = sorted({found for text in texts.values() if (found := wording(text))})
    short = field.strip()
    field_licence = SPELLINGS.get(short.lower(), short) if 0 < len(short) < 60 and "\n" not in short else ""
    sources = {
        "its licence expression": expression,
        "its classifiers": " AND ".join(dict.fromkeys(named)),
        "its licence field": field_licence,
        "the wording of its licence files": " AND ".join(worded),
    }
    spoken = {source: licence for source, licence in sources.items() if licence}
    if not spoken:
        return "", Verdict.DOUBTFUL, "nothing names a licence: no expression, classifier, field or licence file"
    source, licence = next(iter(spoken.items()))
    verdict = weigh(licence)
    if verdict is Verdict.DOUBTFUL:
        return licence, verdict, f"{licence!r} by {source}, which is no licence known here"
    if not expression and (other := contradiction(verdict, spoken)):
        return licence, Verdict.DOUBTFUL, f"{licence} by {source}, {spoken[other]} by {other}"
    if not texts:
        return licence, Verdict.DOUBTFUL, f"{licence} by {source}, but no licence text comes with it"
    return licence, verdict, f"by {source}"


def contradiction(verdict: Verdict, spoken: dict[str, str]) -> str | None:
    """The first source that leads to another verdict. Files quote other people's licences, so they count last."""
    for source, licence in spoken.items():
        if weigh(licence) not in (verdict, Verdict.DOUBTFUL):
            return source
    return None


def wording(text: bytes) -> str:
    """The licence whose own words a text holds, or nothing."""
    words = re.sub(r"[\s#*]+", " ", text[:20_000].decode("utf-8", "replace")).upper()
    words = words.replace("APACHE LICENSE, VERSION 2.0", "APACHE LICENSE VERSION 2.0")
    return next((licence for phrase, licence in WORDINGS if phrase in words), "")


def weigh(expression: str) -> Verdict:
    """The verdict on an SPDX expression: of `OR` the mildest, of `AND` the strictest; unknown names are doubtful."""
    tokens = re.findall(r"[()]|[^\s()]+", expression)
    try:
        verdict, rest = _any_of(tokens)
    except IndexError:
        return Verdict.DOUBTFUL
    return Verdict.DOUBTFUL if rest else verdict


_CARE = list(Verdict)


def _any_of(tokens: list[str]) -> tuple[Verdict, list[str]]:
    verdict, tokens = _all_of(tokens)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _all_of(tokens[1:])
        verdict = min(verdict, other, key=_CARE.index)
    return verdict, tokens


def _all_of(tokens: list[str]) -> tuple[Verdict, list[str]]:
    verdict, tokens = _one(tokens)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _one(tokens[1:])
        verdict = max(verdict, other, key=_CARE.index)
    return verdict, tokens


def _one(tokens: list[str]) -> tuple[Verdict, list[str]]:
    token, tokens = tokens[0], tokens[1:]
    if token == "(":
        verdict, tokens = _any_of(tokens)
        return verdict, tokens[1:] if tokens[0] == ")" else tokens
    if tokens and tokens[0].upper() == "WITH":
        tokens = tokens[2:]
    if token in PERMISSIVE:
        return Verdict.PERMISSIVE, tokens
    return Verdict.COPYLEFT if COPYLEFT.match(token) else Verdict.DOUBTFUL, tokens
