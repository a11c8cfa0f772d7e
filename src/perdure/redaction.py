"""What is recorded only to be looked at, without what should not be seen there: passwords, tokens, secrets.

Pure: works on what `json.loads` makes of a recorded text. Never used on what replay reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

Redact = Callable[[str, Any], Any] | Iterable[str]
"""`redact(name, value)` gives what is shown; or further names."""


def check_redact(given: Any) -> Redact | None:
    """What `redact=` was told. Raises `TypeError` for what is neither a function nor names."""
    if given is None or callable(given):
        return given  # type: ignore[no-any-return]
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"redact= is a function or a list of names, not {given!r}")
    return tuple(given)


HIDDEN = "***"
DEFAULT_NAMES = frozenset(
    {
        *("password", "passwd", "passphrase", "pwd", "secret", "credential", "cookie"),
        *("token", "key", "apikey", "auth", "authorization", "oauth"),
    }
)
LEAST = 6
"""Characters of a secret from which on it is looked for elsewhere: shorter ones stand everywhere."""

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


# The texts of what was hidden, elsewhere -------------------------------------------------------------------


def differing(before: Any, after: Any) -> set[str]:
    """The texts of a JSON-like tree in whose place something else is shown."""
    found: set[str] = set()
    _differing(before, after, found)
    return found


def _differing(before: Any, after: Any, found: set[str]) -> None:
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name not in after:
                _texts(value, found)
            elif name != "$":
                _differing(value, after[name], found)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            _differing(one, other, found)
    elif before != after:
        _texts(before, found)


def _texts(tree: Any, found: set[str]) -> None:
    if isinstance(tree, str):
        if len(tree) >= LEAST:
            found.add(tree)
    elif isinstance(tree, list):
        for item in tree:
            _texts(item, found)
    elif isinstance(tree, dict):
        for name, value in tree.items():
            if name not in ("$", "$type") and not (name == "t" and "$" in tree):  # what type it is of
                _texts(value, found)


def veiled(tree: Any, hidden: Iterable[str]) -> Any:
    """A JSON-like tree, names of members and all, without these texts, wherever they stand."""
    return _veiled(tree, sorted(hidden, key=len, reverse=True))


def _veiled(tree: Any, hidden: Sequence[str]) -> Any:
    if isinstance(tree, str):
        for text in hidden:
            tree = tree.replace(text, HIDDEN)
        return tree
    if isinstance(tree, list):
        return [_veiled(item, hidden) for item in tree]
    if isinstance(tree, dict):
        return {_veiled(name, hidden): _veiled(value, hidden) for name, value in tree.items()}
    return tree


# What is recorded only to be looked at ----------------------------------------------------------------------


class Redaction:
    """What one execution hides, before they are written: in the inputs of its steps, in the errors of attempts that did
    not count, in tracebacks and in its log. Never in what replay needs.

    `names`: as for `redact`. `functions`: each is asked in turn, as `redact` asks one.
    """

    __slots__ = ("_after_names", "_functions", "_names")

    def __init__(self, names: Iterable[str], functions: Sequence[Callable[[str, Any], Any]] = ()) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._functions = tuple(functions)
        words = "|".join(sorted(map(re.escape, self._names), key=len, reverse=True)) or r"(?!)"
        self._after_names = re.compile(
            rf"(?i)(\b[\w-]*(?:{words})s?\b[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;)\]}}]+)"
        )

    def text(self, text: str) -> str:
        """A recorded JSON text without its secrets; the same one for the same input, so that replay may compare."""
        try:
            tree, shown = self._both(text)
        except (ValueError, RecursionError):
            return json.dumps(HIDDEN)
        return text if shown == tree else json.dumps(shown, separators=(",", ":"))

    def concealed(self, text: str) -> set[str]:
        """The texts, of six characters and more, that `text` hides in a recorded JSON text."""
        try:
            return differing(*self._both(text))
        except (ValueError, RecursionError):
            return set()

    def _both(self, text: str) -> tuple[Any, Any]:
        tree = json.loads(text)
        if not self._functions:
            return tree, redact(tree, self._names)
        return tree, redact(json.loads(text), self._names, self._ask)  # they may change what they are given

    def words(self, text: str) -> str:
        """Prose without what follows a secret's name: `password=***`, `token: ***`."""
        return str(self._after_names.sub(rf"\1{HIDDEN}", text))

    def error(self, text: str, *, counts: bool) -> str:
        """A recorded error. Of one that `counts` (an outcome, which replay raises again) only the traceback is told."""
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            return text
        for name in ("traceback",) if counts else tuple(tree):
            if name != "type":
                tree[name] = self._worded(self._ask(name, tree[name]))
        return json.dumps(tree, separators=(",", ":"))

    def hides(self, name: str) -> bool:
        """Is what has this name hidden, whatever it is?"""
        return _is_secret(name, self._names)

    @property
    def asks(self) -> bool:
        """Are there functions that say what is shown?"""
        return bool(self._functions)

    def asked(self, name: str, value: Any) -> Any:
        """What the functions show of a member (JSON)."""
        return self._ask(name, value)

    def _worded(self, tree: Any) -> Any:
        if isinstance(tree, str):
            return self.words(tree)
        if isinstance(tree, list):
            return [self._worded(item) for item in tree]
        if isinstance(tree, dict):
            return {n: v if n == "type" else self._worded(redact({n: v}, self._names)[n]) for n, v in tree.items()}
        return tree

    def _ask(self, name: str, value: Any) -> Any:
        for function in self._functions:
            try:
                value = function(name, value)
            except Exception:
                # The user's code, which must not cost the record.
                return HIDDEN
            if not isinstance(value, _JSON):
                return HIDDEN
        return value
