"""`# perdure: ignore` and `# perdure: ignore[P003]`: the lines on which nothing is to be said."""

from __future__ import annotations

import io
import re
import tokenize

from perdure.linting.finding import RULES

_COMMENT = re.compile(r"#\s*perdure:\s*ignore(?:\s*\[(?P<codes>[^\]]*)\])?(?![\w\[-])")


def silenced(source: str) -> dict[int, frozenset[str]]:
    """By line, the codes that a comment there silences."""
    found: dict[int, frozenset[str]] = {}
    if not _COMMENT.search(source):
        return found
    for token in tokenize.generate_tokens(io.StringIO(source, newline=None).readline):
        match = _COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            named = match["codes"]
            codes = frozenset(RULES) if named is None else frozenset(re.findall(r"\w+", named.upper()))
            found[token.start[0]] = codes
    return found
