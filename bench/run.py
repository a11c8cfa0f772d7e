"""`make bench`: each figure that Perdure promises is a line; exit 1 if one is missed.

`make bench BENCH="steps postgres"` runs some parts alone: themes, databases, or both. A theme is a module here; its
functions `sqlite`, `postgres`, `mariadb` are its parts on these databases, `anywhere` is the one that needs none.
Ratios are taken within one run, round by round, and the median counts: machines differ and are shared.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench import decisions, demo, fleet, parked, peers, recovery, scale, steps
from bench.places import Places
from bench.report import Report
from tests.servers import NoServerError

THEMES = {
    "steps": steps,
    "parked": parked,
    "decisions": decisions,
    "recovery": recovery,
    "fleet": fleet,
    "scale": scale,
    "demo": demo,
    "peers": peers,
}
WHERE = ("sqlite", "postgres", "mariadb", "anywhere")


def measure(report: Report, words: Sequence[str]) -> None:
    """All parts that the words name. Of what they do not speak of, all."""
    themes = [name for name in THEMES if name in words] or list(THEMES)
    databases = [name for name in WHERE if name in words] or list(WHERE)
    with Places() as places:
        for database in databases:
            for name in themes:
                part = getattr(THEMES[name], database, None)
                if part is None:
                    continue
                try:
                    part(report, places)
                except NoServerError as error:
                    report.miss(f"{name} on {database}: {error}")


def main(words: Sequence[str]) -> int:
    """The exit code: 0 if all is kept, 1 if not, 2 for words that name nothing."""
    if unknown := sorted(set(words) - set(THEMES) - set(WHERE)):
        print(f"There is nothing called {', '.join(unknown)} here. Themes: {', '.join(THEMES)}; {', '.join(WHERE)}.")
        return 2
    report = Report()
    measure(report, words)
    print("all figures are kept" if not report.missed else f"{report.missed} figure(s) missed")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
