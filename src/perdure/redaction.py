"""What is recorded only to be looked at, without what should not be seen there: passwords, tokens, secrets.

Pure: works on what `json.loads` makes of a recorded text. Never used on what replay reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

HIDDEN = "***"
DEFAULT_NAMES = frozenset(
    {
        *("password", "passwd", "passphrase", "pwd", "secret", "credential", "cookie"),
        *("token", "key", "apikey", "auth", "authorization", "oauth"),
    }
)
# Shorter names end too many other words: "key" ends "monkey".
_ENDS_WORDS = 5
_DEEPEST = 200
_words = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+").findall
_JSON = (str, int, float, bool, type(None), list, dict)


def redact(tree: Any, names: Iterable[str] = DEFAULT_NAMES, fn: Callable[[str, Any], Any] | None = None) -> Any:
    """A copy of a JSON-like tree in which secrets are `"***"`. Never raises.

    Hidden are the values of members whose name has one of the `names` as a word, in any case, singular or plural:
    `api_key`, `apiKey`, `API-KEYS`, not `monkey`. A name of five letters and more also ends a word: `authtoken`.
    A number under `tokens` is a count and stays. `Secret` is hidden whatever its name. What nests deeper than 200
    levels is hidden, too.

    `fn(name, value)` gives what is shown of each member that is left, the value itself if nothing is to be hidden;
    if it raises, or gives what is not JSON, the member is hidden.

        redact({"user": "ann", "api_key": "k-1"})   # {'user': 'ann', 'api_key': '***'}
    """
    try:
        return _redact(tree, frozenset(name.lower() for name in names), fn, 0)
    except Exception:
        # Names or a tree such as were never promised: then nothing is shown.
        return HIDDEN


def _redact(tree: Any, names: frozenset[str], fn: Callable[[str, Any], Any] | None, depth: int) -> Any:
    if depth > _DEEPEST:
        return HIDDEN
    if isinstance(tree, list):
        return [_redact(item, names, fn, depth + 1) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = tree.get("$")
    if tag == "secret":
        return HIDDEN
    if tag == "dict" and isinstance(tree.get("v"), list):
        # A dict that was written as pairs: its keys are no strings, or one of them is "$".
        return {**tree, "v": [_redact_pair(pair, names, fn, depth + 1) for pair in tree["v"]]}
    return {name: _member(name, item, names, fn, depth + 1) for name, item in tree.items()}


def _redact_pair(pair: Any, names: frozenset[str], fn: Callable[[str, Any], Any] | None, depth: int) -> Any:
    if not isinstance(pair, list) or len(pair) != 2:
        return _redact(pair, names, fn, depth)
    key, value = pair
    if isinstance(key, str):
        return [key, _member(key, value, names, fn, depth)]
    return [_redact(key, names, fn, depth), _redact(value, names, fn, depth)]


def _member(name: str, value: Any, names: frozenset[str], fn: Callable[[str, Any], Any] | None, depth: int) -> Any:
    if _is_secret(name, names) and not (name.lower().endswith("tokens") and isinstance(value, int | float)):
        return HIDDEN
    if fn is not None:
        try:
            value = fn(name, value)
        except Exception:
            # The user's code, which must not cost the record.
            return HIDDEN
        if not isinstance(value, _JSON):
            return HIDDEN
    return _redact(value, names, fn, depth)


@lru_cache(maxsize=4096)
def _is_secret(name: str, names: frozenset[str]) -> bool:
    words = [word.lower() for word in _words(name)] or [name.lower()]
    return any(_names(word, wanted) for word in words for wanted in names)


def _names(word: str, wanted: str) -> bool:
    forms = (wanted, wanted + "s")
    return word in forms or (len(wanted) >= _ENDS_WORDS and word.endswith(forms))
